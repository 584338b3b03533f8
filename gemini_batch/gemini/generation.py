"""Options as the `generationConfig` of a request, in the REST spelling."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from gemini_batch.config import Options
from gemini_batch.errors import BadInput
from gemini_batch.inputs import read_json_object
from gemini_batch.records import SchemaSpec
from gemini_batch.schema.load import load_schema
from gemini_batch.schema.openapi import response_json_schema, response_schema

FIELDS = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "max_output_tokens": "maxOutputTokens",
    "media_resolution": "mediaResolution",
}

SCHEMA_FIELDS = {"responseSchema": response_schema, "responseJsonSchema": response_json_schema}
"""Where a schema may stand; the service takes one of them."""


def generation_config(options: Options, spec: SchemaSpec | None) -> dict[str, Any]:
    """What every request of a run says. Named options win over fields of `--generation-config`.

    Raises:
        BadInput: the file is not a JSON object.
    """
    config = read_json_object("--generation-config", options.generation_config) if options.generation_config else {}
    config |= {wire: value for name, wire in FIELDS.items() if (value := getattr(options, name)) is not None}
    if options.stop_sequence:
        config["stopSequences"] = list(options.stop_sequence)
    thinking = {"thinkingBudget": options.thinking_budget, "thinkingLevel": options.thinking_level}
    if given := {name: value for name, value in thinking.items() if value is not None}:
        config["thinkingConfig"] = given
    if spec is not None:
        config = {name: value for name, value in config.items() if name not in SCHEMA_FIELDS}
        made = SCHEMA_FIELDS[options.schema_field](spec.json_schema)
        config |= {"responseMimeType": "application/json", options.schema_field: made}
    return config


BESIDE = {"systemInstruction", "safetySettings", "tools", "toolConfig", "cachedContent", "labels", "serviceTier"}
"""Fields of `GenerateContentConfig` that stand beside `generationConfig` in a request (google-genai 3.4.0)."""

OF_THE_SDK = {"httpOptions", "shouldReturnHttpResponse", "automaticFunctionCalling"}
"""Those that say how the SDK works, and are never sent."""


def request_members(given: Any) -> dict[str, Any]:
    """Settings as members of a request: `generationConfig`, and what stands beside it.

    Args:
        given: a dict in the REST spelling or the SDK's, the SDK's `GenerateContentConfig`, or None.

    Raises:
        BadInput: something else.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping | BaseModel):
        raise BadInput(f"generation_config has to be a dict or a types.GenerateContentConfig, not {given!r:.80}")
    fields = {name: getattr(given, name) for name in given.model_fields_set} if isinstance(given, BaseModel) else given
    config = {camel(name): _plain(value) for name, value in fields.items() if value is not None}
    for name in config.keys() & SCHEMA_FIELDS.keys():
        if not isinstance(config[name], dict):
            spec = load_schema(config[name])
            config[name] = SCHEMA_FIELDS[name](spec.json_schema) if spec else None
            config.setdefault("responseMimeType", "application/json")
    if isinstance(said := config.get("systemInstruction"), str):
        config["systemInstruction"] = {"parts": [{"text": said}]}
    made = {name: config[name] for name in config.keys() & BESIDE}
    own = {name: value for name, value in config.items() if name not in BESIDE | OF_THE_SDK}
    return {**made, "generationConfig": own} if own else made


def _plain(value: Any) -> Any:
    """A value of the SDK as JSON has it; types, which are schemas, as they are."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return getattr(value, "value", value)


def camel(name: str) -> str:
    """A field's name as REST spells it; proto-JSON takes both, but not both at once."""
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)
