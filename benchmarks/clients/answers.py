"""What the emulator answers: a text that only this prompt has."""

from typing import Any


def answer(prompt: Any) -> str:
    return f"about: {prompt.text}"
