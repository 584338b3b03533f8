"""Which runs a fleet works on: entries come and go, and none leads out of the runs root."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.errors import BadInput
from gemini_batch.fleet.registry import FOLDER, Registry
from gemini_batch.ledger.posix import PosixStore

OUTSIDE = [
    "/",
    "/etc",
    "//etc",
    "..",
    "../other",
    "a/../../b",
    "a/..",
    "a/b/..",
    ".",
    "./a",
    ".hidden",
    ".active/a",
    "..a",
]


@pytest.fixture
def registry(tmp_path):
    return Registry(PosixStore(tmp_path))


@pytest.fixture
def write(tmp_path):
    """Put an entry there as anybody who may write to the runs root could."""

    def put(run, body):
        (tmp_path / FOLDER).mkdir(exist_ok=True)
        (tmp_path / FOLDER / f"{run}.json").write_bytes(body)

    return put


def test_of_a_root_that_nobody_used_yet_nothing_is_known(registry):
    """A worker may be there before the first submit."""
    assert registry.ids() == []
    assert registry.where("run") is None
    registry.remove("run")


def test_a_run_is_known_from_the_moment_it_is_handed_over_until_it_is_taken_back(registry):
    """The registry alone says what a fleet works on."""
    registry.add("b", "runs/b")
    registry.add("a", "a")
    assert (registry.ids(), registry.where("a"), registry.where("b")) == (["a", "b"], "a", "runs/b")
    registry.remove("a")
    assert (registry.ids(), registry.where("a")) == (["b"], None)


def test_handing_over_again_replaces_the_entry_and_taking_back_again_is_fine(registry):
    """Submit and resume do so whenever they are called; a run directory may have been moved."""
    registry.add("a", "old")
    registry.add("a", "new")
    assert (registry.ids(), registry.where("a")) == (["a"], "new")
    registry.remove("a")
    registry.remove("a")
    assert registry.ids() == []


def test_an_entry_outlives_the_process_that_made_it(registry, tmp_path):
    """The submitter may leave for good the moment it has handed over."""
    registry.add("a", "folder")
    assert Registry(PosixStore(tmp_path)).where("a") == "folder"


def test_handing_over_leaves_no_debris(registry, tmp_path):
    """Every submit would add to it."""
    registry.add("a", "folder")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.json"]


def test_a_root_has_one_identity_that_no_other_has(tmp_path):
    """It is reached by many paths from many machines, and two of them on one broker must be told apart."""
    roots = [Registry(PosixStore(tmp_path / name)) for name in ("one", "one/.", "two")]
    first, again, other = (root.identity() for root in roots)
    assert first == again == roots[0].identity() != other
    assert roots[0].ids() == []


def test_all_who_ask_at_once_are_told_the_same_identity(tmp_path):
    """The workers of a new fleet start together."""
    with ThreadPoolExecutor(8) as threads:
        told = list(threads.map(lambda _: Registry(PosixStore(tmp_path)).identity(), range(32)))
    assert len(set(told)) == 1


@pytest.mark.parametrize("folder", OUTSIDE)
def test_a_folder_outside_the_root_or_hidden_is_not_taken(folder, registry):
    """Workers open what an entry names and write into it; `--out runs/.mine` is a user's to mend."""
    with pytest.raises(BadInput, match="hidden"):
        registry.add("a", folder)
    assert registry.ids() == []


@pytest.mark.parametrize("folder", OUTSIDE)
def test_an_entry_that_leads_out_of_the_root_is_refused_when_read(folder, registry, write):
    """It may have been written by anybody who shares the disk."""
    write("a", b'{"folder": "%s"}' % folder.encode())
    with pytest.raises(BadInput, match=r"a\.json is damaged; submit the run again"):
        registry.where("a")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"a"',
        b"{}",
        b'{"folder": 7}',
        b'{"folder": null}',
        b'{"folder": "a", "more": 1}',
        b"\xff",
        b"\0" * 9,
    ],
)
def test_a_damaged_entry_says_so_and_what_to_do(body, registry, write):
    """A sweep that stumbles over it would stop all other runs."""
    write("a", body)
    with pytest.raises(BadInput, match=r"a\.json is damaged; submit the run again"):
        registry.where("a")


@given(st.binary(max_size=60))
def test_whatever_an_entry_holds_it_is_a_folder_or_damaged(tmp_path_factory, body):
    """Disks fill up, editors save half."""
    root = tmp_path_factory.mktemp("root")
    (root / FOLDER).mkdir()
    (root / FOLDER / "a.json").write_bytes(body)
    with suppress(BadInput):
        assert isinstance(Registry(PosixStore(root)).where("a"), str)


@pytest.mark.parametrize("folder", [b"", b"a\\u0000b"])
def test_an_entry_that_names_the_root_itself_or_no_path_at_all_is_damaged(folder, registry, write):
    """Opening the second raises something that a sweep does not expect."""
    write("a", b'{"folder": "%s"}' % folder)
    with pytest.raises(BadInput, match=r"a\.json is damaged; submit the run again"):
        registry.where("a")


def test_a_damaged_entry_is_mended_by_handing_over_again(registry, write):
    """That is what its message says."""
    write("a", b"{")
    registry.add("a", "folder")
    assert registry.where("a") == "folder"


def test_files_that_are_no_entries_are_not_runs(registry, tmp_path):
    """Editors and file systems leave theirs anywhere."""
    registry.add("a", "folder")
    for name in ("b.json~", ".nfs00001", "c.tmp", "README"):
        (tmp_path / FOLDER / name).write_bytes(b"")
    assert registry.ids() == ["a"]
