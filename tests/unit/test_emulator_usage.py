"""What the emulator says a request took is what Google's rules give for the real sizes of its media."""

import io
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import FORMATS, encoded, pdf, picture, wav

from gemini_batch.emulator.sizes import Medium, look
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
NAMES = ["data", "mimeType", "mime_type", "fileUri", "level", "thinkingBudget", "thinking_level", "includeThoughts"]
VALUES = ["image/png", "application/pdf", "AAAA", "files/a", "HIGH", HIGH, "-1", "7", ""]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.sampled_from(VALUES) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=5,
)


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


@pytest.mark.parametrize("exif_bytes", [10, 3_000, 30_000, 60_000, 65_000])
@pytest.mark.parametrize("segments", [0, 1, 3])
def test_a_header_behind_a_heap_of_metadata_is_found(exif_bytes, segments):
    """Cameras put a preview into EXIF, editors a profile and a history behind it: the size comes after 64 KiB."""
    plain = picture("JPEG", exif=b"Exif\0\0" + b"e" * exif_bytes, icc_profile=b"i" * 70_000 * segments or None)
    asked = request(inline(plain, "image/jpeg"))
    assert plain.find(b"\xff\xc0") > exif_bytes + 70_000 * segments
    assert measure(asked, OLD, nobody).image == 258 * 6


@pytest.mark.parametrize(
    "data", ["", "AAAA", "A", "no base64, Grüße", "%%%%", "iVBORw0KGgo=", "/9j/", None, 7, ["x"], {}]
)
def test_what_is_no_picture_counts_like_a_small_one(data):
    asked = request({"text": "look"}, {"inlineData": {"mimeType": "image/png", "data": data}})
    assert [measure(asked, model, nobody).image for model in (OLD, NEW)] == [258, 258]


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


@pytest.mark.parametrize("body", [b"", b"%PDF-1.7", b"no document", pdf(9)[:200]])
def test_a_document_that_cannot_be_read_has_one_page(body):
    assert measure(request(inline(body, "application/pdf")), OLD, nobody).document == 258


def test_a_wav_counts_by_its_real_length():
    asked = request(inline(wav(7), "audio/wav"))
    assert measure(asked, OLD, nobody).audio == 7 * 32
    assert measure(asked, NEW, nobody).audio == 7 * 25


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
