"""Pictures in a manifest: found, sent inline or uploaded, and failing alone when they are no pictures."""

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

QUICK = ("--poll-interval", "1", "--out", "run", "--json")
MIME = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}


def _picture(kind: str, size: tuple[int, int] = (40, 30), **more: Any) -> bytes:
    body = io.BytesIO()
    Image.effect_noise(size, 50).convert("RGB").save(body, kind, **more)
    return body.getvalue()


def _inline(kind: str, body: bytes) -> dict[str, Any]:
    return {"inlineData": {"mimeType": MIME[kind], "data": base64.b64encode(body).decode()}}


@pytest.fixture
def pictures(folder: Path) -> dict[str, bytes]:
    """One picture of each kind, below `album/` beside the manifest."""
    made = {kind: _picture(kind) for kind in MIME}
    (folder / "album").mkdir()
    for kind, body in made.items():
        (folder / "album" / f"{kind}.bin").write_bytes(body)
    return made


def _ask(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"text": "What is it?"}, *parts]


def _data(body: bytes) -> dict[str, str]:
    return {"data": base64.b64encode(body).decode()}


@pytest.mark.parametrize("media", ["inline", "auto"])
def test_small_pictures_of_every_kind_travel_in_the_request(
    media: str, cli: Any, look: Any, folder: Path, pictures: dict[str, bytes], emulator: Any
) -> None:
    rows = [{"parts": _ask({"path": f"album/{kind}.bin"})} for kind in MIME]
    rows += [{"parts": _ask(_data(pictures[kind]))} for kind in MIME]
    done = cli("submit", look.jsonl(folder / "m.jsonl", rows), "--media", media, *QUICK, cwd=folder.parent)
    assert done.code == 0, done.err
    answers = [look.answer("What is it?", _inline(kind, pictures[kind])) for kind in MIME]
    assert [row["text"] for row in look.rows(folder.parent / "run")] == [*answers, *answers]
    assert emulator.calls("POST upload") <= 2, "only the request file is uploaded"


def test_bad_pictures_fail_alone_and_unpaid(
    cli: Any, look: Any, folder: Path, pictures: dict[str, bytes], emulator: Any
) -> None:
    (folder / "cut.jpg").write_bytes(_picture("JPEG", (400, 300))[:-2000])
    (folder / "notes.png").write_text("not a picture")
    (folder / "empty.png").write_bytes(b"")
    (folder.parent / "outside.png").write_bytes(pictures["PNG"])
    bad = ["cut.jpg", "notes.png", "empty.png", "missing.png", "album", "../outside.png", "/etc/hostname"]
    rows: list[dict[str, Any]] = [{"parts": _ask({"path": path})} for path in bad]
    rows += [{"parts": _ask(_data(b"junk"))}, {"parts": []}, {"parts": None}, {"parts": [{}]}]
    rows += [{"parts": [{"text": "both", "path": "album/PNG.bin"}]}]
    rows += [{"parts": _ask({"path": "album/PNG.bin"})}, {"parts": [{"text": "No picture"}]}]
    done = cli("submit", look.jsonl(folder / "m.jsonl", rows), *QUICK)
    assert done.code == 3, done.err
    found = look.rows(folder / "run")
    assert emulator.bought == 2
    assert [row["status"] for row in found] == ["failed"] * 12 + ["ok"] * 2
    assert [row["error"]["kind"] for row in found[:8]] == ["media_unreadable"] * 8
    assert [row["error"]["kind"] for row in found[8:12]] == ["bad_row"] * 4
    for path, row in zip(bad, found, strict=False):
        assert path in row["error"]["message"]
    assert found[12]["text"] == look.answer("What is it?", _inline("PNG", pictures["PNG"]))
    assert found[13]["text"] == look.answer("No picture")


def test_a_manifest_of_bad_rows_alone_buys_nothing_and_finishes(
    cli: Any, look: Any, folder: Path, emulator: Any
) -> None:
    rows = [{"parts": _ask({"path": "missing.png"})}, {"parts": []}]
    done = cli("submit", look.jsonl(folder / "m.jsonl", rows), *QUICK)
    assert done.code == 3, done.err
    assert len(look.rows(folder / "run")) == 2
    assert emulator.creates == 0


@pytest.mark.parametrize("size", [(1, 1), (7, 200)])
def test_a_tiny_jpeg_is_a_picture(size: tuple[int, int], cli: Any, look: Any, folder: Path) -> None:
    body = _picture("JPEG", size)
    done = cli("submit", look.jsonl(folder / "m.jsonl", [{"parts": _ask(_data(body))}]), *QUICK)
    assert "Traceback" not in done.err
    assert done.code == 0, done.err
    assert look.rows(folder / "run")[0]["text"] == look.answer("What is it?", _inline("JPEG", body))


def test_a_jpeg_of_a_camera_with_a_second_view_is_a_picture(cli: Any, look: Any, folder: Path) -> None:
    body = _picture("MPO", save_all=True, append_images=[Image.new("RGB", (40, 30))])
    rows = [{"parts": _ask(_data(body))}, {"parts": [{"text": "Another row"}]}]
    done = cli("submit", look.jsonl(folder / "m.jsonl", rows), *QUICK)
    assert "Traceback" not in done.err
    assert done.code == 0, done.err
    assert look.rows(folder / "run")[0]["text"] == look.answer("What is it?", _inline("JPEG", body))


def test_uploaded_once_per_shard_however_often_it_is_used(
    cli: Any, look: Any, folder: Path, pictures: dict[str, bytes], emulator: Any
) -> None:
    rows = [{"parts": _ask({"path": "album/PNG.bin"})} for _ in range(3)]
    rows += [{"parts": _ask(_data(pictures["PNG"]), {"path": "album/GIF.bin"})}]
    done = cli("submit", look.jsonl(folder / "m.jsonl", rows), "--media", "upload", *QUICK)
    assert done.code == 0, done.err
    found = look.rows(folder / "run")
    assert {row["status"] for row in found} == {"ok"}
    assert len({row["text"] for row in found[:3]}) == 1
    assert found[3]["text"] != found[0]["text"]
    assert len({row["request_digest"] for row in found[:3]}) == 1
    assert emulator.calls("DELETE files.delete") == 3, "two pictures, one request file"


def test_under_auto_only_large_pictures_are_uploaded(cli: Any, look: Any, folder: Path, emulator: Any) -> None:
    large, small = _picture("PNG", (1200, 1000)), _picture("PNG")
    assert len(large) > 1_000_000
    (folder / "large.png").write_bytes(large)
    rows = [{"parts": _ask({"path": "large.png"})}, {"parts": _ask(_data(small))}]
    done = cli("submit", look.jsonl(folder / "m.jsonl", rows), *QUICK)
    assert done.code == 0, done.err
    found = look.rows(folder / "run")
    assert found[1]["text"] == look.answer("What is it?", _inline("PNG", small))
    assert emulator.calls("DELETE files.delete") == 2, "one picture, one request file"


def test_the_same_names_in_another_directory_are_other_pictures(
    cli: Any, look: Any, folder: Path, emulator: Any
) -> None:
    bodies = {name: _picture("PNG", size) for name, size in (("first", (30, 30)), ("second", (50, 20)))}
    for name, body in bodies.items():
        look.jsonl(folder / name / "m.jsonl", [{"parts": _ask({"path": "page-1.png"})}])
        (folder / name / "page-1.png").write_bytes(body)
    for name, body in bodies.items():
        done = cli("submit", folder / name / "m.jsonl", "--poll-interval", "1", "--json")
        assert done.code == 0, done.err
        (row,) = look.rows(folder / done.json["run"])
        assert row["text"] == look.answer("What is it?", _inline("PNG", body)), f"{name}: the answer of another picture"
    assert emulator.bought == 2
