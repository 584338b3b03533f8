"""Result lines in every documented shape, and in any other, become an Answer."""

import orjson
import pytest
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.gemini.wire import FINISHED, TRANSIENT_CODES, Answer, read_answer
from gemini_batch.kinds import KINDS

SCALAR = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=8)
JSON = st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))


def line(candidate=None, **response):
    made = {**response, **({} if candidate is None else {"candidates": [candidate]})}
    return {"key": "k", "response": made}


def said(*parts, reason="STOP", **more):
    return line({"content": {"parts": list(parts), "role": "model"}, "finishReason": reason, "index": 0}, **more)


# --- documented shapes (Batch API guide) ---------------------------------------------------------------------------


def test_the_success_of_the_guide_is_read_with_all_its_numbers():
    answer = read_answer(
        said(
            {"text": '{"a":1}'},
            {"thoughtSignature": "..."},
            usageMetadata={
                "promptTokenCount": 1200,
                "cachedContentTokenCount": 200,
                "candidatesTokenCount": 80,
                "totalTokenCount": 1500,
                "thoughtsTokenCount": 220,
            },
            modelVersion="gemini-3.8-flash",
            responseId="...",
        )
    )
    assert answer == Answer(
        "ok",
        text='{"a":1}',
        finish_reason="STOP",
        model_version="gemini-3.8-flash",
        prompt_tokens=1200,
        cached_tokens=200,
        output_tokens=80,
        thoughts_tokens=220,
    )


@pytest.mark.parametrize("member", ["error", "status"])
@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (13, "An internal error has occurred.", "transient"),
        (14, "unavailable", "transient"),
        (8, "quota", "transient"),
        (3, "Request contains an invalid argument.", "invalid_argument"),
        (7, "You do not have permission to access the File abc or it may not exist.", "media_expired"),
        (5, "File abc not found", "media_expired"),
        (7, "denied", "unknown"),
        (99, "what", "unknown"),
        (None, "something", "transient"),
        ("13", "as text", "transient"),
    ],
)
def test_a_failed_line_says_what_the_service_said(member, code, message, kind):
    answer = read_answer({"key": "k", member: {"code": code, "message": message}})
    assert (answer.status, answer.kind, answer.message) == ("failed", kind, message)
    assert answer.code == (None if code is None else int(code))


@pytest.mark.parametrize(
    ("said", "code", "kind"),
    [
        ("Deadline exceeded", None, "transient"),
        ('Bad Request: {"error": {"code": 400, "message": "x", "status": "INVALID_ARGUMENT"}}', 3, "invalid_argument"),
        ('{"error": {"code": 503, "status": "UNAVAILABLE"}}', 14, "transient"),
        ("PERMISSION_DENIED: no permission to access the File abc", 7, "media_expired"),
    ],
)
@pytest.mark.parametrize("line", [{"response": {}}, {}, {"response": None, "processed_time": "2024-11-13T14:04:28Z"}])
@pytest.mark.parametrize("member", ["error", "status"])
def test_an_error_that_is_only_text_is_told_as_it_stands(said, code, kind, line, member):
    """As Vertex writes them: an empty response and the error in `status`."""
    answer = read_answer({**line, member: said})
    assert (answer.status, answer.kind, answer.code, answer.message) == ("failed", kind, code, said)


@pytest.mark.parametrize(
    ("code", "kind"),
    [(429, "transient"), (500, "transient"), (503, "transient"), (400, "invalid_argument"), (401, "unknown")],
)
def test_a_code_of_http_means_what_it_means_there(code, kind):
    assert read_answer({"error": {"code": code, "message": "x"}}).kind == kind


def test_media_that_was_not_ready_is_uploaded_again():
    said = {"code": 9, "message": "The File abc is not in an ACTIVE state and usage is not allowed."}
    assert read_answer({"error": said}).kind == "media_expired"


def test_an_error_beside_an_empty_response_is_the_error_and_tokens_are_kept():
    found = {"response": {"candidates": [], "usageMetadata": {"promptTokenCount": 4}}, "error": {"code": 3}}
    answer = read_answer(found)
    assert (answer.kind, answer.code, answer.prompt_tokens) == ("invalid_argument", 3, 4)


@pytest.mark.parametrize("code", sorted(TRANSIENT_CODES))
def test_codes_that_can_pass_are_transient(code):
    assert read_answer({"error": {"code": code}}).kind == "transient"


@pytest.mark.parametrize("found", [{}, {"response": None}, {"response": {}}, {"error": None}, {"request": {}}])
def test_a_line_that_says_nothing_may_be_asked_again(found):
    """Met in the wild (langchain4j #4423)."""
    answer = read_answer({"key": "k", **found})
    assert (answer.status, answer.kind, answer.text) == ("failed", "transient", None)


@pytest.mark.parametrize("reason", ["SAFETY", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "IMAGE_SAFETY", "NEW_REASON"])
def test_a_blocked_prompt_has_no_candidates(reason):
    answer = read_answer(line(promptFeedback={"blockReason": reason}, usageMetadata={"promptTokenCount": 12}))
    assert (answer.status, answer.kind, answer.prompt_tokens, answer.text) == ("blocked", "blocked_prompt", 12, None)
    assert reason in answer.message


@pytest.mark.parametrize(
    "reason",
    ["SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "IMAGE_RECITATION"],
)
@pytest.mark.parametrize("content", [{}, {"content": {}}, {"content": {"parts": [{"text": "cut"}]}}])
def test_a_withheld_answer_is_blocked_with_or_without_content(reason, content):
    answer = read_answer(line({"finishReason": reason, **content}))
    assert (answer.status, answer.kind, answer.finish_reason) == ("blocked", "blocked_answer", reason)
    assert answer.text == ("cut" if content.get("content") else None)


@pytest.mark.parametrize("parts", [[{"text": '{"a":'}], []])
def test_an_answer_at_the_token_limit_is_truncated_even_without_text(parts):
    """Thinking may consume the whole budget."""
    answer = read_answer(said(*parts, reason="MAX_TOKENS"))
    assert (answer.status, answer.kind, answer.text) == ("truncated", "truncated", parts[0]["text"] if parts else None)


@pytest.mark.parametrize("reason", ["OTHER", "MALFORMED_FUNCTION_CALL", "NO_IMAGE", "MALFORMED_RESPONSE", "FROM_2031"])
def test_other_reasons_fail_and_unknown_ones_do_not_crash(reason):
    answer = read_answer(said({"text": "a"}, reason=reason))
    assert (answer.status, answer.finish_reason) == ("failed", reason)
    assert answer.kind in KINDS


@pytest.mark.parametrize("reason", [one.value for one in types.FinishReason])
def test_every_finish_reason_of_the_sdk_is_decided(reason):
    """A release of the SDK with a new one asks for a decision."""
    assert reason in FINISHED
    answer = read_answer(said({"text": "a"}, reason=reason))
    assert answer.kind == FINISHED[reason]
    assert answer.status == ("ok" if answer.kind is None else KINDS[answer.kind].status)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [("OTHER", "transient"), ("MALFORMED_RESPONSE", "transient"), ("MALFORMED_FUNCTION_CALL", "transient"),
     ("UNEXPECTED_TOOL_CALL", "transient"), ("NO_IMAGE", "unknown"), ("MISSING_THOUGHT_SIGNATURE", "unknown"),
     ("CONTINUATION", "truncated"), ("FROM_2031", "unknown")],
)  # fmt: skip
@pytest.mark.parametrize("parts", [[{"text": "a"}], []])
def test_what_another_try_can_change_is_transient_and_the_rest_is_unknown(reason, kind, parts):
    assert read_answer(said(*parts, reason=reason)).kind == kind


@pytest.mark.parametrize("reason", [None, "", "FINISH_REASON_UNSPECIFIED"])
def test_an_answer_without_a_finish_reason_is_read_by_its_text(reason):
    """Proto JSON leaves out the value 0."""
    assert read_answer(said({"text": "a"}, reason=reason)).status == "ok"


@pytest.mark.parametrize("feedback", [{}, {"blockReason": None}, {"blockReason": "BLOCK_REASON_UNSPECIFIED"}])
def test_feedback_that_names_no_reason_blocks_nothing(feedback):
    """Safety ratings come with prompts that were answered, too."""
    assert read_answer(said({"text": "a"}, promptFeedback=feedback)).status == "ok"


def test_a_part_whose_text_is_no_text_makes_the_answer_not_understood():
    """To join the others would be an answer with a hole. What it cost is kept."""
    usage = {"promptTokenCount": 3, "candidatesTokenCount": 5}
    for odd in ({"text": 5}, "text", None):
        answer = read_answer(said({"text": "a"}, odd, {"text": "b"}, usageMetadata=usage))
        assert (answer.status, answer.kind, answer.text) == ("failed", "unknown", None)
        assert (answer.prompt_tokens, answer.output_tokens) == (3, 5)


@pytest.mark.parametrize("usage", [None, [], "many", 5])
def test_usage_that_is_none_costs_no_answer(usage):
    answer = read_answer(said({"text": "a"}, usageMetadata=usage))
    assert (answer.status, answer.prompt_tokens) == ("ok", None)


def test_all_text_parts_of_the_first_candidate_are_joined_without_thoughts():
    parts = [{"text": "let me see", "thought": True}, {"text": "a"}, {"thoughtSignature": "x"}, {"text": "b"}]
    found = said(*parts)
    found["response"]["candidates"].append({"content": {"parts": [{"text": "other"}]}})
    assert read_answer(found).text == "ab"


def test_a_stop_without_any_text_is_no_answer():
    assert read_answer(said({"text": "t", "thought": True})).status == "failed"
    assert read_answer(line({"finishReason": "STOP"})).status == "failed"
    assert read_answer(line(candidates=[])).kind == "transient"


def test_an_absent_or_null_model_version_is_null():
    """The text "None" in the dataset would be a version that does not exist."""
    assert read_answer(said({"text": "a"})).model_version is None
    assert read_answer(said({"text": "a"}, modelVersion=None)).model_version is None


def test_token_counts_may_be_text_and_nonsense_is_null_not_zero():
    """Proto JSON writes 64-bit numbers as text; an unknown cost is never zero."""
    usage = {"promptTokenCount": "7", "candidatesTokenCount": True, "thoughtsTokenCount": -1}
    answer = read_answer(said({"text": "a"}, usageMetadata=usage))
    assert (answer.prompt_tokens, answer.output_tokens, answer.thoughts_tokens) == (7, None, None)


# --- any shape --------------------------------------------------------------------------------------------------------


def well_formed(answer):
    assert answer.status in {"ok", "failed", "blocked", "truncated"}
    assert (answer.status == "ok") == (answer.kind is None)
    assert answer.kind is None or answer.kind in KINDS
    assert answer.text is None or isinstance(answer.text, str)
    assert answer.status != "ok" or answer.text is not None


MEMBERS = {
    "": ["response", "error", "status"],
    "response": ["candidates", "promptFeedback", "usageMetadata", "modelVersion"],
    "candidate": ["content", "finishReason"],
}


@given(st.dictionaries(st.sampled_from(["key", *MEMBERS[""]]), JSON))
def test_no_json_object_makes_reading_fail(found):
    """One odd line must not cost the ten thousand others of its file."""
    well_formed(read_answer(found))


@given(
    response=st.dictionaries(st.sampled_from(MEMBERS["response"]), JSON),
    candidate=st.dictionaries(st.sampled_from(MEMBERS["candidate"]), JSON),
    content=JSON | st.fixed_dictionaries({"parts": JSON | st.lists(JSON | st.fixed_dictionaries({"text": JSON}))}),
    reason=JSON | st.sampled_from(["FROM_2031", *FINISHED]),
    depth=st.integers(0, 2),
)
def test_a_wrong_type_in_any_member_makes_no_reading_fail(response, candidate, content, reason, depth):
    if depth > 0:
        candidate = {**candidate, "finishReason": reason}
    if depth > 1:
        candidate = {**candidate, "content": content}
    well_formed(read_answer({"response": {**response, "candidates": [candidate]}}))


@pytest.mark.parametrize("depth", [100, 1000])
@pytest.mark.parametrize("where", ["message", "code", "finishReason", "modelVersion", "blockReason"])
def test_a_deeply_nested_member_makes_no_reading_fail(where, depth):
    """orjson reads 1,024 levels; Python's repr of that many is a RecursionError."""
    deep = orjson.loads("[" * depth + "]" * depth)
    found = {
        "message": {"error": {"message": deep}},
        "code": {"error": {"code": deep}},
        "finishReason": line({"finishReason": deep}),
        "modelVersion": line({"finishReason": "STOP"}, modelVersion=deep),
        "blockReason": line(promptFeedback={"blockReason": deep}),
    }[where]
    well_formed(read_answer(found))


def test_a_number_of_thousands_of_digits_makes_no_reading_fail():
    """Python refuses to convert more than 4,300 digits."""
    well_formed(read_answer({"error": {"code": "9" * 5000}}))
    well_formed(read_answer(said({"text": "a"}, usageMetadata={"promptTokenCount": "9" * 5000})))
