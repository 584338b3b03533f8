"""The columns of the dataset, and of the parts it is made from."""

import pyarrow as pa

from gemini_batch.records import SchemaSpec
from gemini_batch.schema.shape import shape_of

ERROR = pa.struct([("kind", pa.string()), ("code", pa.int32()), ("message", pa.string())])
USAGE = pa.struct(
    [
        ("prompt_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("thoughts_tokens", pa.int64()),
    ]
)
SAMPLE = pa.struct(
    [
        ("status", pa.string()),
        ("text", pa.string()),
        ("finish_reason", pa.string()),
        ("error_kind", pa.string()),
    ]
)


def result_type(spec: SchemaSpec | None) -> pa.DataType:
    """Type of `result`: what the schema says, or text."""
    return pa.string() if spec is None else shape_of(spec.shape_schema).type


def dataset_schema(spec: SchemaSpec | None) -> pa.Schema:
    """The contract's columns in order."""
    return pa.schema(
        [
            pa.field("index", pa.int64(), nullable=False),
            pa.field("key", pa.string(), nullable=False),
            pa.field("status", pa.string(), nullable=False),
            ("result", result_type(spec)),
            ("text", pa.string()),
            ("error", ERROR),
            ("n_valid", pa.int32()),
            ("agreement", pa.float64()),
            ("disagreements", pa.list_(pa.string())),
            ("samples", pa.list_(SAMPLE)),
            ("attempts", pa.int32()),
            ("round", pa.int32()),
            ("usage", USAGE),
            ("cost_usd", pa.float64()),
            ("finish_reason", pa.string()),
            ("model_version", pa.string()),
            ("request_digest", pa.string()),
        ]
    )
