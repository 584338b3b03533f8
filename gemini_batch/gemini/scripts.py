"""Tokens of text by script, a whole column at once. Pure.

In: texts. Out: estimated tokens of each. Every byte of UTF-8 has a weight and a text weighs the sum: first bytes tell
the script, the others weigh nothing. That is two passes over the bytes in C, whatever the number of texts.

The weights are fitted to what the tokenizer of Gemma 3 makes of 2 MB of web text or code in each language, in bytes a
token: "Gemma 3.json" of bgub/tokka-bench, August 2025 (English 4.36, Russian 6.41, Hindi 9.28, Chinese 3.93, JSON
2.78; tests/unit/test_scripts.py has the others that were fitted). google-genai counts Gemini 2.0 to 3 with that
tokenizer (`_local_tokenizer_loader.py`). It splits numbers into digits ("Gemma", arXiv 2403.08295). For later models
nothing is published; what a model makes of a run's texts is found out by the run (`calibrate.py`).
"""

from bisect import bisect_right
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

UNIT = 64
"""Weights are in 64ths of a token, so that they fit into bytes."""

STRETCH_BYTES = 1 << 17
"""Weighed at once; sums take 4 bytes for each. The fastest of 2^14 to 2^20."""

FIRST_BYTES: tuple[tuple[int, int, float], ...] = (
    # first, last, tokens of a character that begins so
    (0x00, 0x1F, 0.6),  # line feeds and tabs; several are often one token
    (0x20, 0x20, 0.0),  # a space belongs to the word behind it
    (0x21, 0x7E, 0.7),  # punctuation and operators; letters and digits follow
    (0x30, 0x39, 1.0),  # each digit
    (0x41, 0x5A, 0.4),  # A-Z: most often first letters, and shouting
    (0x61, 0x7A, 0.265),  # a-z
    (0x7F, 0x7F, 1.0),
    (0xC2, 0xC2, 1.0),  # signs: « » ° £
    (0xC3, 0xCB, 1.1),  # Latin letters with marks: few in a text, which splits its words
    (0xCC, 0xCC, 1.0),  # combining marks
    (0xCD, 0xCF, 0.45),  # Greek
    (0xD0, 0xD1, 0.35),  # Cyrillic
    (0xD2, 0xD3, 0.8),  # letters of other languages than Slavic ones
    (0xD4, 0xD6, 0.65),  # Armenian; Hebrew points
    (0xD7, 0xD7, 0.55),  # Hebrew
    (0xD8, 0xDB, 0.42),  # Arabic
    (0xDC, 0xDF, 0.75),  # Syriac, Thaana, N'Ko
    (0xE0, 0xE0, 0.38),  # Devanagari, Bengali, Tamil ... to Thai and Lao
    (0xE1, 0xE1, 0.6),  # Georgian, Khmer, Burmese, Ethiopic; Latin letters of Vietnamese
    (0xE2, 0xE2, 1.0),  # dashes, quotes, symbols
    (0xE3, 0xE3, 0.55),  # kana, ideographic punctuation
    (0xE4, 0xE9, 0.75),  # Han
    (0xEA, 0xED, 0.8),  # Hangul
    (0xEE, 0xEE, 3.0),  # private use: byte by byte
    (0xEF, 0xEF, 1.0),  # full-width forms
    (0xF0, 0xF4, 2.0),  # emoji, rare Han; scripts of few
)
"""Later entries win. Ours, fitted to the figures above; of several scripts in a range, to those with most text."""


def _weights() -> bytes:
    weights = bytearray(256)
    for first, last, tokens in FIRST_BYTES:
        weights[first : last + 1] = [round(tokens * UNIT)] * (last + 1 - first)
    return bytes(weights)


WEIGHTS = _weights()


def text_tokens_of(texts: pa.Array) -> list[int]:
    """Estimated tokens of each text, at least one; a null has whatever number.

    Args:
        texts: a string array, sliced or not.
    """
    if not len(texts):
        return []
    column = texts.cast(pa.large_binary())
    _, ends, body = column.buffers()
    offsets = pa.Array.from_buffers(pa.int64(), len(column) + 1, [None, ends], offset=column.offset)
    sums = _sums_at(offsets, body)
    units = pc.subtract(sums.slice(1), sums.slice(0, len(texts)))
    tokens = pc.shift_right(pc.add(units, UNIT - 1), UNIT.bit_length() - 1)
    counts: list[int] = pc.max_element_wise(tokens, pa.scalar(1, pa.int64())).to_pylist()
    return counts


def text_tokens(text: str) -> int:
    """The same of one text."""
    return max(1, -(-sum(text.encode().translate(WEIGHTS)) // UNIT))


def _sums_at(offsets: pa.Array, body: Any) -> pa.Array:
    """What all bytes before each offset weigh, from the first offset on."""
    places: list[int] = offsets.to_pylist()
    done, before = bisect_right(places, places[0]), 0
    found = [pa.array([0] * done, pa.int64())]
    for start in range(places[0], places[-1], STRETCH_BYTES):
        stop = min(start + STRETCH_BYTES, places[-1])
        weighed = body.slice(start, stop - start).to_pybytes().translate(WEIGHTS)
        each = pa.Array.from_buffers(pa.uint8(), stop - start, [None, pa.py_buffer(weighed)])
        running = pc.cumulative_sum(each.cast(pa.uint32()))  # of a stretch: no more than 2^25
        here = bisect_right(places, stop, done)
        wanted = running.take(pc.subtract(offsets.slice(done, here - done), start + 1))
        found.append(pc.add(wanted.cast(pa.int64()), before))
        done, before = here, before + running[-1].as_py()
    return pa.concat_arrays(found)
