"""Manifests of anything: read to the last row, or refused by a message that says where to look.

CHAOS_MANIFESTS makes it more of them. Damaged Parquet files are in test_start.py.
"""

import os
import re
import tempfile
from pathlib import Path

import orjson
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from gemini_batch.coordinator.columns import Columns
from gemini_batch.coordinator.manifest import TableManifest, open_manifest
from gemini_batch.coordinator.start import scan
from gemini_batch.coordinator.template import parse_template
from gemini_batch.errors import BadInput

MANY = settings(max_examples=int(os.environ.get("CHAOS_MANIFESTS", "300")), deadline=None)

PLACE = re.compile(r"\b(rows?|line) \d|column|'\w+'|has no rows|both|is empty")
"""Where to look: a row, a line, a column, or that there is nothing at all."""

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
ANY = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "path", "x"]), inner),
    max_leaves=5,
)
PART = st.dictionaries(st.sampled_from(["text", "path", "uri", "data", "mime_type", "media_resolution"]), SCALARS)
VALUES = {
    "prompt": st.text(max_size=5) | ANY,
    "parts": st.lists(PART, max_size=3) | ANY,
    "key": st.integers() | st.text(max_size=3) | ANY,
    "system_instruction": st.text(max_size=5) | ANY,
    "note": ANY,
}


SOUND = {
    "prompt": st.text(max_size=5) | st.none(),
    "parts": st.lists(st.fixed_dictionaries({}, optional={"text": st.text(max_size=5), "path": st.text(max_size=5)})),
    "system_instruction": st.text(max_size=5) | st.none(),
    "note": ANY,
}


@st.composite
def lines(draw):
    """Lines of a file: objects of the same columns, among them one or two of anything, or none."""
    columns = [
        draw(st.sampled_from(["prompt", "parts"])),
        *draw(st.sets(st.sampled_from(["system_instruction", "note"]))),
    ]
    good = st.fixed_dictionaries({name: SOUND[name] for name in columns}).map(orjson_or_text)
    odd = st.fixed_dictionaries({}, optional=VALUES) | ANY
    strange = draw(st.lists(odd.map(orjson_or_text) | st.binary(max_size=20), max_size=2))
    return draw(st.permutations(draw(st.lists(good, min_size=1, max_size=5)) + strange))


def orjson_or_text(value):
    """JSON as far as it goes: whole numbers of any size, and NaN as other writers spell it."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return repr(value).encode()


def looked_at(opened, asked, limits, count):
    try:
        plan = scan(opened(), asked(), (Path(tempfile.gettempdir()),), limits())
    except BadInput as error:
        assert "m.jsonl" in str(error)
        assert PLACE.search(str(error)), str(error)
    else:
        assert plan.rows == count


@MANY
@given(lines())
def test_any_lines_are_read_to_the_last_or_refused_with_the_place(asked, limits, lines):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.jsonl"
        path.write_bytes(b"\n".join(lines))
        count = sum(bool(line.strip()) for line in path.read_bytes().split(b"\n"))
        looked_at(lambda: open_manifest(path, Columns()), asked, limits, count)


TYPES = [
    pa.string(), pa.large_string(), pa.binary(), pa.int8(), pa.uint64(), pa.float64(), pa.bool_(), pa.null(),
    pa.timestamp("us", "UTC"), pa.date32(), pa.list_(pa.string()), pa.struct([("text", pa.string())]),
    pa.list_(pa.struct([("text", pa.string())])), pa.large_list(pa.struct([("data", pa.binary()), ("x", pa.int8())])),
    pa.dictionary(pa.int8(), pa.string()), pa.map_(pa.string(), pa.string()), pa.decimal128(7, 2),
]  # fmt: skip


@st.composite
def tables(draw):
    """Columns of any type under the names that mean something, with nulls."""
    count = draw(st.integers(0, 4))
    names = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=4))  # one name may come twice
    kinds = [draw(st.sampled_from(TYPES)) for _ in names]
    return pa.table([pa.nulls(count, kind) if draw(st.booleans()) else filled(count, kind) for kind in kinds], names)


def filled(count, kind):
    """Values that the type has, all alike but for numbers and text."""
    samples = {
        pa.types.is_boolean: True, pa.types.is_struct: {}, pa.types.is_map: [("a", "b")], pa.types.is_date: 1,
        pa.types.is_timestamp: 1, pa.types.is_null: None,
    }  # fmt: skip
    for test, sample in samples.items():
        if test(kind):
            return pa.array([sample] * count, kind)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = {} if pa.types.is_struct(kind.value_type) else "a"
        return pa.array([[inner] * at for at in range(count)], kind)
    if pa.types.is_dictionary(kind):
        return pa.array([str(at) for at in range(count)]).dictionary_encode().cast(kind)
    if pa.types.is_binary(kind):
        return pa.array([b"\xff"] * count, kind)
    return pa.array(range(count), pa.int8()).cast(kind)


@MANY
@given(tables())
def test_a_table_of_any_types_is_read_to_the_last_row_or_refused_with_the_place(asked, limits, table):
    """As Parquet or Arrow files hold it, and as a program hands it over."""
    try:
        manifest = TableManifest(table, "m.jsonl", Path(tempfile.gettempdir()), Columns())
    except BadInput as error:
        assert PLACE.search(str(error)), str(error)
    else:
        looked_at(lambda: manifest, asked, limits, table.num_rows)


@MANY
@given(tables(), st.lists(st.sampled_from(["note", "prompt", "parts"]), unique=True), st.booleans(), st.booleans())
def test_columns_of_any_types_are_rendered_shown_and_kept_or_refused_with_the_place(
    asked, limits, table, keep, rendered, pictured
):
    template = parse_template("{prompt} {note}") if rendered else None
    columns = Columns(template=template, image="note" if pictured else None, keep=tuple(keep))
    try:
        manifest = TableManifest(table, "m.jsonl", Path(tempfile.gettempdir()), columns)
    except BadInput as error:
        assert PLACE.search(str(error)), str(error)
    else:
        looked_at(lambda: manifest, asked, limits, table.num_rows)


CSV = st.text('a,"\n\r \u00e9', max_size=30).map(str.encode) | st.binary(max_size=30)


@MANY
@given(CSV)
def test_a_csv_of_anything_is_read_or_refused_by_its_name(asked, limits, body):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.csv"
        path.write_bytes(b"prompt,key\n" + body)
        try:
            scan(open_manifest(path, Columns()), asked(), (), limits())
        except BadInput as error:
            assert "m.csv" in str(error)
