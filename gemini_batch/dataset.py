"""The columns of the dataset, and of the parts it is made from."""

import pyarrow as pa
import pyarrow.compute as pc

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
PART_SAMPLE = pa.struct(
    [
        pa.field("sample", pa.int32(), nullable=False),
        *SAMPLE,
        ("code", pa.int32()),
        ("message", pa.string()),
        ("model_version", pa.string()),
    ]
)
"""A sample in a part: of which number it is, and all that a later round needs to put samples together anew."""


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


def part_schema(spec: SchemaSpec | None, n_samples: int) -> pa.Schema:
    """The columns of a part: the dataset's, and with several samples more of each."""
    schema = dataset_schema(spec)
    if n_samples == 1:
        return schema
    return schema.set(schema.get_field_index("samples"), pa.field("samples", pa.list_(PART_SAMPLE)))


def as_dataset(block: pa.RecordBatch) -> pa.RecordBatch:
    """Rows of a part as rows of the dataset; what has its columns already is given back as it is."""
    at = block.schema.get_field_index("samples")
    samples = block.column(at)
    if samples.type.value_type.equals(SAMPLE):
        return block
    flat = pc.list_flatten(samples)
    kept = pa.StructArray.from_arrays([pc.struct_field(flat, field.name) for field in SAMPLE], fields=list(SAMPLE))
    return block.set_column(at, pa.field("samples", pa.list_(SAMPLE)), like_lists(samples, kept))


def like_lists(lists: pa.ListArray, items: pa.Array) -> pa.ListArray:
    """A list column with other items, as many in each row as there were."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0)
    ends = pc.cumulative_sum(lengths)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends.cast(pa.int32())])
    return pa.ListArray.from_arrays(offsets, items, mask=lists.is_null())
