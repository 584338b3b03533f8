"""What models say of themselves, generate, count, embed and cost."""

import json
from datetime import datetime
from typing import Any

import httpx2
import pytest
from emulator_calls import advance, create, settings, shown, stats, store
from genai_prices import Usage, calc_price
from google.genai import errors
from pydantic import BaseModel
from sdk_calls import MODEL, Client, finished, jsonl, request_of, upload

from gemini_batch.emulator.answers import FULL_DIMENSIONS, embedding, expected_text

EMBEDDING_MODEL = "gemini-embedding-001"
TEXT = "The quick brown fox."
EXPERIMENTAL = pytest.mark.filterwarnings("ignore:batches.create_embeddings")
UNKNOWN = "gemini-does-not-exist"


def results(http: httpx2.Client, created: httpx2.Response) -> list[Any]:
    advance(http, seconds=0)
    reply = http.get(f"/v1/{shown(http, created)['response']['responsesFile']}:download?alt=media")
    return [json.loads(line) for line in reply.content.split(b"\n") if line]


# --- embeddings -------------------------------------------------------------------------------------------------------


def to_embed(key: str, text: str = TEXT, **request: Any) -> Any:
    return {"key": key, "request": {"content": {"parts": [{"text": text}]}, **request}}


def embed(http: httpx2.Client, *lines: Any) -> list[Any]:
    body = {"batch": {"inputConfig": {"file_name": store(http, jsonl(*lines))["name"]}}}
    created = http.post(f"/v1/models/{EMBEDDING_MODEL}:asyncBatchEmbedContent", json=body)
    assert created.status_code == 200, created.text
    return results(http, created)


def values(line: Any) -> list[float]:
    found: list[float] = line["response"]["embedding"]["values"]
    return found


@EXPERIMENTAL
def test_a_file_of_texts_is_embedded_through_the_sdk(client):
    source = upload(client, jsonl(to_embed("a"), to_embed("b", "x" * 400, outputDimensionality=8)))
    job = client.batches.create_embeddings(model=EMBEDDING_MODEL, src={"file_name": source.name})
    content = client.files.download(file=finished(client, job).dest.file_name)
    first, second = map(json.loads, content.strip().split(b"\n"))
    assert [first["key"], second["key"]] == ["a", "b"]
    assert [len(values(first)), len(values(second))] == [FULL_DIMENSIONS, 8]
    assert [line["response"]["tokenCount"] for line in (first, second)] == [str(len(TEXT) // 4), "100"]


@EXPERIMENTAL
def test_inline_texts_are_embedded_in_their_order_through_the_sdk(client):
    texts = [f"text {i}" for i in range(3)]
    batch = {"contents": texts, "config": {"output_dimensionality": 4}}
    job = client.batches.create_embeddings(model=EMBEDDING_MODEL, src={"inlined_requests": batch})
    found = [item.response.embedding.values for item in finished(client, job).dest.inlined_embed_content_responses]
    assert [len(one) for one in found] == [4, 4, 4] and len({tuple(one) for one in found}) == 3


def test_an_embedding_depends_on_the_content_alone_and_a_shorter_one_is_its_head(http):
    sizes = [{}, {"outputDimensionality": 3072}, {"output_dimensionality": 768}, {"outputDimensionality": "1"}]
    found = embed(http, *(to_embed(f"r{i}", **size) for i, size in enumerate(sizes)), to_embed("other", TEXT + "!"))
    full, same, short, one, other = map(values, found)
    assert full == same and [len(short), len(one)] == [768, 1]
    assert all(abs(head - whole) < 0.02 for head, whole in zip(short + one, full[:768] + full[:1], strict=True))
    scale = short[0] / full[0]
    assert short == pytest.approx([scale * value for value in full[:768]], abs=1e-8)
    assert abs(dot(other, full)) < 0.1
    assert embed(http, to_embed("again"))[0]["response"] == found[0]["response"]


def dot(first: list[float], second: list[float]) -> float:
    return sum(one * another for one, another in zip(first, second, strict=True))


def test_a_whole_embedding_is_of_length_one_and_a_head_of_it_is_not(http):
    full, short = map(values, embed(http, to_embed("a"), to_embed("b", outputDimensionality=768)))
    assert dot(full, full) == pytest.approx(1, abs=1e-9)
    assert dot(short, short) == pytest.approx(768 / FULL_DIMENSIONS, rel=0.15)


def test_another_seed_embeds_otherwise():
    request = to_embed("a")["request"]
    assert embedding(0, request, 16) == embedding(0, request, 16) != embedding(1, request, 16)


@pytest.mark.parametrize("size", [-1, 3073, "3073", 1.5, "1.5", 1e300, "nan", "Infinity"])
def test_an_impossible_size_fails_its_line_alone(http, size):
    bad, good = embed(http, to_embed("bad", outputDimensionality=size), to_embed("good"))
    assert bad["key"] == "bad" and bad["error"]["code"] == 3 and "output_dimensionality" in bad["error"]["message"]
    assert len(values(good)) == FULL_DIMENSIONS


def test_a_line_without_content_fails_alone(http):
    bad, good = embed(http, {"key": "bad", "request": {}}, to_embed("good"))
    assert bad["error"]["code"] == 3 and "response" in good


# --- generateContent and countTokens ----------------------------------------------------------------------------------


class Person(BaseModel):
    name: str
    age: int


def generate(client: Client, **config: Any) -> Any:
    return client.models.generate_content(model=MODEL, contents=TEXT, config=config)


def test_a_call_of_its_own_answers_as_a_job_does(http):
    request = request_of(TEXT, temperature=0)
    asked = http.post(f"/v1/models/{MODEL}:generateContent", json=request).json()
    (line,) = results(http, create(http, {"key": "a", "request": request}))
    assert asked == line["response"]
    assert asked["candidates"][0]["content"]["parts"] == [{"text": expected_text(0, request)}]


def test_the_sdk_gets_text_and_usage(client):
    found = generate(client)
    usage = found.usage_metadata
    assert found.text.startswith("Answer ") and found.model_version == MODEL
    assert found.candidates[0].finish_reason == "STOP"
    assert usage.prompt_token_count == len(TEXT) // 4 and usage.candidates_token_count == len(found.text) // 4
    assert usage.total_token_count == usage.prompt_token_count + usage.candidates_token_count
    assert usage.thoughts_token_count is None
    assert generate(client).text == found.text


def test_the_sdk_parses_a_structured_answer(client):
    found = generate(client, response_mime_type="application/json", response_schema=Person)
    assert isinstance(found.parsed, Person)


@pytest.mark.parametrize(("schema", "kind"), [({"type": "INTEGER"}, int), ({"type": "STRING", "enum": ["7"]}, str)])
def test_an_enum_answer_is_a_text_whatever_its_schema(http, schema, kind):
    request = request_of("x", responseMimeType="text/x.enum", responseSchema=schema)
    asked = http.post(f"/v1/models/{MODEL}:generateContent", json=request)
    assert asked.status_code == 200
    assert kind(asked.json()["candidates"][0]["content"]["parts"][0]["text"]) is not None
    (line,) = results(http, create(http, {"key": "a", "request": request}))
    assert line["response"] == asked.json()


@pytest.mark.parametrize("most", [1, 3, 7])
def test_the_output_limit_cuts_an_answer(client, most):
    found = generate(client, max_output_tokens=most)
    assert found.candidates[0].finish_reason == "MAX_TOKENS"
    assert found.text == generate(client, max_output_tokens=100).text[: 4 * most] or len(found.text) == 4 * most
    assert found.usage_metadata.candidates_token_count == most


def test_thoughts_keep_to_their_budget_and_are_shown_when_asked_for(client):
    found = generate(client, thinking_config={"thinking_budget": 50, "include_thoughts": True})
    thought, text = found.candidates[0].content.parts
    usage = found.usage_metadata
    assert thought.thought is True and text.text == found.text and not text.thought
    assert 1 <= usage.thoughts_token_count <= 50
    total = usage.prompt_token_count + usage.candidates_token_count + usage.thoughts_token_count
    assert usage.total_token_count == total


def test_no_thoughts_without_a_budget(client):
    found = generate(client, thinking_config={"thinking_budget": 0, "include_thoughts": True})
    assert found.usage_metadata.thoughts_token_count is None and len(found.candidates[0].content.parts) == 1


def test_thoughts_may_use_the_whole_output_limit_up(client):
    found = generate(client, max_output_tokens=20, thinking_config={"thinking_level": "HIGH"})
    assert found.candidates[0].finish_reason == "MAX_TOKENS" and not found.candidates[0].content.parts
    assert found.usage_metadata.thoughts_token_count == 20 and found.usage_metadata.candidates_token_count is None


def test_a_higher_level_thinks_more(http):
    """Drawn for each request, so compared over many."""

    def thoughts(level: str) -> int:
        config = {"thinkingConfig": {"thinkingLevel": level}}
        requests = [request_of(f"{level} {i}", **config) for i in range(20)]
        lines = results(http, create(http, *({"key": f"r{i}", "request": one} for i, one in enumerate(requests))))
        return sum(line["response"]["usageMetadata"]["thoughtsTokenCount"] for line in lines)

    low, medium, high = map(thoughts, ("LOW", "MEDIUM", "HIGH"))
    assert 20 * 64 <= low <= 20 * 512 and low < medium < high


@pytest.mark.parametrize("contents", [TEXT, [TEXT, TEXT], {"parts": [{"text": TEXT}]}])
def test_tokens_are_counted_as_they_are_billed(client, contents):
    counted = client.models.count_tokens(model=MODEL, contents=contents)
    asked = client.models.generate_content(model=MODEL, contents=contents)
    assert counted.total_tokens == asked.usage_metadata.prompt_token_count > 0


@pytest.mark.parametrize("spelling", ["generateContentRequest", "generate_content_request"])
def test_tokens_of_a_whole_request_are_counted(http, spelling):
    request = request_of("x" * 40) | {"model": f"models/{MODEL}", "systemInstruction": {"parts": [{"text": "y" * 40}]}}
    counted = http.post(f"/v1/models/{MODEL}:countTokens", json={spelling: request}).json()
    assert counted == {"totalTokens": 20, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 20}]}


# --- models -----------------------------------------------------------------------------------------------------------


def test_models_are_listed_and_each_is_got_by_its_name(client):
    listed = list(client.models.list())
    assert {f"models/{MODEL}", f"models/{EMBEDDING_MODEL}"} <= {model.name for model in listed}
    for model in (listed[0], listed[-1]):
        found = client.models.get(model=model.name.removeprefix("models/"))
        assert (found.name, found.input_token_limit) == (model.name, model.input_token_limit)
    assert "batchGenerateContent" in listed[0].supported_actions


CALLS = {
    "get": lambda client: client.models.get(model=UNKNOWN),
    "generate": lambda client: client.models.generate_content(model=UNKNOWN, contents="x"),
    "count": lambda client: client.models.count_tokens(model=UNKNOWN, contents="x"),
}


@pytest.mark.parametrize("call", CALLS)
def test_an_unknown_model_is_not_found(client, http, call):
    with pytest.raises(errors.ClientError, match=f"models/{UNKNOWN} is not found") as refused:
        CALLS[call](client)
    assert refused.value.code == 404


# --- what it cost -----------------------------------------------------------------------------------------------------


def used(lines: list[Any]) -> tuple[int, int]:
    """Input and output tokens, thoughts among the output."""
    usages = [line["response"]["usageMetadata"] for line in lines if "response" in line]
    prompt = sum(usage["promptTokenCount"] for usage in usages)
    return prompt, sum(usage["totalTokenCount"] for usage in usages) - prompt


def test_usage_adds_up_to_what_the_results_say_and_costs_half_the_standard_price(http):
    config = {"thinkingConfig": {"thinkingBudget": 1000}}
    lines = [{"key": f"r{i}", "request": request_of("x" * 400 * i, **config)} for i in range(1, 6)]
    model = "gemini-2.5-flash"
    prompt, output = used(results(http, create(http, *lines, {"key": "empty", "request": {}}, model=model)))
    found = stats(http)["usage"]["models"][model]
    assert found["requests"] == 6
    assert (found["prompt_tokens"], found["output_tokens"]) == (prompt, output) and output > 1000
    assert found["cost_usd"] == pytest.approx((0.30 * prompt + 2.50 * output) / 2 / 1e6)  # the published price


def test_a_price_is_that_of_the_day_the_job_was_created(http):
    line = {"key": "a", "request": request_of("x" * 4000)}
    expected = 0.0
    for _ in range(2):
        created = create(http, line)
        prompt, output = used(results(http, created))
        day = datetime.fromisoformat(created.json()["metadata"]["createTime"][:26] + "+00:00")
        tokens = Usage(input_tokens=prompt, output_tokens=output)
        price = calc_price(tokens, MODEL, provider_id="google", genai_request_timestamp=day)
        expected += float(price.total_price) / 2
        assert stats(http)["usage"]["cost_usd"] == pytest.approx(expected)
        advance(http, days=60)


def test_embeddings_are_paid_for_by_their_input(http):
    embed(http, to_embed("a", "x" * 40_000))
    assert stats(http)["usage"] == {
        "models": {
            EMBEDDING_MODEL: {
                "requests": 1,
                "prompt_tokens": 10_000,
                "output_tokens": 0,
                "cost_usd": pytest.approx(0.15 / 2 / 100),
            }
        },
        "cost_usd": pytest.approx(0.15 / 2 / 100),
    }


def test_the_cost_is_unknown_once_a_model_without_a_price_was_used(http):
    for model in (MODEL, "gemini-9-unheard-of"):
        results(http, create(http, {"key": "a", "request": request_of("x")}, model=model))
    found = stats(http)["usage"]
    assert found["cost_usd"] is None and found["models"]["gemini-9-unheard-of"]["cost_usd"] is None
    assert found["models"][MODEL]["cost_usd"] > 0


def test_a_job_without_output_used_nothing(http):
    settings(http, run_seconds=49 * 3600)
    create(http, {"key": "a", "request": request_of("x")})
    http.post("/admin/faults", json={"name": "job_failed"})
    settings(http, run_seconds=49 * 3600)
    create(http, {"key": "a", "request": request_of("x")})
    advance(http, hours=50)
    assert stats(http)["usage"] == {"models": {}, "cost_usd": 0.0}
