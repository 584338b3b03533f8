"""What `batch_process` makes of its arguments, and of the samples of a prompt."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from gemini_batch.errors import BadInput
from gemini_batch.single.alignment import Alignment
from gemini_batch.single.process import grouped, summed_metadata, voted_result
from gemini_batch.single.requests import line_keys

KEY = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8) | st.from_regex(
    r"(prompt_)?[0-3](_[0-3a])?(_sample_[0-3])?", fullmatch=True
)


@given(
    keys=st.lists(KEY, min_size=1, max_size=6, unique=True) | st.none(),
    n_samples=st.integers(1, 3),
    dice=st.randoms(use_true_random=False),
)
def test_every_line_is_taken_for_whose_it_is_in_whatever_order(
    keys: list[str] | None, n_samples: int, dice: random.Random
) -> None:
    """Keys by which it could not be told are refused before anything is sent."""
    prompts = 3 if keys is None else len(keys)
    places = [(index, sample) for index in range(prompts) for sample in range(n_samples)]
    try:
        name = line_keys(keys, prompts, n_samples)
    except BadInput as refusal:
        assert "could be taken for" in str(refusal)
        return
    names = [json.loads(b'"%b"' % name(*place)) for place in places]
    assert len(set(names)) == len(names)
    shuffled = list(enumerate(names))
    dice.shuffle(shuffled)
    order = Alignment(n=prompts, n_samples=n_samples, keys=keys)
    order.note([one for _, one in shuffled])
    assert [shuffled[line][0] for line in order.lines()] == list(range(len(names)))


@pytest.mark.parametrize("n_samples", [1, 3])
def test_keys_as_people_choose_them_are_taken(n_samples: int) -> None:
    for keys in (["doc_001", "doc_002"], ["a/b.png", "c d"], ["0", "1"], ["17", "3"], ["x", "ü"]):
        line_keys(keys, 2, n_samples)


class Pair(BaseModel):
    a: int
    b: int | None = None


@pytest.mark.parametrize(
    ("samples", "schema", "expected"),
    [
        ([None, None, None], Pair, None),
        ([None, Pair(a=1), None], Pair, Pair(a=1)),
        ([Pair(a=1, b=2), Pair(a=3, b=2), Pair(a=1, b=4)], Pair, Pair(a=1, b=2)),
        ([None, "y", "x", "x"], None, "x"),
        (["y", "x"], None, "y"),
        ([[Pair(a=1)], [Pair(a=2)], [Pair(a=2)]], list[Pair], [Pair(a=2)]),
        ([{"a": 1}, {"a": 2}, {"a": 2}], "schema.json", {"a": 2}),
        ([1, 1.5, 1.5], float, 1.5),
    ],
)
def test_a_result_is_what_most_valid_samples_say(samples: object, schema: object, expected: object) -> None:
    assert voted_result(samples, schema) == expected  # type: ignore[arg-type]


@given(st.lists(st.none() | st.integers(0, 9), max_size=12), st.integers(1, 3))
def test_samples_are_grouped_by_prompt(counts: list[int | None], n_samples: int) -> None:
    counts = counts[: len(counts) // n_samples * n_samples]
    metadata = [None if n is None else {"usageMetadata": {"totalTokenCount": n, "kind": "x"}} for n in counts]
    found = grouped(metadata, n_samples, summed_metadata)
    assert len(found) * n_samples == len(counts)
    sums = [entry["usageMetadata"]["totalTokenCount"] for entry in found if entry is not None]
    assert sum(sums) == sum(n for n in counts if n is not None)


def test_a_count_that_only_some_samples_have_is_summed_as_well() -> None:
    samples = [{"usageMetadata": {"a": 1}, "modelVersion": "m"}, None, {"usageMetadata": {"a": 2, "b": 3}}, {}]
    assert summed_metadata(samples) == {"usageMetadata": {"a": 3, "b": 3}, "modelVersion": "m"}
