"""Which result line answers which request, by key alone. Pure.

In: the keys of the lines in the order in which they stand. Out: per request the number of its line, -1 for none. Keys
as the public library and this one write them: `prompt_3_sample_0`, `3_0`, `3`, `3_own-key`, an own key, that of a run.
"""

import re
from array import array
from collections.abc import Sequence
from zlib import crc32

from gemini_batch.errors import BadInput

NONE = -1
NOWHERE = NONE, NONE

_OWN = re.compile(r"prompt_(\d{1,9})_sample_(\d{1,3})", re.ASCII).fullmatch
_OF_A_RUN = re.compile(r"([0-9a-f]+-(\d{1,9})-(\d{1,3}))-([0-9a-f]{8})", re.ASCII).fullmatch
_NUMBERED = re.compile(r"(\d{1,9})(?:_(.*))?", re.ASCII | re.DOTALL).fullmatch
_SAMPLED = re.compile(r"(.*)_sample_(\d{1,3})", re.ASCII | re.DOTALL).fullmatch
_SAMPLE = re.compile(r"\d{1,3}", re.ASCII).fullmatch

SPARSE, ROOM = 10, 1_000
"""Requests per line, and requests besides, that keys may speak of where nobody told how many there were. Beyond, the
numbers are somebody's own, or most of the file is gone."""


class Alignment:
    """Takes note of the key of every line, then says which line stands where.

    Args:
        n: how many prompts there were, if that is known.
        n_samples: how many samples of each, if that is known.
        keys: the prompts' own keys, if they have any; then only lines with these, or with `prompt_3_sample_0`, count.

    Raises:
        BadInput: `keys` names two prompts alike, or they are not as many as `n`.
    """

    def __init__(self, n: int | None = None, n_samples: int | None = None, keys: Sequence[str] | None = None) -> None:
        if n_samples is not None and n_samples < 1:
            raise BadInput(f"n_samples has to be at least 1 (got {n_samples})")
        self._keys = None if keys is None else [str(key) for key in keys]
        self._n = n if self._keys is None else len(self._keys)
        if n not in (None, self._n):
            raise BadInput(f"keys: there are {self._n:,} of them for {n:,} prompts")
        self._places = _told_apart(self._keys or ())
        self._n_samples = n_samples
        self._prompts, self._samples = array("q"), array("q")
        self._own = False
        """Whether a key was of a style that always tells the place."""
        self._names: dict[str, int] = {}
        """Keys that tell no place, with the line that has them first."""
        self._again: set[int] = set()
        """Lines with such a key that an earlier one has."""

    def note(self, keys: Sequence[str | int | None]) -> None:
        """The next lines have these keys; None for a line that has none or cannot be read."""
        if self._keys is not None or not self._note_own(keys):
            for key in keys:
                self._note(key)

    def _note_own(self, keys: Sequence[str | int | None]) -> bool:
        """Nearly every file has nothing but keys of this one style. False, and nothing noted, where one is not."""
        try:
            found = list(map(_OWN, keys))  # type: ignore[arg-type]
        except TypeError:
            return False
        told = [one for one in found if one]
        if len(told) < len(keys):
            return False
        self._own = self._own or bool(told)
        self._prompts.extend([int(one[1]) for one in told])
        self._samples.extend([int(one[2]) for one in told])
        return True

    def _note(self, key: str | int | None) -> None:
        prompt, sample = NOWHERE
        if key is not None:
            text = str(key)
            prompt, sample = self.place(text)
            if prompt == NONE and self._names.setdefault(text, len(self._prompts)) != len(self._prompts):
                self._again.add(len(self._prompts))
        self._prompts.append(prompt)
        self._samples.append(sample)

    def lines(self) -> "array[int]":
        """Per request, prompt by prompt and sample by sample, the number of the line that answers it, or -1.

        Of two lines for one request the first counts. Without a count there are as many requests as the keys tell, or
        more if there are more lines. Numbers that do not begin at 0 are sorted then, with nothing left open between
        them, and names that tell no place stay in the order in which they stand.

        Raises:
            BadInput: the lines cannot be told apart, or are of more requests than there were.
        """
        told = self._own or self._n_samples is not None or self._keys is not None
        if not told and 0 not in self._samples:  # `3_17` is prompt 3 with a key of its own
            self._samples = array("q", [0]) * len(self._samples)
        placed = len(self._prompts) - self._prompts.count(NONE)
        if self._n is not None:
            return self._filled(self._n) if placed or self._keys is not None else self._by_position(self._n)
        if not self._own and (self._names or not placed):
            return array("q", (line for line in range(len(self._prompts)) if line not in self._again))
        return self._filled_as_told() if self._own or 0 in self._prompts else self._sorted()

    # --- one key ------------------------------------------------------------------------------------------------------

    def place(self, key: str) -> tuple[int, int]:
        """Prompt and sample that a key tells, by itself; -1 where it tells none."""
        if self._keys is None:
            return self._place_in_style(key)
        if key in self._places:  # only whole names: a number that is not among them could be anybody's
            return self._places[key], 0
        return _place_besides(key, self._keys, self._places)

    def _place_in_style(self, key: str) -> tuple[int, int]:
        if found := _OWN(key):
            self._own = True
            return int(found[1]), int(found[2])
        if found := _NUMBERED(key):
            rest = found[2]
            return int(found[1]), int(rest) if rest and self._n_samples != 1 and _SAMPLE(rest) else 0
        if (found := _OF_A_RUN(key)) and int(found[4], 16) == crc32(found[1].encode()):
            self._own = True
            return int(found[2]), int(found[3])
        return NOWHERE

    # --- all of them --------------------------------------------------------------------------------------------------

    def _width(self) -> int:
        return self._n_samples or max(max(self._samples, default=0), 0) + 1

    def _filled(self, prompts: int) -> "array[int]":
        width, lines = self._width(), range(len(self._prompts))
        found = array("q", [NONE]) * (prompts * width)
        backwards = zip(reversed(lines), reversed(self._prompts), reversed(self._samples), strict=True)
        for line, prompt, sample in backwards:  # so that the first of two lines stays
            if prompt == NONE:
                continue
            if prompt >= prompts or sample >= width:
                raise BadInput(
                    f"line {line + 1} is of prompt {prompt:,}, sample {sample}; there are {prompts:,} prompts of "
                    f"{width} samples, from 0. Are these the results of another job?"
                )
            found[prompt * width + sample] = line
        return found

    def _filled_as_told(self) -> "array[int]":
        """A line that cannot be placed answers one of the requests that are left open, or one after the last."""
        prompts, width, lines = max(self._prompts) + 1, self._width(), len(self._prompts)
        if prompts * width > SPARSE * lines + ROOM:
            raise BadInput(
                f"{lines:,} lines with keys up to prompt {prompts - 1:,} and sample {width - 1}: say how many prompts "
                "(n=) and samples (n_samples=) there were, or what their keys are (keys=)"
            )
        found = self._filled(prompts)
        answered, unplaced = len(found) - found.count(NONE), self._prompts.count(NONE)
        missing = max(0, -(-(answered + unplaced) // width) - prompts)
        return found + array("q", [NONE]) * (missing * width)

    def _sorted(self) -> "array[int]":
        first = dict[tuple[int, int], int]()
        for line, place in enumerate(zip(self._prompts, self._samples, strict=True)):
            if place[0] != NONE:
                first.setdefault(place, line)
        return array("q", [*(first[place] for place in sorted(first)), *[NONE] * self._prompts.count(NONE)])

    def _by_position(self, prompts: int) -> "array[int]":
        """Lines without keys, which only their position tells apart."""
        requests = prompts * (self._n_samples or 1)
        if self._names:
            name = next(iter(self._names))
            raise BadInput(f"the key {name!r} does not tell which prompt it is of; give the prompts' keys (keys=)")
        if len(self._prompts) not in (0, requests):
            raise BadInput(
                f"{len(self._prompts):,} lines without keys for {requests:,} requests: which is whose is not known"
            )
        return array("q", range(len(self._prompts)) if len(self._prompts) else [NONE] * requests)


def _told_apart(keys: Sequence[str]) -> dict[str, int]:
    """Each key's prompt.

    Raises:
        BadInput: a key is another's, or what a line of another may be called.
    """
    places: dict[str, int] = {}
    for place, key in enumerate(keys):
        if places.setdefault(key, place) != place:
            raise BadInput(f"keys: {key!r} names prompt {places[key]} and prompt {place}; they have to be unique")
    for key, place in places.items():
        owner, _ = _place_besides(key, keys, places)
        if owner not in (NONE, place):
            raise BadInput(f"keys: {key!r} of prompt {place} could be taken for a line of prompt {owner}")
    return places


def _place_besides(name: str, keys: Sequence[str], places: dict[str, int]) -> tuple[int, int]:
    """What a name tells that is more than a prompt's key."""
    if (found := _NUMBERED(name)) and int(found[1]) < len(keys) and keys[int(found[1])] == found[2]:
        return int(found[1]), 0
    if (found := _OWN(name)) and int(found[1]) < len(keys):
        return int(found[1]), int(found[2])
    if (found := _SAMPLED(name)) and found[1] in places:
        return places[found[1]], int(found[2])
    return NOWHERE
