"""Pictures are judged by their content, and whatever is wrong with one is a RowError."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gemini_batch.errors import RowError
from gemini_batch.gemini.media import FORMATS, INLINE_BYTES, MAX_PIXELS, goes_inline, locate, read_picture


def picture(kind, image=None, **options):
    body = io.BytesIO()
    (image or Image.effect_noise((40, 30), 60).convert("RGB")).save(body, kind, **options)
    return body.getvalue()


FRAMES = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
SAMPLES = [picture(kind) for kind in FORMATS] + [
    picture("GIF", FRAMES[0], save_all=True, append_images=FRAMES[1:]),
    picture("PNG", FRAMES[0], save_all=True, append_images=FRAMES[1:]),
    picture("WEBP", FRAMES[0], save_all=True, append_images=FRAMES[1:]),
    picture("JPEG", Image.new("CMYK", (20, 20))),
    picture("JPEG", progressive=True),
    picture("PNG", Image.new("P", (20, 20))),
    picture("MPO", FRAMES[0], save_all=True, append_images=FRAMES[1:]),
]


@given(
    body=st.sampled_from(SAMPLES),
    cuts=st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=4), st.integers(0, 4)), min_size=1, max_size=4),
)
def test_a_damaged_picture_is_a_picture_or_a_row_error(body, cuts):
    """One broken picture must not take its shard with it."""
    for at, inserted, dropped in cuts:
        here = at % (len(body) + 1)
        body = body[:here] + inserted + body[here + dropped :]
    try:
        assert read_picture(None, body, ()).mime_type in FORMATS.values()
    except RowError as error:
        assert error.kind in {"media_unreadable", "oversized"}


@pytest.mark.parametrize("body", SAMPLES)
def test_every_flavour_of_the_four_formats_is_good(body):
    """Animations, progressive and CMYK JPEGs, palettes, and JPEGs of phones with a preview inside."""
    assert read_picture(None, body, ()).mime_type in FORMATS.values()


def test_a_picture_of_too_many_pixels_is_oversized():
    """A few kilobytes can unfold into gigabytes; the reason tells it from a broken file."""
    wide = 10_000
    with pytest.raises(RowError) as caught:
        read_picture(None, picture("PNG", Image.new("1", (wide, MAX_PIXELS // wide + 1))), ())
    assert caught.value.kind == "oversized"


def test_a_warning_about_metadata_is_not_a_broken_picture():
    """A JPEG with odd EXIF data shows in every viewer; Pillow only warns."""
    odd_exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x12\0\x03\xff\xff\xff\xff\0\0"
    assert read_picture(None, picture("JPEG", exif=odd_exif), ()).mime_type == "image/jpeg"


def test_a_jpeg_whose_preview_was_cut_off_is_still_a_jpeg():
    """Mail programs and re-encoders drop the second frame of a phone's picture and leave its index."""
    body = picture("MPO", FRAMES[0], save_all=True, append_images=FRAMES[1:])
    first_frame = body[: body.index(b"\xff\xd9\xff\xd8") + 2]
    assert read_picture(None, first_frame, ()).mime_type == "image/jpeg"


def test_other_formats_are_refused():
    """The service documents four picture types; BMP or TIFF would fail there, paid."""
    for kind in ("BMP", "TIFF", "PPM"):
        with pytest.raises(RowError, match="not JPEG, PNG, WebP or GIF"):
            read_picture(None, picture(kind), ())


def test_a_picture_may_lie_in_any_of_the_roots(tmp_path):
    """Absolute paths are held to all roots, relative ones start at the first."""
    first, second = tmp_path / "first", tmp_path / "second"
    for root in (first, second):
        root.mkdir()
        (root / "p").write_bytes(SAMPLES[0])
    assert locate("p", (first, second)) == first / "p"
    assert locate(str(second / "p"), (first, second)) == second / "p"
    assert locate("../second/p", (first, second)) == second / "p"


def test_a_root_that_is_a_symbolic_link_is_followed(tmp_path):
    """/tmp and /home are links on some machines."""
    real = tmp_path / "real"
    real.mkdir()
    (real / "p").write_bytes(b"x")
    (tmp_path / "alias").symlink_to(real)
    assert locate("p", (tmp_path / "alias",)) == real / "p"


def test_a_sibling_whose_name_begins_like_the_root_is_outside(tmp_path):
    """`/media-private` is not inside `/media`."""
    (tmp_path / "media").mkdir()
    (tmp_path / "media-private").mkdir()
    (tmp_path / "media-private" / "p").write_bytes(b"x")
    with pytest.raises(RowError, match="outside"):
        locate("../media-private/p", (tmp_path / "media",))


def test_no_roots_allow_no_file(tmp_path):
    (tmp_path / "p").write_bytes(b"x")
    with pytest.raises(RowError):
        locate(str(tmp_path / "p"), ())


@pytest.mark.parametrize(
    ("size", "media", "inline"),
    [
        (INLINE_BYTES, "auto", True),
        (INLINE_BYTES + 1, "auto", False),
        (10, "upload", False),
        (10**8, "inline", True),
    ],
)
def test_pictures_travel_as_the_media_option_says(size, media, inline):
    assert goes_inline(size, media) is inline
