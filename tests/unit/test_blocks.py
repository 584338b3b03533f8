"""Tables are read a block at a time, whatever their files are like."""

import os

import pyarrow as pa

from gemini_batch.parquet import BLOCK_BYTES, Writer, read_blocks

MB = 1_000_000


def test_what_was_read_of_a_large_file_does_not_stay_in_memory(tmp_path):
    """Arrow reads all of a file ahead and keeps it unless told not to: a manifest of pictures would be held whole."""
    path, table = tmp_path / "pictures.parquet", pa.table({"picture": [os.urandom(MB) for _ in range(8)]})
    with Writer(path, table.schema) as writer:
        for _ in range(12):
            writer.write(table)
    del table
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in read_blocks(path)]
    assert len(held) >= 96 * MB // BLOCK_BYTES
    assert max(held) < 5 * BLOCK_BYTES
