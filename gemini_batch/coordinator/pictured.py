"""A text and a picture per row as parts: the picture follows the text. Pure.

In: texts, and pictures as paths, URIs or bytes. Out: a column of parts; null where there is no text, and with an empty
part where there is no picture, so that the row fails and says so.
"""

import pyarrow as pa
import pyarrow.compute as pc

from gemini_batch.parts import PART, PARTS

URI = r"^([a-zA-Z][a-zA-Z0-9+.-]*://|files/[a-z0-9-]{1,40}$)"
"""Everything else is a path. `files/` and an id is what the service calls a file (Files reference)."""


def with_pictures(texts: pa.Array, pictures: pa.Array) -> pa.Array:
    """Both are plain columns: of strings the one, of strings or bytes the other."""
    rows = len(texts)
    first = pa.array([None if at % 2 else at // 2 for at in range(2 * rows)], pa.int32())
    second = pa.array([at // 2 if at % 2 else None for at in range(2 * rows)], pa.int32())
    columns = {"text": texts.take(first)}
    columns |= {name: column.take(second) for name, column in _contents(pictures).items()}
    children = [columns[field.name] if field.name in columns else pa.nulls(2 * rows, field.type) for field in PART]
    nothing = pc.equal(pc.fill_null(pc.binary_length(texts), 0), 0)
    offsets = pa.array(range(0, 2 * rows + 1, 2), pa.int32())
    made = pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(children, fields=list(PART)))
    return pc.if_else(nothing, pa.scalar(None, PARTS), made)


def _contents(pictures: pa.Array) -> dict[str, pa.Array]:
    """The pictures under the fields of a part that they belong in."""
    if pa.types.is_binary(pictures.type):
        return {"data": pictures}
    is_uri = pc.match_substring_regex(pictures, URI)
    none = pa.scalar(None, pa.string())
    return {"path": pc.if_else(is_uri, none, pictures), "uri": pc.if_else(is_uri, pictures, none)}


def is_picture(kind: pa.DataType) -> bool:
    """Whether a column of that type can hold pictures."""
    return is_text(kind) or is_binary(kind)


def is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
    )


def is_binary(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_null(kind)
    )
