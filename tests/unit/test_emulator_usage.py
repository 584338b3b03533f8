"""What the emulator says a request took is what Google's rules give for the real sizes of its media."""

import base64
import io
import random
import wave
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gemini_batch.emulator.sizes import Medium, look, look_inline
from gemini_batch.emulator.usage import (
    DYNAMIC_THOUGHTS,
    THOUGHTS,
    Output,
    Usage,
    fit,
    measure,
    output_usage,
    thought_tokens,
    usage_metadata,
)
from gemini_batch.gemini.tokens import HIGH, LOW, MEDIUM, ULTRA_HIGH

OLD, NEW = "gemini-2.5-flash", "gemini-3.8-flash"
FORMATS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}
NAMES = ["data", "mimeType", "mime_type", "fileUri", "level", "thinkingBudget", "thinking_level", "includeThoughts"]
VALUES = ["image/png", "application/pdf", "AAAA", "files/a", "HIGH", HIGH, "-1", "7", ""]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.sampled_from(VALUES) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=5,
)


def picture(kind="PNG", size=(960, 540), **options):
    body = io.BytesIO()
    # Noise, so that no picture is one run of a colour that fits into any header.
    Image.frombytes("L", size, random.Random(0).randbytes(size[0] * size[1])).convert("RGB").save(body, kind, **options)
    return body.getvalue()


def pdf(pages):
    body = io.BytesIO()
    leaves = [Image.new("RGB", (40, 60), (page, 0, 0)) for page in range(pages)]
    leaves[0].save(body, "PDF", save_all=True, append_images=leaves[1:])
    return body.getvalue()


def wav(seconds, rate=8000):
    body = io.BytesIO()
    with wave.open(body, "wb") as sound:
        sound.setnchannels(2)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(bytes(4 * rate * seconds))
    return body.getvalue()


def encoded(body):
    return base64.b64encode(body).decode()


def inline(body, mime_type, level=None):
    part = {"inlineData": {"mimeType": mime_type, "data": encoded(body) if isinstance(body, bytes) else body}}
    return part if level is None else {**part, "mediaResolution": {"level": level}}


def stored(file_id, mime_type=None):
    uri = {"fileUri": f"https://generativelanguage.googleapis.com/v1beta/files/{file_id}"}
    return {"fileData": uri if mime_type is None else {**uri, "mimeType": mime_type}}


def request(*parts, **members):
    return {"contents": [{"role": "user", "parts": list(parts)}], **members}


def nobody(file_id):
    return None


# --- text -------------------------------------------------------------------------------------------------------------


def test_text_counts_over_all_contents_and_the_system_instruction():
    asked = {
        "contents": [
            {"parts": [{"text": "a" * 40}, {"text": "b" * 20}]},
            {"role": "model", "parts": [{"text": "c" * 8}]},
        ],
        "systemInstruction": {"parts": [{"text": "d" * 12}]},
    }
    assert measure(asked, NEW, nobody) == Usage(text=20)
    assert measure({"contents": {"parts": [{"text": "a" * 40}]}}, NEW, nobody) == Usage(text=10)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"contents": []},
        {"contents": [{}]},
        request(),
        request({"text": ""}),
        request({"inlineData": {}}, {"fileData": {}}, {"functionCall": {"name": "f"}}),
    ],
)
def test_a_request_without_text_or_media_has_one_token(asked):
    assert measure(asked, NEW, nobody) == Usage(text=1)


def test_both_spellings_of_a_request_count_the_same():
    body = picture()
    camel = {
        "contents": [{"parts": [{"text": "look" * 9}, inline(body, "image/png", LOW), stored("abc", "image/png")]}],
        "systemInstruction": {"parts": [{"text": "be brief"}]},
        "generationConfig": {
            "mediaResolution": MEDIUM,
            "maxOutputTokens": 90,
            "thinkingConfig": {"thinkingBudget": 20, "includeThoughts": True},
        },
    }
    snake = {
        "contents": [
            {
                "parts": [
                    {"text": "look" * 9},
                    {
                        "inline_data": {"mime_type": "image/png", "data": encoded(body)},
                        "media_resolution": {"level": LOW},
                    },
                    {"file_data": {"file_uri": "files/abc", "mime_type": "image/png"}},
                ]
            }
        ],
        "system_instruction": {"parts": [{"text": "be brief"}]},
        "generation_config": {
            "media_resolution": MEDIUM,
            "max_output_tokens": "90",
            "thinking_config": {"thinking_budget": 20.0, "include_thoughts": True},
        },
    }
    sizes = {"abc": Medium("IMAGE", 960, 540)}.get
    assert (
        measure(camel, NEW, sizes) == measure(snake, NEW, sizes) == Usage(text=11, image=280 + 560, file_ids=("abc",))
    )
    assert output_usage(camel, "x" * 400, 3) == output_usage(snake, "x" * 400, 3)


def test_usage_has_the_recorded_shape():
    """Result lines, recorded: promptTokensDetails by modality, thoughts outside of candidates but in the total."""
    prompt = Usage(text=80, image=1120)
    assert usage_metadata(prompt, Output("{}", "STOP", 80, 220)) == {
        "promptTokenCount": 1200,
        "candidatesTokenCount": 80,
        "totalTokenCount": 1500,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 80}, {"modality": "IMAGE", "tokenCount": 1120}],
        "thoughtsTokenCount": 220,
    }
    assert usage_metadata(Usage(text=3), Output("", "MAX_TOKENS", 0, 0)) == {
        "promptTokenCount": 3,
        "totalTokenCount": 3,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 3}],
    }


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(("size", "tiles"), [((1, 1), 1), ((384, 384), 1), ((960, 540), 6), ((700, 700), 4)])
def test_a_picture_counts_by_its_real_size(kind, size, tiles):
    asked = request({"text": "look"}, inline(picture(kind, size), FORMATS[kind]))
    assert measure(asked, OLD, nobody) == Usage(text=1, image=258 * tiles)
    assert measure(asked, NEW, nobody) == Usage(text=1, image=1120)


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 10}, {"exif": b"Exif\0\0" + b"x" * 99}])
@given(width=st.integers(1, 900), height=st.integers(1, 900))
def test_a_webp_has_the_size_that_pillow_reads(options, width, height):
    """Its header is read by hand, in each of its three kinds."""
    body = io.BytesIO()
    Image.new("RGB", (width, height)).save(body, "WEBP", **options)
    found = look_inline(encoded(body.getvalue()), "image/webp")
    assert (found.width, found.height) == (width, height)


def test_a_moving_picture_has_the_size_of_its_canvas():
    frames = [Image.new("RGB", (400, 300), (shade, 0, 0)) for shade in (0, 99, 200)]
    for kind in ("GIF", "WEBP", "PNG"):
        body = io.BytesIO()
        frames[0].save(body, kind, save_all=True, append_images=frames[1:])
        assert look_inline(encoded(body.getvalue()), FORMATS[kind]) == Medium("IMAGE", 400, 300)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("length", [0, 1, 2])
@pytest.mark.parametrize(
    "spelt",
    [
        lambda body: base64.b64encode(body).decode(),
        lambda body: base64.b64encode(body).decode().rstrip("="),
        lambda body: base64.urlsafe_b64encode(body).decode(),
        lambda body: base64.urlsafe_b64encode(body).decode().rstrip("="),
        lambda body: base64.encodebytes(body).decode(),
        lambda body: base64.encodebytes(body).decode().replace("\n", "\r\n"),
    ],
    ids=["plain", "unpadded", "urlsafe", "urlsafe-unpadded", "lines", "crlf"],
)
@pytest.mark.parametrize("size", [(9, 7), (300, 200)])
def test_base64_is_read_in_every_spelling(kind, length, spelt, size):
    """proto-JSON takes all of them."""
    body = picture(kind, size) + bytes(length)
    assert look_inline(spelt(body), FORMATS[kind]) == Medium("IMAGE", *size)


@pytest.mark.parametrize("exif_bytes", [10, 3_000, 30_000, 60_000, 65_000])
@pytest.mark.parametrize("segments", [0, 1, 3])
def test_a_header_behind_a_heap_of_metadata_is_found(exif_bytes, segments):
    """Cameras put a preview into EXIF, editors a profile and a history behind it: the size comes after 64 KiB."""
    plain = picture("JPEG", exif=b"Exif\0\0" + b"e" * exif_bytes, icc_profile=b"i" * 70_000 * segments or None)
    asked = request(inline(plain, "image/jpeg"))
    assert plain.find(b"\xff\xc0") > exif_bytes + 70_000 * segments
    assert measure(asked, OLD, nobody).image == 258 * 6


def test_a_picture_of_gigantic_size_is_read_from_its_header_alone():
    """Pillow refuses to open what could fill the memory, and warns about what might."""
    size = (90_000).to_bytes(4, "big") + (60_000).to_bytes(4, "big")
    header = b"IHDR" + size + bytes([8, 2, 0, 0, 0])
    body = b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + header + zlib.crc32(header).to_bytes(4, "big")
    body += bytes(4) + b"IDAT" + zlib.crc32(b"IDAT").to_bytes(4, "big")
    assert look_inline(encoded(body), "image/png") == Medium("IMAGE", 90_000, 60_000)


@pytest.mark.parametrize(
    "data", ["", "AAAA", "A", "no base64, Grüße", "%%%%", "iVBORw0KGgo=", "/9j/", None, 7, ["x"], {}]
)
def test_what_is_no_picture_counts_like_a_small_one(data):
    asked = request({"text": "look"}, {"inlineData": {"mimeType": "image/png", "data": data}})
    assert [measure(asked, model, nobody).image for model in (OLD, NEW)] == [258, 258]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_cut_picture_has_its_real_size_or_none(kind):
    body = picture(kind, (500, 300))
    for end in [*range(64), *range(64, len(body), 997)]:
        found = look_inline(encoded(body[:end]), FORMATS[kind])
        assert found in (Medium("IMAGE", 500, 300), Medium("IMAGE")), end


@given(body=st.binary(max_size=300), start=st.sampled_from([b"", *(picture(kind, (3, 3))[:20] for kind in FORMATS)]))
def test_no_bytes_raise(body, start):
    for mime_type in ("image/png", "application/pdf", "audio/wav", "video/mp4", "text/plain"):
        assert measure(request(inline(start + body, mime_type)), NEW, nobody).total > 0
        assert look(io.BytesIO(start + body), mime_type, len(start + body)).modality


@given(JSON, JSON, JSON, JSON)
def test_no_shape_of_a_part_raises(blob, file, level, config):
    """The check of a line looks at names and at text, not at all that is inside."""
    part = {"inlineData": blob, "fileData": file, "mediaResolution": level}
    asked = request(
        part, generationConfig={"mediaResolution": level, "maxOutputTokens": config, "thinkingConfig": file}
    )
    assert measure(asked, NEW, nobody).total > 0
    assert output_usage(asked, "text", 0).answer_tokens >= 0


def test_the_parts_own_resolution_wins_over_the_requests():
    body = picture()
    asked = request(
        *(inline(body, "image/png", level) for level in (None, LOW, ULTRA_HIGH)),
        generationConfig={"mediaResolution": HIGH},
    )
    assert measure(asked, NEW, nobody).image == 1120 + 280 + 2240
    assert measure(asked, OLD, nobody).image == 3 * 1548


def test_a_stored_picture_is_asked_for_by_its_id():
    sizes = {"a": Medium("IMAGE", 960, 540), "b": Medium("IMAGE", 10, 10)}.get
    asked = request(stored("a", "image/png"), {"text": "and"}, stored("b"), stored("a"))
    assert measure(asked, OLD, sizes) == Usage(text=1, image=(6 + 1 + 6) * 258, file_ids=("a", "b", "a"))


@pytest.mark.parametrize("found", [None, Medium("IMAGE"), Medium("TEXT", amount=1e9)])
def test_a_stored_picture_that_cannot_be_read_counts_like_a_small_one(found):
    asked = request(stored("gone", "image/png"))
    assert measure(asked, NEW, lambda file_id: found) == Usage(text=1, image=258, file_ids=("gone",))


def test_a_stored_file_is_read_no_further_than_its_header(tmp_path):
    for kind in ("JPEG", "PNG", "WEBP"):
        path = tmp_path / kind
        path.write_bytes(picture(kind, (900, 700)))
        with path.open("rb", buffering=0) as file:
            assert look(file, FORMATS[kind], path.stat().st_size) == Medium("IMAGE", 900, 700)
            assert file.tell() < path.stat().st_size


def test_many_threads_count_alike():
    bodies = [picture(kind, (100 + shift, 500)) for kind in FORMATS for shift in range(5)]
    asked = [request(inline(body, "image/png")) for body in bodies] * 20
    alone = [measure(one, OLD, nobody) for one in asked]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda one: measure(one, OLD, nobody), asked)) == alone


# --- documents and recordings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pages", [1, 2, 17])
def test_a_document_counts_by_its_pages(pages):
    asked = request({"text": "read"}, inline(pdf(pages), "application/pdf"))
    assert measure(asked, OLD, nobody) == Usage(text=1, document=258 * pages)
    assert measure(asked, NEW, nobody) == Usage(text=1, image=560 * pages)
    assert measure(asked, OLD, nobody).details()[1] == {"modality": "DOCUMENT", "tokenCount": 258 * pages}


def test_pages_in_compressed_object_streams_are_found():
    """As LaTeX and Word write them."""
    objects = b"<</Type/Pages/Count 3>>" + b"<</Type/Page/Parent 1 0 R>>" * 3
    stream = zlib.compress(objects)
    body = b"%%PDF-1.5\n1 0 obj<</Type/ObjStm/N 4/First 20/Filter/FlateDecode/Length %d>>stream\n" % len(stream)
    body += stream + b"\nendstream endobj\n2 0 obj<</Type/ObjStm>>stream\nno zlib\nendstream"
    assert look_inline(encoded(body), "application/pdf") == Medium("DOCUMENT", amount=3)


@pytest.mark.parametrize("body", [b"", b"%PDF-1.7", b"no document", pdf(9)[:200]])
def test_a_document_that_cannot_be_read_has_one_page(body):
    assert measure(request(inline(body, "application/pdf")), OLD, nobody).document == 258


def test_a_wav_counts_by_its_real_length():
    asked = request(inline(wav(7), "audio/wav"))
    assert measure(asked, OLD, nobody).audio == 7 * 32
    assert measure(asked, NEW, nobody).audio == 7 * 25


def test_a_wav_that_claims_more_than_it_holds_counts_what_it_holds():
    found = look_inline(encoded(wav(40)[:32_044]), "audio/wav")
    assert 1 <= found.amount < 1.01


def test_other_recordings_count_by_an_assumed_bit_rate():
    sound, film = bytes(160_000), bytes(2_500_000)
    assert measure(request(inline(sound, "audio/mpeg")), OLD, nobody).audio == pytest.approx(320, abs=1)
    counted = measure(request(inline(film, "video/mp4")), NEW, nobody)
    assert (counted.video, counted.audio) == pytest.approx((700, 250), abs=1)
    assert [one["modality"] for one in counted.details()] == ["TEXT", "VIDEO", "AUDIO"]


def test_other_documents_count_as_text():
    asked = request({"text": "x" * 40}, inline(b"y" * 4000, "text/csv"), stored("t"))
    counted = measure(asked, NEW, {"t": Medium("TEXT", amount=400)}.get)
    assert counted == Usage(text=10 + 1000 + 100, file_ids=("t",))


# --- output -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        None,
        {},
        {"thinkingBudget": 0},
        {"thinkingBudget": "0"},
        {"thinkingBudget": 0, "thinkingLevel": "HIGH"},
        {"includeThoughts": False},
        {"thinkingLevel": "THINKING_LEVEL_UNSPECIFIED"},
        {"thinkingLevel": 7},
    ],
)
def test_nothing_is_thought_unless_asked_for(config):
    assert {thought_tokens(config, draw) for draw in range(100)} == {0}


@pytest.mark.parametrize(
    ("config", "least", "most"),
    [
        ({"thinkingLevel": "minimal"}, *THOUGHTS["MINIMAL"]),
        ({"thinking_level": "LOW"}, *THOUGHTS["LOW"]),
        ({"thinkingLevel": "medium"}, *THOUGHTS["MEDIUM"]),
        ({"thinkingLevel": "HIGH"}, *THOUGHTS["HIGH"]),
        ({"thinkingBudget": -1}, *DYNAMIC_THOUGHTS),
        ({"thinkingBudget": "-1"}, *DYNAMIC_THOUGHTS),
        ({"includeThoughts": True}, *DYNAMIC_THOUGHTS),
        ({"thinking_budget": 1000}, DYNAMIC_THOUGHTS[0], 1000),
        ({"thinkingBudget": 10}, 10, 10),
        ({"thinkingBudget": 1}, 1, 1),
    ],
)
def test_thoughts_lie_in_the_range_asked_for(config, least, most):
    drawn = {thought_tokens(config, draw) for draw in range(20_000)}
    assert (min(drawn), max(drawn)) == (least, most)


@given(st.integers(1, 40_000), st.none() | st.sampled_from(list(THOUGHTS)), st.integers(0, 2**64))
def test_thoughts_never_pass_the_budget(budget, level, draw):
    config = {"thinkingBudget": budget} if level is None else {"thinkingBudget": budget, "thinkingLevel": level}
    assert 0 <= thought_tokens(config, draw) <= budget


@pytest.mark.parametrize(
    ("characters", "thoughts", "limit", "kept", "reason"),
    [
        (100, 0, None, 100, "STOP"),
        (100, 9999, None, 100, "STOP"),
        (100, 0, 25, 100, "STOP"),
        (103, 0, 25, 103, "STOP"),
        (104, 0, 25, 100, "MAX_TOKENS"),
        (100, 0, 24, 96, "MAX_TOKENS"),
        (100, 75, 100, 100, "STOP"),
        (100, 76, 100, 96, "MAX_TOKENS"),
        (100, 100, 100, 0, "MAX_TOKENS"),
        (100, 300, 100, 0, "MAX_TOKENS"),
        (1, 0, 1, 1, "STOP"),
    ],
)
def test_an_answer_is_cut_where_the_limit_is_met(characters, thoughts, limit, kept, reason):
    text = "abcd" * 26
    assert fit(text[:characters], thoughts, limit) == (text[:kept], reason)


@given(
    st.text(min_size=1, max_size=300),
    st.none() | st.integers(1, 100),
    st.none() | st.integers(-1, 200) | st.sampled_from(list(THOUGHTS)),
    st.integers(0, 2**32),
)
def test_an_answer_and_its_thoughts_never_pass_the_limit(text, limit, thinking, draw):
    config = {} if limit is None else {"maxOutputTokens": limit}
    if thinking is not None:
        config["thinkingConfig"] = {"thinkingLevel" if isinstance(thinking, str) else "thinkingBudget": thinking}
    asked = request({"text": "q"}, generationConfig=config)
    answer = output_usage(asked, text, draw)
    assert answer == output_usage(asked, text, draw)
    assert text.startswith(answer.text)
    assert (answer.text == text) == (answer.finish_reason == "STOP")
    assert (answer.answer_tokens == 0) == (answer.text == "")
    assert limit is None or answer.answer_tokens + answer.thought_tokens <= limit
    shown = usage_metadata(measure(asked, NEW, nobody), answer)
    total = shown["promptTokenCount"] + shown.get("candidatesTokenCount", 0) + shown.get("thoughtsTokenCount", 0)
    assert shown["totalTokenCount"] == total


def test_thoughts_that_use_the_limit_up_leave_no_text():
    config = {"maxOutputTokens": 50, "thinkingConfig": {"thinkingLevel": "HIGH"}}
    assert output_usage(request(generationConfig=config), "an answer", 1) == Output("", "MAX_TOKENS", 0, 50)


@pytest.mark.parametrize("limit", [0, -3, None, "many", True])
def test_a_limit_that_is_none_does_not_cut(limit):
    asked = request(generationConfig={"maxOutputTokens": limit})
    assert output_usage(asked, "an answer", 1) == Output("an answer", "STOP", 2, 0)
