"""Models that tests name as `schemas:Name`, as a user would name theirs."""

from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field, field_validator


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Inner(BaseModel):
    name: str
    count: int | None = None


class Everything(BaseModel):
    text: str
    colour: Colour
    word: Literal["a", "b"]
    uid: UUID
    price: Decimal
    whole: int
    real: float
    flag: bool
    day: date
    moment: datetime
    words: list[str]
    days: list[date]
    inner: Inner
    inners: list[Inner]
    maybe: int | None
    maybe_inner: Inner | None
    maybe_day: date | None
    table: dict[str, int]
    either: int | str
    anything: Any


class Tree(BaseModel):
    value: int
    children: list["Tree"] = []


class Number(BaseModel):
    number: int


class Bounded(BaseModel):
    """What JSON Schema can say and the service's subset cannot."""

    kind: Literal["fixed"] = "fixed"
    positive: int = Field(gt=0, description="above zero")
    ratio: float | None = Field(None, ge=0, le=1)
    pair: tuple[int, str]


class Picky(BaseModel):
    word: str

    @field_validator("word")
    @classmethod
    def known(cls, value: str) -> str:
        return {"a": "alpha", "b": "beta"}[value]  # a KeyError, as such validators often raise


class Renamed(BaseModel):
    number: int = Field(validation_alias="zahl")


class Aliased(BaseModel):
    number: int = Field(alias="zahl")


Numbers = list[Number]
text = "not a type"
