"""Strings written from a regular expression: Python's own parse of it, walked with dice.

In: a pattern as JSON Schema has them. Out: a `Pattern`, which writes strings of a wanted length. What it writes may
miss, as lookarounds and word boundaries are not followed: the caller checks. Published generators bound neither length
nor work, and draw from sets, whose order differs from process to process.
"""

import re
import string
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from re import _parser  # type: ignore[attr-defined]  # as Hypothesis does; there is no public parse
from typing import Any

from gemini_batch.emulator.dialects import SchemaError
from gemini_batch.emulator.dice import Dice

LONGEST = 1 << 13
NEVER = 1 << 60
_LONGEST_PATTERN = 1 << 14
_MOST_WORK = 1 << 16
_SPREAD = 12
_RANGE = 512  # characters considered of one range
_WORD = string.ascii_letters + string.digits + "_"
_PLAIN = string.ascii_letters + string.digits + " -_.,:!@#$%&*+="
_PRINTABLE = "".join(map(chr, range(32, 127)))
_FOREIGN = "äéßøñжщλ漢字"
_HEX = frozenset("0123456789abcdef")
_CATEGORIES: dict[str, Callable[[str], bool]] = {
    "CATEGORY_DIGIT": lambda c: c in string.digits,
    "CATEGORY_NOT_DIGIT": lambda c: c not in string.digits,
    "CATEGORY_SPACE": str.isspace,
    "CATEGORY_NOT_SPACE": lambda c: not c.isspace(),
    "CATEGORY_WORD": lambda c: c in _WORD,
    "CATEGORY_NOT_WORD": lambda c: c not in _WORD,
}


@dataclass
class Draw:
    """What one string is written with; `digest` is "" when it need not be carried."""

    dice: Dice
    digest: str
    groups: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Piece:
    """`write` makes about the wanted number of characters, which is between `low` and `high`."""

    low: int
    high: int
    write: Callable[[Draw, int], str]
    carries: int = NEVER
    """Characters from which on the digest has room."""
    work: int = 1
    characters: str = ""
    """Of a piece that is one character."""


class Pattern:
    """Raises SchemaError for a pattern that Python cannot parse, or too large a one."""

    def __init__(self, pattern: str) -> None:
        if len(pattern) > _LONGEST_PATTERN:
            raise SchemaError("a pattern is too large")
        try:
            with warnings.catch_warnings():  # of what a later Python may read as set arithmetic
                warnings.simplefilter("ignore")
                parsed = list(_parser.parse(_pythonic(pattern)))
            self._piece = _sequence(parsed)
            self.least = self._piece.low
        except (re.error, OverflowError, RecursionError) as e:
            raise SchemaError(f"pattern {pattern[:80]!r}: {e}") from None
        ends = [str(value) for op, value in (parsed[:1] + parsed[-1:]) if str(op) == "AT"]
        self._open_start = not any("BEGINNING" in end for end in ends)
        self._open_end = not any("END" in end for end in ends)

    def write(self, dice: Dice, least: int, most: int, digest: str) -> str:
        piece = self._piece
        low = max(piece.low, min(least, piece.high))
        if digest and piece.carries <= most:
            low = max(low, piece.carries)
        text = piece.write(Draw(dice, digest), low + dice.below(max(1, min(piece.high, most, low + _SPREAD) - low + 1)))
        if digest and digest not in text and len(text) + 12 <= most:
            mark = f"{digest}{dice.below(1000):03}"
            text = f"{text}-{mark}" if self._open_end else f"{mark}-{text}" if self._open_start else text
        return text.ljust(least, "x") if self._open_end else text.rjust(least, "x") if self._open_start else text


def _pythonic(pattern: str) -> str:
    """What ECMAScript spells another way. Letters of every script are written as ASCII ones."""

    def spell(found: re.Match[str]) -> str:
        if found["property"]:
            inner = _PROPERTIES.get(found["property"].removeprefix("Script="), r"a-zA-Z")
            within = pattern.count("[", 0, found.start()) > pattern.count("]", 0, found.start())
            return inner if within else f"[{inner}]"
        return f"(?P<{found['name']}>" if found["name"] else found[0]

    return _ECMA.sub(spell, pattern)


_ECMA = re.compile(r"\\p\{(?P<property>[^}]*)\}|\(\?<(?P<name>[A-Za-z_]\w*)>|\\.", re.DOTALL)
_PROPERTIES = {"Lu": "A-Z", "N": "0-9", "Nd": "0-9", "P": ".,:!", "Z": " ", "Zs": " ", "S": "+="}


def _sequence(parsed: Iterable[tuple[Any, Any]]) -> Piece:
    return _joined([_piece(str(op), value) for op, value in parsed])


def _joined(pieces: Sequence[Piece]) -> Piece:
    if len(pieces) == 1:
        return pieces[0]
    low, work = sum(piece.low for piece in pieces), 1 + sum(piece.work for piece in pieces)
    carries = min((low - piece.low + piece.carries for piece in pieces), default=NEVER)
    high = sum(piece.high for piece in pieces)
    return _bounded(low, high, lambda draw, size: _spread(draw, size, pieces), carries, work)


def _bounded(low: int, high: int, write: Callable[[Draw, int], str], carries: int, work: int) -> Piece:
    if work > _MOST_WORK or low > LONGEST:
        raise re.error("too large")
    return Piece(low, min(high, LONGEST), write, carries, work)


def _spread(draw: Draw, size: int, pieces: Sequence[Piece]) -> str:
    """Each piece its least, and a share of the rest: the first that can carry the digest gets the room for it."""
    slack = max(0, size - sum(piece.low for piece in pieces))
    later = sum(piece.high - piece.low for piece in pieces)
    texts = []
    carried = not draw.digest
    for piece in pieces:
        own = piece.high - piece.low
        later -= own
        least, most = min(own, max(0, slack - later)), min(slack, own)
        share = least + draw.dice.below(most - least + 1)
        if not carried and piece.carries - piece.low <= most:
            share = max(share, piece.carries - piece.low)
            carried = True
        slack -= share
        texts.append(piece.write(draw, piece.low + share))
    return "".join(texts)


def _piece(op: str, value: Any) -> Piece:
    match op:
        case "LITERAL":
            return _character(chr(value))
        case "NOT_LITERAL":
            return _character(_others(lambda c: c == chr(value)))
        case "ANY":
            return _character(_PLAIN)
        case "IN":
            return _character(_class(value))
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            least, most, item = value
            return _repeat(least, min(most, least + LONGEST), _sequence(item))
        case "SUBPATTERN":
            return _group(value[0], _sequence(value[-1]))
        case "ATOMIC_GROUP":
            return _sequence(value)
        case "BRANCH":
            return _branch([_sequence(branch) for branch in value[1]])
        case "GROUPREF":
            return Piece(0, 0, lambda draw, size: draw.groups.get(value, ""))
        case "AT" | "ASSERT" | "ASSERT_NOT":
            return Piece(0, 0, lambda draw, size: "")
    raise re.error(f"{op.lower()} is not understood")


def _character(characters: str) -> Piece:
    if not characters:
        raise re.error("a class of no character")
    if len(characters) == 1:
        return Piece(1, 1, lambda draw, size: characters, characters=characters)
    return Piece(1, 1, lambda draw, size: characters[draw.dice.below(len(characters))], characters=characters)


def _others(excluded: Callable[[str], bool]) -> str:
    for alphabet in (_PLAIN, _PRINTABLE, _FOREIGN):
        if left := "".join(c for c in alphabet if not excluded(c)):
            return left
    return ""


def _class(items: Sequence[tuple[Any, Any]]) -> str:
    tests: list[Callable[[str], bool]] = []
    listed = ""
    for op, value in items:
        match str(op):
            case "LITERAL":
                tests.append(chr(value).__eq__)
                listed += chr(value)
            case "RANGE":
                first, last = value
                tests.append(lambda c, first=first, last=last: first <= ord(c) <= last)  # type: ignore[misc]
                codes = range(first, min(last, first + _RANGE) + 1)
                listed += "".join(chr(code) for code in codes if not 0xD800 <= code <= 0xDFFF)
            case "CATEGORY":
                tests.append(_CATEGORIES[str(value)])
                listed += "".join(filter(_CATEGORIES[str(value)], _PLAIN))
    if str(items[0][0]) == "NEGATE":
        return _others(lambda c: any(test(c) for test in tests))
    return "".join(dict.fromkeys(listed))


def _repeat(least: int, most: int, item: Piece) -> Piece:
    if item.characters:
        return _run(least, most, item.characters)
    carries = max(least - 1, 0) * item.low + item.carries

    def write(draw: Draw, size: int) -> str:
        fewest = max(least, -(-size // item.high) if item.high else 0)
        greatest = min(most, size // item.low if item.low else fewest + 1, fewest + _SPREAD)
        times = fewest + draw.dice.below(max(1, greatest - fewest + 1))
        return _spread(draw, size, [item] * min(times, most))

    work = 1 + max(least, 1) * (1 + item.work)
    return _bounded(least * item.low, most * item.high, write, carries if most else NEVER, work)


def _run(least: int, most: int, characters: str) -> Piece:
    room = max(least, 8) if set(characters) >= _HEX and most >= 8 else NEVER

    def write(draw: Draw, size: int) -> str:
        head = draw.digest if size >= room else ""
        return head + "".join(characters[draw.dice.below(len(characters))] for _ in range(size - len(head)))

    return _bounded(least, most, write, room, 1)


def _group(number: int | None, piece: Piece) -> Piece:
    if number is None:
        return piece

    def write(draw: Draw, size: int) -> str:
        draw.groups[number] = text = piece.write(draw, size)
        return text

    return Piece(piece.low, piece.high, write, piece.carries, piece.work)


def _branch(branches: Sequence[Piece]) -> Piece:
    def write(draw: Draw, size: int) -> str:
        fit = [branch for branch in branches if branch.low <= size <= branch.high] or branches
        if draw.digest:
            fit = [branch for branch in fit if branch.carries <= size] or fit
        branch = fit[draw.dice.below(len(fit))]
        return branch.write(draw, min(max(size, branch.low), branch.high))

    low, high = min(branch.low for branch in branches), max(branch.high for branch in branches)
    work = 1 + max(branch.work for branch in branches)
    return _bounded(low, high, write, min(branch.carries for branch in branches), work)
