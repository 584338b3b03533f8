"""A terminal, as far as a live block needs one: what is written, and what can be seen then."""

import re

_PIECE = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|(\r\n|\n|\r)|([^\x1b\r\n]+)")


class Screen:
    """Rows of text and a cursor. Lines longer than the terminal is wide go on in the next row."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.encoding = "utf-8"
        self.rows = [""]
        self.row = 0
        self.writes = 0

    def isatty(self) -> bool:
        return True

    def flush(self) -> None: ...

    def write(self, text: str) -> None:
        self.writes += 1
        for numbers, code, end, words in _PIECE.findall(text):
            if words:
                self._put(words)
            elif end in ("\n", "\r\n"):
                self.row += 1
                self.rows += [""] * (self.row + 1 - len(self.rows))
            elif code == "A":
                self.row = max(0, self.row - int(numbers or 1))
            elif code == "K":
                self.rows[self.row] = ""

    def _put(self, words: str) -> None:
        whole = self.rows[self.row] + words
        self.rows[self.row] = whole[: self.width]
        if whole[self.width :]:
            self.row += 1
            self.rows += [""] * (self.row + 1 - len(self.rows))
            self._put(whole[self.width :])

    def resize(self, width: int) -> None:
        """As terminals do that break and join lines anew; the cursor stays in its text."""
        kept = [[row[at : at + width] for at in range(0, max(len(row.rstrip()), 1), width)] for row in self.rows]
        self.row = sum(map(len, kept[: self.row + 1])) - 1
        self.rows = [part for row in kept for part in row]
        self.width = width

    @property
    def shown(self) -> list[str]:
        rows = [row.rstrip() for row in self.rows]
        while rows and not rows[-1]:
            rows.pop()
        return rows
