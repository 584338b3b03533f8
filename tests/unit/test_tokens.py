"""The token rules are the documented ones, number by number, and hold for any picture there can be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.gemini.tokens import (
    HIGH,
    LOW,
    MEDIUM,
    MOST_TILES,
    ULTRA_HIGH,
    audio_tokens,
    family,
    pages_are_pictures,
    pdf_page_tokens,
    picture_part_tokens,
    picture_tokens,
    resolution_in_force,
    size_matters,
    text_tokens,
    video_tokens,
)

UNSPECIFIED = "MEDIA_RESOLUTION_UNSPECIFIED"
OLD, NEW = "gemini-2.5-flash", "gemini-3.8-flash"
LEVELS = st.sampled_from([None, UNSPECIFIED, LOW, MEDIUM, HIGH, ULTRA_HIGH, "", "low"])
MODELS = st.sampled_from(["gemini-2.0-flash", OLD, NEW, "gemini-4-argon", "gemma-4"]) | st.text(max_size=20)
SIDE = st.integers(-1, 100_000)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gemini-1.5-pro", "gemini-2.0"),
        ("gemini-2.0-flash", "gemini-2.0"),
        ("models/gemini-2.0-flash-lite-001", "gemini-2.0"),
        ("gemini-2.5-flash", "gemini-2.5"),
        ("publishers/google/models/gemini-2.5-pro", "gemini-2.5"),
        ("gemini-3-pro-preview", "gemini-3"),
        ("gemini-3.1-flash-lite", "gemini-3"),
        ("gemini-3.8-flash", "gemini-3"),
        ("gemini-4-argon", "gemini-3"),
        ("gemini-10.5-flash", "gemini-3"),
        ("gemini-flash-latest", "gemini-3"),
        ("gemini-x", "unknown"),
        ("gemma-3-27b-it", "unknown"),
        ("", "unknown"),
    ],
)
def test_a_model_counts_by_the_rules_of_its_family(model, expected):
    assert family(model) == expected


@pytest.mark.parametrize("model", ["gemini-2.0-flash", "gemini-2.5-pro"])
@pytest.mark.parametrize(
    ("width", "height", "tiles"),
    [
        (1, 1, 1),
        (384, 384, 1),
        (384, 10, 1),
        (385, 384, 4),
        (960, 540, 6),  # the example of the page
        (540, 960, 6),
        (768, 768, 4),
        (1000, 1000, 4),
        (1920, 1080, 6),
        (4000, 3000, 4),
        (2480, 3508, 6),
        (5000, 1000, 16),
        (1, 100_000, MOST_TILES),
        (100_000, 2, MOST_TILES),
        (0, 100_000, MOST_TILES),
    ],
)
def test_older_models_cut_a_large_picture_into_tiles(model, width, height, tiles):
    assert [picture_tokens(model, width, height, level) for level in (None, UNSPECIFIED, HIGH)] == [258 * tiles] * 3


def test_older_models_look_once_at_low_and_medium():
    assert [picture_tokens(OLD, 960, 540, level) for level in (LOW, MEDIUM)] == [64, 256]


@pytest.mark.parametrize(
    ("level", "picture", "page"),
    [
        (None, 1120, 560),
        (UNSPECIFIED, 1120, 560),
        (LOW, 280, 280),
        (MEDIUM, 560, 560),
        (HIGH, 1120, 1120),
        (ULTRA_HIGH, 2240, 1120),
    ],
)
@pytest.mark.parametrize("model", ["gemini-3-pro-preview", "gemini-3.8-flash", "gemini-4-argon", "of-another-kind"])
def test_newer_models_count_by_media_resolution_alone(model, level, picture, page):
    assert {picture_tokens(model, *size, level) for size in [(1, 1), (960, 540), (1, 100_000)]} == {picture}
    assert pdf_page_tokens(model, level) == page


@pytest.mark.parametrize(("level", "page"), [(None, 258), (LOW, 64), (MEDIUM, 256), (HIGH, 258)])
def test_a_page_is_one_picture_to_older_models(level, page):
    assert pdf_page_tokens(OLD, level) == page


@pytest.mark.parametrize(
    ("model", "video", "sound"),
    [
        (OLD, {None: 263, LOW: 66, HIGH: 263}, 32),
        (NEW, {None: 70, LOW: 70, MEDIUM: 70, HIGH: 280}, 25),
    ],
)
def test_recordings_count_by_the_second(model, video, sound):
    assert {level: video_tokens(model, 1, level) for level in video} == video
    assert {level: video_tokens(model, 60, level) for level in video} == {level: 60 * n for level, n in video.items()}
    assert (audio_tokens(model, 1), audio_tokens(model, 60), audio_tokens(model, 0)) == (sound, 60 * sound, 1)


def test_a_minute_of_sound_has_the_documented_tokens():
    assert audio_tokens("gemini-2.0-flash", 60) == 1920


@pytest.mark.parametrize(
    ("characters", "tokens"), [(0, 1), (1, 1), (3, 1), (4, 1), (7, 1), (8, 2), (400, 100), (401, 100)]
)
def test_four_characters_are_a_token(characters, tokens):
    assert text_tokens(characters) == tokens


@pytest.mark.parametrize(
    ("part", "request_level", "new", "old"),
    [
        (None, None, None, None),
        (LOW, None, LOW, None),
        (None, LOW, LOW, LOW),
        (ULTRA_HIGH, LOW, ULTRA_HIGH, LOW),
        (UNSPECIFIED, LOW, LOW, LOW),
    ],
)
def test_the_parts_own_resolution_wins_where_a_model_knows_it(part, request_level, new, old):
    assert resolution_in_force(NEW, part, request_level) == new
    assert resolution_in_force(OLD, part, request_level) == old


def test_pages_show_as_pictures_from_gemini_3_on():
    assert [pages_are_pictures(model) for model in ("gemini-2.0-flash", OLD, NEW, "gemini-4-argon")] == [
        False,
        False,
        True,
        True,
    ]


@given(MODELS, SIDE, SIDE, LEVELS, st.floats(0, 1e6))
def test_no_medium_is_free_and_none_is_refused(model, width, height, level, seconds):
    counts = [
        picture_tokens(model, width, height, level),
        picture_part_tokens(model, None, level),
        pdf_page_tokens(model, level),
        video_tokens(model, seconds, level),
        audio_tokens(model, seconds),
    ]
    assert min(counts) > 0


@given(MODELS, st.integers(1, 20_000), st.integers(1, 20_000), st.integers(0, 20_000), LEVELS)
def test_a_picture_grown_along_its_longer_side_never_counts_less(model, shorter, longer, more, level):
    longer = max(shorter, longer)
    before = picture_tokens(model, longer, shorter, level)
    assert before <= picture_tokens(model, longer + more, shorter, level)
    assert before == picture_tokens(model, shorter, longer, level)


@given(MODELS, SIDE, SIDE)
def test_a_higher_resolution_never_counts_less(model, width, height):
    ladder = [LOW, MEDIUM, HIGH, ULTRA_HIGH]
    for count in (
        lambda level: picture_tokens(model, width, height, level),
        lambda level: pdf_page_tokens(model, level),
        lambda level: video_tokens(model, 9, level),
        lambda level: picture_part_tokens(model, None, level),
        lambda level: picture_part_tokens(model, level, LOW),
    ):
        counted = [count(level) for level in ladder]
        assert counted == sorted(counted)


@pytest.mark.parametrize(
    ("part", "request_level", "new", "old", "unknown"),
    [
        (None, None, 1120, 2064, 2064),
        (None, LOW, 280, 64, 280),
        (LOW, None, 280, 2064, 2064),
        (LOW, MEDIUM, 280, 256, 560),
        (ULTRA_HIGH, LOW, 2240, 2064, 2240),
        (UNSPECIFIED, LOW, 280, 2064, 2064),
    ],
)
def test_an_unseen_picture_counts_the_most_its_settings_allow(part, request_level, new, old, unknown):
    counted = [picture_part_tokens(model, part, request_level) for model in (NEW, OLD, "gemini-x")]
    assert counted == [new, old, unknown]


@given(MODELS, LEVELS, LEVELS, SIDE, SIDE)
def test_a_picture_is_opened_only_where_its_size_matters(model, part, request_level, width, height):
    """A plan of pictures that all count the same should not read one of them."""
    unseen = picture_part_tokens(model, part, request_level)
    seen = picture_part_tokens(model, part, request_level, (width, height))
    assert seen == unseen or size_matters(model, part, request_level)
    assert seen >= picture_tokens(model, width, height, resolution_in_force(model, part, request_level))


@given(MODELS, st.integers(385, 20_000), st.floats(1, 2.6), LEVELS, LEVELS)
def test_an_unseen_picture_of_a_usual_shape_is_not_counted_too_low(model, shorter, ratio, part, request_level):
    """Shards are filled by it, and the service refuses a job that goes over the limit."""
    resolution = resolution_in_force(model, part, request_level)
    seen = picture_tokens(model, int(shorter * ratio), shorter, resolution)
    assert picture_part_tokens(model, part, request_level) >= seen
