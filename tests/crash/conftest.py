"""One laboratory for each module of tests."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

from tests.crash.lab import ANSWERS, Lab, Parent, Story, Told
from tests.crash.stories import write_manifests


@pytest.fixture(scope="module")
def lab(start_emulator: Any, make_cli: Any, look: Any, tmp_path_factory: Any) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("crash")
    # Answers by the prompt alone: a picture lies elsewhere at the service after each upload.
    answers = [{"prompt": prompt, "answer": answer} for prompt, answer in ANSWERS.items()]
    emulator = start_emulator("--answers", str(look.jsonl(folder / "answers.jsonl", answers)), "--job-seconds", "0")
    cli = make_cli(emulator)
    parent = Parent(cli.environment(), folder)
    write_manifests(folder)
    yield Lab(emulator, parent, folder, look, lambda: [pid for pid in cli.left() if pid != parent.pid])
    parent.close()


@pytest.fixture(scope="module")
def told(lab: Lab) -> Callable[[Story], Told]:
    """A story as it goes when nobody dies."""
    return cache(lab.tell)
