"""The matcher of recorded shapes finds each kind of difference, and nothing where there is none."""

import pytest
from shapes import differences

SHAPE = {
    "name": "batches/<id36>",
    "count": "<int64>",
    "state": "BATCH_STATE_<PENDING|RUNNING>",
    "done?": True,
    "values": ["<number>"],
    "details": [{"@type": "a.b/<text>"}, {}],
}
GOOD = {
    "name": "batches/" + "a1" * 18,
    "count": "12",
    "state": "BATCH_STATE_RUNNING",
    "values": [1, -0.5],
    "details": [{"@type": "a.b/x\ny"}, {}],
}


@pytest.mark.parametrize("found", [GOOD, GOOD | {"done": True}])
def test_a_match_has_no_differences(found):
    assert list(differences(SHAPE, found)) == []


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"new": 1}, "reply.new is not in the recording"),
        ({"name": "batches/short"}, "reply.name is 'batches/short', not 'batches/<id36>'"),
        ({"count": 12}, "reply.count is 12, not '<int64>'"),
        ({"count": "012"}, "reply.count is '012', not '<int64>'"),
        ({"state": "BATCH_STATE_ODD"}, "reply.state is 'BATCH_STATE_ODD', not 'BATCH_STATE_<PENDING|RUNNING>'"),
        ({"done": 1}, "reply.done is 1, not True"),
        ({"values": []}, "reply.values has 0 items, not 1"),
        ({"values": [True]}, "reply.values[0] is True, not <number>"),
        ({"values": {}}, "reply.values is {}, not ['<number>']"),
        ({"details": [{"@type": "aXb/x"}, {}]}, "reply.details[0].@type is 'aXb/x', not 'a.b/<text>'"),
        ({"details": [{"@type": "a.b/x"}]}, "reply.details has 1 items, not 2"),
        ({"details": [{}, {}]}, "reply.details[0].@type is missing"),
    ],
)
def test_each_difference_is_named_with_its_place(change, difference):
    assert list(differences(SHAPE, GOOD | change)) == [difference]


def test_a_recorded_reply_is_part_of_another():
    assert list(differences({"file": "<recorded empty>"}, {"file": {}})) == []
    assert list(differences({"file": "<recorded empty>"}, {"file": {"x": 1}})) == [
        "reply.file.x is not in the recording"
    ]
