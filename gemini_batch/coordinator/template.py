"""Prompts from a template: `{column}` is that column's value, `{{` and `}}` are braces. Pure.

In: the template, and the columns of a block as text. Out: a prompt per row; null where every placeholder is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from gemini_batch.errors import BadInput


@dataclass(frozen=True)
class Template:
    """Literal text around the names of columns: one more piece than there are columns."""

    pieces: tuple[str, ...]
    columns: tuple[str, ...]

    @property
    def text(self) -> str:
        """As it is written."""
        literal = [piece.replace("{", "{{").replace("}", "}}") for piece in self.pieces]
        holes = [f"{{{column}}}" for column in self.columns]
        return "".join(a + b for a, b in zip(literal, [*holes, ""], strict=True))

    def bytes_of(self, rows: int, block_bytes: int) -> int:
        """The most that the prompts of a block may have."""
        return rows * sum(len(piece.encode()) for piece in self.pieces) + len(self.columns) * block_bytes

    def render(self, values: Mapping[str, pa.Array], rows: int) -> pa.Array:
        """Args:
        values: the columns as strings.
        rows: how many there are.
        """
        texts: list[pa.Array | pa.Scalar] = [pa.scalar(self.pieces[0])]
        for column, piece in zip(self.columns, self.pieces[1:], strict=True):
            texts += [values[column], pa.scalar(piece)]
        if not self.columns:
            return pa.repeat(texts[0], rows)
        made = pc.binary_join_element_wise(*texts, "", null_handling="replace", null_replacement="")
        nothing = reduce(pc.and_, (pc.is_null(values[column]) for column in dict.fromkeys(self.columns)))
        return pc.if_else(nothing, pa.scalar(None, pa.string()), made)


def parse_template(text: str) -> Template:
    """
    Raises:
        BadInput: a brace that is not closed, not opened, or holds no name.
    """
    pieces, columns, literal, at = list[str](), list[str](), "", 0
    while at < len(text):
        if text[at : at + 2] in ("{{", "}}"):
            literal, at = literal + text[at], at + 2
        elif text[at] == "{":
            end = text.find("}", at)
            name = text[at + 1 : end]
            if end < 0 or not name or "{" in name:
                raise _refusal(text, at)
            pieces.append(literal)
            columns.append(name)
            literal, at = "", end + 1
        elif text[at] == "}":
            raise _refusal(text, at)
        else:
            following = min((place for brace in "{}" if (place := text.find(brace, at)) >= 0), default=len(text))
            literal, at = literal + text[at:following], following
    return Template((*pieces, literal), tuple(columns))


def _refusal(text: str, at: int) -> BadInput:
    return BadInput(
        f"--template, character {at + 1} ({text[at : at + 20]!r}): a brace stands around the name of a column; "
        "write {{ or }} for a brace itself"
    )
