"""A manifest in any of its forms becomes the same blocks, or a BadInput that says where."""

import base64
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gemini_batch.coordinator.columns import Columns
from gemini_batch.coordinator.manifest import TableManifest, open_manifest
from gemini_batch.coordinator.start import scan
from gemini_batch.errors import BadInput
from gemini_batch.parquet import BLOCK_ROWS
from gemini_batch.parts import PARTS


def read(path, **columns):
    """All rows of a manifest as dicts."""
    return [row for block in open_manifest(path, Columns(**columns)).blocks() for row in block.to_pylist()]


def parquet(folder, table, **options):
    path = folder / "m.parquet"
    pq.write_table(table, path, **options)
    return path


def jsonl(folder, *lines, name="m.jsonl"):
    path = folder / name
    path.write_bytes(b"".join((x if isinstance(x, bytes) else json.dumps(x).encode()) + b"\n" for x in lines))
    return path


def refused(path, *said, **columns):
    with pytest.raises(BadInput) as caught:
        read(path, **columns)
    for word in (path.name, *said):
        assert str(word) in str(caught.value)


# --- Parquet ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prompts",
    [
        pa.array(["a", None, "ü"], pa.string()),
        pa.array(["a", None, "ü"], pa.large_string()),
        pa.array(["a", None, "ü"], pa.string_view()),
        pa.array(["a", None, "ü"]).dictionary_encode(),
        pa.array(["a", None, "ü"], pa.large_string()).dictionary_encode(),
    ],
    ids=lambda array: str(array.type)[:30],
)
def test_text_of_any_arrow_type_is_a_prompt(tmp_path, prompts):
    """polars writes large_string, pandas categories are dictionaries, DuckDB likes string_view."""
    assert [row["prompt"] for row in read(parquet(tmp_path, pa.table({"prompt": prompts})))] == ["a", None, "ü"]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (pa.array([1, 2], pa.int64()), ["1", "2"]),
        (pa.array([1, 2], pa.uint8()), ["1", "2"]),
        (pa.array([2**64 - 1, 0], pa.uint64()), [str(2**64 - 1), "0"]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array([True, False]), ["true", "false"]),
        (pa.array([b"a", b"b"]), ["a", "b"]),
    ],
)
def test_a_key_may_be_any_scalar_and_is_echoed_as_text(tmp_path, keys, expected):
    rows = read(parquet(tmp_path, pa.table({"key": keys, "prompt": ["x", "y"]})))
    assert [row["key"] for row in rows] == expected


def test_columns_go_by_the_names_the_user_gives(tmp_path):
    table = pa.table({"id": ["k"], "question": ["q"], "key": ["other"], "note": [1]})
    assert read(parquet(tmp_path, table), prompt="question", key="id") == [{"key": "k", "prompt": "q"}]


def test_without_keys_there_is_no_key_column(tmp_path):
    assert read(parquet(tmp_path, pa.table({"prompt": ["a"], "system_instruction": [None]}))) == [
        {"prompt": "a", "system_instruction": None}
    ]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"text": ["a"]}, ["'prompt'", "text"]),
        ({"prompt": ["a"], "parts": [[{"text": "a"}]]}, ["prompt", "parts", "both"]),
        ({"prompt": [1]}, ["'prompt'", "int64"]),
        ({"prompt": [b"a"]}, ["'prompt'", "binary"]),
        ({"prompt": ["a"], "system_instruction": [1]}, ["'system_instruction'", "int64"]),
        ({"prompt": ["a"], "key": [["a"]]}, ["'key'", "list"]),
        ({"prompt": ["a", "b"], "key": ["a", None]}, ["'key'", "row 1"]),
        ({"prompt": ["a"], "key": [b"\xff"]}, ["'key'"]),
        ({"parts": ["a"]}, ["'parts'", "string"]),
        ({"parts": [["a"]]}, ["'parts'", "list of structs"]),
        ({"parts": [[{"text": "a", "colour": "red"}]]}, ["'parts'", "'colour'", "text, path, uri, data"]),
        ({"parts": [[{"data": 1}]]}, ["parts"]),
        ({"parts": [[{"text": b"\xff"}]]}, []),
        ({"prompt": pa.array([], pa.string())}, []),
    ],
)
def test_what_is_wrong_with_a_manifest_is_said_with_its_name_column_and_row(tmp_path, limits, asked, table, said):
    """The user must find the place without reading our code; the same for a file and for a table in memory."""

    path = parquet(tmp_path, pa.table(table))
    for manifest in (
        lambda: open_manifest(path, Columns()),
        lambda: TableManifest(pa.table(table), "m.parquet", tmp_path, Columns()),
    ):
        with pytest.raises(BadInput) as caught:
            scan(manifest(), asked(), (tmp_path,), limits())
        assert [word for word in ("m.parquet", *said) if word not in str(caught.value)] == []


def test_the_row_of_an_empty_key_counts_through_all_blocks(tmp_path):
    keys = [str(n) for n in range(BLOCK_ROWS + 10)]
    keys[BLOCK_ROWS + 3] = None
    refused(parquet(tmp_path, pa.table({"prompt": ["a"] * len(keys), "key": keys})), f"row {BLOCK_ROWS + 3}")


def test_a_named_column_that_is_missing_is_refused(tmp_path):
    path = parquet(tmp_path, pa.table({"prompt": ["a"]}))
    refused(path, "'id'", key="id")
    refused(path, "'question'", prompt="question")


def test_two_columns_of_one_name_are_refused(tmp_path):
    """Which of the two was meant is not ours to guess."""
    refused(parquet(tmp_path, pa.table([["a"], ["b"]], names=["prompt", "prompt"])), "prompt")


def test_bytes_that_are_no_text_are_refused_with_their_column(tmp_path, asked, limits):
    """A Parquet writer does not check; the row cannot become JSON."""

    offsets = pa.array([0, 1, 2], pa.int32()).buffers()[1]
    broken = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"a\xff")])
    for table in (pa.table({"prompt": broken}), pa.table({"prompt": ["a", "b"], "key": broken})):
        path = parquet(tmp_path, table)
        with pytest.raises(BadInput, match=r"m\.parquet"):
            scan(open_manifest(path, Columns()), asked(), (tmp_path,), limits())


def test_the_column_of_parts_may_be_named_as_the_prompt_column(tmp_path):
    """`--prompt-column parts` asks for what is done anyway."""
    path = parquet(tmp_path, pa.table({"parts": [[{"text": "a"}]]}))
    assert [part["text"] for row in read(path, prompt="parts") for part in row["parts"]] == ["a"]


FEWER = pa.struct([("text", pa.large_string()), ("data", pa.large_binary())])
VALUES = [[{"text": "a", "data": None}], None, [], [{"text": None, "data": b"b"}, {"text": "c", "data": None}], [None]]


def full(part):
    names = [field.name for field in PARTS.value_type]
    return {name: (part or {}).get(name) for name in names}


@pytest.mark.parametrize("kind", [pa.list_(FEWER), pa.large_list(FEWER)], ids=["list", "large_list"])
@pytest.mark.parametrize(("start", "stop"), [(0, 5), (1, 5), (2, 4), (1, 2), (4, 5)])
def test_parts_with_fewer_fields_other_widths_nulls_and_slices_are_filled_up(tmp_path, kind, start, stop):
    """Arrow has many ways to say the same list; a wrong offset would give a row another row's parts."""
    table = pa.table({"parts": pa.array([[{"text": "before"}], *VALUES], kind)}).slice(1 + start, stop - start)
    expected = [None if row is None else [full(part) for part in row] for row in VALUES[start:stop]]
    (block,) = TableManifest(table, "t", tmp_path, Columns()).blocks()
    assert block.schema.field("parts").type == PARTS
    assert block.column("parts").to_pylist() == expected
    assert [row["parts"] for row in read(parquet(tmp_path, table))] == expected


# --- JSONL ------------------------------------------------------------------------------------------------------------


def test_jsonl_rows_keep_their_order_and_blank_lines_are_none(tmp_path):
    path = jsonl(tmp_path, {"prompt": "a", "key": 1}, b"", b"  ", {"prompt": None, "key": 2.5}, {"key": True}, b"\t")
    assert [(row["key"], row["prompt"]) for row in read(path)] == [("1", "a"), ("2.5", None), ("true", None)]


def test_jsonl_without_a_final_newline_and_with_windows_line_ends(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"prompt": "a"}\r\n\r\n{"prompt": "b"}')
    assert [row["prompt"] for row in read(path)] == ["a", "b"]


def test_a_line_separator_inside_jsonl_text_does_not_end_the_line(tmp_path):
    """U+2028 is not a line end in JSON, though it is for str.splitlines."""
    path = jsonl(tmp_path, '{"prompt": "a\u2028b\u0085c"}'.encode())
    assert [row["prompt"] for row in read(path)] == ["a\u2028b\u0085c"]


def test_data_of_a_jsonl_part_is_base64(tmp_path):
    path = jsonl(tmp_path, {"parts": [{"text": "a"}, {"data": base64.b64encode(b"\0\xff").decode()}]})
    assert [part["data"] for part in read(path)[0]["parts"]] == [None, b"\0\xff"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([{"prompt": "a"}, b"{"], ["line 2"]),
        ([b"", {"prompt": "a"}, b'{"prompt": "\xff"}'], ["line 3"]),
        ([{"prompt": "a"}, ["a"]], ["line 2", "object"]),
        ([b"null"], ["line 1"]),
        ([{"prompt": "a"}, {"prompt": 1}], ["row 1", "'prompt'", "int"]),
        ([{"prompt": "a", "key": ["x"]}], ["row 0", "'key'"]),
        ([{"prompt": "a", "key": "x"}, {"prompt": "b"}], ["row 1", "'key'"]),
        ([{"prompt": "a", "system_instruction": {}}], ["row 0", "'system_instruction'"]),
        ([{"parts": "a"}], ["row 0", "'parts'"]),
        ([{"parts": [{"text": "a"}]}, {"parts": ["a"]}], ["row 1", "'parts'"]),
        ([{"parts": [{"colour": "a"}]}], ["row 0", "'colour'"]),
        ([{"parts": [{"text": 1}]}], ["row 0", "text"]),
        ([{"parts": [{"data": "!"}]}], ["row 0", "base64"]),
        ([{"parts": [{"data": "ü"}]}], ["row 0", "base64"]),
        ([{"text": "a"}], ["'prompt'", "text"]),
        ([{"prompt": "a", "parts": []}], ["both"]),
        ([b"[" * 5000], ["line 1"]),
    ],
)
def test_what_is_wrong_with_jsonl_is_said_with_its_line_or_row(tmp_path, lines, said):
    refused(jsonl(tmp_path, *lines), *said)


def test_a_field_that_first_appears_late_in_jsonl_is_not_dropped_in_silence(tmp_path):
    """A system instruction that is left out buys a wrong answer."""
    rows = [{"prompt": "a"}] * BLOCK_ROWS + [{"prompt": "b", "system_instruction": "be kind"}]
    path = jsonl(tmp_path, *rows)
    try:
        assert read(path)[-1].get("system_instruction") == "be kind"
    except BadInput as error:
        assert "system_instruction" in str(error)


def test_rows_of_jsonl_may_leave_out_what_the_first_had(tmp_path):
    path = jsonl(tmp_path, {"prompt": "a", "system_instruction": "s"}, *[{"prompt": "b"}] * (BLOCK_ROWS + 5))
    rows = read(path)
    assert (len(rows), rows[0]["system_instruction"], rows[-1]["system_instruction"]) == (BLOCK_ROWS + 6, "s", None)


# --- other ------------------------------------------------------------------------------------------------------------


def test_an_arrow_file_or_stream_is_a_manifest(tmp_path):
    table = pa.table({"prompt": ["a", "b"]})
    for name, make in (("m.arrow", pa.ipc.new_file), ("s.arrow", pa.ipc.new_stream)):
        with pa.OSFile(str(tmp_path / name), "wb") as sink, make(sink, table.schema) as writer:
            writer.write(table)
        assert [row["prompt"] for row in read(tmp_path / name)] == ["a", "b"]


@pytest.mark.parametrize("name", ["m.parquet", "m.arrow", "m.txt"])
@pytest.mark.parametrize("body", [b"", b"PAR1", b"\0" * 100, b"ARROW1\0\0" * 4])
def test_a_file_of_another_kind_is_refused_by_name(tmp_path, name, body):
    (tmp_path / name).write_bytes(body)
    refused(tmp_path / name)


def test_a_missing_file_is_refused(tmp_path):
    refused(tmp_path / "absent.parquet", "does not exist")


def test_an_empty_chunk_of_a_table_is_no_row(tmp_path, asked, limits):
    """Filters and concatenations leave empty chunks."""

    table = pa.table({"prompt": pa.chunked_array([pa.array([], pa.string()), pa.array(["a"])])})
    assert scan(TableManifest(table, "t", tmp_path, Columns()), asked(), (tmp_path,), limits()).rows == 1
