"""Six prompts as a file job, and what comes back of them: for the tests of faults."""

import json
from typing import Any

from sdk_calls import MODEL, Client, finished, jsonl, request_of, upload

from gemini_batch.emulator.answers import expected_text

KEYS = [f"r{i}" for i in range(6)]


def prompt_of(key: str) -> dict[str, Any]:
    return request_of(f"prompt {key}")


def upload_all(client: Client) -> str:
    return upload(client, jsonl(*({"key": key, "request": prompt_of(key)} for key in KEYS))).name


def submit_all(client: Client, name: str = "j", model: str = MODEL) -> Any:
    return client.batches.create(model=model, src=upload_all(client), config={"display_name": name})


def results(client: Client) -> bytes:
    job = finished(client, submit_all(client))
    assert job.state == "JOB_STATE_SUCCEEDED"
    return client.files.download(file=job.dest.file_name)


def lines_of(client: Client, job: Any) -> list[dict[str, Any]]:
    found = client.files.download(file=job.dest.file_name)
    return [json.loads(line) for line in found.removesuffix(b"\n").split(b"\n")]


def raw_lines(client: Client) -> list[bytes]:
    return results(client).removesuffix(b"\n").split(b"\n")


def lines(client: Client) -> list[dict[str, Any]]:
    return [json.loads(line) for line in raw_lines(client)]


def answer_text(line: dict[str, Any]) -> str:
    return line["response"]["candidates"][0]["content"]["parts"][0]["text"]


def text_of(key: str) -> str:
    """What the emulator answers when nothing goes wrong."""
    return expected_text(0, prompt_of(key))


def inlined(client: Client) -> list[Any]:
    """The answers of an inline job, as the SDK shows them."""
    sent = [prompt_of(key) | {"metadata": {"key": key}} for key in KEYS]
    job = finished(client, client.batches.create(model=MODEL, src=sent))
    assert job.state == "JOB_STATE_SUCCEEDED"
    return job.dest.inlined_responses


def keys_of(found: list[Any]) -> list[str]:
    """Of result lines, or of the SDK's inline responses."""
    return [one["key"] if isinstance(one, dict) else one.metadata["key"] for one in found]
