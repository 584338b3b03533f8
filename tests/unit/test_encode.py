"""Frozen rows become request lines; a bad row gets its reason and no line."""

import base64
import hashlib
import io
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gemini_batch.gemini.media import INLINE_BYTES
from gemini_batch.gemini.wire import line_key
from gemini_batch.jobs.encode import REQUESTS, EncodeTask, encode
from gemini_batch.parts import PARTS


def key(nonce, index, sample=0):
    return line_key(nonce.encode(), index, sample).decode()


NONCE = "0123456789abcdef"
ROWS = pa.schema(
    [
        ("index", pa.int64()),
        ("key", pa.string()),
        ("prompt", pa.string()),
        ("parts", PARTS),
        ("system_instruction", pa.string()),
    ]
)
OWN = {"samples": pa.list_(pa.int32()), "attempts": pa.int32(), "was": pa.string()}
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)


def run(folder, asked, rows, first=0, roots=(), max_bytes=10**9, uris=None, left_out=None):
    """Encode rows; returns the outcome, the request objects and the record of rows."""
    own = [pa.field(name, kind) for name, kind in OWN.items() if any(name in row for row in rows)]
    table = pa.Table.from_pylist(
        [{"index": first + at, "key": str(first + at), **row} for at, row in enumerate(rows)], pa.schema([*ROWS, *own])
    )
    pq.write_table(table, folder / "rows")
    task = EncodeTask(
        asked,
        NONCE,
        tuple(roots),
        max_bytes,
        folder / "rows",
        folder / "lines",
        folder / "requests",
        folder / "media",
        uris or {},
        left_out or {},
    )
    made = encode(task)
    body = (folder / "lines").read_bytes()
    assert (made.size_bytes, made.sha256) == (len(body), hashlib.sha256(body).hexdigest())
    assert made.lines == body.count(b"\n")
    record = pq.read_table(folder / "requests")
    assert record.schema.equals(REQUESTS)
    return made, [json.loads(line) for line in body.split(b"\n")[:-1]], record.to_pylist()


def picture(kind, size=(8, 8), **options):
    body = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(body, kind, **options)
    return body.getvalue()


@given(
    rows=st.lists(st.tuples(TEXT, st.none() | TEXT), min_size=1, max_size=4),
    system=st.none() | TEXT,
    config=st.dictionaries(TEXT, st.integers() | TEXT, max_size=2).map(
        lambda d: {k: v for k, v in d.items() if not isinstance(v, int) or abs(v) < 2**53}
    ),
)
def test_a_line_is_a_key_and_a_generate_content_request(asked, tmp_path_factory, rows, system, config):
    """The service takes REST GenerateContentRequest and nothing else."""
    what = asked(system_instruction=system, generation_config=config)
    rows_in = [{"prompt": text, "system_instruction": own} for text, own in rows]
    _, lines, record = run(tmp_path_factory.mktemp("e"), what, rows_in, first=41)
    for at, ((text, own), line) in enumerate(zip(rows, lines, strict=True)):
        request = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
        if (said := system if own is None else own) is not None:
            request["systemInstruction"] = {"parts": [{"text": said}]}
        if config:
            request["generationConfig"] = config
        assert line == {"key": key(NONCE, 41 + at), "request": request}
    assert [row["index"] for row in record] == [41 + at for at in range(len(rows))]


def test_safety_settings_stand_beside_the_settings_of_every_request(asked, tmp_path):
    what = asked(generation_config={"topK": 1}, safety_settings=("HARM_CATEGORY_HARASSMENT=OFF",))
    _, (line,), (row,) = run(tmp_path, what, [{"prompt": "a"}])
    assert line["request"]["safetySettings"] == [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}]
    assert line["request"]["generationConfig"] == {"topK": 1}
    _, _, (plain,) = run(tmp_path, asked(generation_config={"topK": 1}), [{"prompt": "a"}])
    assert row["request_digest"] != plain["request_digest"]


@pytest.mark.parametrize(
    ("kind", "mime_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp"), ("GIF", "image/gif")]
)
def test_a_picture_goes_inline_with_the_type_of_its_content(asked, tmp_path, kind, mime_type):
    """Names lie: the type is what the bytes are."""
    body = picture(kind)
    (tmp_path / "p.xyz").write_bytes(body)
    _, (line,), _ = run(tmp_path, asked(), [{"parts": [{"text": "look"}, {"path": "p.xyz"}]}], roots=[tmp_path])
    text, shown = line["request"]["contents"][0]["parts"]
    assert text == {"text": "look"}
    assert shown == {"inlineData": {"mimeType": mime_type, "data": base64.b64encode(body).decode()}}


def test_a_camera_picture_with_a_second_frame_is_a_jpeg(asked, tmp_path):
    """Phones write MPO: a JPEG followed by a preview. Every JPEG reader shows the first frame."""
    body = picture("MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    _, lines, record = run(tmp_path, asked(), [{"parts": [{"data": body}]}, {"prompt": "next"}])
    assert len(lines) == 2, record
    assert lines[0]["request"]["contents"][0]["parts"][0]["inlineData"]["mimeType"] == "image/jpeg"


def test_media_resolution_stands_on_its_part(asked, tmp_path):
    part = {"data": picture("PNG"), "media_resolution": "MEDIA_RESOLUTION_HIGH"}
    _, (line,), _ = run(tmp_path, asked(), [{"parts": [part]}])
    (shown,) = line["request"]["contents"][0]["parts"]
    assert shown["mediaResolution"] == {"level": "MEDIA_RESOLUTION_HIGH"}
    assert set(shown) == {"mediaResolution", "inlineData"}


def test_the_uri_of_a_file_at_the_service_is_passed_on(asked, tmp_path):
    part = {"uri": "files/abc", "mime_type": "image/png"}
    _, (line,), _ = run(tmp_path, asked(), [{"parts": [part]}])
    assert line["request"]["contents"][0]["parts"] == [{"fileData": {"mimeType": "image/png", "fileUri": "files/abc"}}]


def test_a_picture_to_upload_is_handed_out_once_and_then_sent_by_its_uri(asked, tmp_path):
    """Equal pictures are one upload, different ones are not, whatever their first bytes."""
    one, other = picture("PNG"), picture("PNG")
    rows = [{"parts": [{"data": one}, {"data": other}]}, {"parts": [{"data": one}]}]
    made, _, _ = run(tmp_path, asked(media="upload"), rows)
    assert [(item.sha256, item.mime_type) for item in made.to_upload] == [
        (hashlib.sha256(body).hexdigest(), "image/png") for body in (one, other)
    ]
    assert [(tmp_path / "media" / item.sha256).read_bytes() for item in made.to_upload] == [one, other]
    uris = {item.sha256: f"https://x/files/{item.sha256[:5]}" for item in made.to_upload}
    again, lines, _ = run(tmp_path, asked(media="upload"), rows, uris=uris)
    assert again.to_upload == ()
    sent = [part["fileData"]["fileUri"] for line in lines for part in line["request"]["contents"][0]["parts"]]
    assert sent == [uris[hashlib.sha256(body).hexdigest()] for body in (one, other, one)]


def test_auto_uploads_what_is_too_large_for_a_line(asked, tmp_path):
    large = picture("PNG", size=(800, 800))
    assert len(large) > INLINE_BYTES
    made, _, _ = run(
        tmp_path, asked(media="auto"), [{"parts": [{"data": large}]}, {"parts": [{"data": picture("PNG")}]}]
    )
    assert [item.sha256 for item in made.to_upload] == [hashlib.sha256(large).hexdigest()]


def test_the_digest_says_what_was_asked_not_where_or_how(asked, tmp_path):
    """Equal questions have equal digests: by index, by row of the shard, inline, uploaded, from a file or held."""
    body = picture("PNG")
    (tmp_path / "p").write_bytes(body)
    held, lying = {"parts": [{"data": body}]}, {"parts": [{"path": "p"}]}
    digests = set()
    for media, first, uris in (
        ("inline", 0, {}),
        ("upload", 7, {}),
        ("upload", 7, {hashlib.sha256(body).hexdigest(): "u"}),
    ):
        _, _, record = run(tmp_path, asked(media=media), [held, lying], first=first, roots=[tmp_path], uris=uris)
        digests |= {row["request_digest"] for row in record}
    assert len(digests) == 1


def test_the_digest_changes_with_everything_that_is_asked(asked, tmp_path):
    """Equal digests of different questions would let one's answer stand for the other's."""
    body = picture("PNG")
    rows = [
        {"prompt": "a"},
        {"prompt": "b"},
        {"prompt": "a", "system_instruction": "s"},
        {"parts": [{"data": body}]},
        {"parts": [{"data": picture("PNG")}]},
        {"parts": [{"data": body, "media_resolution": "MEDIA_RESOLUTION_LOW"}]},
    ]
    digests = []
    for what in (asked(), asked(model="other"), asked(generation_config={"seed": 1}), asked(system_instruction="x")):
        digests += [row["request_digest"] for row in run(tmp_path, what, rows)[2]]
    # A row's own system instruction wins over the run's, so that one row asks the same with and without it.
    assert len(set(digests)) == len(digests) - 1


def bad_rows(folder):
    outside = folder / "outside.png"
    outside.write_bytes(picture("PNG"))
    root = folder / "root"
    root.mkdir()
    (root / "text.png").write_text("not a picture at all")
    (root / "cut.png").write_bytes(picture("PNG")[:-30])
    (root / "cut.jpg").write_bytes(picture("JPEG", size=(200, 200))[:2000])
    (root / "empty.png").write_bytes(b"")
    (root / "link.png").symlink_to(outside)
    (root / "dangling.png").symlink_to(root / "nowhere")
    (root / "loop.png").symlink_to(root / "loop.png")
    (root / "folder.png").mkdir()
    os.mkfifo(root / "fifo.png")
    return root, [
        ({"prompt": None}, "bad_row", "prompt"),
        ({"prompt": ""}, "bad_row", "prompt"),
        ({"parts": []}, "bad_row", "parts"),
        ({"parts": [{}]}, "bad_row", "no parts"),
        ({"parts": [{"text": "a"}, {"text": "a", "path": "b"}]}, "bad_row", "part 1"),
        ({"parts": [{"uri": "https://example.com/a.png"}]}, "bad_row", "example.com"),
        ({"parts": [{"uri": "file:///etc/passwd"}]}, "bad_row", "passwd"),
        ({"parts": [{"path": "absent.png"}]}, "media_unreadable", "absent.png"),
        ({"parts": [{"path": "a\0b"}]}, "media_unreadable", "exist"),
        ({"parts": [{"path": "x" * 5000}]}, "media_unreadable", "exist"),
        ({"parts": [{"path": "../outside.png"}]}, "media_unreadable", "outside.png"),
        ({"parts": [{"path": str(outside)}]}, "media_unreadable", "lies outside"),
        ({"parts": [{"path": "link.png"}]}, "media_unreadable", "lies outside"),
        ({"parts": [{"path": "dangling.png"}]}, "media_unreadable", "dangling.png"),
        ({"parts": [{"path": "loop.png"}]}, "media_unreadable", "loop.png"),
        ({"parts": [{"path": "folder.png"}]}, "media_unreadable", "regular"),
        ({"parts": [{"path": ""}]}, "media_unreadable", ""),
        ({"parts": [{"path": "fifo.png"}]}, "media_unreadable", "regular"),
        ({"parts": [{"path": "text.png"}]}, "media_unreadable", "text.png"),
        ({"parts": [{"path": "cut.png"}]}, "media_unreadable", "broken"),
        ({"parts": [{"path": "cut.jpg"}]}, "media_unreadable", "broken"),
        ({"parts": [{"path": "empty.png"}]}, "media_unreadable", "empty.png"),
        ({"parts": [{"data": b""}]}, "media_unreadable", ""),
        ({"parts": [{"data": b"GIF89a"}]}, "media_unreadable", ""),
        ({"prompt": "x" * 5000}, "oversized", "bytes"),
    ]


def test_a_bad_row_has_its_reason_and_no_line_and_its_neighbours_are_sent(asked, tmp_path):
    """A bad row fails alone and unpaid."""
    root, bad = bad_rows(tmp_path)
    rows = [row for case, _, _ in bad for row in (case, {"prompt": "fine"})]
    _, lines, record = run(tmp_path, asked(), rows, roots=[root], max_bytes=4500)
    assert [line["key"] for line in lines] == [key(NONCE, 2 * at + 1) for at in range(len(bad))]
    for (case, kind, said), outcome in zip(bad, record[::2], strict=True):
        assert (case, outcome["error_kind"], outcome["request_digest"]) == (case, kind, None)
        assert said in outcome["error_message"]
    assert all(outcome["request_digest"] and outcome["error_kind"] is None for outcome in record[1::2])


def test_a_shard_of_bad_rows_is_an_empty_file(asked, tmp_path):
    made, lines, record = run(tmp_path, asked(), [{"prompt": None}] * 3)
    assert (made.lines, made.size_bytes, lines, len(record)) == (0, 0, [], 3)


# --- samples, and rows that are bought again --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "seeds"), [(None, [0, 1, 2]), (7, [7, 8, 9]), (2**31 - 2, [2**31 - 2, 2**31 - 1, -(2**31)])]
)
def test_each_sample_is_a_line_with_a_seed_of_its_own(asked, tmp_path, seed, seeds):
    """With one seed a model would say the same three times."""
    config = {"topK": 1} | ({} if seed is None else {"seed": seed})
    made, lines, record = run(
        tmp_path, asked(n_samples=3, generation_config=config), [{"prompt": "a"}, {"prompt": None}], 5
    )
    assert [line["key"] for line in lines] == [key(NONCE, 5, sample) for sample in range(3)]
    assert [line["request"]["generationConfig"] for line in lines] == [{"topK": 1, "seed": own} for own in seeds]
    assert made.lines == 3
    _, _, single = run(tmp_path, asked(generation_config=config), [{"prompt": "a"}], 5)
    assert record[0]["request_digest"] == single[0]["request_digest"]


def test_one_sample_is_asked_with_the_settings_as_they_are(asked, tmp_path):
    """What was asked yesterday must be the same bytes today."""
    for config in ({}, {"seed": 2**40}, {"seed": "x"}):
        _, (line,), _ = run(tmp_path, asked(generation_config=config), [{"prompt": "a"}])
        assert line["request"].get("generationConfig", {}) == config
    _, lines, _ = run(tmp_path, asked(generation_config={"seed": "x"}, n_samples=2), [{"prompt": "a"}])
    assert [line["request"]["generationConfig"] for line in lines] == [{"seed": "x"}] * 2


def test_a_later_round_asks_any_rows_for_the_samples_that_are_missing(asked, tmp_path):
    rows = [
        {"index": 4, "prompt": "a", "samples": [1], "attempts": 1, "was": "failed"},
        {"index": 900, "prompt": "b", "samples": None, "attempts": 2, "was": "ok"},
    ]
    _, lines, record = run(tmp_path, asked(n_samples=2), rows)
    assert [line["key"] for line in lines] == [key(NONCE, 4, 1), key(NONCE, 900, 0), key(NONCE, 900, 1)]
    assert [line["request"]["generationConfig"]["seed"] for line in lines] == [1, 0, 1]
    assert [row["index"] for row in record] == [4, 900]


def test_a_row_that_is_left_out_says_why_and_has_no_line(asked, tmp_path):
    """A create that names a line must not be refused for it again."""
    made, lines, record = run(
        tmp_path, asked(n_samples=2), [{"prompt": "a"}, {"prompt": "b"}], 8, left_out={8: "said so"}
    )
    assert [line["key"] for line in lines] == [key(NONCE, 9, 0), key(NONCE, 9, 1)]
    assert (record[0]["error_kind"], record[0]["error_message"], made.lines) == ("invalid_argument", "said so", 2)


def test_all_samples_of_a_row_have_room_or_none_is_sent(asked, tmp_path):
    """Samples of a row share a shard."""
    _, lines, record = run(tmp_path, asked(n_samples=3), [{"prompt": "x" * 200}, {"prompt": "y"}], max_bytes=700)
    assert [outcome["error_kind"] for outcome in record] == ["oversized", None]
    assert len(lines) == 3


# --- pictures elsewhere -----------------------------------------------------------------------------------------------


def elsewhere(folder, asked, uri, **how):
    """Encode one row with a picture at a URI."""
    table = pa.Table.from_pylist([{"index": 0, "key": "0", "parts": [{"text": "a"}, {"uri": uri}]}], ROWS)
    pq.write_table(table, folder / "rows")
    names = [folder / name for name in ("rows", "lines", "requests", "media")]
    made = encode(EncodeTask(asked, NONCE, (), 10**9, *names, **how))
    return made, pq.read_table(folder / "requests").to_pylist()[0], (folder / "lines").read_bytes()


@pytest.mark.parametrize("uri", ["gs://b/p.png", "s3://b/p.png", "az://c/p.png", "https://h/p.png"])
def test_a_picture_elsewhere_is_asked_for_and_then_uploaded_under_its_content(tmp_path, asked, uri):
    """Its size was not known when the shard was cut: inline it might not fit."""
    allowed = {"allow_http": True}
    made, _, _ = elsewhere(tmp_path, asked(), uri, **allowed)
    assert (made.to_fetch, made.to_upload) == ((uri,), ())
    body = picture("PNG")
    (tmp_path / "p").write_bytes(body)
    name = hashlib.sha256(body).hexdigest()
    fetched = {"fetched": {uri: tmp_path / "p"}, **allowed}
    made, _, _ = elsewhere(tmp_path, asked(), uri, **fetched)
    assert [upload.sha256 for upload in made.to_upload] == [name]
    made, record, line = elsewhere(tmp_path, asked(), uri, uris={name: "u"}, **fetched)
    assert (made.to_fetch, made.to_upload, b'"fileUri":"u"' in line) == ((), (), True)
    inline, other, line = elsewhere(tmp_path, asked(media="inline"), uri, **fetched)
    assert (inline.to_upload, b"inlineData" in line) == ((), True)
    assert record["request_digest"] == other["request_digest"], "what is asked does not depend on how it travels"


@pytest.mark.parametrize(
    ("uri", "how", "kind", "said"),
    [
        ("https://h/p.png", {}, "bad_row", "--allow-http"),
        ("ftp://h/p.png", {"allow_http": True}, "bad_row", "ftp://h/p.png"),
        (
            "gs://b/p.png",
            {"fetched": {"gs://b/p.png": "picture 'gs://b/p.png' does not exist"}},
            "media_unreadable",
            "not exist",
        ),
    ],
)
def test_a_picture_elsewhere_that_cannot_be_had_fails_its_row(tmp_path, asked, uri, how, kind, said):
    made, record, _ = elsewhere(tmp_path, asked(), uri, **how)
    assert (made.lines, made.to_fetch, record["error_kind"]) == (0, (), kind)
    assert said in record["error_message"]


def test_what_was_fetched_and_is_no_picture_is_named_by_its_uri(tmp_path, asked):
    (tmp_path / "p").write_bytes(b"<html>")
    _, record, _ = elsewhere(tmp_path, asked(), "gs://b/p.png", fetched={"gs://b/p.png": tmp_path / "p"})
    assert "'gs://b/p.png' is not JPEG" in record["error_message"]
