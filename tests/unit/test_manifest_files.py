"""A manifest of several files is one list of rows, whose order and numbers anyone can predict; a CSV is text."""

import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.coordinator.columns import Columns
from gemini_batch.coordinator.fetched import with_objects
from gemini_batch.coordinator.found import chosen, matching, split_glob
from gemini_batch.coordinator.manifest import open_manifest
from gemini_batch.coordinator.sources import KINDS
from gemini_batch.coordinator.start import scan
from gemini_batch.errors import BadInput
from gemini_batch.parts import PARTS


def put(folder, **files):
    """Parquet files by name, each of one row whose prompt is the name."""
    for name in files.values():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"prompt": [name]}), path)


def prompts(place, **columns):
    return [row["prompt"] for block in open_manifest(place, Columns(**columns)).blocks() for row in block.to_pylist()]


def refused(place, *said, **columns):
    with pytest.raises(BadInput) as caught:
        prompts(place, **columns)
    assert [word for word in said if word not in str(caught.value)] == []


# --- directories and globs --------------------------------------------------------------------------------------------


def test_a_directory_is_its_parquet_files_by_the_bytes_of_their_paths(tmp_path):
    """`-` and `.` sort before `/`, and capitals before small letters."""
    names = ["b/1.parquet", "b-2.parquet", "b.parquet", "B.parquet", "a/z/9.parquet", "ü.parquet", "z.parquet"]
    put(tmp_path, **dict(zip("abcdefg", names, strict=True)))
    assert prompts(tmp_path) == sorted(names, key=os.fsencode)


def test_what_is_marked_as_no_data_is_skipped_at_every_level(tmp_path):
    put(tmp_path, a="a.parquet", b="_tmp/b.parquet", c=".hidden/c.parquet", d="_d.parquet", e="x/.e.parquet")
    (tmp_path / "_SUCCESS").write_text("")
    (tmp_path / "readme.txt").write_text("")
    (tmp_path / "picture.png").write_bytes(b"")
    assert prompts(tmp_path) == ["a.parquet"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.parquet", ["a.parquet"]),
        ("x/*.parquet", ["x/b.parquet"]),
        ("**/*.parquet", ["a.parquet", "x/b.parquet", "x/y/c.parquet"]),
        ("**", ["a.parquet", "x/b.parquet", "x/y/c.parquet"]),
        ("x*", ["x/b.parquet", "x/y/c.parquet"]),
        ("[ab].parquet", ["a.parquet"]),
        ("?/y/*", ["x/y/c.parquet"]),
    ],
)
def test_a_glob_means_the_files_it_matches_and_all_below_a_directory_it_matches(tmp_path, pattern, expected):
    put(tmp_path, a="a.parquet", b="x/b.parquet", c="x/y/c.parquet", d="_x/d.parquet")
    assert prompts(tmp_path / pattern) == expected


def test_a_glob_from_here_and_files_without_a_suffix_are_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(tmp_path, a="part-00001", b="part-00000")
    assert prompts(Path("part-*")) == ["part-00000", "part-00001"]


def test_a_file_whose_name_holds_a_wildcard_is_that_file(tmp_path):
    put(tmp_path, a="a[1].parquet", b="a1.parquet")
    assert prompts(tmp_path / "a[1].parquet") == ["a[1].parquet"]


def test_links_are_followed_and_a_circle_of_them_ends(tmp_path):
    put(tmp_path, a="in/a.parquet", b="elsewhere/b.parquet")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "circle").symlink_to(tmp_path / "in")
    assert prompts(tmp_path / "in") == ["in/a.parquet", "elsewhere/b.parquet"]


def test_a_place_without_rows_is_refused_by_its_name(tmp_path):
    put(tmp_path, a="_a.parquet")
    refused(tmp_path, str(tmp_path), ".parquet", "with _ or .")
    refused(tmp_path / "*.csv", "*.csv")
    refused(tmp_path / "gone" / "*.csv", "does not exist", str(tmp_path / "gone"))
    (tmp_path / "a.csv").write_text("prompt\nx\n")
    (tmp_path / "a.jsonl").write_text('{"prompt": "x"}\n')
    refused(tmp_path, "several kinds", "CSV", "JSONL")
    assert prompts(tmp_path / "*.csv") == ["x"]


def test_relative_pictures_start_at_the_directory_or_where_the_wildcards_begin(tmp_path):
    put(tmp_path, a="x/a.parquet")
    for place, root in ((tmp_path, "."), (tmp_path / "x/*.parquet", "x"), (tmp_path / "*/*.parquet", ".")):
        assert open_manifest(place, Columns()).root == (tmp_path / root).resolve()


def test_what_is_wrong_is_said_of_the_file_and_its_own_row(tmp_path, asked, limits):
    pq.write_table(pa.table({"prompt": ["a", "b"], "key": ["1", "2"]}), tmp_path / "a.parquet")
    for second, said in (
        (
            {"prompt": ["c"], "key": ["2"]},
            ["column 'key'", "'2'", "rows 1 (row 1 of", "a.parquet", "and 2 (row 0 of"],
        ),
        ({"prompt": ["c", "d"], "key": ["3", None]}, ["b.parquet, row 1", "'key'"]),
        ({"prompt": ["c"]}, ["b.parquet", "no column 'key'", "a.parquet"]),
        ({"text": ["c"], "key": ["3"]}, ["b.parquet", "'prompt'"]),
    ):
        pq.write_table(pa.table(second), tmp_path / "b.parquet")
        with pytest.raises(BadInput) as caught:
            scan(open_manifest(tmp_path, Columns()), asked(), (tmp_path,), limits())
        assert [word for word in said if word not in str(caught.value)] == []
    (tmp_path / "b.parquet").write_bytes(b"no")
    refused(tmp_path, "b.parquet")


def test_files_of_different_text_types_are_one_manifest(tmp_path):
    pq.write_table(pa.table({"prompt": pa.array(["a"], pa.large_string()), "key": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"prompt": ["b"], "key": ["x"], "system_instruction": ["s"]}), tmp_path / "b.parquet")
    assert prompts(tmp_path) == ["a", "b"]


NAMES = st.lists(st.text("ab.-_/é", min_size=1, max_size=8).map(lambda name: name.strip("/") + ".parquet"), min_size=1)


@given(NAMES)
def test_a_choice_is_sorted_by_bytes_without_what_is_marked_and_does_not_depend_on_the_order_given(names):
    try:
        found = chosen("m", names)
    except BadInput:
        found = []
    assert found == sorted(found, key=os.fsencode)
    assert set(found) == {name for name in names if not any(part[:1] in ("_", ".") for part in name.split("/"))}


@pytest.mark.parametrize(
    ("place", "fixed", "pattern"),
    [
        ("a/b.parquet", "a/b.parquet", ""),
        ("*.parquet", "", "*.parquet"),
        ("/*", "/", "*"),
        ("/d/x*/y", "/d", "x*/y"),
        ("s3://b/p/**/x.parquet", "s3://b/p", "**/x.parquet"),
    ],
)
def test_a_glob_is_cut_before_its_first_wildcard(place, fixed, pattern):
    assert split_glob(place) == (fixed, pattern)


def test_names_of_objects_match_as_paths_do():
    names = ["a.parquet", "x/b.parquet", "x/y/c.parquet"]
    assert matching(names, "x") == ["x/b.parquet", "x/y/c.parquet"]
    assert matching(names, "**/*.parquet") == names
    assert matching(names, "*.parquet") == ["a.parquet"]


# --- CSV --------------------------------------------------------------------------------------------------------------


def csv(folder, body):
    (folder / "m.csv").write_bytes(body)
    return folder / "m.csv"


def rows(path, **columns):
    return [row for block in open_manifest(path, Columns(**columns)).blocks() for row in block.to_pylist()]


def test_every_column_of_a_csv_is_text_as_it_stands(tmp_path):
    """007 is a key, not a number; an empty cell is null, an empty text is written in quotes."""
    body = b'\xef\xbb\xbfprompt,key,system_instruction\r\n"a ""b"",\nc",007,\r\n,1.0,""\r\ntrue,2020-01-01,x\r\n'
    assert rows(csv(tmp_path, body)) == [
        {"key": "007", "prompt": 'a "b",\nc', "system_instruction": None},
        {"key": "1.0", "prompt": None, "system_instruction": ""},
        {"key": "2020-01-01", "prompt": "true", "system_instruction": "x"},
    ]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", ["Empty"]),
        (b"text\na\n", ["'prompt'", "text"]),
        (b"prompt,key\na,1\nb\n", ["2 columns, got 1"]),
        (b"prompt\na\n\xff\n", ["row 1", "'prompt'"]),
        (b"prompt,key\na,1\nb,\n", ["row 1", "'key'"]),
        (b"prompt,prompt\na,b\n", ["'prompt'"]),
        (b'prompt,key\n"a,1\n', ["columns"]),
    ],
)
def test_what_is_wrong_with_a_csv_is_said(tmp_path, body, said):
    refused(csv(tmp_path, body), "m.csv", *said)


def test_a_long_csv_keeps_its_order_through_all_blocks(tmp_path):
    body = b"prompt\n" + b"".join(b'"%d\n%s"\n' % (n, b"x" * 300) for n in range(120_000))
    assert [int(text.split("\n")[0]) for text in prompts(csv(tmp_path, body))] == list(range(120_000))


# --- Arrow ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [pa.ipc.new_file, pa.ipc.new_stream])
def test_an_arrow_file_that_is_cut_is_refused_by_its_name(tmp_path, make):
    path = tmp_path / "m.arrow"
    table = pa.table({"prompt": [f"prompt {n}" for n in range(50_000)]})
    with pa.OSFile(str(path), "wb") as sink, make(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1_000)
    assert prompts(path) == table["prompt"].to_pylist()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(path, "m.arrow")


# --- the first rows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "expected"), [(1, "a"), (2, "ab"), (3, "abc"), (4, "abcd"), (9, "abcd")])
def test_a_limit_takes_the_first_rows_of_all_files_together(tmp_path, limit, expected):
    pq.write_table(pa.table({"prompt": ["a", "b"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"prompt": ["c", "d"]}), tmp_path / "2.parquet")
    assert prompts(tmp_path, limit=limit) == list(expected)


def test_what_lies_behind_a_limit_is_not_looked_at(tmp_path):
    """A first try of a huge manifest must not need all of it, nor stumble over its end."""
    pq.write_table(pa.table({"prompt": ["a", "b"], "key": ["1", None]}), tmp_path / "1.parquet")
    (tmp_path / "2.parquet").write_bytes(b"broken")
    assert prompts(tmp_path, limit=1) == ["a"]
    refused(tmp_path, "row 1", limit=2)


# --- at a URL ---------------------------------------------------------------------------------------------------------


def test_relative_paths_of_a_manifest_at_a_url_are_objects_beside_it_and_nothing_else_changes():
    given = [
        [{"text": "What?"}, {"path": "a/b.png", "mime_type": "image/png"}],
        None,
        [],
        [{"path": "./a.png"}, {"path": "../a.png"}, {"path": "/a.png"}, {"path": "a/../../b.png"}, {"path": ""}],
        [{"uri": "gs://other/a.png"}, {"data": b"x"}, {}],
    ]
    block = pa.record_batch({"parts": pa.array(given, PARTS), "key": pa.array(list("abcde"))})
    made = with_objects(block, "s3://bucket/letters/")
    due = pa.array(
        [
            [{"text": "What?"}, {"uri": "s3://bucket/letters/a/b.png", "mime_type": "image/png"}],
            None,
            [],
            [{"uri": "s3://bucket/letters/a.png"}, *given[3][1:]],
            given[4],
        ],
        PARTS,
    )
    assert made.column("parts").to_pylist() == due.to_pylist()
    assert made.schema == block.schema
    assert with_objects(block.select(["key"]), "s3://bucket") == block.select(["key"])


# --- the page for users -----------------------------------------------------------------------------------------------


def test_the_page_names_every_kind_of_file_as_the_code_reads_it():
    page = (Path(__file__).parents[2] / "docs" / "manifests.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| ")
    ]
    told = {suffix: row[0] for row in rows for suffix in re.findall(r"`(\.\w+)`", row[1])}
    assert told == KINDS
