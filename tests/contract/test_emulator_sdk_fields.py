"""Whatever the SDK can say to the Developer API is taken: a field that the emulator did not know would be refused."""

import enum
import typing
from typing import Any

import pytest
from google.genai import types
from pydantic import BaseModel
from sdk_calls import MODEL

PLAIN: dict[Any, Any] = {str: "x", bool: True, int: 1, float: 0.5, bytes: b"x"}
NOT_SENT = {"http_options", "should_return_http_response", "automatic_function_calling"}
OF_CACHES_AND_ENUMS = {"cached_content": "cachedContents/x", "response_mime_type": "application/json"}


def valued(kind: type[BaseModel]) -> dict[str, Any]:
    """The fields of an SDK type that a plain value can be made for."""
    found = {name: value_of(field.annotation) for name, field in kind.model_fields.items() if name not in NOT_SENT}
    return {name: value for name, value in found.items() if value is not None} | {
        name: value for name, value in OF_CACHES_AND_ENUMS.items() if name in found
    }


def value_of(annotation: Any) -> Any:
    if typing.get_origin(annotation) is typing.Union:
        some = [one for one in typing.get_args(annotation) if one is not type(None)]
        return value_of(some[0]) if len(some) == 1 else None
    if typing.get_origin(annotation) in (list, dict):
        return typing.get_origin(annotation)()
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return list(annotation)[-1]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation()
    return PLAIN.get(annotation)


CONFIG, PART = valued(types.GenerateContentConfig), valued(types.Part)


def test_most_fields_have_a_value():
    assert len(CONFIG) > 25 and len(PART) > 10


@pytest.mark.parametrize("name", CONFIG)
def test_a_config_with_any_field_is_answered(client, name):
    config = {name: CONFIG[name]}
    try:
        answer = client.models.generate_content(model=MODEL, contents="x", config=config)
    except ValueError as refused:  # by the SDK itself
        assert "Gemini Developer API" in str(refused)
    else:
        assert answer.candidates


@pytest.mark.parametrize("name", PART)
def test_a_content_with_any_part_is_answered(client, name):
    parts = [types.Part(text="x"), types.Part(**{name: PART[name]})]
    try:
        answer = client.models.generate_content(model=MODEL, contents=[types.Content(role="user", parts=parts)])
    except ValueError as refused:
        assert "Gemini Developer API" in str(refused)
    else:
        assert answer.candidates
