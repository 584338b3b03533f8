"""Answers to the schemas that pydantic writes are what pydantic reads."""

import dataclasses
import datetime
import enum
import re
import uuid
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, Optional

import orjson
import pydantic
import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from schema_answers import answers, check
from typing_extensions import TypedDict


class Mood(enum.Enum):
    glad = "glad"
    level = 3


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int
    b: str = "x"


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: Annotated[int, Field(ge=1, le=9)]


class Dog(BaseModel):
    kind: Literal["dog"]
    owner: Optional["Person"] = None


class Person(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=30)]
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]]
    best: Cat | None = None
    by_mood: dict[Mood, list["Person"]] = {}


class Sum(BaseModel):
    op: Literal["sum"] = "sum"
    left: "Expression"
    right: "Expression"


class Number(BaseModel):
    op: Literal["number"] = "number"
    value: float


Expression = Annotated[Sum | Number, Field(discriminator="op")]
Sum.model_rebuild()
Dog.model_rebuild()


class Ping(BaseModel):
    pong: Optional["Pong"]


class Pong(BaseModel):
    pings: set[str] | list[Ping]


class Aliased(BaseModel):
    inner: list[Closed] = Field(alias="innerList", min_length=1)


class Pair(NamedTuple):
    x: int
    y: str


class Options(TypedDict, total=False):
    depth: int
    name: str | None


@dataclasses.dataclass
class Point:
    x: float
    tags: set[str] = dataclasses.field(default_factory=set)


OneToFive = Annotated[int, Field(ge=1, le=5)]
TYPES: dict[str, Any] = {
    "model": Person,
    "models": list[Person],
    "recursive": Expression,
    "mutually recursive": Ping,
    "union without a tag": list[Cat | Dog],
    "closed": dict[str, Closed],
    "aliased": Aliased,
    "named tuple": Pair,
    "typed dict": Options,
    "dataclass": list[Point],
    "optional": int | None,
    "union": int | str | list[Closed] | None,
    "literal": Literal["a", 2, True, None],
    "enum": list[Mood],
    "tuple": tuple[int, str, Mood],
    "tuple of any length": tuple[datetime.date, ...],
    "set of an enum": set[Mood],
    "set of literals": Annotated[frozenset[Literal[1, "x", "y"]], Field(min_length=3)],
    "set of strings": Annotated[set[str], Field(min_length=12)],
    "set of integers": Annotated[set[OneToFive], Field(min_length=5)],
    "set of booleans": Annotated[set[bool], Field(min_length=2)],
    "keys of integers": Annotated[dict[int, bool], Field(min_length=2)],
    "keys of an enum": dict[Mood, int],
    "keys of dates": Annotated[dict[datetime.date, int], Field(min_length=3)],
    "keys of a pattern": Annotated[dict[Annotated[str, Field(pattern="^[a-z]+$")], int], Field(min_length=2)],
    "any": dict[str, Any],
    "date": datetime.date,
    "time": datetime.time,
    "datetime": pydantic.AwareDatetime,
    "duration": datetime.timedelta,
    "past": pydantic.PastDate,
    "uuid": uuid.UUID,
    "uuid4": pydantic.UUID4,
    "uuid5": pydantic.UUID5,
    "url": pydantic.AnyUrl,
    "http": pydantic.HttpUrl,
    "address": pydantic.IPvAnyAddress,
    "network": pydantic.IPvAnyNetwork,
    "bytes": bytes,
    "base64": pydantic.Base64Bytes,
    "secret": pydantic.SecretStr,
    "email": Annotated[str, Field(json_schema_extra={"format": "email"})],
    "decimal": Decimal,
    "money": Annotated[Decimal, Field(max_digits=7, decimal_places=2)],
    "bounded decimal": Annotated[Decimal, Field(gt=0, le=1)] | None,
    "keyed decimal": dict[Decimal, Decimal],
    "cents": Annotated[float, Field(multiple_of=0.01, gt=0, lt=1)],
    "dozens": Annotated[int, Field(multiple_of=12, ge=100, lt=200)],
    "negative": pydantic.NegativeInt,
    "positive": pydantic.PositiveFloat,
    "code": pydantic.constr(pattern=r"^[A-Z]{2}-\d{4}$"),
    "word": pydantic.constr(pattern=r"^\w+$", min_length=20, max_length=24),
    "short": pydantic.constr(strip_whitespace=True, to_lower=True, min_length=3, max_length=5),
    "few": Annotated[list[int], Field(min_length=3, max_length=4)],
    "nested": dict[str, list[tuple[int, Cat | None]]],
    "boolean": bool,
    "null": None,
}


@pytest.mark.parametrize("name", TYPES)
def test_pydantic_takes_the_answers_to_its_own_schemas(name):
    """Strictly, as nothing that a schema says may be left to lenient parsing."""
    adapter: TypeAdapter[Any] = TypeAdapter(TYPES[name])
    found = answers(adapter.json_schema(), 100)
    check(adapter.json_schema(), found)
    for value in found:
        adapter.validate_json(orjson.dumps(value), strict=True)


@pytest.mark.parametrize(
    "pattern",
    [
        r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$",
        r"^(?!^[-+.]*$)[+-]?0*(?:\d{0,3}|(?=[\d.]{1,6}0*$)\d{0,3}\.\d{0,2}0*)$",
    ],
)
def test_a_decimal_spelled_with_a_pattern_is_a_numeral_within_its_bounds(pattern):
    """Versions of pydantic differ in the pattern, and all put the bounds on the number alone."""
    found = answers({"anyOf": [{"type": "number", "maximum": 500}, {"type": "string", "pattern": pattern}]})
    assert {type(value) for value in found} == {float, str}
    for value in found:
        assert 0 <= Decimal(value) <= 500
        assert re.search(pattern, str(value))
