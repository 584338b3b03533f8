"""Token statistics, unit vectors, and pages of PDFs."""

import builtins
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gemini_batch import BadInput, calculate_token_statistics, normalize_embeddings, pdf_pages_to_images


def usage(prompt, candidates, **more):
    total = prompt + candidates
    return {
        "usageMetadata": {
            "promptTokenCount": prompt,
            "candidatesTokenCount": candidates,
            "totalTokenCount": total,
            **more,
        }
    }


def test_statistics_are_sums_and_means_over_what_was_answered():
    found = calculate_token_statistics([usage(10, 2, thoughtsTokenCount=4), None, usage(20, 4), {"modelVersion": "m"}])
    assert (found.total_requests, found.successful_requests, found.failed_requests) == (4, 2, 2)
    assert (found.total_prompt_tokens, found.total_candidates_tokens, found.total_tokens) == (30, 6, 36)
    assert (found.total_thoughts_tokens, found.total_cached_tokens) == (4, 0)
    assert (found.avg_prompt_tokens, found.avg_candidates_tokens, found.avg_total_tokens) == (15.0, 3.0, 18.0)
    assert (found.avg_thoughts_tokens, found.avg_cached_tokens) == (2.0, 0.0)


def test_statistics_of_nothing_have_no_means_and_can_be_printed(capsys):
    found = calculate_token_statistics(iter([None]), verbose=True)
    assert (found.total_tokens, found.avg_total_tokens) == (0, None)
    assert "0 of 1 requests answered" in capsys.readouterr().out
    calculate_token_statistics([usage(1000, 500)], verbose=True)
    assert [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("total ")] == [
        ["total", "1,500", "1,500.0"]
    ]


FINITE = st.floats(-1e150, 1e150, allow_nan=False)


@given(st.lists(st.none() | st.lists(FINITE, min_size=1, max_size=5), max_size=4))
def test_vectors_get_length_one_and_keep_their_direction(vectors):
    found = normalize_embeddings(vectors)
    assert len(found) == len(vectors)
    for unit, vector in zip(found, vectors, strict=True):
        if vector is None or not any(vector):
            assert unit == vector
        elif math.hypot(*vector) > 1e-300:
            assert math.hypot(*unit) == pytest.approx(1)
            assert [math.copysign(1, value) for value in unit] == [math.copysign(1, value) for value in vector]


def test_a_vector_that_cannot_be_scaled_is_named():
    with pytest.raises(BadInput, match="embedding 1"):
        normalize_embeddings([[1.0], [math.nan, 1.0]])


# --- pages ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pdf(tmp_path_factory):
    """Three pages of one colour each, an inch by two."""
    path = tmp_path_factory.mktemp("pdf") / "three.pdf"
    pages = [Image.new("RGB", (72, 144), colour) for colour in ("red", "lime", "blue")]
    pages[0].save(path, save_all=True, append_images=pages[1:], resolution=72)
    return path


def colours(pictures):
    return [tuple(round(band / 255) for band in picture.getpixel((picture.width // 2, 9))) for picture in pictures]


def test_pages_become_pictures_in_order_and_of_the_size_asked_for(pdf):
    pictures = pdf_pages_to_images(str(pdf), dpi=100)
    assert [picture.size for picture in pictures] == [(100, 200)] * 3
    assert colours(pictures) == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    assert {picture.mode for picture in pictures} == {"RGB"}


def test_some_pages_can_be_chosen_and_cropped(pdf):
    (second,) = pdf_pages_to_images(pdf, dpi=72, max_pages=1, start_page=2, crop_sides=10)
    assert (second.size, colours([second])) == ((52, 144), [(0, 1, 0)])
    assert [picture.width for picture in pdf_pages_to_images(pdf, dpi=72, start_page=3, crop_sides=36)] == [72]
    assert pdf_pages_to_images(pdf, start_page=4) == []
    (grey,) = pdf_pages_to_images(pdf, dpi=72, max_pages=1, grayscale=True)
    assert grey.mode == "L"


def test_what_cannot_be_rendered_is_named(pdf, tmp_path):
    (tmp_path / "no.pdf").write_text("no PDF")
    with pytest.raises(BadInput, match=r"no\.pdf is not a PDF"):
        pdf_pages_to_images(tmp_path / "no.pdf")
    with pytest.raises(BadInput, match=r"gone\.pdf: there is no such file"):
        pdf_pages_to_images(tmp_path / "gone.pdf")
    with pytest.raises(BadInput, match=r"page 1 has 20,000 x 40,000 pixels at 20000 dpi; give a smaller dpi"):
        pdf_pages_to_images(pdf, dpi=20_000)
    with pytest.raises(BadInput, match="start_page=0"):
        pdf_pages_to_images(pdf, start_page=0)


def test_without_the_extra_the_message_says_how_to_get_it(pdf, monkeypatch):
    find = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "pypdfium2":
            raise ImportError(name)
        return find(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(BadInput, match=r'pip install "gemini-batch-dist\[pdf\]"'):
        pdf_pages_to_images(pdf)
