"""Pictures: found, checked, hashed over their full content.

In: a row's `path` or `data`. Out: bytes, MIME type and sha256, or a `RowError` that names what is wrong. Only regular
files inside the allowed roots are opened.
"""

import hashlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from gemini_batch.errors import RowError
from gemini_batch.gemini.roots import MediaRoots

FORMATS = {"JPEG": "image/jpeg", "MPO": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}
"""By Pillow's name. MPO is what phones write: a JPEG with a preview behind it."""

OPENED = [name for name in FORMATS if name != "MPO"]
"""Pillow opens an MPO as JPEG and then calls it by its own name."""

MAX_PICTURE_BYTES = 100_000_000
"""A picture larger than this cannot be one request of a 2 GB file among others; ours, not the service's."""

MAX_PIXELS = 89_478_485
"""Pillow's own decompression-bomb bound (`Image.MAX_IMAGE_PIXELS`), which it only warns about."""


@dataclass(frozen=True)
class Picture:
    body: bytes
    mime_type: str
    sha256: str


def read_picture(path: str | None, body: bytes | None, roots: Sequence[Path], shown: str | None = None) -> Picture:
    """The picture at `path` (absolute, or relative to the first root), or held in `body`.

    Args:
        shown: what to call it in messages, where it has no path.

    Raises:
        RowError: `media_unreadable` or `oversized`.
    """
    if body is None:
        body = _read_file(path or "", roots)
    name = repr(path or shown) if path or shown else f"of {len(body):,} bytes"
    if len(body) > MAX_PICTURE_BYTES:
        raise RowError("oversized", f"picture {name} has {len(body):,} bytes, the most is {MAX_PICTURE_BYTES:,}")
    return Picture(body, _mime_type(body, name), hashlib.sha256(body).hexdigest())


def locate(path: str, roots: Sequence[Path]) -> Path:
    """The regular file that `path` means, symbolic links followed, inside one of `roots`.

    Raises:
        RowError: it does not exist, is no regular file, or lies elsewhere.
    """
    if not roots:
        raise RowError(
            "media_unreadable",
            f"picture {path!r}: a manifest at a URL names by path what is beside it; use data, uri or --media-root",
        )
    try:
        found = (roots.lead(path) if isinstance(roots, MediaRoots) else roots[0] / path).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        raise RowError("media_unreadable", f"picture {path!r} does not exist") from None
    if not any(found.is_relative_to(root.resolve()) for root in roots):
        raise RowError("media_unreadable", f"picture {path!r} lies outside {', '.join(map(str, roots))}")
    if not found.is_file():
        raise RowError("media_unreadable", f"picture {path!r} is not a regular file")
    return found


def _read_file(path: str, roots: Sequence[Path]) -> bytes:
    found = locate(path, roots)
    try:
        if found.stat().st_size > MAX_PICTURE_BYTES:
            raise RowError("oversized", f"picture {path!r} is larger than {MAX_PICTURE_BYTES:,} bytes")
        return found.read_bytes()
    except OSError as error:
        raise RowError("media_unreadable", f"picture {path!r} cannot be read: {error.strerror}") from None


def _mime_type(body: bytes, name: str) -> str:
    """The type by content. Decodes at the smallest scale the format offers, which meets a cut or broken file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata is no broken picture; the size is looked at below
            with Image.open(io.BytesIO(body), formats=OPENED) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise RowError("oversized", f"picture {name} has {picture.width}x{picture.height} pixels")
                kind = FORMATS[picture.format or ""]
                picture.draft("L", (max(1, picture.width // 8), max(1, picture.height // 8)))
                picture.load()
                return kind
    except RowError:
        raise
    except UnidentifiedImageError:
        raise RowError("media_unreadable", f"picture {name} is not JPEG, PNG, WebP or GIF") from None
    except Image.DecompressionBombError as error:
        raise RowError("oversized", f"picture {name}: {error}") from None
    except Exception as error:
        raise RowError("media_unreadable", f"picture {name} is broken: {error}") from None


def picture_size(picture: Path | bytes) -> tuple[int, int] | None:
    """Width and height by the head of a file; None for what Pillow cannot open, which its row will tell of."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source = io.BytesIO(picture) if isinstance(picture, bytes) else picture
            with Image.open(source, formats=OPENED) as opened:
                return opened.size
    except Exception:  # whatever Pillow meets in a broken file
        return None


INLINE_BYTES = 1_000_000
"""Under `auto`, larger pictures are uploaded: base64 adds a third, and an upload of a repeated picture is paid in
traffic once. Small ones go inline, where they cannot expire before a late job reads them (Files API guide: 48 h)."""


def goes_inline(size_bytes: int, media: str) -> bool:
    """Whether a picture of this size travels in its request line."""
    return media == "inline" or (media == "auto" and size_bytes <= INLINE_BYTES)
