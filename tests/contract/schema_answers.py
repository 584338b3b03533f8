"""Answers to a schema, and two libraries' opinion of them."""

import contextlib
from typing import Any

import jsonschema
import jsonschema_rs
import orjson

from gemini_batch.emulator.dice import Dice, fingerprint
from gemini_batch.emulator.sampler import compile_schema

TEXT = {"type": "string"}
WHOLE = {"type": "integer"}
NULL = {"type": "null"}
FORMATS = jsonschema.Draft202012Validator.FORMAT_CHECKER


def dice(n: int) -> Dice:
    return Dice(fingerprint(0, b"%d" % n))


def answers(schema: Any, n: int = 60) -> list[Any]:
    """As a client reads them: through JSON."""
    sample = compile_schema(orjson.dumps(schema))
    return [orjson.loads(orjson.dumps(sample(dice(i), 0))) for i in range(n)]


def check(schema: Any, found: list[Any]) -> None:
    """Two libraries, so that no single reading of the standard is followed."""
    one = jsonschema_rs.validator_for(schema, validate_formats=True)
    other = jsonschema.Draft202012Validator(schema, format_checker=FORMATS)
    for value in found:
        one.validate(value)
        with contextlib.suppress(RecursionError):  # of a schema that asks itself about the same value
            other.validate(value)


def closed(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    names = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


def to(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}
