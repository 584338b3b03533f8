"""Options as the `generationConfig` of a request, in the REST spelling."""

from typing import Any

from gemini_batch.config import Options
from gemini_batch.inputs import read_json_object
from gemini_batch.records import SchemaSpec
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
