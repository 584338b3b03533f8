"""Pictures are found where this machine has them, and nowhere that nobody allowed."""

import pickle

import pytest

from gemini_batch.errors import BadInput, RowError
from gemini_batch.gemini.media import locate
from gemini_batch.gemini.roots import media_roots


def put(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_without_more_said_roots_are_those_of_the_run(tmp_path):
    picture = put(tmp_path / "a" / "p.png")
    roots = media_roots([str(tmp_path / "a")])
    assert locate("p.png", roots) == locate(str(picture), roots) == picture
    assert list(roots) == [tmp_path / "a"]


def test_a_further_directory_may_be_named_absolutely_and_relative_paths_start_at_the_first(tmp_path):
    first, second = put(tmp_path / "a" / "p.png"), put(tmp_path / "b" / "q.png")
    roots = media_roots([tmp_path / "a"], [str(tmp_path / "b")])
    assert (locate("p.png", roots), locate(str(second), roots), locate("../b/q.png", roots)) == (first, second, second)
    with pytest.raises(RowError):
        locate("q.png", roots)


@pytest.mark.parametrize("named", ["pics/p.png", "/old/home/pics/p.png"])
@pytest.mark.parametrize(
    ("moved", "at"),
    [
        ("/old/home={}/new", "new/pics/p.png"),
        ("/old={}/new", "new/home/pics/p.png"),
        ("/old/home/pics={}/mnt", "mnt/p.png"),
    ],
)
def test_what_rows_call_old_lies_at_new(tmp_path, named, moved, at):
    picture = put(tmp_path / at)
    roots = pickle.loads(pickle.dumps(media_roots(["/old/home"], [moved.format(tmp_path)])))
    assert locate(named, roots) == picture


def test_the_longest_beginning_decides(tmp_path):
    picture = put(tmp_path / "two" / "p.png")
    roots = media_roots(["/m"], [f"/m={tmp_path}/one", f"/m/b={tmp_path}/two"])
    assert locate("b/p.png", roots) == picture


def test_nothing_outside_is_read_whatever_was_moved(tmp_path):
    put(tmp_path / "secret")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "link").symlink_to(tmp_path / "secret")
    roots = media_roots(["/old"], [f"/old={tmp_path}/new"])
    for path in ("../secret", "/old/../secret", str(tmp_path / "secret"), "link", "/etc/hostname"):
        with pytest.raises(RowError) as caught:
            locate(path, roots)
        assert caught.value.kind == "media_unreadable"


def test_a_manifest_at_a_url_starts_at_the_first_directory_that_is_given(tmp_path):
    picture = put(tmp_path / "p.png")
    assert locate("p.png", media_roots([], [str(tmp_path)])) == picture


def test_what_is_recorded_is_what_rows_name(tmp_path):
    roots = media_roots([tmp_path / "m"], [str(tmp_path), "/old=/new"])
    assert [str(root) for root in roots.recorded] == [str(tmp_path / "m"), str(tmp_path), "/old"]


def test_an_old_name_must_be_absolute():
    with pytest.raises(BadInput, match="OLD=NEW"):
        media_roots([], ["old=/new"])
