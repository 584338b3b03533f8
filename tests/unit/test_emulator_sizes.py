"""The emulator knows the real size of a medium from as few of its bytes as will tell."""

import base64
import io
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import FORMATS, encoded, picture, wav
from PIL import Image

from gemini_batch.emulator.sizes import Medium, look, look_inline


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 10}, {"exif": b"Exif\0\0" + b"x" * 99}])
@given(width=st.integers(1, 900), height=st.integers(1, 900))
def test_a_webp_has_the_size_that_pillow_reads(options, width, height):
    """Its header is read by hand, in each of its three kinds."""
    body = io.BytesIO()
    Image.new("RGB", (width, height)).save(body, "WEBP", **options)
    found = look_inline(encoded(body.getvalue()), "image/webp")
    assert (found.width, found.height) == (width, height)


def test_a_moving_picture_has_the_size_of_its_canvas():
    frames = [Image.new("RGB", (400, 300), (shade, 0, 0)) for shade in (0, 99, 200)]
    for kind in ("GIF", "WEBP", "PNG"):
        body = io.BytesIO()
        frames[0].save(body, kind, save_all=True, append_images=frames[1:])
        assert look_inline(encoded(body.getvalue()), FORMATS[kind]) == Medium("IMAGE", 400, 300)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("length", [0, 1, 2])
@pytest.mark.parametrize(
    "spelt",
    [
        lambda body: base64.b64encode(body).decode(),
        lambda body: base64.b64encode(body).decode().rstrip("="),
        lambda body: base64.urlsafe_b64encode(body).decode(),
        lambda body: base64.urlsafe_b64encode(body).decode().rstrip("="),
        lambda body: base64.encodebytes(body).decode(),
        lambda body: base64.encodebytes(body).decode().replace("\n", "\r\n"),
    ],
    ids=["plain", "unpadded", "urlsafe", "urlsafe-unpadded", "lines", "crlf"],
)
@pytest.mark.parametrize("size", [(9, 7), (300, 200)])
def test_base64_is_read_in_every_spelling(kind, length, spelt, size):
    """proto-JSON takes all of them."""
    body = picture(kind, size) + bytes(length)
    assert look_inline(spelt(body), FORMATS[kind]) == Medium("IMAGE", *size)


def test_a_picture_of_gigantic_size_is_read_from_its_header_alone():
    """Pillow refuses to open what could fill the memory, and warns about what might."""
    size = (90_000).to_bytes(4, "big") + (60_000).to_bytes(4, "big")
    header = b"IHDR" + size + bytes([8, 2, 0, 0, 0])
    body = b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + header + zlib.crc32(header).to_bytes(4, "big")
    body += bytes(4) + b"IDAT" + zlib.crc32(b"IDAT").to_bytes(4, "big")
    assert look_inline(encoded(body), "image/png") == Medium("IMAGE", 90_000, 60_000)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_cut_picture_has_its_real_size_or_none(kind):
    body = picture(kind, (500, 300))
    for end in [*range(64), *range(64, len(body), 997)]:
        found = look_inline(encoded(body[:end]), FORMATS[kind])
        assert found in (Medium("IMAGE", 500, 300), Medium("IMAGE")), end


def test_a_stored_file_is_read_no_further_than_its_header(tmp_path):
    for kind in ("JPEG", "PNG", "WEBP"):
        path = tmp_path / kind
        path.write_bytes(picture(kind, (900, 700)))
        with path.open("rb", buffering=0) as file:
            assert look(file, FORMATS[kind], path.stat().st_size) == Medium("IMAGE", 900, 700)
            assert file.tell() < path.stat().st_size


def test_pages_in_compressed_object_streams_are_found():
    """As LaTeX and Word write them."""
    objects = b"<</Type/Pages/Count 3>>" + b"<</Type/Page/Parent 1 0 R>>" * 3
    stream = zlib.compress(objects)
    body = b"%%PDF-1.5\n1 0 obj<</Type/ObjStm/N 4/First 20/Filter/FlateDecode/Length %d>>stream\n" % len(stream)
    body += stream + b"\nendstream endobj\n2 0 obj<</Type/ObjStm>>stream\nno zlib\nendstream"
    assert look_inline(encoded(body), "application/pdf") == Medium("DOCUMENT", amount=3)


def test_a_wav_that_claims_more_than_it_holds_counts_what_it_holds():
    found = look_inline(encoded(wav(40)[:32_044]), "audio/wav")
    assert 1 <= found.amount < 1.01
