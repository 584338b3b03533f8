"""Reading a manifest: the same rows give the same plan and digest, damage is always a BadInput."""

import os
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gemini_batch.clock import SystemClock
from gemini_batch.coordinator.columns import Columns
from gemini_batch.coordinator.manifest import TableManifest, open_manifest
from gemini_batch.coordinator.start import begin, refuse_other, scan
from gemini_batch.errors import BadInput
from gemini_batch.ledger.posix import PosixStore
from gemini_batch.ledger.run import RunFiles
from gemini_batch.parquet import read_blocks

ROWS = 20_000
TABLE = pa.table(
    {
        "key": [f"k{n}" for n in range(ROWS)],
        "prompt": [None if n % 97 == 0 else f"Was ist {n}? " * (n % 5) for n in range(ROWS)],
        "system_instruction": [f"s{n}" if n % 3 == 0 else None for n in range(ROWS)],
    }
)


def planned(manifest, asked, limits):
    return scan(manifest, asked(), (manifest.root,), limits(max_requests_per_shard=700, max_bytes_per_shard=50_000))


def test_plan_and_digest_do_not_depend_on_the_layout_of_the_file(tmp_path, asked, limits):
    """Rewriting a manifest with another tool must find the same run, or everything is bought again."""
    expected = planned(TableManifest(TABLE, "t", tmp_path, Columns()), asked, limits)
    assert expected.rows == ROWS
    for layout in (
        {"row_group_size": 999},
        {"row_group_size": ROWS, "compression": "none"},
        {"row_group_size": 10_007, "data_page_size": 500, "use_dictionary": False, "compression": "zstd"},
    ):
        path = tmp_path / "m.parquet"
        pq.write_table(TABLE, path, **layout)
        assert planned(open_manifest(path, Columns()), asked, limits) == expected
    with pa.OSFile(str(tmp_path / "m.arrow"), "wb") as sink, pa.ipc.new_file(sink, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=77)
    assert planned(open_manifest(tmp_path / "m.arrow", Columns()), asked, limits) == expected


def test_reading_twice_gives_the_same_plan(tmp_path, asked, limits):
    manifest = TableManifest(TABLE, "t", tmp_path, Columns())
    assert planned(manifest, asked, limits) == planned(manifest, asked, limits)


@pytest.mark.parametrize("column", ["key", "prompt", "system_instruction"])
def test_the_digest_changes_with_any_row(tmp_path, asked, limits, column):
    """A changed manifest is another run."""
    values = TABLE[column].to_pylist()
    values[ROWS - 1] = "other"
    changed = TABLE.set_column(TABLE.schema.get_field_index(column), column, pa.array(values))
    one, other = (planned(TableManifest(t, "t", tmp_path, Columns()), asked, limits) for t in (TABLE, changed))
    assert one.rows_digest != other.rows_digest


def test_swapped_rows_are_another_question(tmp_path, asked, limits):
    """Row k of the dataset is the answer to row k, so order is part of the identity."""
    digests = {
        planned(TableManifest(TABLE.take(order), "t", tmp_path, Columns()), asked, limits).rows_digest
        for order in ([0, 1], [1, 0])
    }
    assert len(digests) == 2


def test_a_key_that_occurs_twice_is_refused_across_blocks_with_both_rows(tmp_path, asked, limits):
    keys = TABLE["key"].to_pylist()
    keys[19_999] = keys[3]
    table = TABLE.set_column(0, "key", pa.array(keys))
    path = tmp_path / "m.parquet"
    pq.write_table(table, path, row_group_size=5_000)
    with pytest.raises(BadInput, match=r"m\.parquet.*'k3'.*rows 3 and 19999"):
        planned(open_manifest(path, Columns()), asked, limits)


MUTATIONS = int(os.environ.get("CHAOS_MUTATIONS", "300"))


def mutations(body, count):
    """Files cut short, with flipped bits, and with bytes overwritten; the same every time."""
    dice = random.Random(20_261_122)
    for number in range(count):
        if number % 3 == 0:
            yield body[: dice.randrange(len(body))]
            continue
        mutated = bytearray(body)
        for _ in range(dice.choice([1, 1, 4])):
            at = dice.choice([dice.randrange(len(body)), len(body) - 1 - dice.randrange(min(600, len(body)))])
            mutated[at] ^= 1 << dice.randrange(8)
        yield bytes(mutated)


@pytest.mark.parametrize("checksums", [True, False], ids=["checksums", "no_checksums"])
@pytest.mark.parametrize("content", ["prompt", "parts"])
def test_a_damaged_parquet_file_is_a_bad_input_or_readable_never_a_crash(tmp_path, asked, limits, checksums, content):
    """Users see one message with the file's name, not a traceback out of a C++ library."""
    values = [f"text {n}" for n in range(60)]
    column = values if content == "prompt" else [[{"text": text}, {"data": text.encode()}] for text in values]
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({"key": values, content: column}), path, row_group_size=25, write_page_checksum=checksums)
    refusals = 0
    for body in mutations(path.read_bytes(), MUTATIONS):
        damaged = tmp_path / "damaged.parquet"
        damaged.write_bytes(body)
        try:
            scan(open_manifest(damaged, Columns()), asked(), (tmp_path,), limits())
        except BadInput as error:
            assert "damaged.parquet" in str(error)
            refusals += 1
    assert refusals > MUTATIONS // 3


def test_a_flipped_bit_under_a_page_checksum_is_never_read_as_a_value(tmp_path, asked, limits):
    """Our own shard files carry checksums; a manifest that has them is held to them."""
    path = tmp_path / "m.parquet"
    table = pa.table({"prompt": [f"text {n}" for n in range(500)]})
    pq.write_table(table, path, write_page_checksum=True, compression="none", use_dictionary=False)
    body = path.read_bytes()
    at = body.index(b"text 250")
    path.write_bytes(body[:at] + b"Text" + body[at + 4 :])
    with pytest.raises(BadInput, match=r"m\.parquet"):
        scan(open_manifest(path, Columns()), asked(), (tmp_path,), limits())


def begun(folder, manifest, asked, limits, meanwhile=lambda: None):
    """A run as submit makes it; `meanwhile` is called between its two readings."""
    bounds = limits(max_requests_per_shard=700)
    plan = scan(manifest, asked(), (manifest.root,), bounds)
    meanwhile()
    what = asked(rows=plan.rows, rows_digest=plan.rows_digest)
    files = RunFiles(PosixStore(folder))
    begin(files, manifest, what, plan, (manifest.root,), bounds, "run", SystemClock())
    return files, files.record(), plan


def test_the_frozen_shards_hold_every_row_of_the_manifest_in_order(tmp_path, asked, limits):
    """Later changes of the manifest cannot matter."""
    files, record, plan = begun(tmp_path / "run", TableManifest(TABLE, "t", tmp_path, Columns()), asked, limits)
    assert files.plan() == plan.shards
    assert (record.run_id, record.shards) == ("run", len(plan.shards))
    blocks = [b for shard in plan.shards for b in read_blocks(files.store.root / f"shards/{shard.shard:06d}.parquet")]
    frozen = pa.Table.from_batches(blocks)
    assert frozen["index"].to_pylist() == list(range(ROWS))
    for column in TABLE.schema.names:
        assert frozen[column].to_pylist() == TABLE[column].to_pylist()


@pytest.mark.parametrize(
    "other",
    [
        TABLE.slice(0, ROWS - 1),
        pa.concat_tables([TABLE, TABLE.slice(0, 1)]),
        TABLE.set_column(1, "prompt", pa.array(["another"] * ROWS)),
        TABLE.drop_columns("system_instruction"),
    ],
    ids=["shorter", "longer", "another value", "without a column"],
)
def test_a_manifest_that_changes_before_its_rows_are_frozen_begins_no_run(tmp_path, asked, limits, other):
    """What was weighed, confirmed and made the run's identity is what is bought."""
    path = tmp_path / "m.parquet"
    pq.write_table(TABLE, path)
    with pytest.raises(BadInput, match=r"m\.parquet changed while it was being read"):
        begun(tmp_path / "run", open_manifest(path, Columns()), asked, limits, lambda: pq.write_table(other, path))
    assert not (tmp_path / "run" / "run.json").exists()


def test_rows_without_keys_have_their_index_as_key(tmp_path, asked, limits):
    manifest = TableManifest(TABLE.select(["prompt"]).slice(0, 3), "t", tmp_path, Columns())
    files, *_ = begun(tmp_path / "run", manifest, asked, limits)
    (block,) = read_blocks(files.store.root / "shards/000000.parquet")
    assert block.column("key").to_pylist() == ["0", "1", "2"]


def test_a_directory_with_something_else_in_it_is_refused(tmp_path, asked, limits):
    """A typo in --out must not put shards among somebody's files."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("")
    with pytest.raises(BadInput, match=r"thesis\.tex"):
        begun(tmp_path / "run", TableManifest(TABLE, "t", tmp_path, Columns()), asked, limits)


def test_another_identity_is_refused_with_every_field_that_differs_old_and_new(tmp_path, asked, limits):
    manifest = TableManifest(TABLE.slice(0, 3), "t", tmp_path, Columns())
    _, record, _ = begun(tmp_path / "run", manifest, asked, limits)
    other = record.asked.model_copy(update={"model": "gemini-9", "rows": 4})
    with pytest.raises(BadInput) as caught:
        refuse_other(record, other, "there")
    assert all(word in str(caught.value) for word in ("model", "gemini-2.5-flash", "gemini-9", "rows: 3 -> 4"))
    refuse_other(record, record.asked, "there")
