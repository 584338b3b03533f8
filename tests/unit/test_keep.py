"""Columns that are kept come out as they went in: values, types and order, whatever their names."""

from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.config import resolve
from gemini_batch.coordinator.columns import Columns, read_columns
from gemini_batch.coordinator.freeze import frozen
from gemini_batch.coordinator.manifest import TableManifest, open_manifest
from gemini_batch.coordinator.start import scan
from gemini_batch.coordinator.template import parse_template
from gemini_batch.errors import BadInput
from gemini_batch.reducer.assemble import paired


def kept(manifest):
    """The kept columns of all rows as a table under their own names."""
    table = pa.Table.from_batches(list(manifest.blocks()))
    names = [name for name in table.schema.names if name.startswith("keep.")]
    return table.select(names).rename_columns([name.removeprefix("keep.") for name in names])


KINDS = {
    "int8": pa.array([1, None], pa.int8()),
    "decimal": pa.array([Decimal("1.50"), None], pa.decimal128(9, 2)),
    "when": pa.array([datetime(2020, 1, 1, tzinfo=UTC), None], pa.timestamp("us", "UTC")),
    "day": pa.array([date(2020, 1, 1), None]),
    "words": pa.array(["a", "b"]).dictionary_encode(),
    "list": pa.array([[1, 2], None], pa.list_(pa.int32())),
    "struct": pa.array([{"a": 1, "b": ["x"]}, None]),
    "binary": pa.array([b"\xff", None]),
    "large": pa.array(["x", None], pa.large_string()),
    "nothing": pa.nulls(2),
    "keep.prompt": pa.array(["odd", None]),
    "prompt": pa.array(["a", "b"]),
    "system_instruction": pa.array(["s", None]),
}


def test_types_and_values_are_those_of_the_manifest_also_after_they_were_frozen(tmp_path):
    table = pa.table(KINDS)
    manifest = TableManifest(table, "t", tmp_path, Columns(keep=tuple(reversed(KINDS))))
    assert kept(manifest).equals(table.select(list(reversed(KINDS))))
    (block,) = manifest.blocks()
    pq.write_table(pa.Table.from_batches([frozen(block, 0)]), tmp_path / "rows")
    back = pq.read_table(tmp_path / "rows")
    for name in KINDS:
        assert back[f"keep.{name}"].type == table[name].type
        assert back[f"keep.{name}"].to_pylist() == table[name].to_pylist()


def test_a_column_may_be_asked_and_kept(tmp_path):
    table = pa.table({"title": ["a"], "n": [1], "id": [7]})
    columns = Columns(key="id", template=parse_template("{title} {n}"), keep=("n", "id", "title"))
    (block,) = TableManifest(table, "t", tmp_path, columns).blocks()
    assert block.to_pylist() == [{"key": "7", "prompt": "a 1", "keep.n": 1, "keep.id": 7, "keep.title": "a"}]


def test_what_is_kept_is_no_part_of_what_is_asked(tmp_path, asked, limits):
    table = pa.table({"prompt": ["a"], "note": [1]})
    plans = [
        scan(TableManifest(table, "t", tmp_path, Columns(keep=keep)), asked(), (), limits()) for keep in ((), ("note",))
    ]
    assert plans[0] == plans[1]


def test_a_type_that_all_files_share_is_found(tmp_path):
    for name, values in (("a", pa.nulls(1)), ("b", pa.array([1], pa.int8())), ("c", pa.array([2], pa.int64()))):
        pq.write_table(pa.table({"prompt": [name], "n": values}), tmp_path / f"{name}.parquet")
    manifest = open_manifest(tmp_path, Columns(keep=("n",)))
    assert kept(manifest).equals(pa.table({"n": [None, 1, 2]}))
    pq.write_table(pa.table({"prompt": ["d"], "n": ["x"]}), tmp_path / "d.parquet")
    with pytest.raises(BadInput, match=r"d\.parquet.*--keep.*n"):
        open_manifest(tmp_path, Columns(keep=("n",)))


def test_json_values_have_the_type_that_holds_all_of_them(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text(
        '{"prompt": "a", "n": 1, "o": {"x": 1}}\n' * 20_000 + '{"prompt": "b", "n": 2.5, "o": {"y": "z"}}\n'
    )
    made = kept(open_manifest(path, Columns(keep=("n", "o"))))
    assert made.schema.field("n").type == pa.float64()
    assert made.slice(19_999).to_pylist() == [
        {"n": 1.0, "o": {"x": 1, "y": None}},
        {"n": 2.5, "o": {"x": None, "y": "z"}},
    ]
    for odd in ('{"prompt": "b", "n": "x"}\n', '{"prompt": "b", "n": [1]}\n'):
        path.write_text('{"prompt": "a", "n": 1}\n' * 20_000 + odd)
        with pytest.raises(BadInput, match=r"m\.jsonl.*(row|line) \d+.*"):
            kept(open_manifest(path, Columns(keep=("n",))))


def test_columns_of_a_csv_are_kept_as_text(tmp_path):
    (tmp_path / "m.csv").write_text('prompt,n,m\na,007,\nb,1.0,""\n')
    made = kept(open_manifest(tmp_path / "m.csv", Columns(keep=("m", "n"))))
    assert made.equals(pa.table({"m": pa.array([None, ""]), "n": ["007", "1.0"]}))


@pytest.mark.parametrize(
    ("names", "said"), [("gone", "'gone'"), ("a,a", "twice"), ("status", "status"), ("key", "key"), ("text", "text")]
)
def test_a_name_that_is_not_there_or_taken_is_refused(tmp_path, names, said):
    with pytest.raises(BadInput, match=rf"{said}") as caught:
        TableManifest(pa.table({"prompt": ["a"], "a": [1]}), "t", tmp_path, read_columns(resolve({"keep": names})))
    assert "--keep" in str(caught.value)


def test_a_type_that_no_dataset_can_hold_is_refused(tmp_path):
    table = pa.table({"prompt": ["a"], "u": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])})
    with pytest.raises(BadInput, match="'u'"):
        TableManifest(table, "t", tmp_path, Columns(keep=("u",)))


@pytest.mark.parametrize("given", ["a,b", ["a,b"], ["a", "b"], ("a", "b")])
def test_names_come_with_commas_or_one_by_one(given):
    assert resolve({"keep": given}).keep == ("a", "b")


CUTS = st.lists(st.integers(1, 5), max_size=6)


@given(CUTS, CUTS)
def test_two_streams_of_the_same_rows_are_cut_at_the_same_places(left, right):
    def stream(cuts, total):
        starts = [0]
        for cut in cuts:
            starts.append(min(total, starts[-1] + cut))
        starts.append(total)
        return (pa.record_batch({"n": list(range(start, stop))}) for start, stop in pairwise(starts) if stop > start)

    pairs = list(paired(stream(left, 12), stream(right, 12)))
    assert [n for one, _ in pairs for n in one.column("n").to_pylist()] == list(range(12))
    assert all(one.equals(other) for one, other in pairs)
