"""A template says what each prompt is, to the letter; a picture follows its text."""

import string

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.config import resolve
from gemini_batch.coordinator.columns import Columns, read_columns
from gemini_batch.coordinator.manifest import TableManifest, open_manifest
from gemini_batch.coordinator.start import scan
from gemini_batch.coordinator.template import parse_template
from gemini_batch.errors import BadInput
from gemini_batch.parts import FIELDS


def rows(table, template=None, **columns):
    asked = Columns(template=None if template is None else parse_template(template), **columns)
    manifest = TableManifest(table, "t", None, asked)
    return [row for block in manifest.blocks() for row in block.to_pylist()]


def prompts(table, template):
    return [row["prompt"] for row in rows(table, template)]


# --- templates --------------------------------------------------------------------------------------------------------

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="{}"), min_size=1, max_size=5)
LITERALS = st.text(st.characters(codec="utf-8"), max_size=8)


@given(st.lists(st.tuples(LITERALS, NAMES), max_size=4), LITERALS)
def test_a_template_is_read_back_as_it_was_put_together(pairs, end):
    doubled = [literal.replace("{", "{{").replace("}", "}}") for literal, _ in pairs]
    text = "".join(f"{literal}{{{name}}}" for literal, (_, name) in zip(doubled, pairs, strict=True))
    made = parse_template(text + end.replace("{", "{{").replace("}", "}}"))
    assert made.columns == tuple(name for _, name in pairs)
    assert made.pieces == (*(literal for literal, _ in pairs), end)
    assert parse_template(made.text) == made


@given(st.lists(st.text(string.ascii_letters, min_size=1, max_size=3), min_size=1, max_size=3, unique=True), st.data())
def test_a_prompt_is_what_python_would_format(names, data):
    values = {name: data.draw(st.text(st.characters(codec="utf-8"), max_size=5)) for name in names}
    text = "{{" + "-".join(f"{{{name}}}" for name in names) + "}}"
    assert prompts(pa.table({name: [value] for name, value in values.items()}), text) == [text.format(**values)]


@pytest.mark.parametrize("text", ["{", "a {b", "}", "a} b", "{}", "{a{b}}", "{{}", "{a}}"])
def test_a_brace_that_stands_alone_is_refused_with_its_place(text):
    with pytest.raises(BadInput, match=r"--template, character \d"):
        parse_template(text)


def test_what_looks_like_a_format_is_the_name_of_a_column():
    """`{column}` only: neither attributes nor conversions nor widths."""
    table = pa.table({"a.b": ["x"], "c!r": ["y"], "d:>5": ["z"], "0": ["w"]})
    assert prompts(table, "{a.b}{c!r}{d:>5}{0}") == ["xyzw"]


def test_a_null_renders_empty_and_a_row_of_nothing_else_has_no_prompt():
    table = pa.table({"a": ["x", None, None, ""], "b": ["y", "z", None, ""]})
    assert prompts(table, "[{a}|{b}|{a}]") == ["[x|y|x]", "[|z|]", None, "[||]"]
    assert prompts(table, "same") == ["same"] * 4


def test_scalars_render_as_text():
    table = pa.table(
        {
            "i": [7],
            "f": [1.5],
            "b": [True],
            "d": pa.array([0], pa.date32()),
            "t": pa.array(["a"]).dictionary_encode(),
        }
    )
    assert prompts(table, "{i} {f} {b} {d} {t}") == ["7 1.5 true 1970-01-01 a"]


@pytest.mark.parametrize(
    ("columns", "said"), [({"a": [["x"]]}, ["'a'", "scalar"]), ({"b": ["x"]}, ["'a'", "--template", "it has b"])]
)
def test_a_template_of_a_column_that_cannot_be_text_is_refused(columns, said):
    with pytest.raises(BadInput) as caught:
        rows(pa.table(columns), "{a}")
    assert [word for word in said if word not in str(caught.value)] == []


def test_empty_values_are_counted_for_the_rows_that_are_read(asked, limits, tmp_path):
    table = pa.table({"a": ["x", None, None, "y"], "b": ["1", None, "2", "3"], "prompt": ["p"] * 4})
    columns = Columns(template=parse_template("{a}{b}{a}"), limit=3)
    manifest = TableManifest(table, "t", tmp_path, columns)
    for _ in range(2):
        plan = scan(manifest, asked(), (), limits())
        assert (plan.empty, plan.rows, sum(shard.requests for shard in plan.shards)) == ({"a": 2, "b": 1}, 3, 2)


def test_a_run_is_the_same_however_its_prompts_were_written(asked, limits, tmp_path):
    """What is asked is the run's identity: a template, its rendered prompts, a CSV and a first part of more rows."""
    (tmp_path / "m.csv").write_text("t,u\na,b\nc,d\n")
    pq.write_table(pa.table({"prompt": ["a-b", "c-d", "more"]}), tmp_path / "m.parquet")
    digests = {
        scan(manifest, asked(), (), limits()).rows_digest
        for manifest in (
            TableManifest(pa.table({"prompt": ["a-b", "c-d"]}), "t", tmp_path, Columns()),
            open_manifest(tmp_path / "m.csv", Columns(template=parse_template("{t}-{u}"))),
            open_manifest(tmp_path / "m.parquet", Columns(limit=2)),
        )
    }
    assert len(digests) == 1


def test_a_long_template_does_not_make_blocks_that_fill_the_memory():
    table = pa.table({"a": [str(n) for n in range(1_000)]})
    long = "x" * 1_000_000
    manifest = TableManifest(table, "t", None, Columns(template=parse_template(long + "{a}"), limit=300))
    sizes = [block.num_rows for block in manifest.blocks()]
    assert sum(sizes) == 300
    assert max(sizes) < 150


def test_jsonl_scalars_render_as_json_says_them(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"a": 1, "b": true}\n{"a": "x"}\n{"a": 2.5, "b": null}\n')
    columns = Columns(template=parse_template("{a} {b}"))
    made = [
        row["prompt"] for block in open_manifest(tmp_path / "m.jsonl", columns).blocks() for row in block.to_pylist()
    ]
    assert made == ["1 true", "x ", "2.5 "]


def test_a_template_may_be_a_file_and_excludes_a_prompt_column(tmp_path):
    (tmp_path / "t.txt").write_text("Read {a}\nand answer.\n")
    assert read_columns(resolve({"template": f"@{tmp_path}/t.txt"})).template == parse_template("Read {a}\nand answer.")
    for options, said in (
        ({"template": "{a}", "prompt_column": "b"}, "--prompt-column"),
        ({"template": f"@{tmp_path}/gone"}, "gone"),
        ({"template": "{"}, "character 1"),
    ):
        with pytest.raises(BadInput, match=said):
            read_columns(resolve(options))


# --- a column of pictures ---------------------------------------------------------------------------------------------


def part(**content):
    return {**dict.fromkeys(FIELDS), **content}


def test_a_path_a_uri_or_bytes_follow_the_text():
    table = pa.table({"prompt": ["a", "b", "c", "d"], "i": ["x/y.png", "gs://b/y.png", "files/abc-1", "files/x.png"]})
    pictures = [{"path": "x/y.png"}, {"uri": "gs://b/y.png"}, {"uri": "files/abc-1"}, {"path": "files/x.png"}]
    assert [row["parts"] for row in rows(table, image="i")] == [
        [part(text=text), part(**picture)] for text, picture in zip("abcd", pictures, strict=True)
    ]
    table = pa.table({"prompt": ["a"], "i": pa.array([b"\x89"], pa.large_binary())})
    assert rows(table, image="i") == [{"parts": [part(text="a"), part(data=b"\x89")]}]


def test_a_row_without_a_text_has_no_parts_and_one_without_a_picture_an_empty_one():
    """Both fail alone and unpaid, the one as a row without a prompt, the other for its missing picture."""
    table = pa.table({"prompt": [None, "", "c"], "i": ["p", "p", None]})
    assert [row["parts"] for row in rows(table, image="i")] == [None, None, [part(text="c"), part()]]


def test_a_template_and_pictures_go_together():
    table = pa.table({"i": ["p.png"], "key": [1]})
    assert rows(table, "What is this?", image="i") == [
        {"key": "1", "parts": [part(text="What is this?"), part(path="p.png")]}
    ]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"prompt": ["a"]}, "--image-column"),
        ({"prompt": ["a"], "i": [1]}, "int64"),
        ({"parts": [[{"text": "a"}]], "i": ["p"]}, "--image-column"),
    ],
)
def test_a_column_that_holds_no_pictures_is_refused(columns, said):
    with pytest.raises(BadInput, match=said):
        rows(pa.table(columns), image="i")
