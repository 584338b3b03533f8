"""Which schemas a worker imports: what it was started for, and what brings no code."""

import json
from datetime import date
from decimal import Decimal
from uuid import UUID

import pytest
from made import make_asked, make_run
from schemas import Number

from gemini_batch.access import PLAIN_TYPES, refuse_schema
from gemini_batch.errors import BadInput
from gemini_batch.schema.load import import_type, load_schema


def run_of(schema, by=None):
    return make_run(asked=make_asked(response_schema=load_schema(schema, by)))


@pytest.mark.parametrize("allowed", [(), ("others.*",), ("schema.*", "schemas"), ("schemas.Numb",), ("SCHEMAS.*",)])
def test_a_model_is_not_imported_unless_it_was_allowed(allowed):
    with pytest.raises(BadInput, match=r"--allow-schema 'schemas\.Number'"):
        refuse_schema(run_of("schemas:Number"), allowed)


@pytest.mark.parametrize("allowed", [("schemas.*",), ("others.*", "schemas.Number"), ("*",), None])
def test_a_model_that_was_allowed_is_imported(allowed):
    refuse_schema(run_of("schemas:Number"), allowed)


@pytest.mark.parametrize("schema", [None, list[Number], int | str])
def test_what_is_checked_by_json_schema_imports_nothing(schema):
    refuse_schema(run_of(schema), ())
    refuse_schema(run_of("schemas:Number", "json-schema"), ())


@pytest.mark.parametrize("schema", [bool, dict, float, int, list, str, date, Decimal, UUID])
def test_plain_types_need_no_leave(schema):
    """`schema=int` with a fleet: nothing of anybody's would be imported."""
    run = run_of(schema)
    assert run.asked.response_schema.validate_by == "model"
    refuse_schema(run, ())


def test_plain_types_are_types_alone():
    """A function would be called with what the model said."""
    assert all(isinstance(import_type(ref), type) for ref in PLAIN_TYPES)


def test_a_run_that_names_a_builtin_function_is_refused():
    run = run_of("builtins:int")
    spec = run.asked.response_schema.model_copy(update={"ref": "builtins:eval"})
    with pytest.raises(BadInput, match="allow-schema"):
        refuse_schema(make_run(asked=make_asked(response_schema=spec)), ("schemas.*",))


def test_what_is_written_down_of_a_model_is_names_and_schemas():
    """Nothing in it can be run: every leaf is JSON, and of the module only its name is there."""
    written = load_schema("schemas:Picky").model_dump_json()
    assert "alpha" not in written
    assert "KeyError" not in written
    assert json.loads(written)["ref"] == "schemas:Picky"
