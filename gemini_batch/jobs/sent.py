"""Which samples of which rows a shard asks for, and which line of its request file is whose. Pure, but for one reader.

The rows of a shard are any rows of the manifest, by rising index. A row is asked for all samples, or for those that its
`samples` names; one whose requests record has an error has no line, every other has one line per sample, in order.
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from gemini_batch.parquet import read_own_columns, read_own_table

Samples = Sequence[int]
"""Numbers of samples, rising."""


def asked_samples(rows: pa.Table | pa.RecordBatch, n_samples: int) -> list[Samples]:
    """Per row, the samples that the shard is to ask for; `rows` may come without the column."""
    every = tuple(range(n_samples))
    if "samples" not in rows.schema.names:
        return [every] * rows.num_rows
    return [every if named is None else named for named in rows.column("samples").to_pylist()]


def sent_samples(asked: Sequence[Samples], requests: pa.Table | pa.RecordBatch) -> list[Samples]:
    """Per row, the samples that have a line."""
    sent = requests.column("error_kind").is_null().to_pylist()
    return [samples if was_sent else () for samples, was_sent in zip(asked, sent, strict=True)]


def place_of_line(sent: Sequence[Samples], line: int) -> tuple[int, int] | None:
    """(place of the row in the shard, sample) of a line of the request file, which count from 1; None beyond the
    last."""
    if line < 1:
        return None
    for place, samples in enumerate(sent):
        if line <= len(samples):
            return place, samples[line - 1]
        line -= len(samples)
    return None


def row_of_line(rows: Path, requests: Path, n_samples: int, line: int) -> tuple[int, int] | None:
    """(row index, sample) of a line of the request file, which count from 1; None beyond the last.

    Args:
        rows: the shard's frozen rows.
        requests: the requests record of that file.

    Raises:
        RunStopped: a file is damaged.
        OSError: not now.
    """
    record = read_own_table(requests, ["index", "error_kind"])
    asked = asked_samples(read_own_columns(rows, ["index"], ["samples"]), n_samples)
    found = place_of_line(sent_samples(asked, record), line)
    return None if found is None else (record["index"][found[0]].as_py(), found[1])
