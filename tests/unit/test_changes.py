"""What may change of a run and what may not: each is told, old and new; what may is recorded and heard by all."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from made import make_asked, make_limits
from shops import Clock, make_shop
from test_advance import Service

from gemini_batch import orders
from gemini_batch.access import refuse_stranger
from gemini_batch.config import Account, option_name, resolve
from gemini_batch.coordinator.differ import SHOWN, changes, differences
from gemini_batch.errors import BadInput
from gemini_batch.records import Limits, SchemaSpec

OTHER = {
    "max_requests_per_shard": 7, "max_bytes_per_shard": 7_000, "max_tokens_per_shard": 7, "max_live_jobs": 7,
    "max_enqueued_tokens": 7, "tier": "3", "max_creates_per_day": 7, "max_stored_bytes": 7, "poll_interval": 7.0,
    "settle": 7.0, "on_unknown": "wait", "stuck": "cancel", "max_attempts": 7, "retry_truncated": True,
    "retry_invalid": True, "allow_http": True, "price": (7.0, 7.5), "max_cost": 7.0, "owner": "Ada",
}  # fmt: skip
"""Another value of every option that says how a run is carried out."""

KEY = "a-key"


@pytest.fixture
def run(tmp_path):
    """A run that was begun by `KEY`, and a way to see it as one more worker does."""
    account = Account("http://127.0.0.1:1", "", KEY)
    limits = make_limits(max_tokens_per_shard=None)

    def asked(**changes):
        config = {"generation_config": {"maxOutputTokens": 10}}  # without it there is no cap
        return make_asked(endpoint=account.endpoint, project=account.key_name, **config, **changes)

    def seen():
        clock = Clock()
        return make_shop(tmp_path, asked, limits, Service(clock), clock)

    return seen


# --- what may change --------------------------------------------------------------------------------------------------


def test_every_limit_is_tried_here():
    assert set(OTHER) == set(Limits.model_fields) - {"project"}


@pytest.mark.parametrize("name", OTHER)
def test_an_option_that_changes_is_recorded_told_and_heard_by_every_worker(name, run):
    """By a worker at its next look at the run, which a sweep makes sure of, and by the quota desk."""
    worker, value = run(), OTHER[name]
    before = worker.limits
    orders.limits_in_force(worker.files, resolve({option_name(name): value}, None, {}))
    assert getattr(worker.files.controls().last().limits, name) == value
    worker.heed()
    assert getattr(worker.limits, name) == getattr(worker.desk.limits, name) == value
    (told,) = [text for text in changes(before, worker.limits) if text.startswith(f"{name} ")]
    assert " -> " in told


def test_what_is_said_again_is_not_recorded_again(run):
    files, options = run().files, resolve({"max_live_jobs": 7, "owner": "Ada"}, None, {})
    for _ in range(2):
        orders.limits_in_force(files, options)
    assert files.controls().last().version == 1


def test_a_change_of_shard_sizes_says_for_which_rows_it_holds():
    (_, note) = changes(make_limits(), make_limits(max_requests_per_shard=3))
    assert "not planned yet" in note


def test_who_drives_the_run_is_recorded_without_the_password(run):
    files = run().files
    orders.limits_in_force(files, resolve({"broker": "redis://user:secret@host:1/2"}, None, {}))
    orders.pause(files)
    orders.limits_in_force(files, resolve({}, None, {}))
    said = [files.controls().at(version) for version in (1, 2, 3)]
    assert [one.broker for one in said] == ["redis://host:1/2", "redis://host:1/2", None]
    assert [one.cause for one in said] == ["driver", "paused", "resumed"]


def test_cron_goes_on_with_a_run_without_lifting_a_pause(run):
    files = run().files
    orders.pause(files)
    orders.limits_in_force(files, resolve({"max_live_jobs": 3}, None, {}), keep_pause=True)
    last = files.controls().last()
    assert (last.order, last.cause, last.limits.max_live_jobs) == ("pause", "limits", 3)


# --- the project ------------------------------------------------------------------------------------------------------


def test_a_project_gets_a_name_by_the_key_of_the_run_and_then_by_that_name_other_keys_do(run, monkeypatch):
    shop = run()
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("GEMINI_API_KEY", "another-key")
    named, other = resolve({"project": "ours"}, None, {}), Account("http://127.0.0.1:1", "ours", "another-key")
    with pytest.raises(BadInput, match="was made for the project key-"):
        orders.limits_in_force(shop.files, named)
    assert shop.files.controls().last() is None
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    limits = orders.limits_in_force(shop.files, named)
    refuse_stranger(shop.run, limits, other)
    with pytest.raises(BadInput, match="was made for the project ours"):
        refuse_stranger(shop.run, limits, Account("http://127.0.0.1:1", "theirs", "another-key"))


# --- what may not -----------------------------------------------------------------------------------------------------


def schema_of(**types):
    properties = {name: {"type": kind} for name, kind in types.items()}
    return SchemaSpec(ref=None, json_schema={"type": "object", "properties": properties}, validate_by="json-schema")


def test_each_field_that_differs_is_named_with_both_values():
    old = make_asked(rows=10, rows_digest="ab", response_schema=schema_of(a="string", b="number"), project="key-1")
    new = make_asked(
        rows=11, rows_digest="cd", response_schema=schema_of(a="integer", c="number"), project="ours",
        generation_config={"temperature": 0.5}, endpoint="https://elsewhere",
    )  # fmt: skip
    assert differences(old, old) == []
    assert differences(old, new) == [
        "rows: 10 -> 11",
        'content of the rows (sha256): "ab" -> "cd"',
        'schema.json_schema.properties.a.type: "string" -> "integer"',
        'schema.json_schema.properties.b.type: "number" -> (nothing)',
        f'endpoint: "{old.endpoint}" -> "https://elsewhere"',
        'project: "key-1" -> "ours"',
        'schema.json_schema.properties.c.type: (nothing) -> "number"',
        "generation_config.temperature: (nothing) -> 0.5",
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b", "a.b"]), inner, max_size=3),
    max_leaves=6,
)
CONFIGS = st.dictionaries(st.sampled_from(["a", "b", "a.b"]), JSON, max_size=3)


@given(old=CONFIGS, new=CONFIGS)
@example(old={"a": None, "b": 1}, new={"b": 1})
@example(old={"a.b": 1, "b": 1}, new={"a": {"b": 1}, "b": 1})
@example(old={"a": {}, "b": 1}, new={"b": 1})
def test_no_difference_passes_unsaid(old, new):
    """Otherwise a submit would join a run that asks something else."""
    one, other = make_asked(generation_config=old), make_asked(generation_config=new)
    assert bool(differences(one, other)) is (one.identity() != other.identity())


def test_another_schema_is_told_in_a_few_lines():
    old, new = ({f"{letter}{n}": "string" for n in range(50)} for letter in "ab")
    told = differences(make_asked(response_schema=schema_of(**old)), make_asked(response_schema=schema_of(**new)))
    assert len(told) == 21
    assert told[-1] == "schema: 80 more differences"


@given(same=st.text(max_size=300), old=st.text(max_size=300), new=st.text(max_size=300))
def test_of_long_values_the_difference_is_shown(same, old, new):
    """Two instructions that differ in their last sentence would look alike if only their beginning were shown."""
    told = differences(make_asked(system_instruction=same + old), make_asked(system_instruction=same + new))
    if old == new:
        assert told == []
    else:
        (line,) = told
        before, _, after = line.removeprefix("system_instruction: ").partition(" -> ")
        assert before != after or " -> " in same + old + new
        assert len(line) < 2 * SHOWN + 40
