"""Answers of every shape that was recorded or feared, from the service into rows: the right one or a named failure."""

from pathlib import Path
from typing import Any

import pytest
from many_types import Priced

from gemini_batch import distributed_batch_process

PRICE = '{"price": "12.50"}'


def said(*parts: Any, reason: str | None = "STOP", **more: Any) -> dict[str, Any]:
    candidate = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    return {"response": {"candidates": [candidate | ({"finishReason": reason} if reason else {})], **more}}


def text(value: str, reason: str | None = "STOP") -> dict[str, Any]:
    return said({"text": value}, reason=reason)


THOUGHT = {"text": '{"price": "1.00"}', "thought": True}
ANSWERS: list[tuple[dict[str, Any], str, str | None]] = [
    (text(PRICE), "ok", None),
    (said({"text": '{"price": '}, {"text": '"12.50"}'}), "ok", None),
    (said(THOUGHT, {"text": PRICE}, {"thoughtSignature": "c2ln"}), "ok", None),
    (text(f"```json\n{PRICE}\n```"), "ok", None),
    (text(f"THOUGHT: it says [1] 12.50.\n\n{PRICE}"), "ok", None),
    (text(f"Here you are: {PRICE}\nAnything else?"), "ok", None),
    (text(PRICE, None), "ok", None),
    (said(THOUGHT), "failed", "transient"),
    (said({"thoughtSignature": "c2ln"}), "failed", "transient"),
    (text('{"price": "12.5'), "invalid", "schema_invalid"),
    (text('```json\n{"price": "12.5'), "invalid", "schema_invalid"),
    (text(f"{PRICE}\nor rather\n{PRICE.replace('12', '13')}"), "invalid", "schema_invalid"),
    (text(f'[{PRICE}, {{"pri'), "invalid", "schema_invalid"),
    (text('{"price": "12.505"}'), "invalid", "schema_invalid"),
    (text("null"), "invalid", "schema_invalid"),
    (text("[" * 3000), "invalid", "schema_invalid"),
    (text('{"price": 1e400}'), "invalid", "schema_invalid"),
    (text('{"price": NaN}'), "invalid", "schema_invalid"),
    (text("I cannot say."), "invalid", "schema_invalid"),
    (text(PRICE, "MAX_TOKENS"), "truncated", "truncated"),
    (said(reason="MAX_TOKENS"), "truncated", "truncated"),
    (text(PRICE, "SAFETY"), "blocked", "blocked_answer"),
    ({"response": {"candidates": [{"finishReason": "RECITATION", "index": 0}]}}, "blocked", "blocked_answer"),
    ({"response": {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}}, "blocked", "blocked_prompt"),
    (text(PRICE, "MALFORMED_RESPONSE"), "failed", "transient"),
    (text(PRICE, "FROM_2031"), "failed", "unknown"),
    ({"response": {"candidates": []}}, "failed", "transient"),
    ({"response": {}}, "failed", "transient"),
    ({"error": {"code": 13, "message": "An internal error has occurred."}}, "failed", "transient"),
    ({"status": {"code": 3, "message": "no"}}, "failed", "invalid_argument"),
    ({"error": {"code": 7, "message": "You have no permission to access the File abc."}}, "failed", "media_expired"),
    ({"response": {"candidates": [{"content": {"parts": ["?"]}, "finishReason": "STOP"}]}}, "failed", "unknown"),
]  # fmt: skip


@pytest.mark.parametrize("by", ["model", "json-schema"])
def test_each_answer_is_right_or_says_why_not(
    gemini_emulator: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.chdir(folder)
    gemini_emulator.answer(lambda prompt: ANSWERS[int(prompt.text)][0])
    prompts = [[str(at)] for at in range(len(ANSWERS))]
    results, rows = distributed_batch_process(
        prompts, Priced, out="run", poll_interval=0.1, validate=by, max_attempts=1, return_metadata=True
    )
    due = [(status, kind) for _, status, kind in ANSWERS]
    assert [(row.status, row.error and row.error["kind"]) for row in rows] == due
    assert all(row.error is None or row.error["message"] for row in rows)
    priced = Priced.model_validate_json(PRICE)
    assert results == [priced if status == "ok" else None for status, _ in due]
