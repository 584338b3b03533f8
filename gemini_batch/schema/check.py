"""Whether an answer's text is what was asked for.

In: the text of one answer. Out: the JSON value that goes into `result`, or `Invalid` with the first reason. A text that
is not JSON may hold it, in a fence or in prose: then the one value in it that fits counts.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jsonschema_rs
import orjson
from pydantic import PydanticUserError, TypeAdapter, ValidationError

from gemini_batch.clock import new_nonce
from gemini_batch.errors import BadInput
from gemini_batch.records import SchemaSpec
from gemini_batch.schema.load import import_type, json_schema_of
from gemini_batch.schema.recover import the_only
from gemini_batch.schema.shape import shape_of

Check = Callable[[str], Any]

MESSAGE_CHARACTERS = 300


class Invalid(Exception):
    """The text does not fit the schema."""


def checker(spec: SchemaSpec | None) -> Check:
    """A function from text to a value of the result column, which raises `Invalid`.

    Raises:
        BadInput: as `Reader`.
    """
    if spec is None:
        return lambda text: text
    reader = Reader(spec)
    read, convert = reader.read, reader.convert
    return read if convert is None else (lambda text: convert(read(text)))


class Reader:
    """Reads the answers of a run in two steps: text to JSON value, which answers can be compared by, and JSON value to
    column value. Compiled once, for any number of answers.

    Raises:
        BadInput: the model of the spec cannot be imported, or is no longer the one the run began with.
    """

    def __init__(self, spec: SchemaSpec) -> None:
        by_model = spec.validate_by == "model" and spec.ref
        self._is_valid = None if by_model else _validator(spec).is_valid
        self.read: Check = _by_model(spec, spec.ref) if spec.ref and by_model else _by_schema(_validator(spec))
        """The first step, of one text; raises `Invalid`."""
        self._mark = f'"{new_nonce()}"'
        convert = shape_of(spec.shape_schema).convert
        self.convert: Callable[[Any], Any] | None = None if convert is None else _or_invalid(convert)
        """The second step; raises `Invalid`. None where one value serves as the other."""

    def read_all(self, texts: Sequence[str | None]) -> tuple[list[Any], dict[int, str]]:
        """The JSON value of each text, None for none, and by its place why one does not fit."""
        if self._is_valid is not None and (values := self._all_valid(texts, self._is_valid)) is not None:
            return values, {}
        found, reasons = list[Any](), dict[int, str]()
        for at, text in enumerate(texts):
            value = None
            if text is not None:
                try:
                    value = self.read(text)
                except Invalid as error:
                    reasons[at] = str(error)
            found.append(value)
        return found, reasons

    def _all_valid(self, texts: Sequence[str | None], is_valid: Callable[[Any], bool]) -> list[Any] | None:
        """All values, read as one list, where every text is one that fits.

        Between any two stands a mark that no text can know: where each mark is an item of the list, in its place, each
        text was one item.
        """
        whole = f",{self._mark},".join(["null" if text is None else text for text in texts])
        try:
            read = orjson.loads(f"[{whole}]")
        except orjson.JSONDecodeError:
            return None
        values, marks = read[::2], read[1::2]
        if len(values) != len(texts) or marks.count(self._mark[1:-1]) != len(texts) - 1:
            return None
        try:
            fit = all(map(is_valid, values)) or all(
                text is None or is_valid(value) for text, value in zip(texts, values, strict=True)
            )
        except ValueError:  # nested too deeply
            return None
        return values if fit else None


def _or_invalid(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def converted(value: Any) -> Any:
        try:
            return None if value is None else convert(value)
        except (ValueError, TypeError, AttributeError, KeyError, OverflowError) as error:
            raise Invalid(str(error)[:MESSAGE_CHARACTERS]) from None

    return converted


def _validator(spec: SchemaSpec) -> Any:
    return jsonschema_rs.validator_for(spec.json_schema, validate_formats=True)


def _by_schema(validator: Any) -> Check:
    def check(text: str) -> Any:
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            for found in the_only(text, check, Invalid):
                return found
            raise Invalid(f"not JSON: {error}") from None
        try:
            if validator.is_valid(value):
                return value
            reason = _first_error(validator, value)
        except ValueError as error:  # nested too deeply
            reason = str(error)
        raise Invalid(reason)

    return check


def _first_error(validator: Any, value: Any) -> str:
    error = next(iter(validator.iter_errors(value)))
    path = "/".join(str(step) for step in error.instance_path)
    return f"{path or 'the value'}: {error.message}"[:MESSAGE_CHARACTERS]


def _by_model(spec: SchemaSpec, ref: str) -> Check:
    adapter: TypeAdapter[Any] = TypeAdapter(import_type(ref))
    if json_schema_of(adapter, "validation") != spec.json_schema:
        raise BadInput(f"--schema {ref} has changed since the run began; restore it, or submit anew with --fresh")

    def check(text: str) -> Any:
        try:
            return adapter.dump_python(adapter.validate_json(text), mode="json", by_alias=True, warnings=False)
        except ValidationError as error:
            if _is_no_json(error):
                for found in the_only(text, check, Invalid):
                    return found
            raise _told(error) from None
        except Exception as error:  # a validator of the user's may raise anything; it is that row's trouble alone
            raise _told(error) from None

    return check


def _told(error: Exception) -> Invalid:
    """What of an error is worth telling."""
    if not isinstance(error, ValidationError):
        return Invalid(f"{type(error).__name__}: {error}"[:MESSAGE_CHARACTERS])
    first = error.errors(include_url=False, include_input=False)[0]
    path = "/".join(str(step) for step in first["loc"])
    return Invalid(f"{path or 'the value'}: {first['msg']}"[:MESSAGE_CHARACTERS])


def instance_checker(kind: Any) -> Check:
    """A function from text to an instance of a type; what `checker` makes of the same text is its dump. It raises
    `Invalid`.

    Args:
        kind: anything TypeAdapter takes.

    Raises:
        BadInput: it takes no such thing.
    """
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
    except (PydanticUserError, NameError, TypeError, ValueError) as error:
        raise BadInput(f"schema {kind!r}: not a type that pydantic can read: {error}") from None
    validate = adapter.validator.validate_json  # without the adapter's own wrapper, which takes a third of the time

    def check(text: str) -> Any:
        try:
            return validate(text)
        except Exception:
            try:
                return instance_of(adapter, text)
            except Exception as error:  # a validator of the user's may raise anything
                raise _told(error) from None

    return check


def instance_of(adapter: TypeAdapter[Any], text: str) -> Any:
    """The instance that an answer's text is, or holds; what `checker` makes of the same text is its dump.

    Raises:
        ValidationError: none. A validator of the type may raise anything else.
    """
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        if _is_no_json(error):
            for found in the_only(text, adapter.validate_json, Exception):
                return found
        raise


def _is_no_json(error: ValidationError) -> bool:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return first["type"] == "json_invalid" and not first["loc"]
