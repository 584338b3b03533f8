"""A user's own answers: a function, canned lines, a result file played back."""

import json
from enum import Enum
from typing import Any

import httpx2
import pytest
from emulator_calls import advance, create, create_inline, shown, stats, store, with_key
from google import genai
from pydantic import BaseModel
from sdk_calls import MODEL, jsonl, request_of

from gemini_batch.emulator.answers import expected_text
from gemini_batch.emulator.canned import Prompt, load_answers
from gemini_batch.emulator.settings import SettingsError


class Page(BaseModel):
    title: str
    words: int


@pytest.fixture
def http_here(gemini_emulator):
    with with_key(gemini_emulator.url, "k") as http:
        yield http


def line(key: str, text: str = "", **config: Any) -> Any:
    return {"key": key, "request": request_of(text or f"prompt of {key}", **config)}


def results(http: httpx2.Client, *lines: Any) -> list[Any]:
    created = create(http, *lines)
    assert created.status_code == 200, created.text
    advance(http, seconds=0)
    reply = http.get(f"/v1/{shown(http, created)['response']['responsesFile']}:download?alt=media")
    return [json.loads(line) for line in reply.content.split(b"\n") if line]


def result(http: httpx2.Client, one: Any) -> Any:
    (found,) = results(http, one)
    return found


def text_of(result: Any) -> str:
    (part,) = result["response"]["candidates"][0]["content"]["parts"]
    return str(part["text"])


# --- functions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("hello", "hello"),
        ("ü\u2028\0", "ü\u2028\0"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        ([1, 2], "[1,2]"),
        (7.5, "7.5"),
        (False, "false"),
        (0, "0"),
        ({}, "{}"),
        (Page(title="x", words=3), '{"title":"x","words":3}'),
        ({"status": "glad"}, '{"status":"glad"}'),
        ({"error": "none", "response": 7}, '{"error":"none","response":7}'),
        ({"response": {}, "more": 1}, '{"response":{},"more":1}'),
    ],
)
def test_what_a_function_gives_is_the_text_of_the_answer(gemini_emulator, http_here, answer, text):
    gemini_emulator.answer(lambda prompt: answer)
    found = result(http_here, line("a"))
    assert text_of(found) == text
    assert found["response"]["usageMetadata"]["candidatesTokenCount"] == max(1, len(text) // 4)
    asked = http_here.post(f"/v1/models/{MODEL}:generateContent", json=request_of("x")).json()
    assert text_of({"response": asked}) == text


def test_an_empty_text_is_an_answer_without_parts(gemini_emulator, http_here):
    gemini_emulator.answer(lambda prompt: "")
    (candidate,) = result(http_here, line("a"))["response"]["candidates"]
    assert candidate == {"content": {"role": "model"}, "finishReason": "STOP", "index": 0}


def test_none_leaves_the_answer_to_the_emulator(gemini_emulator, http_here):
    gemini_emulator.answer(lambda prompt: "mine" if prompt.key == "a" else None)
    mine, made_up = results(http_here, line("a"), line("b"))
    assert (text_of(mine), text_of(made_up)) == ("mine", expected_text(0, line("b")["request"]))


def raises(error: BaseException) -> Any:
    def answer(prompt: Prompt) -> Any:
        if prompt.key == "bad":
            raise error
        return "fine"

    return answer


FAILING = [
    (raises(ValueError("no such page")), "ValueError: no such page"),
    (raises(AssertionError("not this prompt")), "AssertionError: not this prompt"),
    (raises(pytest.fail.Exception("failed in an answer")), "Failed: failed in an answer"),
    (raises(SystemExit(3)), "SystemExit: 3"),
    (lambda prompt: object() if prompt.key == "bad" else "fine", "TypeError: Type is not JSON serializable: object"),
]


@pytest.mark.parametrize(("answer", "message"), FAILING, ids=[message for _, message in FAILING])
def test_an_answer_that_fails_is_an_error_of_its_line_alone(gemini_emulator, http_here, answer, message):
    """Whatever it raises: the thread that answers must live on."""
    gemini_emulator.answer(answer)
    bad, good = results(http_here, line("bad"), line("good"))
    assert bad == {"key": "bad", "error": {"code": 13, "message": message}}
    assert text_of(good) == "fine"
    assert text_of(result(http_here, line("good"))) == "fine"


def test_a_call_of_its_own_that_fails_is_a_500_with_the_message_and_the_next_one_is_served(gemini_emulator, http_here):
    gemini_emulator.answer(lambda prompt: raises(SystemExit(3))(Prompt("bad", "", {})))
    reply = http_here.post(f"/v1/models/{MODEL}:generateContent", json=request_of("x"))
    assert (reply.status_code, reply.json()["error"]["message"]) == (500, "SystemExit: 3")
    gemini_emulator.answer(lambda prompt: "fine")
    assert http_here.post(f"/v1/models/{MODEL}:generateContent", json=request_of("x")).status_code == 200


WHOLE = [
    {"response": {"candidates": [], "usageMetadata": {"totalTokenCount": 3}}},
    {"response": {"promptFeedback": {"blockReason": "SAFETY"}}},
    {"response": {"candidates": "of another shape", "usageMetadata": {"promptTokenCount": "7"}}},
    {"response": None},
    {"error": {"code": 8, "message": "busy"}},
    {"status": {"code": 3, "message": "bad"}},
]


@pytest.mark.parametrize("whole", WHOLE, ids=json.dumps)
def test_a_whole_result_stands_in_the_result_file_as_it_is(gemini_emulator, http_here, whole):
    gemini_emulator.answer(lambda prompt: whole)
    assert result(http_here, line("a")) == {"key": "a"} | whole
    created = create_inline(http_here, request_of("x"))
    advance(http_here, seconds=0)
    assert shown(http_here, created)["response"]["inlinedResponses"]["inlinedResponses"] == [whole]


@pytest.mark.parametrize(
    ("code", "status"), [(3, 400), (5, 404), (7, 403), (8, 429), (13, 500), (14, 503), (16, 401), (2, 500), ("x", 500)]
)
def test_an_error_of_a_function_is_the_reply_to_a_call_of_its_own(gemini_emulator, http_here, code, status):
    gemini_emulator.answer(lambda prompt: {"error": {"code": code, "message": "so it is"}})
    reply = http_here.post(f"/v1/models/{MODEL}:generateContent", json=request_of("x"))
    assert (reply.status_code, reply.json()["error"]["message"]) == (status, "so it is")


@pytest.mark.parametrize("error", [{"error": {}}, {"status": {}}, {"error": None}])
def test_an_error_that_says_nothing_is_an_internal_one(gemini_emulator, http_here, error):
    gemini_emulator.answer(lambda prompt: error)
    reply = http_here.post(f"/v1/models/{MODEL}:generateContent", json=request_of("x"))
    assert (reply.status_code, reply.json()["error"]["status"]) == (500, "INTERNAL")


def test_a_function_sees_whose_answer_is_wanted(gemini_emulator, http_here):
    seen: list[Prompt] = []
    gemini_emulator.answer(seen.append)
    schema = {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}}
    request = {
        "contents": [{"parts": [{"text": "one "}]}, {"parts": {"text": "two"}}],
        "system_instruction": {"parts": [{"text": "brief"}]},
        "generation_config": {"response_schema": schema},
    }
    results(http_here, {"key": "a", "request": request}, line("b"))
    create_inline(http_here, request)
    advance(http_here, seconds=0)
    assert [prompt.key for prompt in seen] == ["a", "b", ""]
    assert (seen[0].text, seen[0].schema, seen[0].model, seen[0].request) == ("one two", schema, MODEL, request)
    assert seen[1].schema is None


def test_the_limit_of_a_request_cuts_a_functions_answer_too(gemini_emulator, http_here):
    gemini_emulator.answer(lambda prompt: "x" * 100)
    found = result(http_here, line("a", maxOutputTokens=5))
    assert text_of(found) == "x" * 20
    assert found["response"]["candidates"][0]["finishReason"] == "MAX_TOKENS"


def test_the_sdk_parses_what_a_function_gives_by_the_callers_schema(gemini_emulator):
    gemini_emulator.answer(lambda prompt: Page(title="x", words=3))
    with genai.Client() as client:
        config = {"response_mime_type": "application/json", "response_schema": Page}
        found = client.models.generate_content(model=MODEL, contents="x", config=config)
    assert found.parsed == Page(title="x", words=3)


class Verdict(Enum):
    GOOD = "good"


@pytest.mark.parametrize(
    ("mime_type", "text"), [("text/x.enum", "good"), ("application/json", '"good"'), ("text/plain", '"good"')]
)
def test_a_member_of_an_enum_is_bare_where_the_service_gives_it_bare(gemini_emulator, http_here, mime_type, text):
    gemini_emulator.answer(lambda prompt: Verdict.GOOD)
    schema = {"type": "STRING", "enum": ["good", "bad"]}
    assert text_of(result(http_here, line("a", responseMimeType=mime_type, responseSchema=schema))) == text


@pytest.mark.parametrize("answers", [lambda prompt: "good", {"answer": "good"}], ids=["function", "canned"])
def test_the_sdk_parses_an_enum_that_a_user_answers(gemini_emulator, answers):
    gemini_emulator.answer(answers)
    with genai.Client() as client:
        config = {"response_mime_type": "text/x.enum", "response_schema": Verdict}
        found = client.models.generate_content(model=MODEL, contents="x", config=config)
    assert (found.text, found.parsed) == ("good", Verdict.GOOD)


# --- embeddings -------------------------------------------------------------------------------------------------------


def to_embed(key: str, **request: Any) -> Any:
    return {"key": key, "request": {"content": {"parts": [{"text": f"text of {key}"}]}, **request}}


def embedded(http: httpx2.Client, *lines: Any) -> list[Any]:
    body = {"batch": {"inputConfig": {"file_name": store(http, jsonl(*lines))["name"]}}}
    created = http.post("/v1/models/gemini-embedding-001:asyncBatchEmbedContent", json=body)
    advance(http, seconds=0)
    reply = http.get(f"/v1/{shown(http, created)['response']['responsesFile']}:download?alt=media")
    return [json.loads(line) for line in reply.content.split(b"\n") if line]


VALUES = {"text of a": [0.5, -1, 2e-3]}


@pytest.mark.parametrize(
    "answers",
    [
        lambda prompt: VALUES.get(prompt.text),
        [{"prompt": "text of a", "answer": VALUES["text of a"]}],
        [{"key": "a", "answer": VALUES["text of a"]}],
        [{"key": "a", "response": {"tokenCount": "2", "embedding": {"values": VALUES["text of a"]}}}],
    ],
    ids=["function", "by prompt", "by key", "played back"],
)
def test_an_embedding_is_what_the_user_says_and_made_up_where_he_says_nothing(gemini_emulator, http_here, answers):
    gemini_emulator.answer(answers)
    own, made_up = embedded(http_here, to_embed("a"), to_embed("b"))
    assert own == {"key": "a", "response": {"tokenCount": "2", "embedding": {"values": VALUES["text of a"]}}}
    assert len(made_up["response"]["embedding"]["values"]) == 3072
    assert stats(http_here)["usage"]["models"]["gemini-embedding-001"]["prompt_tokens"] == 4


def test_an_embedding_is_cut_to_the_size_that_is_asked_for(gemini_emulator, http_here):
    gemini_emulator.answer(lambda prompt: [1.0, 2.0, 3.0])
    (found,) = embedded(http_here, to_embed("a", outputDimensionality=2))
    assert found["response"]["embedding"]["values"] == [1.0, 2.0]


@pytest.mark.parametrize("answer", ["a text", {"a": 1}, [], [1, None], [True], 7])
def test_what_is_no_list_of_numbers_fails_the_line_of_an_embedding(gemini_emulator, http_here, answer):
    gemini_emulator.answer(lambda prompt: answer if prompt.key == "bad" else [1])
    bad, good = embedded(http_here, to_embed("bad"), to_embed("good"))
    message = "TypeError: the answer of an embedding must be a list of numbers"
    assert bad == {"key": "bad", "error": {"code": 13, "message": message}}
    assert good["response"]["embedding"]["values"] == [1]


def test_an_error_of_a_function_is_the_line_of_an_embedding(gemini_emulator, http_here):
    gemini_emulator.answer(lambda prompt: {"error": {"code": 3, "message": prompt.model}})
    assert embedded(http_here, to_embed("a")) == [{"key": "a", "error": {"code": 3, "message": "gemini-embedding-001"}}]


# --- canned lines -----------------------------------------------------------------------------------------------------


CANNED = [
    {"key": "a", "answer": "by key"},
    {"prompt": "prompt of b", "answer": {"by": "prompt"}},
    {"prompt": "prompt of a", "answer": "not this one: the key goes before"},
    {"key": "c", "error": {"code": 13, "message": "canned"}},
    {"answer": "not this one: the last goes before"},
    {"answer": "the rest"},
]
BY_KEY = {"a": "by key", "b": '{"by":"prompt"}', "d": "the rest"}


@pytest.mark.parametrize("form", ["mappings", "text", "path", "path as text"])
def test_canned_answers_go_by_key_then_by_prompt_then_to_the_rest(gemini_emulator, http_here, tmp_path, form):
    text = "\n\n".join(map(json.dumps, CANNED)) + "\n"
    path = tmp_path / "canned.jsonl"
    path.write_text(text)
    forms = {"mappings": CANNED, "text": text, "path": path, "path as text": str(path)}
    gemini_emulator.answer(forms[form])
    found = {one["key"]: one for one in results(http_here, *map(line, "abcd"))}
    assert found.pop("c") == CANNED[3]
    assert {key: text_of(one) for key, one in found.items()} == BY_KEY


def test_a_result_file_is_played_back_as_it_is(gemini_emulator, http_here):
    gemini_emulator.fault("result_line_error", row=1)
    lines = [line(key, maxOutputTokens=9, thinkingConfig={"thinkingBudget": 5}) for key in "abc"]
    recorded = results(http_here, *lines)
    gemini_emulator.reset()
    gemini_emulator.answer(recorded)
    assert results(http_here, *(line(key, "another prompt") for key in "cab")) == [recorded[i] for i in (2, 0, 1)]


BAD = [
    (b"{", "line 2: "),
    (b"[1]", "line 2: expected an object with `answer`, or with `response` or `error`."),
    (b'{"key": "a"}', "line 2: expected an object with `answer`"),
    (b'{"key": 7, "answer": 1}', "line 2: key must be a text."),
    (b'{"prompt": null, "answer": 1}', "line 2: prompt must be a text."),
    (b'{"answer": 1, "promt": "x"}', "line 2: unknown member 'promt'; did you mean 'prompt'?"),
    (b'{"answer": "\xff"}', "line 2: "),
    (b'{"key": "a", "response": "a text"}', "line 2: response must be an object."),
    (b'{"key": "a", "error": 13}', "line 2: error must be an object."),
]


@pytest.mark.parametrize(("raw", "complaint"), BAD, ids=[complaint for _, complaint in BAD])
def test_a_bad_line_is_named_and_changes_nothing(gemini_emulator, http_here, tmp_path, raw, complaint):
    gemini_emulator.answer(lambda prompt: "as before")
    (tmp_path / "canned.jsonl").write_bytes(b'{"answer": "first"}\n' + raw)
    with pytest.raises(SettingsError) as refused:
        gemini_emulator.answer(tmp_path / "canned.jsonl")
    assert complaint in str(refused.value) and "\n" not in str(refused.value)
    assert str(tmp_path / "canned.jsonl") in str(refused.value)
    reply = http_here.post("/admin/answers", content=b'{"answer": "first"}\n' + raw)
    assert (reply.status_code, reply.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert complaint in reply.json()["error"]["message"]
    assert text_of(result(http_here, line("a"))) == "as before"


def test_answers_are_posted_and_taken_back_over_http(gemini_emulator, http_here):
    assert http_here.post("/admin/answers", content=b'{"key": "a", "answer": "posted"}\n').json() == {}
    assert text_of(result(http_here, line("a"))) == "posted"
    assert http_here.delete("/admin/answers").json() == {}
    assert text_of(result(http_here, line("a"))) == expected_text(0, line("a")["request"])
    assert stats(http_here)["requests"] == {"bought_total": 2, "distinct": 1, "bought_more_than_once": 1}


# --- from the command line --------------------------------------------------------------------------------------------


MODULE = """
class Answers:
    def __call__(self, prompt):
        return {"asked": prompt.text}

answer = Answers()
number = 7
"""


def test_the_command_takes_a_function_and_comes_back_to_it(start_emulator, tmp_path, monkeypatch):
    (tmp_path / "my_answers.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    with with_key(start_emulator("--answers", "my_answers:answer").url, "k") as http:
        assert text_of(result(http, line("a", "hello"))) == '{"asked":"hello"}'
        http.post("/admin/answers", content=b'{"answer": "posted"}')
        assert text_of(result(http, line("a", "hello"))) == "posted"
        for back in (lambda: http.delete("/admin/answers"), lambda: http.post("/admin/reset")):
            back()
            assert text_of(result(http, line("a", "hello"))) == '{"asked":"hello"}'


def test_the_command_takes_a_file(start_emulator, tmp_path):
    (tmp_path / "canned.jsonl").write_text('{"prompt": "hello", "answer": "canned"}\n')
    with with_key(start_emulator("--answers", str(tmp_path / "canned.jsonl")).url, "k") as http:
        assert text_of(result(http, line("a", "hello"))) == "canned"


UNUSABLE = {
    "absent.jsonl": "absent.jsonl: No such file or directory",
    ".": "Is a directory",
    "nowhere": "nowhere is no file, and not module:function",
    "no_such_module:answer": "no_such_module cannot be imported",
    "broken_answers:answer": "broken_answers cannot be imported",
    "fine_answers:answers": "fine_answers has no function 'answers'; did you mean 'answer'?",
    "fine_answers:number": "fine_answers has no function 'number'",
    "fine_answers:": "fine_answers has no function ''",
    ":answer": "cannot be imported",
    "bad.jsonl": "bad.jsonl, line 1: ",
}


@pytest.mark.parametrize("given", UNUSABLE)
def test_answers_that_cannot_be_used_are_refused_by_name(tmp_path, monkeypatch, given):
    (tmp_path / "broken_answers.py").write_text("raise RuntimeError('in the module')")
    (tmp_path / "fine_answers.py").write_text(MODULE)
    (tmp_path / "bad.jsonl").write_text("{")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    with pytest.raises(SettingsError) as refused:
        load_answers(given)
    assert UNUSABLE[given] in str(refused.value)
    assert "\n" not in str(refused.value)
