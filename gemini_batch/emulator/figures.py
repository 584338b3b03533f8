"""Numbers within bounds.

In: the schemas that a number has to follow, all of them. Out: a `Leaf`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from functools import reduce
from typing import Any

from gemini_batch.emulator.dialects import SchemaError
from gemini_batch.emulator.dice import Dice
from gemini_batch.emulator.forms import Leaf

Schemas = Sequence[Mapping[str, Any]]

_WRITTEN = (-(1 << 63), (1 << 64) - 1)  # orjson writes no other integers
_INTEGER_FORMATS = {"int32": (-(1 << 31), (1 << 31) - 1), "int64": (-(1 << 63), (1 << 63) - 1)}
_USUAL = 1000  # values of a range that is open on one side
_FEW = 1000
_SHARES = 1_000_000
_HUGE = 10**300
_CHARACTERS = 24


def integer(schemas: Schemas) -> Leaf:
    """Raises SchemaError when the bounds leave nothing."""
    step = int(reduce(_common_multiple, [Fraction(1), *_factors(schemas)]))
    formats = [_WRITTEN, *(_INTEGER_FORMATS.get(name, _WRITTEN) for name in _all(schemas, "format"))]
    lows = [math.ceil(one) for one in _all(schemas, "minimum")]
    lows += [math.floor(one) + 1 for one in _all(schemas, "exclusiveMinimum")]
    highs = [math.floor(one) for one in _all(schemas, "maximum")]
    highs += [math.ceil(one) - 1 for one in _all(schemas, "exclusiveMaximum")]
    low, high = _range(lows, highs, _USUAL * step)
    low = max(low, *(bounds[0] for bounds in formats))
    high = min(high, *(bounds[1] for bounds in formats))
    first, last = -(-low // step), high // step
    if first > last:
        raise SchemaError(f"no integer between {low} and {high}")
    choices = min(last - first + 1, 1 << 31)
    few = [number * step for number in range(first, last + 1)] if choices <= _FEW else None
    if step == 1:
        return Leaf(lambda dice, depth: first + dice.below(choices), _CHARACTERS, few)
    return Leaf(lambda dice, depth: (first + dice.below(choices)) * step, _CHARACTERS, few)


def number(schemas: Schemas, places: int = 3) -> Leaf:
    """Of at most `places` decimals where that fits. Raises SchemaError when the bounds leave nothing."""
    lows = [_at_least(one) for one in _all(schemas, "minimum")]
    lows += [math.nextafter(float(one), math.inf) for one in _all(schemas, "exclusiveMinimum")]
    highs = [-_at_least(-one) for one in _all(schemas, "maximum")]
    highs += [math.nextafter(float(one), -math.inf) for one in _all(schemas, "exclusiveMaximum")]
    step = reduce(_common_multiple, _factors(schemas), None)
    low, high = _range(lows, highs, float(max(_USUAL, min(_USUAL * (step or 0), _HUGE))))
    if low > high:
        raise SchemaError(f"no number between {low} and {high}")
    if step:
        return _multiples(step, low, high, [float(one) for one in _all(schemas, "multipleOf")])

    def sample(dice: Dice, depth: int) -> Any:
        share = (1 + dice.below(_SHARES - 2)) / _SHARES
        value = low * (1 - share) + high * share  # not `high - low`, which may be infinite
        short = round(value, places)
        return short if low <= short <= high else min(max(value, low), high)

    return Leaf(sample, _CHARACTERS, [low] if low == high else None)


def _multiples(step: Fraction, low: float, high: float, factors: Sequence[float]) -> Leaf:
    """Out of a list: only some multiples of 0.01, say, are multiples by a float's arithmetic too."""
    first, last = math.ceil(Fraction(low) / step), math.floor(Fraction(high) / step)
    stride = max(1, (last - first + 1) // _FEW)
    made = [float(step * turn) for turn in range(first, last + 1, stride)]
    exact = [one for one in made if low <= one <= high and all((one / factor).is_integer() for factor in factors)]
    if not exact:
        raise SchemaError(f"no multiple of {float(step)} between {low} and {high}")
    return Leaf(lambda dice, depth: exact[dice.below(len(exact))], _CHARACTERS, exact)


def _all(schemas: Schemas, name: str) -> list[Any]:
    return [schema[name] for schema in schemas if name in schema]


def _factors(schemas: Schemas) -> Iterable[Fraction]:
    return [Fraction(str(factor)) for factor in _all(schemas, "multipleOf")]  # by its decimals: 0.01 is 1/100


def _common_multiple(a: Fraction | None, b: Fraction) -> Fraction:
    if a is None:
        return b
    if a > _HUGE:
        raise SchemaError("no common multiple")
    return Fraction(math.lcm(a.numerator, b.numerator), math.gcd(a.denominator, b.denominator))


def _range(lows: Sequence[Any], highs: Sequence[Any], usual: Any) -> tuple[Any, Any]:
    low, high = max(lows, default=None), min(highs, default=None)
    if low is None:
        low = 0 if high is None or high >= 0 else high - usual
    return low, low + usual if high is None else high


def _at_least(bound: float) -> float:
    """The least float that is not below the bound, which may be an integer of 64 bits."""
    nearest = float(bound)
    return nearest if nearest >= bound else math.nextafter(nearest, math.inf)
