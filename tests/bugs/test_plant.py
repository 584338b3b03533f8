"""A mistake that cannot be made, or shows otherwise than it should, is neither a red test nor a green one."""

from typing import Any

import pytest
from pytest import ExitCode

LIFE = "tests/unit/test_lifecycle.py"
CLAIMS = f"{LIFE}::test_each_state_has_one_thing_to_do[CLAIMED-other-expected3]"
MADE = ("gemini_batch.jobs.lifecycle", "if record.nonce == claim else Claim()", "")


@pytest.mark.parametrize(
    ("mistake", "tests", "says"),
    [
        (("gemini_batch.jobs.lifecycle", "not to be found", ""), [CLAIMS], "has moved on"),
        (("gemini_batch.emulator.app", "import", "import"), [CLAIMS], "never imported"),
        (("json", "import", "import"), [CLAIMS], "imported before"),
        (
            ("gemini_batch.jobs.lifecycle", "match record.state:", "match record.no:"),
            [CLAIMS],
            "failed in call by Attr",
        ),
        (MADE, [CLAIMS, CLAIMS.replace("other-expected3", "n-expected1")], "2 tests"),
    ],
)
def test_what_is_not_one_test_that_fails_by_its_own_assertion_is_told(
    mistake: Any, tests: list[str], says: str, plant: Any
) -> None:
    code, words = plant(*mistake, *tests)
    assert code not in {ExitCode.OK, ExitCode.TESTS_FAILED}
    assert says in words


def test_a_mistake_that_its_test_does_not_see_leaves_it_green(plant: Any) -> None:
    code, words = plant(*MADE, CLAIMS.replace("other-expected3", "n-expected1"))
    assert code == ExitCode.OK, words
