"""Strings: of a length, of a format, of a pattern.

In: the schemas that a string has to follow, all of them. Out: a `Leaf`. A string that has room carries the digest.
"""

import string
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from gemini_batch.emulator.checks import Accepts, acceptance
from gemini_batch.emulator.dialects import SchemaError
from gemini_batch.emulator.dice import Dice
from gemini_batch.emulator.forms import Leaf, Sampler
from gemini_batch.emulator.patterns import LONGEST, Pattern

Write = Callable[[Dice], str]

VARIED = "x-varied"
"""Keyword of our own: strings of many kinds are wanted, as no two may be equal."""

_WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron")
_LETTERS = string.ascii_letters + string.digits
_EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
_ROOM = 64  # a string is not longer than its least by more
_EXAMPLES = 8
_SEARCHES = 128
_TRIES = 12


def text(schemas: Sequence[Mapping[str, Any]]) -> Leaf:
    """Raises SchemaError when no string is found."""
    least = max((schema.get("minLength", 0) for schema in schemas), default=0)
    most = min((schema["maxLength"] for schema in schemas if "maxLength" in schema), default=1 << 53)
    if least > most:
        raise SchemaError(f"no string of {least} to {most} characters")
    patterns = list(dict.fromkeys(schema["pattern"] for schema in schemas if "pattern" in schema))
    formats = [_FORMATS[schema["format"]] for schema in schemas if schema.get("format") in _FORMATS]
    if not patterns and not formats:
        sample = _plain(least, most, any(VARIED in schema for schema in schemas))
        return Leaf(sample, least + _ROOM, [""] if most == 0 else None)
    if not patterns and len(formats) == 1 and least <= formats[0].shortest and formats[0].longest <= most:
        write = formats[0].write
        return Leaf(lambda dice, depth: write(dice), formats[0].longest)
    written = [Pattern(pattern) for pattern in patterns]
    least = max([least, *(pattern.least for pattern in written)])
    if least > LONGEST:
        raise SchemaError(f"no string of {least} characters is looked for")
    writers = [_patterned(pattern, least, most, carry) for pattern in written for carry in (True, False)]
    writers += [form.write for form in formats] + [_fitted(form, least, most) for form in formats]
    searches = _SEARCHES * 100 // (100 + least) + 2 * len(writers)
    return Leaf(_searching(writers, _acceptance(schemas), searches), least + _ROOM)


def numeral(number: Leaf, schemas: Sequence[Mapping[str, Any]]) -> Leaf:
    """A number as a string, which is how Decimal is read."""
    writers = [lambda dice: str(number.sample(dice, 0)), lambda dice: str(int(number.sample(dice, 0)))]
    return Leaf(_searching(writers, _acceptance(schemas), _SEARCHES), number.characters)


def _acceptance(schemas: Sequence[Mapping[str, Any]]) -> Accepts:
    asked = ("type", "minLength", "maxLength", "pattern", "format")
    return acceptance({"allOf": [{name: one[name] for name in asked if name in one} for one in schemas]}, {})


def _plain(least: int, most: int, varied: bool) -> Sampler:
    if most == 0:
        return lambda dice, depth: ""
    if varied and most < 17:
        return lambda dice, depth: "".join(_LETTERS[dice.below(62)] for _ in range(max(least, min(most, 8))))
    if varied:
        return lambda dice, depth: f"{dice.digest}-{dice.below(1 << 31):08x}".ljust(least, "x")
    if least == 0 and most > 32:
        return lambda dice, depth: f"{_WORDS[dice.below(8)]}-{dice.digest}"
    return lambda dice, depth: f"{dice.digest}-{_WORDS[dice.below(8)]}".ljust(least, "x")[:most]


def _patterned(pattern: Pattern, least: int, most: int, carry: bool) -> Write:
    return lambda dice: pattern.write(dice, least, most, dice.digest if carry else "")


def _searching(writers: Sequence[Write], accepts: Accepts, searches: int) -> Sampler:
    """What a writer hits upon, in turn; else one of the strings found while compiling."""
    examples: list[str] = []
    for turn in range(searches):
        found = writers[turn % len(writers)](Dice(turn.to_bytes(16, "big")))
        if accepts(found) and found not in examples:
            examples.append(found)
        if len(examples) == _EXAMPLES:
            break
    if not examples:
        raise SchemaError("no string of this pattern, format and length found")

    def sample(dice: Dice, depth: int) -> Any:
        for turn in range(_TRIES):
            found = writers[turn % len(writers)](dice)
            if accepts(found):
                return found
        return examples[dice.below(len(examples))]

    return sample


@dataclass(frozen=True)
class Format:
    write: Write
    shortest: int
    longest: int
    frame: tuple[str, str] = ("", "")
    """What stands around the part that may be of any length."""


def _fitted(form: Format, least: int, most: int) -> Write:
    head, tail = form.frame

    def write(dice: Dice) -> str:
        size = min(max(least, len(head) + 8 + len(tail)), most) - len(head) - len(tail)
        return f"{head}{dice.digest.ljust(size, 'x')[: max(size, 0)]}{tail}"

    return write


def _moment(shape: str) -> Write:
    return lambda dice: (_EPOCH + timedelta(seconds=dice.below(50_000_000))).strftime(shape)


def _uuid(version: int) -> Write:
    def write(dice: Dice) -> str:
        digits = f"{dice.digest}{dice.below(1 << 31):08x}{dice.below(1 << 31):08x}{dice.below(1 << 31):08x}"
        return f"{digits[:8]}-{digits[8:12]}-{version}{digits[13:16]}-a{digits[17:20]}-{digits[20:32]}"

    return write


def _framed(head: str, tail: str, frame: tuple[str, str] = ("", "")) -> Format:
    size = len(head) + 8 + 3 + len(tail)
    return Format(lambda dice: f"{head}{dice.digest}{dice.below(1000):03}{tail}", size, size, frame)


def _base64(dice: Dice) -> str:
    return b64encode(f"{dice.digest}{dice.below(10_000):04}".encode()).decode()


def _ipv4(suffix: str = "", last: int = 256) -> Format:
    def write(dice: Dice) -> str:
        return f"10.{dice.below(256)}.{dice.below(256)}.{dice.below(last)}{suffix}"

    return Format(write, 8 + len(suffix), 15 + len(suffix))


def _ipv6(suffix: str = "") -> Format:
    def write(dice: Dice) -> str:
        return f"2001:db8:{dice.digest[:4]}:{dice.digest[4:]}:{dice.below(65_536):x}::{suffix}"

    return Format(write, 22 + len(suffix), 25 + len(suffix))


_DATE = "%Y-%m-%d"
_URI = _framed("https://example.com/", "", ("https://b.io/", ""))
_EMAIL = _framed("", "@example.com", ("", "@b.io"))
_HOST = _framed("h", ".example.com", ("", ".io"))
_BYTES = Format(_base64, 16, 16)

# Those of JSON Schema 2020-12 and of OpenAPI, and what pydantic 2 adds; any other says nothing.
_FORMATS: Mapping[str, Format] = {
    "date": Format(_moment(_DATE), 10, 10),
    "date-time": Format(_moment(f"{_DATE}T%H:%M:%SZ"), 20, 20),
    "time": Format(_moment("%H:%M:%SZ"), 9, 9),
    "duration": Format(lambda dice: f"PT{1000 + dice.below(3600)}S", 7, 7),
    "uuid": Format(_uuid(4), 36, 36),
    **{f"uuid{version}": Format(_uuid(version), 36, 36) for version in range(1, 9)},
    **dict.fromkeys(("email", "idn-email"), _EMAIL),
    "name-email": _framed("Ann <", "@example.com>"),
    **dict.fromkeys(("uri", "iri", "uri-reference", "iri-reference", "uri-template", "multi-host-uri"), _URI),
    **dict.fromkeys(("hostname", "idn-hostname"), _HOST),
    "ipv4": _ipv4(),
    "ipvanyaddress": _ipv4(),
    **dict.fromkeys(("ipv4interface", "ipvanyinterface"), _ipv4("/24")),
    **dict.fromkeys(("ipv4network", "ipvanynetwork"), _ipv4("/24", 1)),
    "ipv6": _ipv6(),
    "ipv6interface": _ipv6("/80"),
    "ipv6network": _ipv6("/80"),
    **dict.fromkeys(("byte", "base64", "base64url"), _BYTES),
    "json-pointer": _framed("/", ""),
    "relative-json-pointer": _framed("0/", ""),
    "regex": _framed("", ""),
}
