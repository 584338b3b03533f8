"""Requests are read as proto-JSON is: either spelling of every field, one message for a list of one, nothing unknown,
nothing twice; and a complaint points at what it is about."""

import copy
import json
from typing import Any

import pytest
from emulator_calls import create, create_inline, order, store
from hostile import at, paths
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sdk_calls import MODEL, request_of

from gemini_batch.emulator.answers import Respondent
from gemini_batch.emulator.columns import column_of
from gemini_batch.emulator.lines import checked
from gemini_batch.emulator.proto import BadLineError
from gemini_batch.emulator.wire import snake_case

SOME = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
FREE = {"args", "responseSchema", "responseJsonSchema", "labels", "functionDeclarations", "properties"}
"""Below these, names are the user's own."""


def message(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


texts = st.text(max_size=20)
blobs = message(mimeType=st.just("image/png"), data=st.just("AAAA"), displayName=texts)
parts = st.one_of(
    message(text=texts, thought=st.booleans(), thoughtSignature=st.just("AAAA")),
    message(
        inlineData=blobs, mediaResolution=message(level=st.just("MEDIA_RESOLUTION_LOW"), numTokens=st.integers(0, 9))
    ),
    message(fileData=message(mimeType=st.just("application/pdf"), fileUri=st.just("files/abc"), displayName=texts)),
    message(functionCall=st.just({"name": "f", "args": {"aB": 1}}), videoMetadata=st.just({})),
)
contents = message(role=st.just("user"), parts=st.one_of(st.lists(parts, max_size=3), parts))
configs = message(
    temperature=st.floats(0, 2),
    topK=st.one_of(st.integers(1, 9), st.just("3")),
    maxOutputTokens=st.one_of(st.integers(1, 99), st.just("50")),
    responseMimeType=st.just("application/json"),
    responseSchema=st.just({"type": "OBJECT", "properties": {"aB": {"type": "STRING"}}, "propertyOrdering": ["aB"]}),
    stopSequences=st.one_of(st.lists(texts, max_size=2), texts),
    responseModalities=st.lists(st.just("TEXT"), max_size=1),
    mediaResolution=st.just("MEDIA_RESOLUTION_LOW"),
    thinkingConfig=message(
        thinkingBudget=st.integers(0, 9), includeThoughts=st.booleans(), thinkingLevel=st.just("LOW")
    ),
)
safety = message(category=st.just("HARM_CATEGORY_HARASSMENT"), threshold=st.just("OFF"))
requests = message(
    contents=st.one_of(st.lists(contents, max_size=2), contents),
    systemInstruction=contents,
    generationConfig=configs,
    safetySettings=st.one_of(st.lists(safety, max_size=2), safety),
    cachedContent=texts,
    labels=st.just({"aB": "c"}),
    serviceTier=st.just("flex"),
    toolConfig=st.just({}),
)


def is_field(path: tuple[Any, ...]) -> bool:
    return bool(path) and isinstance(path[-1], str) and FREE.isdisjoint(path[:-1])


def fields(request: Any) -> list[tuple[Any, ...]]:
    return [path for path in paths(request) if is_field(path)]


def messages(request: Any) -> list[tuple[Any, ...]]:
    """Those of known fields: others take any."""
    free = FREE | {"functionCall", "videoMetadata", "toolConfig"}
    return [path for path in paths(request) if isinstance(at(request, path), dict) and free.isdisjoint(path)]


def respelt(request: Any, snake: frozenset[tuple[Any, ...]], here: tuple[Any, ...] = ()) -> Any:
    """The fields at these paths in snake_case."""
    if isinstance(request, list):
        return [respelt(one, snake, (*here, i)) for i, one in enumerate(request)]
    if not isinstance(request, dict) or not FREE.isdisjoint(here):
        return request
    return {
        snake_case(name) if (*here, name) in snake else name: respelt(one, snake, (*here, name))
        for name, one in request.items()
    }


def line_of(request: Any) -> bytes:
    return json.dumps({"key": "a", "request": request}).encode()


def tokens(request: Any) -> int:
    return Respondent(0, MODEL, lambda file_id: True, lambda file_id: None).count(request)


@st.composite
def spellings(draw: st.DrawFn) -> tuple[Any, Any]:
    request = draw(requests)
    return request, respelt(request, frozenset(draw(st.sets(st.sampled_from(fields(request) or [("x",)])))))


@SOME
@given(spellings())
def test_any_mixture_of_spellings_is_taken_and_counts_the_same(found):
    request, other = found
    assert checked(line_of(other))["request"] == other
    assert tokens(other) == tokens(checked(line_of(request))["request"])


@st.composite
def both_at_once(draw: st.DrawFn) -> tuple[Any, str]:
    """A request with one field under both spellings, and its name."""
    request = draw(requests.filter(lambda one: any(snake_case(path[-1]) != path[-1] for path in fields(one))))
    path = draw(st.sampled_from([path for path in fields(request) if snake_case(path[-1]) != path[-1]]))
    parent = at(request, path[:-1])
    twice = copy.deepcopy(parent[path[-1]])
    names = list(parent)
    parent[snake_case(path[-1])] = twice
    if draw(st.booleans()):  # the other one first
        parent[path[-1]] = parent.pop(path[-1])
    assert len(parent) == len(names) + 1
    return request, path[-1]


@SOME
@given(both_at_once())
def test_a_field_under_both_spellings_at_once_is_refused(found):
    request, name = found
    with pytest.raises(BadLineError, match=f"field set twice: '{name}'"):
        checked(line_of(request))


UNKNOWN = [
    "bogus",
    "Text",
    "text_",
    "thinking_level_",
    "",
    "contents ",
    "ü",
    'quo"ted',
    "back\\slash",
    "{",
    "key",
    "request",
]


@st.composite
def with_something_unknown(draw: st.DrawFn) -> tuple[bytes, str, int]:
    """A line, the name in it that its message does not know, and the column of that name."""
    request = draw(requests)
    inside = at(request, draw(st.sampled_from(messages(request))))
    others = [path[-1] for path in fields(request)]
    known_here = {*inside, *map(snake_case, inside)}
    name = draw(st.sampled_from(UNKNOWN + [one for one in others if one in NOWHERE_ELSE and one not in known_here]))
    inside["@"] = 1
    line = json.dumps({"key": "@ bogus", "request": request}, ensure_ascii=draw(st.booleans())).encode(
        "utf-8", "replace"
    )
    if draw(st.booleans()):
        line = line.replace(b'": ', b'"  :\t')
    column = line.index(b'"@"') + 1
    return line.replace(b'"@"', json.dumps(name).encode()), name, column


NOWHERE_ELSE = {"thinkingBudget", "fileUri", "topK", "threshold"}
"""Known at one place; a message of another kind does not know them."""


@SOME
@given(with_something_unknown())
def test_an_unknown_field_is_named_with_its_line_and_column_at_every_depth(found):
    line, name, column = found
    try:
        checked(line)
    except BadLineError as error:
        assert error.located(7, line).message() == (
            f"Error on line 7: invalid JSON, near column {column}: no such field: '{name}'"
        )
    else:
        assert name in NOWHERE_ELSE  # put into a message that knows it


@SOME
@given(requests)
def test_one_message_stands_for_a_list_of_one(request):
    lists = [path for path in fields(request) if isinstance(at(request, path), list) and len(at(request, path)) == 1]
    alone = copy.deepcopy(request)
    for path in sorted(lists, key=len, reverse=True):
        at(alone, path[:-1])[path[-1]] = at(alone, path)[0]
    assert tokens(checked(line_of(alone))["request"]) == tokens(checked(line_of(request))["request"])


VALUES = [
    ({"contents": [{"parts": [{"text": "x"}, {"text": 1}]}]}, '"text": 1', "expected a string"),
    ({"contents": [{"parts": [{"text": "x"}, "y"]}]}, '"y"', "unexpected character: '\"'; expected '{'"),
    ({"contents": ["x"]}, '"x"', "unexpected character: '\"'; expected '{'"),
    ({"contents": [{"text": "x", "parts": []}]}, '"text"', "no such field: 'text'"),
    ({"contents": [{"parts": [{"text": "text"}]}], "text": 1}, '"text": 1', "no such field: 'text'"),
    ({"contents": [], "systemInstruction": [1]}, '"systemInstruction"', "unexpected character: '['; expected '{'"),
    ({"contents": [], "generationConfig": {"topK": "x"}}, '"topK"', "not a number: 'x'"),
    (
        {"contents": [], "generation_config": {"response_schema": {"type": "X"}}},
        '"response_schema"',
        "invalid response sch",
    ),
    (
        {"contents": [], "generationConfig": {"responseJsonSchema": {"type": "X"}}},
        '"responseJ',
        "invalid response schema",
    ),
    ({"contents": [], "safetySettings": [{}, {"category": []}]}, '"category"', "expected a name"),
]


@pytest.mark.parametrize(("request_", "where", "complaint"), VALUES, ids=[complaint for *_, complaint in VALUES])
def test_a_wrong_value_is_pointed_at(http, request_, where, complaint):
    line = line_of(request_)
    good = line_of(request_of("x"))
    message = order(http, store(http, good + b"\n" + line + b"\n")["name"]).json()["error"]["message"]
    column = line.index(where.encode()) + 1
    assert message.startswith(f"Error on line 2: invalid JSON, near column {column}: {complaint}")


@pytest.mark.parametrize(
    ("raw", "column"), [(b'{"key":"a",}', 11), (b'{"a" 1}', 6), (b"{", 2), (b"nul", 4), (b"{} {}", 4)]
)
def test_what_is_no_json_is_pointed_at(http, raw, column):
    message = order(http, store(http, raw)["name"]).json()["error"]["message"]
    assert message.startswith(f"Error on line 1: invalid JSON, near column {column}: ")


PLACES = [
    ({"bogus": 1}, "request", "bogus"),
    ({"contents": [{"parts": [{"text": "x"}, {"bogus": 1}]}]}, "request.contents[0].parts[1]", "bogus"),
    ({"generationConfig": {"thinkingConfig": {"b": 1}}}, "request.generation_config.thinking_config", "b"),
    ({"generation_config": {"bogus": 1}}, "request.generation_config", "bogus"),
]


@pytest.mark.parametrize(("wrong", "where", "name"), PLACES)
def test_an_unknown_field_of_an_inline_request_is_told_with_the_message_it_is_in(http, wrong, where, name):
    error = create_inline(http, request_of("x"), request_of("x") | wrong).json()["error"]
    place = f"batch.input_config.requests.requests[1].{where}"
    said = f"Invalid JSON payload received. Unknown name \"{name}\" at '{place}': Cannot find field."
    assert error["message"] == said
    assert error["details"][0]["fieldViolations"] == [{"field": place, "description": said}]


BODIES = [
    ({"bogus": 1}, ""),
    ({"batch": {"bogus": 1}}, "batch"),
    ({"batch": {"inputConfig": {"bogus": 1}}}, "batch.input_config"),
    ({"batch": {"input_config": {"requests": {"bogus": 1}}}}, "batch.input_config.requests"),
]


@pytest.mark.parametrize(("body", "where"), BODIES)
def test_an_unknown_field_of_the_body_is_told_with_the_message_it_is_in(http, body, where):
    error = http.post(f"/v1/models/{MODEL}:batchGenerateContent", json=body).json()["error"]
    at = f" at '{where}'" if where else ""
    assert error["message"] == f'Invalid JSON payload received. Unknown name "bogus"{at}: Cannot find field.'


TWICE = [
    ({"batch": {"inputConfig": {}, "input_config": {"fileName": "files/x"}}}, "batchGenerateContent"),
    ({"batch": {"inputConfig": {"fileName": "files/x", "file_name": "files/x"}}}, "batchGenerateContent"),
    ({"contents": [], "systemInstruction": {}, "system_instruction": {}}, "generateContent"),
    ({"contents": [], "systemInstruction": {}, "system_instruction": {}}, "countTokens"),
    ({"generateContentRequest": {}, "generate_content_request": {"contents": []}}, "countTokens"),
]


@pytest.mark.parametrize(("body", "method"), TWICE)
def test_a_body_with_a_field_under_both_spellings_is_refused(http, body, method):
    reply = http.post(f"/v1/models/{MODEL}:{method}", json=body)
    assert reply.status_code == 400 and "field set twice" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"generateContentRequest": {"contents": []}, "bogus": 1},
        {"generateContentRequest": {"bogus": 1}},
        {"bogus": 1},
        {"contents": [{"bogus": 1}]},
    ],
)
def test_a_count_refuses_what_it_does_not_know(http, body):
    reply = http.post(f"/v1/models/{MODEL}:countTokens", json=body)
    assert reply.status_code == 400 and 'Unknown name "bogus"' in reply.json()["error"]["message"]


def test_every_spelling_at_once_is_answered_through_the_service(http):
    request = {
        "contents": {"parts": {"inline_data": {"mimeType": "image/png", "data": "AAAA"}}},
        "systemInstruction": {"parts": {"text": "x" * 40}},
        "generation_config": {"maxOutputTokens": 5, "thinking_config": {"includeThoughts": True, "thinking_budget": 3}},
        "safety_settings": {"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"},
    }
    assert create(http, {"key": "a", "request": request}).status_code == 200
    usage = http.post(f"/v1/models/{MODEL}:generateContent", json=request).json()["usageMetadata"]
    assert usage["promptTokenCount"] == 258 + 10 and usage["totalTokenCount"] <= 258 + 10 + 5


@SOME
@given(requests, st.data())
def test_every_name_and_item_is_found_at_its_column(request, data):
    raw = json.dumps(request, indent=data.draw(st.sampled_from([None, 1]))).encode()
    for path in paths(request):
        if path:
            found = raw[column_of(raw, path) - 1 :]
            value = path[-1] if isinstance(path[-1], str) else at(request, path)
            assert found.startswith(json.dumps(value).encode()[:1])
    assert column_of(raw, ("nowhere", 3)) == 1
