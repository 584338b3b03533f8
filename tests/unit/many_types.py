"""Types that a user may name as a schema, each with the column that the contract gives it."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, NamedTuple, NotRequired
from uuid import UUID

import pyarrow as pa
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, HttpUrl, RootModel, model_validator
from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    MIDDLE = 5
    HIGH = 6


class Line(BaseModel):
    what: str
    price: float
    due: date | None


class Invoice(BaseModel):
    """Nested, with a list of models and an optional one."""

    title: str = Field(description="as printed")
    lines: list[Line]
    first: Line
    maybe: Line | None = None
    colours: list[Colour] = []


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["dog"]
    name: str


class Tree(BaseModel):
    value: int
    children: "list[Tree]"


class Chain(BaseModel):
    value: int
    next: "Chain | None"


class Point(TypedDict):
    x: int
    y: NotRequired[float]


@dataclass
class Place:
    name: str
    height: int | None = None


class Pair(NamedTuple):
    a: int
    b: int


class Days(RootModel[list[date]]):
    pass


class Priced(BaseModel):
    price: Decimal = Field(max_digits=8, decimal_places=2)


class Aliased(BaseModel):
    number: int = Field(alias="aNumber", ge=0, le=9)


class Span(BaseModel):
    """Only the model itself knows that one bound is below the other; it puts them so."""

    low: int
    high: int

    @model_validator(mode="after")
    def ordered(self) -> "Span":
        if self.low > self.high:
            self.low, self.high = self.high, self.low
        return self


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]

TEXT, WHOLE, REAL, MOMENT = pa.string(), pa.int64(), pa.float64(), pa.timestamp("us", "UTC")
LINE = pa.struct([("what", TEXT), ("price", REAL), ("due", pa.date32())])
PLACE = pa.struct([("name", TEXT), ("height", WHOLE)])
INVOICE = pa.struct(
    [("title", TEXT), ("lines", pa.list_(LINE)), ("first", LINE), ("maybe", LINE), ("colours", pa.list_(TEXT))]
)

TYPES: dict[str, tuple[Any, pa.DataType]] = {
    "str": (str, TEXT),
    "int": (int, WHOLE),
    "float": (float, REAL),
    "bool": (bool, pa.bool_()),
    "date": (date, pa.date32()),
    "datetime": (datetime, MOMENT),
    "aware datetime": (AwareDatetime, MOMENT),
    "time": (time, TEXT),
    "timedelta": (timedelta, TEXT),
    "UUID": (UUID, TEXT),
    "Decimal in a model": (Priced, pa.struct([("price", TEXT)])),
    "URL": (HttpUrl, TEXT),
    "pattern": (Annotated[str, Field(pattern="^[A-Z]{3}-[0-9]+$")], TEXT),
    "bounds": (Annotated[int, Field(gt=3, lt=9)], WHOLE),
    "enum of str": (Colour, TEXT),
    "enum of int": (Level, WHOLE),
    "literals": (Literal["a", "b"], TEXT),
    "literal numbers": (Literal[1, 2, 7], WHOLE),
    "literal or null": (Literal["a", None], TEXT),
    "literals of two types": (Literal["a", 1], TEXT),
    "optional": (int | None, WHOLE),
    "optional date": (date | None, pa.date32()),
    "list": (list[str], pa.list_(TEXT)),
    "list of dates": (list[date], pa.list_(pa.date32())),
    "list of lists": (list[list[int]], pa.list_(pa.list_(WHOLE))),
    "list of optionals": (list[int | None], pa.list_(WHOLE)),
    "list of models": (list[Line], pa.list_(LINE)),
    "list of anything": (list[Any], pa.list_(TEXT)),
    "set": (set[int], pa.list_(WHOLE)),
    "tuple of any length": (tuple[int, ...], pa.list_(WHOLE)),
    "tuple": (tuple[int, int], TEXT),
    "named tuple": (Pair, TEXT),
    "any": (Any, TEXT),
    "union": (int | str, TEXT),
    "union of models": (Cat | Dog, TEXT),
    "union by a tag": (Pet, TEXT),
    "list of unions by a tag": (list[Pet], pa.list_(TEXT)),
    "recursive": (Tree, pa.struct([("value", WHOLE), ("children", pa.list_(TEXT))])),
    "recursive and optional": (Chain, pa.struct([("value", WHOLE), ("next", TEXT)])),
    "nested": (Invoice, INVOICE),
    "typed dict": (Point, pa.struct([("x", WHOLE), ("y", REAL)])),
    "dataclass": (Place, PLACE),
    "list of dataclasses": (list[Place], pa.list_(PLACE)),
    "root model": (Days, pa.list_(pa.date32())),
    "alias": (Aliased, pa.struct([("aNumber", WHOLE)])),
    "model with a validator": (Span, pa.struct([("low", WHOLE), ("high", WHOLE)])),
    "Decimal": (Decimal, TEXT),
}

BEYOND_THE_SUBSET: dict[str, tuple[Any, pa.DataType]] = {
    "dict": (dict[str, int], TEXT),
    "dict of models": (dict[str, Line], TEXT),
    "tuple of two types": (tuple[int, str], TEXT),
    "literal true": (Literal[True], pa.bool_()),
    "multiples": (Annotated[int, Field(multiple_of=7)], WHOLE),
}
"""What `responseSchema` cannot say whole."""
