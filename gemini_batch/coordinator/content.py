"""Whether a manifest that is read a second time is still the one that was weighed.

In: blocks as they are read. Out: a digest of what their rows ask. It hashes columns and not rows, which costs a
hundredth of weighing them again; two readings of one manifest come in the same blocks.
"""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

ASKED = ("key", "prompt", "parts", "system_instruction")


class Content:
    """The digest of a reading, taken block by block."""

    def __init__(self) -> None:
        self._hash = xxhash.xxh3_128()

    def add(self, block: pa.RecordBatch) -> None:
        self._hash.update(b"%d rows" % block.num_rows)
        for name in ASKED:
            if name in block.schema.names:
                self._hash.update(name.encode())
                for piece in _pieces(block.column(name)):
                    self._hash.update(piece)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


def _pieces(array: pa.Array) -> Iterator[memoryview]:
    """Bytes that differ where arrays do: who is null, how long each value is, and the values. Not the buffers as they
    are: what lies behind their last bit is anything."""
    yield _bytes_of(array.is_valid().cast(pa.uint8()))
    if pa.types.is_list(array.type):
        yield _bytes_of(pc.fill_null(pc.list_value_length(array), 0))
        yield from _pieces(array.flatten())
    elif pa.types.is_struct(array.type):
        for number in range(array.type.num_fields):
            yield from _pieces(pc.struct_field(array, [number]))
    else:
        yield _bytes_of(pc.fill_null(pc.binary_length(array), 0))
        _, offsets, values = array.buffers()
        ends = memoryview(offsets).cast("i")
        if values is not None:
            yield memoryview(values)[ends[array.offset] : ends[array.offset + len(array)]]


def _bytes_of(array: pa.Array) -> memoryview:
    """The values of an array without nulls and of a fixed width."""
    width = array.type.bit_width // 8
    _, values = array.buffers()
    return memoryview(values)[width * array.offset : width * (array.offset + len(array))]
