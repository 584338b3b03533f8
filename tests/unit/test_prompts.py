"""What a program hands over as prompts becomes the rows of a manifest, or is refused by the number of the prompt."""

import io
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gemini_batch.coordinator.columns import Columns
from gemini_batch.coordinator.fetched import open_source
from gemini_batch.errors import BadInput
from gemini_batch.library.prompts import is_list, read_source

TEXT = st.text(st.characters(codec="utf-8"))
PARTS = st.lists(st.lists(TEXT | st.binary()), min_size=1)


def said(part):
    """A part without what it has not."""
    return {name: value for name, value in part.items() if value is not None}


def rows_of(source, **columns):
    blocks = list(open_source(read_source(source), Columns(**columns)).blocks())
    return [row for block in blocks for row in block.to_pylist()]


@given(PARTS)
def test_a_list_keeps_every_part_and_their_order(prompts):
    found = [[said(part) for part in row] for row in read_source(prompts).column("parts").to_pylist()]
    assert found == [
        [{"text": part} if isinstance(part, str) else {"data": part} for part in prompt] for prompt in prompts
    ]


def test_any_iterable_of_prompts_is_a_list():
    assert read_source(["a"] for _ in range(3)).num_rows == read_source((("a",), ("b",), ["c"])).num_rows == 3
    assert is_list(iter([["a"]]))


def test_parts_of_the_sdk_keep_their_type_and_detail():
    low = {"level": "MEDIA_RESOLUTION_LOW"}
    prompt = [
        types.Part(text="Look:"),
        types.Part(inline_data=types.Blob(data=b"x", mime_type="image/png"), media_resolution=low),
        types.Part.from_uri(file_uri="gs://bucket/a.pdf", mime_type="application/pdf"),
    ]
    ((*parts,),) = read_source([prompt]).column("parts").to_pylist()
    assert [said(part) for part in parts] == [
        {"text": "Look:"},
        {"data": b"x", "mime_type": "image/png", "media_resolution": "MEDIA_RESOLUTION_LOW"},
        {"uri": "gs://bucket/a.pdf", "mime_type": "application/pdf"},
    ]


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (types.Part(file_data={"file_uri": "files/1"}, video_metadata={"fps": 2}), "video_metadata"),
        (types.Part.from_function_call(name="f", args={}), "function_call"),
        (types.Part(), "text, inline_data or file_data"),
        (types.Content(parts=[]), "is a Content"),
        ({"text": "a"}, "is a dict"),
        (None, "is a NoneType"),
        (Image.new("F", (0, 0)), "cannot be written"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_prompt_and_part(part, says):
    with pytest.raises(BadInput, match=f"prompt 1, part 2.*{says}"):
        read_source([["fine"], ["a", b"b", part]])


@pytest.mark.parametrize(
    ("prompts", "says"),
    [
        ({"a": 1}, "prompts is a dict"),
        (b"text", "prompts is a bytes"),
        (7, "prompts is a int"),
        (["text"], r"prompt 0 is a str.*\['text'\]"),
        (pl.Series(["a"]), "Series is no table"),
        (pa.array(["a"]), "is no table"),
        (pl.DataFrame({"question": ["a"]}).lazy(), "LazyFrame"),
    ],
)
def test_what_holds_no_prompts_is_refused(prompts, says):
    with pytest.raises(BadInput, match=says):
        read_source(prompts)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "HSV", "LAB", "YCbCr", "I;16", "I"])
def test_pictures_of_every_mode_become_png(mode):
    (((part,),),) = [read_source([[Image.new(mode, (3, 2))]]).column("parts").to_pylist()]
    assert Image.open(io.BytesIO(part["data"])).size == (3, 2)


def test_a_path_is_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (((part,),),) = [read_source([[Path("a.png")]]).column("parts").to_pylist()]
    assert part["path"] == str(tmp_path / "a.png")


COLUMNS = {"prompt": ["Ä", None, "c"], "key": ["x", "y", "z"], "stars": [1, 2, 3]}
RELATION = "select * from (values ('Ä', 'x', 1), (null, 'y', 2), ('c', 'z', 3)) t(prompt, key, stars)"


FRAMES = {
    "Table": lambda: pa.table(COLUMNS),
    "RecordBatch": lambda: pa.record_batch(COLUMNS),
    "RecordBatchReader": lambda: pa.table(COLUMNS).to_reader(),
    "pandas": lambda: pd.DataFrame(COLUMNS),
    "pandas with an index": lambda: pd.DataFrame(COLUMNS, index=[7, 8, 9]),
    "pandas categories": lambda: pd.DataFrame(COLUMNS).astype({"key": "category"}),
    "polars": lambda: pl.DataFrame(COLUMNS),
    "polars categories": lambda: pl.DataFrame(COLUMNS).with_columns(pl.col("key").cast(pl.Categorical)),
    "duckdb": lambda: duckdb.sql(RELATION),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_is_a_manifest(name):
    assert not is_list(FRAMES[name]())
    assert rows_of(FRAMES[name](), keep=("stars",)) == [
        {"key": key, "prompt": prompt, "keep.stars": stars}
        for prompt, key, stars in zip(*COLUMNS.values(), strict=True)
    ]


def test_a_frame_may_hold_parts_and_pictures():
    frame = pl.DataFrame({"parts": [[{"text": "a", "data": None}, {"text": None, "data": b"png"}]]})
    ((row),) = rows_of(frame)
    assert [said(part) for part in row["parts"]] == [{"text": "a"}, {"data": b"png"}]
    (row,) = rows_of(pl.DataFrame({"prompt": ["a"], "picture": [b"png"]}), image="picture")
    assert [said(part) for part in row["parts"]] == [{"text": "a"}, {"data": b"png"}]


def test_what_is_kept_of_polars_can_be_filtered_by_any_reader():
    """It hands over text as views, and Arrow can neither filter these nor decode categories of them."""
    texts = {"prompt": ["a"], "text": ["x"], "texts": [["x"]], "deep": [{"bytes": b"x"}]}
    frame = pl.DataFrame(texts).with_columns(kind=pl.col("text").cast(pl.Categorical))
    (block,) = open_source(read_source(frame), Columns(keep=("text", "texts", "deep", "kind"))).blocks()
    assert "view" not in str(block.schema)
    (row,) = block.filter(pa.array([True])).to_pylist()
    assert row == {"prompt": "a", "keep.text": "x", "keep.texts": ["x"], "keep.deep": {"bytes": b"x"}, "keep.kind": "x"}
