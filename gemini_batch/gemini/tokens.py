"""Google's documented token rules: a medium's size and its settings in, tokens out, purely.

Names in quotes are pages of ai.google.dev/gemini-api/docs, as of September 2026. They call their numbers approximate;
what a request really took is in its usage.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from math import ceil
from typing import Any, Literal

Family = Literal["gemini-2.0", "gemini-2.5", "gemini-3", "unknown"]

CHARACTERS_PER_TOKEN = 4
"""About 4 characters, of English ("Token counting")."""

TILE_TOKENS = 258
"""A picture of at most 384 x 384, or one tile of a larger one ("Image understanding"); a page of a document
("Document understanding")."""

SMALL_SIDE = 384

MOST_TILES = 64
"""No page bounds the tiles of a long strip; this is a strip of 21:1, and ours."""

UNSEEN_TILES = 8
"""Of a picture that nobody has opened: "Pan & Scan (~2048)" ("Media resolution", Gemini 2.5)."""

LOW, MEDIUM = "MEDIA_RESOLUTION_LOW", "MEDIA_RESOLUTION_MEDIUM"
HIGH, ULTRA_HIGH = "MEDIA_RESOLUTION_HIGH", "MEDIA_RESOLUTION_ULTRA_HIGH"

# "Media resolution", Gemini 3 models. ULTRA_HIGH is not there for pages and frames: taken for HIGH.
PICTURE = {LOW: 280, MEDIUM: 560, HIGH: 1120, ULTRA_HIGH: 2240}
PICTURE_DEFAULT = 1120
PAGE = {LOW: 280, MEDIUM: 560, HIGH: 1120, ULTRA_HIGH: 1120}
PAGE_DEFAULT = 560
FRAME = {LOW: 70, MEDIUM: 70, HIGH: 280, ULTRA_HIGH: 280}
FRAME_DEFAULT = 70
AUDIO_SECOND = 25

# The same page, Gemini 2.5 models, pictures and pages alike; any other level is pan and scan, that is tiles. The API
# reference of `MediaResolution` has these numbers for no model in particular, so here they hold for 2.0 too.
OLD_PICTURE = {LOW: 64, MEDIUM: 256}
OLD_FRAME_LOW = 66
"""Models before Gemini 3 ("Video understanding")."""

OLD_VIDEO_SECOND = 263
"""One frame and its timestamp ("Token counting")."""

OLD_AUDIO_SECOND = 32

_VERSION = re.compile(r"gemini-([0-9]{1,3})(?:\.([0-9]{1,3}))?")


@lru_cache(maxsize=256)
def family(model: str) -> Family:
    """By whose rules a model counts. Later ones are taken for Gemini 3, as "Media resolution" does with Gemini 4."""
    found = _VERSION.search(model)
    if found is None:
        return "gemini-3" if model.endswith("-latest") else "unknown"
    version = int(found[1]), int(found[2] or 0)
    if version >= (3, 0):
        return "gemini-3"
    return "gemini-2.5" if version >= (2, 5) else "gemini-2.0"


def resolution_in_force(model: str, part: str | None, request: str | None) -> str | None:
    """The media resolution a part is read at: its own wins from Gemini 3 on, older models know the request's only."""
    if _is_old(model) or not part or part.endswith("_UNSPECIFIED"):
        return request
    return part


def text_tokens(characters: int) -> int:
    """As the documentation counts, which the emulator keeps to. A plan looks at the script too (`scripts.py`)."""
    return max(1, characters // CHARACTERS_PER_TOKEN)


def schema_words(schema: Any) -> Iterator[str]:
    """What of an answer's schema is read as input: "the size of response schema counts towards the input token limit"
    ("Controlled generation"). Which words, by google-genai's `local_tokenizer.py`; in schemas of either field."""
    if isinstance(schema, list):
        for entry in schema:
            yield from schema_words(entry)
    if not isinstance(schema, dict):
        return
    for name, value in schema.items():
        if name in ("format", "description") and isinstance(value, str):
            yield value
        elif name in ("enum", "required") and isinstance(value, list):
            yield from (word for word in value if isinstance(word, str))
        elif name == "properties" and isinstance(value, dict):
            for key, inner in value.items():
                yield key
                yield from schema_words(inner)
        elif name == "$defs" and isinstance(value, dict):
            yield from schema_words(list(value.values()))
        elif name not in ("default", "example", "examples", "const"):
            yield from schema_words(value)


def picture_tokens(model: str, width: int, height: int, resolution: str | None) -> int:
    """Tokens of a picture; a model of unknown family counts by the newest rules, here and below.

    Args:
        model: as in the path of a call.
        width: in pixels.
        height: in pixels.
        resolution: the one in force; anything but the four levels is the default.
    """
    if not _is_old(model):
        return PICTURE.get(resolution or "", PICTURE_DEFAULT)
    return OLD_PICTURE.get(resolution or "") or TILE_TOKENS * _tiles(width, height)


def picture_part_tokens(model: str, part: str | None, request: str | None, size: tuple[int, int] | None = None) -> int:
    """Tokens of a picture in a request that is planned: rather too many.

    Args:
        model: as in the path of a call.
        part: the part's own media resolution.
        request: the request's.
        size: width and height in pixels; None while nobody has opened it.
    """
    whose = family(model)
    if whose == "gemini-3":
        return picture_tokens(model, 0, 0, resolution_in_force(model, part, request))
    # Whether older models ignore a part's own resolution or heed it is not said: the higher of the two.
    levels = (part or request or "", request or "")
    tiles = UNSEEN_TILES if size is None else _tiles(*size)
    old = max(OLD_PICTURE.get(level, TILE_TOKENS * tiles) for level in levels)
    return old if whose != "unknown" else max(old, *(PICTURE.get(level, PICTURE_DEFAULT) for level in levels))


def size_matters(model: str, part: str | None, request: str | None) -> bool:
    """Whether a picture in a request counts by its pixels."""
    return family(model) != "gemini-3" and not {part or request, request} <= OLD_PICTURE.keys()


def pdf_page_tokens(model: str, resolution: str | None) -> int:
    """Tokens of one page. Text inside the document is read but not paid for ("Document understanding")."""
    if not _is_old(model):
        return PAGE.get(resolution or "", PAGE_DEFAULT)
    return OLD_PICTURE.get(resolution or "", TILE_TOKENS)


def video_tokens(model: str, seconds: float, resolution: str | None) -> int:
    """Tokens of the frames, one a second; the sound comes on top as audio."""
    if not _is_old(model):
        rate = FRAME.get(resolution or "", FRAME_DEFAULT)
    else:
        rate = OLD_FRAME_LOW if resolution == LOW else OLD_VIDEO_SECOND
    return max(1, ceil(rate * seconds))


def audio_tokens(model: str, seconds: float) -> int:
    """The same at every media resolution ("Media resolution")."""
    return max(1, ceil((OLD_AUDIO_SECOND if _is_old(model) else AUDIO_SECOND) * seconds))


def pages_are_pictures(model: str) -> bool:
    """Whether usage shows pages of documents as IMAGE, as from Gemini 3 on, rather than DOCUMENT (the same page)."""
    return not _is_old(model)


def _is_old(model: str) -> bool:
    return family(model) in {"gemini-2.0", "gemini-2.5"}


def _tiles(width: int, height: int) -> int:
    """Each side in crop units of floor(min(width, height) / 1.5), rounded up ("Image understanding")."""
    if max(width, height) <= SMALL_SIDE:
        return 1
    unit = max(1, min(width, height) * 2 // 3)
    return min(MOST_TILES, -(-max(1, width) // unit) * -(-max(1, height) // unit))
