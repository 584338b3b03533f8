"""Columns as any reader takes them: polars and DuckDB hand over text as views, which Arrow 26 can neither filter nor
decode from categories. Pure."""

import pyarrow as pa


def without_views(kind: pa.DataType) -> pa.DataType:
    """The type with text and bytes in place of views of them, however deep."""
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, without_views(kind.value_type), kind.ordered)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(without_views(field.type)) for field in kind])
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_of_values(kind), kind.list_size)
    if pa.types.is_list(kind):
        return pa.list_(_of_values(kind))
    return pa.large_list(_of_values(kind)) if pa.types.is_large_list(kind) else kind


def _of_values(kind: pa.DataType) -> pa.Field:
    return kind.value_field.with_type(without_views(kind.value_type))


def plain(column: pa.Array) -> pa.Array:
    """The column in the type without views."""
    kind = without_views(column.type)
    return column if kind == column.type else column.cast(kind)
