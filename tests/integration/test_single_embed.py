"""Texts to vectors by one job, matched by key."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from gemini_batch import (
    BadInput,
    batch_embed,
    download_batch_results,
    list_batch_jobs,
    monitor_batch_job,
    normalize_embeddings,
    parse_embedding_results,
)
from gemini_batch.config import Account
from gemini_batch.gemini.client import GeminiClient
from gemini_batch.single import create

TEXTS = ["a", "b", "c", "d"]


@pytest.fixture(scope="module")
def client(module_emulator: Any) -> GeminiClient:
    """Making one takes longer than most calls."""
    return GeminiClient(Account(module_emulator.url, "p", "loopback"))


@pytest.fixture(autouse=True)
def here(emulator: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(create, "LOOKS", (0.0, 0.0))


def test_every_text_has_its_vector_whatever_the_order_of_the_lines(client: GeminiClient, emulator: Any) -> None:
    whole = batch_embed(TEXTS, client=client)
    assert [len(vector) for vector in whole] == [3072] * 4
    assert len({tuple(vector) for vector in whole}) == 4
    emulator.fault("result_shuffled")
    emulator.fault("result_line_error", row=1)
    emulator.fault("result_line_missing", row=3)
    again, metadata = batch_embed(TEXTS, return_metadata=True, client=client)
    assert again == [whole[0], None, whole[2], None]
    assert [entry and entry["tokenCount"] > 0 for entry in metadata] == [True, None, True, None]


def test_what_vectors_are_for_and_their_length_reach_the_service(client: GeminiClient, folder: Path) -> None:
    vectors = batch_embed(
        ["a"], "models/gemini-embedding-001", "semantic_similarity", job_display_name="mine", jsonl_dir="kept",
        output_dir="out", output_dimensionality=8, client=client,
    )  # fmt: skip
    (line,) = map(json.loads, next((folder / "kept").iterdir()).read_bytes().splitlines())
    assert line == {
        "key": "0",
        "request": {
            "content": {"parts": [{"text": "a"}]}, "taskType": "SEMANTIC_SIMILARITY", "outputDimensionality": 8,
        },
    }  # fmt: skip
    assert [len(vector) for vector in vectors] == [8]
    assert math.isclose(math.hypot(*normalize_embeddings(vectors)[0]), 1)
    (job,) = list_batch_jobs("mine", client=client)
    assert job.model == "models/gemini-embedding-001"


def test_a_job_that_nobody_waited_for_is_read_later(client: GeminiClient) -> None:
    name = batch_embed(TEXTS, task_type=None, wait=False, client=client)
    assert monitor_batch_job(name, client=client) == "JOB_STATE_SUCCEEDED"
    file = download_batch_results(name, client=client)
    assert parse_embedding_results(file) == parse_embedding_results(file, n=4)
    assert parse_embedding_results(file, n=6)[4:] == [None, None]


def test_a_lost_create_is_found_and_not_sent_again(client: GeminiClient, emulator: Any) -> None:
    emulator.fault("create_reply_lost")
    assert None not in batch_embed(TEXTS, output_dimensionality=2, client=client)
    assert emulator.calls("POST asyncBatchEmbedContent") == 1


@pytest.mark.parametrize(
    ("texts", "how", "said"),
    [
        ([], {}, "list of one or more str"),
        ("text", {}, "list of one or more str"),
        (["a", 1], {}, "list of one or more str"),
        (["a", "\ud800"], {}, "text 1 cannot be written"),
        (["a"], {"task_type": "POETRY"}, "task_type has to be one of RETRIEVAL_DOCUMENT"),
        (["a"], {"output_dimensionality": 0}, "output_dimensionality has to be 1 to 3,072"),
    ],
)
def test_what_cannot_be_embedded_is_refused_before_anything_is_sent(
    client: GeminiClient, emulator: Any, texts: Any, how: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        batch_embed(texts, client=client, **how)
    assert emulator.untouched()


def test_lines_of_any_other_form_are_no_vectors(tmp_path: Path) -> None:
    lines = [
        b'{"key": "0", "response": {"embedding": {"values": [1, 2.5]}, "tokenCount": "3"}}',
        b'{"key": "0", "response": {"embedding": {"values": [9]}}}',
        b'{"key": "1", "response": {"embedding": {"values": ["x"]}}}',
        b'{"key": "2", "response": {"embedding": [1]}}',
        b'{"key": "3", "response": null}',
        b'{"key": "x", "response": {"embedding": {"values": [1]}}}',
        b"[]",
        b"{",
        b"",
        b'{"key": "4", "error": {"code": 3}}',
    ]
    (tmp_path / "file").write_bytes(b"\n".join(lines))
    found = parse_embedding_results(tmp_path / "file", return_metadata=True)
    assert found == ([[1.0, 2.5], *[None] * 4], [{"tokenCount": 3}, *[None] * 4])
    with pytest.raises(BadInput, match="no such file"):
        parse_embedding_results(tmp_path / "absent")
