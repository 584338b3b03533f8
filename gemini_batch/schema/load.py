"""Where a schema comes from: `module:Name`, a JSON Schema file, or a type handed over by a program.

Out: a `SchemaSpec`, which is data. Importing happens only here and only for whoever named the module.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any, Literal

import jsonschema_rs
from pydantic import PydanticUserError, TypeAdapter

from gemini_batch.errors import BadInput
from gemini_batch.inputs import read_json_object
from gemini_batch.records import SchemaSpec
from gemini_batch.schema.openapi import response_schema
from gemini_batch.schema.shape import shape_of

IMPORTED_BY_NOBODY = {"__main__", "__mp_main__"}


def load_schema(
    source: str | type[Any] | Any | None, validate_by: Literal["model", "json-schema"] | None = None
) -> SchemaSpec | None:
    """The spec of what was named; None stays None.

    Args:
        source: `module:Name`, the path of a `.json` file, or anything that pydantic's TypeAdapter takes.
        validate_by: how answers are checked; by default the model, where another process can import it.

    Raises:
        BadInput: it cannot be found, is no schema, or has no form the service understands.
    """
    spec = None if source is None else _spec(source)
    if spec is None or validate_by in (None, spec.validate_by):
        return spec
    if validate_by == "model":
        raise BadInput("--validate model: the schema is none that a worker could import; give it as module:Name")
    return spec.model_copy(update={"validate_by": validate_by, "result_schema": None})


def _spec(source: str | type[Any] | Any) -> SchemaSpec:
    if not isinstance(source, str):
        return _of_type(source, _importable_name(source), str(getattr(source, "__name__", source)))
    if source.endswith(".json") or ":" not in source:
        return _of_file(Path(source))
    return _of_type(import_type(source), source, source)


def import_type(ref: str) -> Any:
    """The object that `module:Name` means. The current directory is importable, last in the path.

    Raises:
        BadInput: no such module or name.
    """
    module_name, _, name = ref.partition(":")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise BadInput(
            f"--schema {ref}: cannot import {module_name!r}: {error}. Run it where the module lies."
        ) from None
    except (Exception, SystemExit) as error:
        raise BadInput(f"--schema {ref}: importing {module_name!r} failed: {type(error).__name__}: {error}") from None
    for step in name.split("."):
        try:
            found = getattr(found, step)
        except AttributeError:
            raise BadInput(f"--schema {ref}: module {module_name!r} has no {name!r}") from None
    return found


def _of_type(kind: Any, ref: str | None, shown: str) -> SchemaSpec:
    try:
        adapter = TypeAdapter(kind)
        schema = json_schema_of(adapter, "validation")
        result_schema = json_schema_of(adapter, "serialization") if ref else None
    except (PydanticUserError, SyntaxError, NameError, TypeError, ValueError) as error:
        raise BadInput(f"schema {shown}: not a type that pydantic can describe: {error}") from None
    by = "model" if ref else "json-schema"
    return _checked(SchemaSpec(ref=ref, json_schema=schema, result_schema=result_schema, validate_by=by), shown)


def json_schema_of(adapter: TypeAdapter[Any], mode: Literal["validation", "serialization"]) -> dict[str, Any]:
    """The schema as it reads once it has been written down.

    Raises:
        ValueError: it holds a value that JSON has no form for, such as an infinite default.
    """
    schema: dict[str, Any] = json.loads(json.dumps(adapter.json_schema(mode=mode), allow_nan=False))
    return schema


def _of_file(path: Path) -> SchemaSpec:
    schema = read_json_object("--schema", path)
    return _checked(SchemaSpec(ref=None, json_schema=schema, validate_by="json-schema"), str(path))


def _checked(spec: SchemaSpec, shown: str) -> SchemaSpec:
    """Everything that will be built from the schema later, built once now."""
    try:
        jsonschema_rs.validator_for(spec.json_schema)
        shape_of(spec.shape_schema)
        response_schema(spec.json_schema)
    except (ValueError, KeyError, TypeError, AttributeError, jsonschema_rs.ReferencingError) as error:
        raise BadInput(f"schema {shown} is not a usable JSON Schema: {type(error).__name__}: {error}") from None
    return spec


def _importable_name(kind: Any) -> str | None:
    """`module:Name` if another process can import the same object by it."""
    module, name = getattr(kind, "__module__", None), getattr(kind, "__qualname__", None)
    if not module or not name or module in IMPORTED_BY_NOBODY or "<locals>" in name or "[" in name:
        return None
    try:
        return f"{module}:{name}" if import_type(f"{module}:{name}") is kind else None
    except BadInput:
        return None
