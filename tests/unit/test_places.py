"""Paths and URLs of run directories: what is taken, in which spelling, and what is refused without being shown."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.errors import BadInput
from gemini_batch.ledger.objects import ObjectStore
from gemini_batch.ledger.places import is_url, join, newest, open_store, relative, split
from gemini_batch.ledger.posix import PosixStore

CANARY = "CANARY-7f3a91"
NAMES = st.text("abcXYZ019-_. ", min_size=1).filter(lambda name: name not in {".", ".."})
ROOTS = st.sampled_from(["s3://bucket", "gs://bucket/runs", "az://container/a/b"])


@pytest.mark.parametrize(
    ("place", "url"),
    [
        ("s3://b", "s3://b"),
        ("S3://b/runs/", "s3://b/runs"),
        ("gs://b//runs//x", "gs://b/runs/x"),
        ("az://container/x y", "az://container/x y"),
    ],
)
def test_a_url_has_one_spelling(place, url):
    """Two spellings of one directory would be two directories to `status` and to those who compare."""
    store = open_store(place)
    assert isinstance(store, ObjectStore)
    assert store.url == url


@pytest.mark.parametrize("place", ["runs", "/tmp/x", "../x", "s3", "a:b", "./s3:/x"])
def test_everything_else_is_a_path(place):
    store = open_store(place)
    assert isinstance(store, PosixStore)
    assert store.root == Path(place)


@pytest.mark.parametrize(
    "place",
    [
        f"https://user:{CANARY}@host/runs",
        f"file:///{CANARY}",
        f"redis://{CANARY}@host",
        f"s3://key:{CANARY}@bucket/runs",
        f"s3://key:{CANARY[:6]}/{CANARY}@bucket/runs",
        f"az://container/runs?sig={CANARY}",
        f"gs://bucket/runs#{CANARY}",
        f"s3://bucket:{CANARY}/runs",
    ],
)
def test_a_url_that_is_none_of_ours_or_holds_a_secret_is_refused_and_not_shown(place):
    """What is typed as RUN or --out is written into records and shown by status."""
    for use in (open_store, split):
        with pytest.raises(BadInput, match=r"(known are s3|no user)") as caught:
            use(place)
        assert CANARY not in str(caught.value)


@pytest.mark.parametrize("place", ["s3://", "s3:///x", "s3://b/../c", "gs://b/./c", "s3:/b/x"])
def test_a_url_without_a_bucket_or_with_dots_or_a_lost_slash_is_refused(place):
    with pytest.raises(BadInput):
        open_store(place)


@given(root=ROOTS, name=NAMES)
def test_what_was_joined_is_split_again(root, name):
    place = join(root, name)
    assert is_url(place)
    assert split(place) == (root, name)
    assert relative(place, f"{root}/") == name
    assert open_store(place).url == place


@pytest.mark.parametrize(
    ("place", "root", "name"),
    [
        ("runs/x", "./runs", "x"),
        ("runs/a/../b/c", "runs", "b/c"),
        ("runs", "runs", None),
        ("runs-old/x", "runs", None),
        ("s3://b/runs/a/b", "S3://b//runs/", "a/b"),
        ("s3://b/runs", "s3://b/runs", None),
        ("s3://b/runs-old/x", "s3://b/runs", None),
        ("gs://b/runs/x", "s3://b/runs", None),
        ("s3://b/x", ".", None),
        ("x", "s3://b", None),
    ],
)
def test_the_name_below_a_root_is_known_in_every_spelling(place, root, name):
    """Messages carry names below the runs root and never paths."""
    assert relative(place, root) == name


def test_paths_are_joined_as_paths():
    assert join("./runs", "x") == "runs/x"
    assert join("s3://b/runs/", "x") == "s3://b/runs/x"


def test_a_manifest_is_an_object_and_no_bucket():
    with pytest.raises(BadInput, match="bucket"):
        split("s3://bucket")


def test_the_newest_run_is_the_one_whose_record_was_written_last(tmp_path):
    """A run directory without its record is debris, and other files are none of ours."""
    for name in ("b", "c", "a"):
        PosixStore(tmp_path / name).create("run.json", b"{}")
    (tmp_path / "d").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    assert newest(str(tmp_path)) == str(tmp_path / "a")
    assert newest(str(tmp_path / "d")) is None
    assert newest(str(tmp_path / "nowhere")) is None
