"""Options as the `generationConfig` of a request, in the REST spelling."""

import json
from pathlib import Path
from typing import Any

from gemini_batch.config import Options
from gemini_batch.errors import BadInput
from gemini_batch.records import SchemaSpec
from gemini_batch.schema.openapi import response_schema

FIELDS = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "max_output_tokens": "maxOutputTokens",
    "media_resolution": "mediaResolution",
}


def generation_config(options: Options, spec: SchemaSpec | None) -> dict[str, Any]:
    """What every request of a run says. Named options win over fields of `--generation-config`.

    Raises:
        BadInput: the file is not a JSON object.
    """
    config = _read(options.generation_config) if options.generation_config else {}
    config |= {wire: value for name, wire in FIELDS.items() if (value := getattr(options, name)) is not None}
    if options.stop_sequence:
        config["stopSequences"] = list(options.stop_sequence)
    thinking = {"thinkingBudget": options.thinking_budget, "thinkingLevel": options.thinking_level}
    if given := {name: value for name, value in thinking.items() if value is not None}:
        config["thinkingConfig"] = given
    if spec is not None:
        config |= {
            "responseMimeType": "application/json",
            "responseSchema": response_schema(spec.json_schema),
        }
    return config


def _read(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"--generation-config {path}: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"--generation-config {path} is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise BadInput(f"--generation-config {path}: a JSON object is due, this is a {type(config).__name__}")
    return config
