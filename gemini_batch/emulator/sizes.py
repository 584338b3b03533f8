"""How large pictures, documents and recordings are, read from as few bytes as will tell.

In: a file, or the base64 of an inline part, and a MIME type. Out: a `Medium`. Nothing here raises: what cannot be read
is of unknown size. The same bytes give the same size, whatever came before.
"""

import re
import wave
import zlib
from binascii import a2b_base64
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from struct import unpack
from typing import BinaryIO, Literal

from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

Modality = Literal["TEXT", "IMAGE", "VIDEO", "AUDIO", "DOCUMENT"]

_READERS = ((b"\xff\xd8\xff", JpegImageFile), (b"\x89PNG\r\n\x1a\n", PngImageFile), (b"GIF8", GifImageFile))
"""Without `Image.open`, whose warnings about large pictures are a setting of the whole process."""

_HEAD_CHARS = 4096
_GROWTH = 4
"""Base64 is decoded to 3 KiB, then to four times as much, and so on: most pictures tell their size at once, a JPEG
with a preview in its EXIF only behind it."""

_AUDIO_BYTES_PER_SECOND = 16_000
_VIDEO_BYTES_PER_SECOND = 250_000
"""Assumed of anything but WAV, since only a decoder knows how long it lasts: 128 kbit/s and 2 Mbit/s."""

_PAGE = re.compile(rb"/Type\s*/Page\b")
_OBJECT_STREAM = re.compile(rb"/Type\s*/ObjStm\b.{0,500}?\bstream\r?\n", re.DOTALL)
_MOST_INFLATED = 1 << 22

_FROM_URL_SAFE = str.maketrans("-_", "+/", " \t\r\n")


@dataclass(frozen=True, slots=True)
class Medium:
    """What the tokens of one part depend on."""

    modality: Modality
    width: int = 0
    height: int = 0
    """Pixels of a picture; 0 when it cannot be read."""
    amount: float = 0
    """Pages of a document, seconds of a recording, bytes of a text."""


Sizes = Callable[[str], Medium | None]
"""The medium behind a file id (without "files/"), None when there is none."""


def modality_of(mime_type: str) -> Modality:
    """Other types are read as plain text ("Document understanding")."""
    if mime_type.startswith("image/"):
        return "IMAGE"
    if mime_type == "application/pdf":
        return "DOCUMENT"
    if mime_type.startswith("audio/"):
        return "AUDIO"
    return "VIDEO" if mime_type.startswith("video/") else "TEXT"


def look(file: BinaryIO, mime_type: str, size_bytes: int) -> Medium:
    """The size of a medium in a seekable file, which may be only the beginning of its `size_bytes`."""
    modality = modality_of(mime_type)
    if modality == "IMAGE":
        return Medium(modality, *(_picture_size(file) or (0, 0)))
    if modality == "DOCUMENT":
        return Medium(modality, amount=_pages(file.read()))
    if modality == "TEXT":
        return Medium(modality, amount=size_bytes)
    return Medium(modality, amount=_seconds(file, modality, size_bytes))


def look_inline(base64: str, mime_type: str) -> Medium:
    """The size of a medium in base64, plain or URL-safe, with or without padding."""
    modality = modality_of(mime_type)
    if modality == "IMAGE":
        return Medium(modality, *_inline_picture_size(base64))
    body = _decoded(base64 if modality == "DOCUMENT" else base64[:_HEAD_CHARS])
    return look(BytesIO(body), mime_type, len(base64) * 3 // 4)


def _inline_picture_size(base64: str) -> tuple[int, int]:
    size, chars = _head_size(base64[:_HEAD_CHARS]), _HEAD_CHARS
    while size is None and chars < len(base64):
        chars *= _GROWTH
        size = _picture_size(BytesIO(_decoded(base64[:chars])))
    return size or (0, 0)


@lru_cache(maxsize=1024)
def _head_size(base64: str) -> tuple[int, int] | None:
    """Remembered, since many requests ask about the same pictures."""
    return _picture_size(BytesIO(_decoded(base64)))


def _decoded(base64: str) -> bytes:
    """Of any stretch from the beginning; nothing if it is no base64."""
    if any(odd in base64 for odd in "-_\n "):
        base64 = base64.translate(_FROM_URL_SAFE)
    if len(base64) % 4 == 1:
        base64 = base64[:-1]
    try:
        return a2b_base64(base64 + "=" * (-len(base64) % 4))
    except ValueError:
        return b""


def _picture_size(file: BinaryIO) -> tuple[int, int] | None:
    """Width and height; (0, 0) for what is no picture, None for one that is broken or goes on behind these bytes."""
    head = file.read(30)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _webp_size(head) if len(head) == 30 else None
    for magic, reader in _READERS:
        if head.startswith(magic):
            file.seek(0)
            try:
                with reader(file) as picture:
                    return picture.size
            except Exception:  # whatever Pillow meets in a broken file
                return None
    return 0, 0


def _webp_size(head: bytes) -> tuple[int, int]:
    """By RFC 9649; Pillow wants the whole file."""
    kind = head[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = unpack("<HH", head[26:30])
    return width & 0x3FFF, height & 0x3FFF


def _pages(body: bytes) -> int:
    """Page objects, those in compressed object streams too. An edited page counts twice, an encrypted file as one."""
    count = len(_PAGE.findall(body))
    for stream in _OBJECT_STREAM.finditer(body):
        packed = body[stream.end() : body.find(b"endstream", stream.end())]
        try:
            count += len(_PAGE.findall(zlib.decompressobj().decompress(packed, _MOST_INFLATED)))
        except zlib.error:
            continue
    return max(1, count)


def _seconds(file: BinaryIO, modality: Modality, size_bytes: int) -> float:
    if modality == "VIDEO":
        return size_bytes / _VIDEO_BYTES_PER_SECOND
    try:
        with wave.open(file, "rb") as sound:
            frames = min(sound.getnframes(), size_bytes // (sound.getnchannels() * sound.getsampwidth()))
            return frames / sound.getframerate()
    except Exception:  # no WAV, or a kind that the standard library does not read
        return size_bytes / _AUDIO_BYTES_PER_SECOND
