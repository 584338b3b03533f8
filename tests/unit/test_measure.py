"""What a row weighs in the plan is what its line weighs in the request file."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gemini_batch.coordinator import pictures
from gemini_batch.coordinator.measure import Scale
from gemini_batch.gemini.scripts import text_tokens as tokens_of
from gemini_batch.gemini.tokens import ULTRA_HIGH, picture_part_tokens, schema_words
from gemini_batch.gemini.wire import Encoder
from gemini_batch.jobs.encode import EncodeTask, encode
from gemini_batch.parquet import Writer
from gemini_batch.parts import PARTS

NONCE = "0123456789abcdef"
TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
CONFIG = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0, 2),
        "stopSequences": st.lists(TEXT, max_size=3),
        "seed": st.integers(-(2**31), 2**31 - 1) | TEXT,
        "responseSchema": st.dictionaries(TEXT, TEXT, max_size=3),
    },
)


def block(prompts=None, parts=None, systems=None):
    columns = {"prompt": pa.array(prompts, pa.string())} if parts is None else {"parts": pa.array(parts, PARTS)}
    if systems is not None:
        columns["system_instruction"] = pa.array(systems, pa.string())
    return pa.record_batch(columns)


def frozen(rows, first_index):
    count = rows.num_rows
    index = pa.array(range(first_index, first_index + count), pa.int64())
    have = rows.schema.names
    return pa.record_batch(
        {
            "index": index,
            "key": index.cast(pa.string()),
            "prompt": rows.column("prompt") if "prompt" in have else pa.nulls(count, pa.string()),
            "parts": rows.column("parts") if "parts" in have else pa.nulls(count, PARTS),
            "system_instruction": rows.column("system_instruction")
            if "system_instruction" in have
            else pa.nulls(count, pa.string()),
        }
    )


def encoded_lines(folder: Path, asked, rows, first_index, roots=(), uris=None):
    table = frozen(rows, first_index)
    with Writer(folder / "rows", table.schema) as writer:
        writer.write(table)
    task = EncodeTask(
        asked=asked,
        nonce=NONCE,
        roots=roots,
        max_bytes=10**9,
        rows=folder / "rows",
        lines=folder / "lines",
        requests=folder / "requests",
        media=folder / "media",
        uris=uris or {},
    )
    made = encode(task)
    return made, (folder / "lines").read_bytes()


@given(
    rows=st.lists(st.tuples(TEXT, st.none() | TEXT), min_size=1, max_size=6),
    config=CONFIG,
    system=st.none() | TEXT,
    first_index=st.sampled_from([0, 7, 9, 99, 99_999_998]),
)
def test_text_rows_weigh_exactly_their_encoded_line(asked, tmp_path_factory, rows, config, system, first_index):
    """The plan fills shards to the byte; an underestimate would push paid-for rows out of the file."""
    what = asked(generation_config=config, system_instruction=system)
    rows_block = block([text for text, _ in rows], systems=[own for _, own in rows])
    weighed = Scale(what, NONCE, (), 10**9).weigh(rows_block, first_index).weights
    _, body = encoded_lines(tmp_path_factory.mktemp("e"), what, rows_block, first_index)
    lines = iter(body.split(b"\n")[:-1])
    for (text, _), size in zip(rows, weighed.request_bytes, strict=True):
        assert size == (len(next(lines)) + 1 if text else 0)
    assert next(lines, None) is None


@given(
    first=st.integers(0, 10**9) | st.integers(1, 9).map(lambda digits: 10**digits - 2),
    samples=st.integers(1, 12),
    requests=st.lists(st.binary(max_size=40), max_size=5),
    config=CONFIG,
)
def test_row_bytes_is_the_length_of_the_rows_lines(asked, first, samples, requests, config):
    """A size computed without building the lines must be the size of the lines, also where the numbers of rows become
    longer."""
    encoder = Encoder(asked(generation_config=config, n_samples=samples), NONCE)
    lines = [
        [encoder.line(index, sample, request) for sample in range(samples)]
        for index, request in enumerate(requests, first)
    ]
    sizes = [len(b"".join(of_row)) if request else 0 for of_row, request in zip(lines, requests, strict=True)]
    assert encoder.row_bytes(first, list(map(len, requests))) == sizes


@given(rows=st.lists(st.none() | TEXT, min_size=1, max_size=8), first=st.integers(0, 12), system=st.none() | TEXT)
def test_rows_of_text_weigh_the_same_together_and_one_by_one(asked, rows, first, system):
    """A block of prompts alone is weighed by column; an instruction of one row, which is the run's, makes it go row by
    row."""
    scale = Scale(asked(system_instruction=system), NONCE, (), 10**9)
    together, by_row = (
        scale.weigh(block(rows), first),
        scale.weigh(block([*rows, "x"], systems=[None] * len(rows) + ["y"]), first),
    )
    assert list(together.weights.request_bytes) == list(by_row.weights.request_bytes)[:-1]
    assert list(together.weights.tokens) == list(by_row.weights.tokens)[:-1]
    assert by_row.identity.startswith(together.identity)


@given(parts=st.lists(st.lists(TEXT, min_size=1, max_size=4), min_size=1, max_size=4), system=st.none() | TEXT)
def test_rows_of_text_parts_never_weigh_less_than_their_line(asked, tmp_path_factory, parts, system):
    """An underestimate makes the last row of a full shard fail for want of room."""
    what = asked(system_instruction=system)
    rows = block(parts=[[{"text": text} for text in row] for row in parts])
    weighed = Scale(what, NONCE, (), 10**9).weigh(rows, 0).weights.request_bytes
    _, body = encoded_lines(tmp_path_factory.mktemp("p"), what, rows, 0)
    sent = [size for size in weighed if size]
    assert all(size >= len(x) + 1 for size, x in zip(sent, body.split(b"\n")[:-1], strict=True))


def png():
    body = io.BytesIO()
    Image.new("RGB", (3, 3)).save(body, "PNG")
    return body.getvalue()


@pytest.mark.parametrize("resolution", [None, "MEDIA_RESOLUTION_LOW", "MEDIA_RESOLUTION_ULTRA_HIGH"])
@pytest.mark.parametrize("media", ["inline", "upload"])
def test_picture_rows_never_weigh_less_than_their_line(asked, tmp_path, media, resolution):
    """Rows of pictures fill a shard too; what the plan let in must fit into the file."""
    what = asked(media=media)
    rows = block(parts=[[{"data": png(), "media_resolution": resolution}] * 3])
    (size,) = Scale(what, NONCE, (), 10**9).weigh(rows, 0).weights.request_bytes
    made, _ = encoded_lines(tmp_path, what, rows, 0)
    uri = "https://generativelanguage.googleapis.com/v1beta/files/" + "x" * 40
    _, body = encoded_lines(tmp_path, what, rows, 0, uris={item.sha256: uri for item in made.to_upload})
    assert len(body) <= size


def test_a_row_weighs_all_its_samples(asked, tmp_path):
    """Each is a line of its own, paid with all its tokens."""
    one, three = (Scale(asked(n_samples=n), NONCE, (), 10**9).weigh(block(["fine", None]), 9).weights for n in (1, 3))
    _, body = encoded_lines(tmp_path, asked(n_samples=3), block(["fine", None]), 9)
    assert list(three.request_bytes) == [len(body), 0]
    assert list(three.tokens) == [3 * tokens for tokens in one.tokens]
    assert (one.samples, three.samples) == (1, 3)
    assert list(Scale(asked(n_samples=3), NONCE, (), 200).weigh(block(["fine"]), 0).weights.request_bytes) == [0]


def test_a_row_over_the_line_limit_and_a_row_without_content_weigh_nothing(asked):
    """Nothing is sent for them, so they must not be counted as requests or tokens."""
    weights = Scale(asked(), NONCE, (), 200).weigh(block(["x" * 500, None, "", "fine"]), 0).weights
    assert [size > 0 for size in weights.request_bytes] == [False, False, False, True]
    assert [tokens > 0 for tokens in weights.tokens] == [False, False, False, True]


@pytest.mark.parametrize("model", ["gemini-2.5-flash", "gemini-3.8-flash"])
def test_text_counts_by_its_script_and_pictures_as_the_model_does(asked, model):
    scale = Scale(asked(model=model), NONCE, (), 10**9)
    texts = ["a" * 4000, "好" * 100, "7" * 30]
    assert list(scale.weigh(block(texts), 0).weights.tokens) == [tokens_of(text) for text in texts]
    (with_picture,) = scale.weigh(block(parts=[[{"text": "look"}, {"data": png()}]]), 0).weights.tokens
    assert with_picture == tokens_of("look") + picture_part_tokens(model, None, None, (3, 3))


@given(st.lists(st.lists(TEXT, min_size=1, max_size=2), min_size=1, max_size=3), st.none() | TEXT)
def test_no_row_has_less_than_no_tokens(asked, rows, system):
    """The splitter searches sums that must not fall."""
    scale = Scale(asked(system_instruction=system), NONCE, (), 10**9)
    found = scale.weigh(block(parts=[[{"text": text} for text in row] for row in rows]), 0).weights.tokens
    assert min(found) >= 0


@pytest.mark.parametrize("rows", [{"prompts": ["a"]}, {"parts": [[{"text": "a"}]]}], ids=["prompt", "parts"])
def test_the_runs_own_system_instruction_counts_in_every_row(asked, rows):
    """It is repeated on every line (python-genai #1838) and billed on every line."""
    what = asked(system_instruction="s" * 4000)
    (tokens,) = Scale(what, NONCE, (), 10**9).weigh(block(**rows), 0).weights.tokens
    assert tokens == tokens_of("s" * 4000) + tokens_of("a")


def test_a_rows_own_system_instruction_counts_in_place_of_the_runs(asked):
    what = asked(system_instruction="s" * 4000)
    found = Scale(what, NONCE, (), 10**9).weigh(block(["a"] * 3, systems=[None, "", "t" * 400]), 0).weights.tokens
    assert list(found) == [tokens_of("a") + more for more in (tokens_of("s" * 4000), 0, tokens_of("t" * 400))]


SCHEMA = {
    "type": "OBJECT",
    "title": "not read",
    "required": ["size"],
    "properties": {
        "size": {"type": "STRING", "enum": ["small", "large"], "description": "as seen"},
        "when": {"type": "ARRAY", "items": {"type": "STRING", "format": "date"}, "default": ["not read"]},
        "description": {"anyOf": [{"$ref": "#/$defs/Other"}, {"type": "NULL"}]},
    },
    "$defs": {"Other": {"properties": {"inner": {"type": "STRING"}}}},
}


def test_of_a_schema_its_names_and_words_are_read():
    """As google-genai counts one; a property may be called like a keyword."""
    words = ["size", "size", "small", "large", "as seen", "when", "date", "description", "inner"]
    assert sorted(schema_words(SCHEMA)) == sorted(words)


@pytest.mark.parametrize("field", ["responseSchema", "responseJsonSchema"])
def test_the_schema_counts_in_every_request(asked, field):
    """Its size counts towards the limit of input tokens ("Controlled generation")."""
    what = asked(generation_config={field: SCHEMA}, n_samples=3)
    plain, schema = tokens_of("a"), sum(tokens_of(word) for word in schema_words(SCHEMA))
    assert list(Scale(what, NONCE, (), 10**9).weigh(block(["a"]), 0).weights.tokens) == [3 * (plain + schema)]


def test_texts_among_parts_keep_their_places(asked):
    """They are counted as one column, and rows without a list, without content or with nulls among it lie between."""
    rows = [[{"text": "好"}], None, [], [{"text": ""}], [None, {"text": "77"}, {"text": "a"}], [{"text": "b" * 40}]]
    found = Scale(asked(), NONCE, (), 10**9).weigh(block(parts=rows), 0).weights.tokens
    assert found[:4] == [tokens_of("好"), 0, 0, 0]
    assert found[5] == tokens_of("b" * 40)


def drawn(width, height):
    body = io.BytesIO()
    Image.new("L", (width, height)).save(body, "PNG")
    return body.getvalue()


@pytest.mark.parametrize("held", ["path", "data"])
def test_the_first_pictures_count_by_their_pixels_and_the_others_as_they_did(asked, tmp_path, monkeypatch, held):
    """960 x 540 is six tiles of 258 ("Image understanding"), 300 x 200 is one."""
    monkeypatch.setattr(pictures, "OPENED", 3)
    (tmp_path / "wide.png").write_bytes(drawn(960, 540))
    (tmp_path / "small.png").write_bytes(drawn(300, 200))
    names = ["wide.png", "small.png", "none.png" if held == "path" else "wide.png", "wide.png"]
    parts = [[{held: name if held == "path" else (tmp_path / name).read_bytes()}] for name in names]
    found = Scale(asked(model="gemini-2.5-flash"), NONCE, (tmp_path,), 10**9).weigh(block(parts=parts), 0).weights
    mean = {"path": (6 + 1) * 258 // 2, "data": -(-(6 + 1 + 6) * 258 // 3)}[held]
    third = mean if held == "path" else 6 * 258
    assert list(found.tokens) == [6 * 258, 258, third, mean]


def test_a_file_at_the_service_counts_as_the_pictures_that_were_opened(asked):
    """Nobody has opened it; and before any was, as eight tiles."""
    parts = [[{"uri": "files/a"}], [{"data": drawn(300, 200)}], [{"uri": "files/a"}]]
    found = Scale(asked(model="gemini-2.5-flash"), NONCE, (), 10**9).weigh(block(parts=parts), 0).weights.tokens
    assert list(found) == [8 * 258, 258, 258]


def test_a_picture_counts_by_the_resolution_of_its_own_part(asked):
    """The part's resolution wins over the run's at the service, and ULTRA_HIGH costs twice the default."""
    part = {"data": png(), "media_resolution": ULTRA_HIGH}
    what = asked(model="gemini-3.8-flash")
    (tokens,) = Scale(what, NONCE, (), 10**9).weigh(block(parts=[[part]]), 0).weights.tokens
    assert tokens == 2240


@given(prompts=st.lists(st.none() | TEXT, min_size=1, max_size=8), cut=st.integers(0, 8))
def test_identity_does_not_depend_on_how_rows_were_cut_into_blocks(asked, prompts, cut):
    """The same rows must find their run again, whatever wrote the file."""
    scale = Scale(asked(), NONCE, (), 10**9)
    cut = min(max(cut, 1), len(prompts))
    whole = scale.weigh(block(prompts), 0).identity
    first = scale.weigh(block(prompts[:cut]), 0).identity
    rest = scale.weigh(block(prompts[cut:]), cut).identity if prompts[cut:] else b""
    assert whole == first + rest


@given(st.lists(st.tuples(TEXT, TEXT), min_size=2, max_size=2, unique=True))
def test_different_rows_have_different_identities(asked, pair):
    """Two questions under one identity would make a submit resume the wrong run."""
    scale = Scale(asked(), NONCE, (), 10**9)
    marks = [scale.weigh(block([text], systems=[own]), 0).identity for text, own in pair if text]
    assert len(set(marks)) == len(marks)


def test_an_empty_block_weighs_nothing(asked):
    """Arrow tables may hold empty chunks."""
    measured = Scale(asked(), NONCE, (), 10**9).weigh(block([]), 0)
    assert (list(measured.weights.request_bytes), measured.identity) == ([], b"")


def test_a_picture_held_in_the_manifest_counts_by_its_bytes(asked):
    """Two different pictures must not share an identity."""
    scale = Scale(asked(), NONCE, (), 10**9)
    one, other = (scale.weigh(block(parts=[[{"data": body}]]), 0).identity for body in (b"one", b"two"))
    assert one != other
    assert json.loads(one)
