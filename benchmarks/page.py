"""The page of the figures: sections between markers are written, the rest of it stays. Pure.

    <!-- bench:stages --> … <!-- /bench:stages -->

In: the page, sections by name. Out: the page. And a picture of the stages as SVG, without a library.
"""

import re
from collections.abc import Mapping, Sequence
from html import escape

Bar = tuple[str, float, float | None]
"""Name, value, target."""

WIDTH, LINE, LEFT, RIGHT = 760, 34, 230, 110


def with_sections(page: str, sections: Mapping[str, str]) -> str:
    """The page with these sections in place of those that it has.

    Raises:
        ValueError: the page has no such section.
    """
    for name, text in sections.items():
        marks = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
        pattern = re.compile(f"{re.escape(marks[0])}.*?{re.escape(marks[1])}", re.DOTALL)
        whole = f"{marks[0]}\n\n{text.strip()}\n\n{marks[1]}"
        page, times = pattern.subn(lambda _, whole=whole: whole, page)
        if times != 1:
            raise ValueError(f"the page has {times} sections {name!r}, one is due")
    return page


def picture(title: str, bars: Sequence[Bar]) -> str:
    """Bars from left to right, each with its value, and a line where its target is. Every bar has a scale of its own:
    its target, or where it has none its value, lies at two thirds."""
    height = 54 + LINE * len(bars)
    room = WIDTH - LEFT - RIGHT
    shapes = []
    for place, (name, value, target) in enumerate(bars):
        top, scale = 44 + LINE * place, room * 2 / 3 / (target or value)
        length = min(room, value * scale)
        colour = "#8a8f98" if target is None else "#2f7d5b" if value >= target else "#b5651d"
        shapes += [
            f'<text x="{LEFT - 10}" y="{top + 15}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{LEFT}" y="{top}" width="{length:.0f}" height="20" rx="2" fill="{colour}"/>',
            f'<text x="{LEFT + length + 8:.0f}" y="{top + 15}">{value:,.0f}</text>',
        ]
        if target is not None:
            at = LEFT + target * scale
            shapes.append(f'<line x1="{at:.0f}" x2="{at:.0f}" y1="{top - 4}" y2="{top + 24}" stroke="#8a8f98"/>')
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
            'font-family="system-ui, sans-serif" font-size="14">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
            f'<text x="10" y="24" font-weight="600">{escape(title)}</text>',
            *shapes,
            "</svg>\n",
        ]
    )
