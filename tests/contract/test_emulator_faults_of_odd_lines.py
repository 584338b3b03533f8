"""Faults that were met in batches of the service and that no check of a single line shows."""

import json
from typing import Any

import pytest
from google import genai
from google.genai import types
from sdk_calls import MODEL, Client, finished, request_of, submit
from six_prompts import KEYS, answer_text, inlined, keys_of, lines, lines_of, prompt_of, text_of

from gemini_batch.emulator.answers import expected_answer
from gemini_batch.emulator.faults import FAULTS, Point

SCHEMA = {
    "type": "OBJECT",
    "properties": {"river": {"type": "STRING"}, "km": {"type": "INTEGER"}},
    "required": ["river", "km"],
    "propertyOrdering": ["river", "km"],
}
STRUCTURED = request_of("Name a river.", responseMimeType="application/json", responseSchema=SCHEMA)


def only_line(client: Client, request: Any) -> Any:
    (line,) = lines_of(client, finished(client, submit(client, {"key": "a", "request": request})))
    return line


def test_a_line_without_a_key_is_an_answer_to_nobody_knows_which(client, arm):
    arm("result_line_without_key", row=1)
    found = lines(client)
    assert "key" not in found[1] and answer_text(found[1]) == text_of("r1")
    assert keys_of([found[0], *found[2:]]) == [KEYS[0], *KEYS[2:]]


def test_an_inline_answer_may_come_without_its_metadata(client, arm):
    arm("result_line_without_key", row=1)
    found = inlined(client)
    assert [one.metadata and one.metadata["key"] for one in found] == ["r0", None, "r2", "r3", "r4", "r5"]
    assert found[1].response.text == text_of("r1")


def test_names_and_values_one_place_on_are_json_of_another_shape(client, arm):
    arm("result_line_shifted")
    whole = json.loads(expected_answer(0, STRUCTURED))
    assert json.loads(answer_text(only_line(client, STRUCTURED))) == {whole["river"]: "km", str(whole["km"]): "river"}


@pytest.mark.parametrize("text", ["no JSON", "[1, 2]", "{}"])
def test_a_text_that_is_no_object_has_nothing_to_shift(client, http, arm, text):
    http.post("/admin/answers", content=json.dumps({"answer": text}))
    arm("result_line_shifted")
    try:
        assert answer_text(only_line(client, prompt_of("x"))) == text
    finally:
        http.delete("/admin/answers")


def test_a_leaked_thought_is_text_like_any_other_to_the_sdk(client, arm):
    arm("result_line_leaked_thought")
    response = types.GenerateContentResponse.model_validate(lines(client)[0]["response"])
    assert [part.thought for part in response.candidates[0].content.parts] == [None, None]
    assert response.text.startswith("THOUGHT: ") and response.text.endswith(text_of("r0"))


def test_citations_stand_beside_the_text(client, arm):
    arm("result_line_citations")
    head = inlined(client)[0].response
    (citation,) = head.candidates[0].citation_metadata.citations
    assert citation.uri and citation.end_index == len(head.text) and head.text == text_of("r0")


ODD = [
    {"candidates": None},
    {"candidates": [None]},
    {"candidates": [{"content": None}]},
    {"candidates": [{"content": {"parts": ["x"]}}]},
    {"candidates": [{"content": {"parts": [{"text": 7}]}}]},
    {"candidates": [{"content": {"parts": [{"text": "x"}]}}], "usageMetadata": None},
    {"candidates": [{"content": {"parts": [{"text": "x"}]}}], "usageMetadata": {"candidatesTokenCount": "x"}},
]


@pytest.mark.parametrize("fault", [name for name, fault in FAULTS.items() if fault.point is Point.LINE])
def test_no_result_of_a_user_is_too_odd_to_be_spoiled(fault, gemini_emulator):
    """A job that could not be written would end FAILED."""
    gemini_emulator.answer([{"key": f"r{i}", "response": response} for i, response in enumerate(ODD)])
    gemini_emulator.fault(fault, times="always")
    with genai.Client() as client:
        job = submit(client, *({"key": f"r{i}", "request": prompt_of("x")} for i in range(len(ODD))))
        assert finished(client, job).state == "JOB_STATE_SUCCEEDED"


@pytest.mark.filterwarnings("ignore:batches.create_embeddings")
def test_embeddings_of_an_inline_job_may_come_in_another_order(client, arm):
    """Nothing links them to their texts but the order (js-genai #1207)."""

    def embedded() -> list[Any]:
        batch = {"contents": [f"text {i}" for i in range(6)], "config": {"output_dimensionality": 2}}
        job = client.batches.create_embeddings(model="gemini-embedding-001", src={"inlined_requests": batch})
        found = finished(client, job).dest.inlined_embed_content_responses
        return [tuple(item.response.embedding.values) for item in found]

    in_order = embedded()
    arm("result_shuffled")
    shuffled = embedded()
    assert shuffled != in_order and sorted(shuffled) == sorted(in_order)


def test_a_fault_of_a_model_leaves_another_model_alone(client, arm):
    """All jobs of one model expired from one day on (python-genai #2439)."""
    arm("job_expired", model="gemini-2.5-pro", times="always")
    source = [prompt_of("x")]
    made = {model: client.batches.create(model=model, src=source) for model in ("gemini-2.5-pro", MODEL)}
    states = [finished(client, job).state for job in made.values()]
    assert states == ["JOB_STATE_EXPIRED", "JOB_STATE_SUCCEEDED"]
