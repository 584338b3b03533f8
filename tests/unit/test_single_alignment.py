"""A result of one job stands where its prompt stood, whatever became of the lines: by key alone."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.errors import BadInput
from gemini_batch.gemini.wire import line_key, plain_text, read_answer
from gemini_batch.single.alignment import Alignment
from gemini_batch.single.results import iter_batch_results, parse_batch_results

STYLES = {
    "public": lambda prompt, sample: f"prompt_{prompt}_sample_{sample}",
    "short": lambda prompt, sample: f"{prompt}_{sample}",
    "run": lambda prompt, sample: line_key(b"00c0ffee00c0ffee", prompt, sample).decode(),
}


def order_of(lines, **known):
    aligned = Alignment(**known)
    aligned.note(lines[:2])
    aligned.note(lines[2:])
    return list(aligned.lines())


def line(key, text="yes", **more):
    content = {"parts": [{"text": text}]}
    return {"key": key, "response": {"candidates": [{"content": content, "finishReason": "STOP"}], **more}}


@st.composite
def files(draw):
    """(prompts, samples, keys of the lines by request, lines in some order: some lost, doubled, broken)."""
    prompts, samples = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    style = STYLES[draw(st.sampled_from(sorted(STYLES)))]
    requests = [(prompt, sample) for prompt in range(prompts) for sample in range(samples)]
    keys = [style(*request) for request in requests]
    lost = draw(st.sets(st.integers(0, len(keys) - 1), max_size=len(keys)))
    doubled = draw(st.lists(st.sampled_from(keys), max_size=3))
    there = [key for place, key in enumerate(keys) if place not in lost]
    broken = [None] * draw(st.integers(0, 2))
    return prompts, samples, keys, draw(st.permutations(there + [key for key in doubled if key in there] + broken))


@given(files())
def test_with_a_count_each_request_has_its_own_first_line_or_none(file):
    prompts, samples, keys, lines = file
    if not any(lines) and lines:
        return  # nothing but broken lines: by position, which is tested below
    found = order_of(lines, n=prompts, n_samples=samples)
    assert found == [lines.index(key) if key in lines else -1 for key in keys]


@given(files())
def test_without_a_count_nothing_moves_to_another_request(file):
    _, samples, keys, lines = file
    if STYLES["short"](0, 0) in keys and "0_0" not in lines:
        return  # numbers that do not begin at 0 are only sorted
    if not any(lines):
        return
    found = order_of(lines, n_samples=samples)
    assert found[: len(keys)] == [lines.index(key) if key in lines else -1 for key in keys][: len(found)]
    assert set(found[len(keys) :]) <= {-1}
    assert len([line for line in found if line >= 0]) == len({key for key in lines if key})
    assert len(found) >= len(set(lines) - {None}) + lines.count(None)


@given(st.lists(st.text("ab-1_", max_size=6) | st.text(max_size=8), min_size=1, max_size=6, unique=True), st.data())
def test_own_keys_are_found_however_they_look(keys, data):
    try:
        Alignment(keys=keys)
    except BadInput:
        return  # one could be taken for another's
    for form in ("{key}", "{place}_{key}"):
        names = [form.format(place=place, key=key) for place, key in enumerate(keys)]
        shuffled = data.draw(st.permutations(names))
        assert order_of(shuffled, keys=keys) == [shuffled.index(name) for name in names]
    names = [f"{key}_sample_{sample}" for key in keys for sample in range(2)]
    assert order_of(names[::-1], keys=keys, n_samples=2) == list(range(2 * len(keys)))[::-1]


@pytest.mark.parametrize(
    ("keys", "lines"),
    [
        (["prompt_1_sample_0", "prompt_0_sample_0"], [1, 0]),
        (["2", "10", "0", "1"], [2, 3, 0, -1, -1, -1, -1, -1, -1, -1, 1]),
        (["2", "10", "1"], [2, 0, 1]),  # they begin at 1: somebody's own numbers
        (["1_b", "0_a"], [1, 0]),
        (["1_20", "0_10"], [1, 0]),  # no sample 0: own keys that are numbers
        (["b", "a", "b"], [0, 1]),
        (["b", None, "a"], [0, 1, 2]),
        (["prompt_3_sample_0"], [-1, -1, -1, 0]),
        (["prompt_0_sample_0", None], [0, -1]),
        ([None, None], [0, 1]),
        ([0, 2, 1], [0, 2, 1]),
        ([], []),
    ],
)
def test_without_a_count_the_keys_say_how_many_there_are(keys, lines):
    assert order_of(keys) == lines


@pytest.mark.parametrize(
    ("keys", "known", "said"),
    [
        (["prompt_2_sample_0"], {"n": 2}, "line 1 is of prompt 2, sample 0; there are 2 prompts"),
        (["prompt_0_sample_3"], {"n": 2, "n_samples": 3}, "sample 3"),
        (["a", "b"], {"n": 2}, "'a' does not tell which prompt"),
        ([None], {"n": 2}, "1 lines without keys for 2 requests"),
        (["prompt_99999999_sample_0"], {}, "say how many prompts"),
        ([], {"keys": ["a", "a"]}, "'a' names prompt 0 and prompt 1"),
        ([], {"keys": ["a", "0_a"]}, "'0_a' of prompt 1 could be taken for a line of prompt 0"),
        ([], {"keys": ["a_sample_0", "a"]}, "'a_sample_0' of prompt 0 could be taken for a line of prompt 1"),
        ([], {"keys": ["a", "prompt_0_sample_0"]}, "'prompt_0_sample_0' of prompt 1 could be taken"),
        ([], {"keys": ["a"], "n": 2}, "1 of them for 2 prompts"),
        ([], {"n_samples": 0}, "n_samples has to be at least 1"),
    ],
)
def test_lines_that_cannot_be_told_apart_are_refused_and_say_what_helps(keys, known, said):
    with pytest.raises(BadInput, match=said):
        order_of(keys, **known)


def test_a_number_is_nobodys_place_where_there_are_own_keys():
    assert order_of(["0", "1", "7"], keys=["7", "8"]) == [2, -1]


def test_a_damaged_key_of_a_run_tells_no_place():
    good, bad = STYLES["run"](0, 0), STYLES["run"](1, 0).replace("-1-0-", "-2-0-")
    assert order_of([bad, good], n=3) == [1, -1, -1]


# --- the lines themselves ---------------------------------------------------------------------------------------------


PARTS = st.lists(
    st.fixed_dictionaries(
        {}, optional={"text": st.none() | st.integers() | st.text(max_size=3), "thought": st.booleans()}
    ),
    max_size=3,
)
CANDIDATES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "content": st.fixed_dictionaries({"parts": PARTS}),
            "finishReason": st.sampled_from(["STOP", "SAFETY"]),
        },
    ),
    max_size=2,
)
RESPONSES = st.fixed_dictionaries(
    {}, optional={"candidates": CANDIDATES, "promptFeedback": st.sampled_from([{}, {"blockReason": "SAFETY"}])}
)


@given(RESPONSES)
def test_the_short_way_to_a_text_leads_where_the_long_one_does(response):
    """A part without a text changes no answer, and no line that has one goes the short way."""
    text = plain_text({"response": response})
    if text is not None:
        (candidate,) = response["candidates"]
        parts = {"parts": [*candidate["content"]["parts"], {"thoughtSignature": "x"}]}
        longer = {"response": {"candidates": [{**candidate, "content": parts}]}}
        assert plain_text(longer) is None
        assert read_answer(longer) == read_answer({"response": response})


@given(st.lists(st.sampled_from([line("0"), line("1", "no"), {"key": "2", "error": {"code": 13}}, None]), max_size=6))
def test_the_list_and_the_iterator_say_the_same(lines):
    by_place = {}
    for result in iter_batch_results(lines):
        if result.index is not None:
            by_place.setdefault(result.index, result.result)
    if by_place:
        assert parse_batch_results(lines, n=3) == [by_place.get(place) for place in range(3)]


def test_a_schema_of_lists_gives_lists_of_instances(tmp_path):
    assert parse_batch_results([line("0", "[1, 2]"), line("1", '{"a": 1}')], list[int]) == [[1, 2], None]


def test_an_answer_in_a_fence_is_read_as_in_a_dataset():
    assert parse_batch_results([line("0", "```json\n[1]\n```")], list[int]) == [[1]]


def test_a_line_of_no_kind_at_all_is_refused():
    with pytest.raises(BadInput, match="result 1 is a str"):
        parse_batch_results([line("0"), "text"])


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"nothing\.jsonl: there is no such file"):
        parse_batch_results(tmp_path / "nothing.jsonl")
    with pytest.raises(BadInput, match=r"nothing\.jsonl"):
        iter_batch_results("nothing.jsonl")


ODD = [
    {"key": "1", "error": {"code": 13, "message": "internal"}},
    {"metadata": {"key": "2"}, "response": line("", "two")["response"]},
    {"key": 3, "response": line("", "three")["response"]},
    {"key": "4", "response": {"promptFeedback": {"blockReason": "SAFETY"}}},
    line("5", "```json\n[5]\n```"),
    line("6", ""),
    None,
]


@given(st.lists(st.sampled_from([line("0", "[0]"), line("7", "[7]"), *ODD]), max_size=8), st.booleans())
def test_a_file_is_read_as_its_lines_are(tmp_path_factory, lines, structured):
    """Files are read by column, lists line by line."""
    path = tmp_path_factory.mktemp("file") / "results.jsonl"
    path.write_bytes(b"\n".join(b"{broken" if one is None else orjson.dumps(one) for one in lines) + b"\n\n")
    schema = list[int] if structured else None
    found = [outcome(lambda source=source: parse_batch_results(source, schema)) for source in (path, lines)]
    assert found[0] == found[1]
    assert outcome(lambda: parse_batch_results(path, schema, return_metadata=True)[0]) == found[0]


def outcome(call):
    try:
        return call()
    except BadInput as refused:
        return str(refused)
