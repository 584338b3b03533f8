"""Strategies of JSON that nobody should send: valid messages with something wrong in them, and plain nonsense."""

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

Path = tuple[str | int, ...]

DEEP = {
    f"@deep{depth}{kind}@": opening * depth + b"1" + closing * depth
    for depth in (50, 130, 250, 1000, 3000)
    for kind, (opening, closing) in {"list": (b"[", b"]"), "items": (b'{"items":', b"}")}.items()
}
"""Texts that `raw` puts these in place of: Python's own JSON does not nest as deeply."""

NUMBERS = [0, -1, 1.5, 1e-320, 1e308, 2**31, 2**53 + 1, 2**63, 2**64, 10**30, -(2**63) - 1]
TEXTS = ["", "x", "\0", "\x7f", "é", "\u2028", "1e3", "nan", "-inf", "1_0", " 1", "files/", "../../x", "A" * 5000, "{}"]
BROKEN_TEXTS = ["\ud800", "\udfff\ud800"]
SHAPES = ["[]", "{}", "[null]", "[[]]", "[{}]", '{"":null}', '{"a":{}}', '[1,"x",null,{}]', '{"text":1}', '{"items":1}']

wrong_values = st.one_of(
    st.sampled_from([None, True, False, *NUMBERS, *TEXTS, *BROKEN_TEXTS, *DEEP]),
    st.sampled_from(SHAPES).map(json.loads),
)


def paths(value: Any, here: Path = ()) -> Iterator[Path]:
    yield here
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, one in inner:
        yield from paths(one, (*here, step))


def at(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value


@st.composite
def spoilt(draw: st.DrawFn, *valid: Any) -> Any:
    """One of `valid` with values replaced, members added, left out or said under another name."""
    made = copy.deepcopy(draw(st.sampled_from(valid)))
    for _ in range(draw(st.sampled_from([1, 1, 1, 2]))):
        where = [path for path in paths(made) if path]
        if not where:
            return draw(wrong_values)
        path = draw(st.sampled_from(where))
        parent, step = at(made, path[:-1]), path[-1]
        match draw(st.sampled_from(["replace", "replace", "replace", "add", "drop", "rename"])):
            case "replace":
                parent[step] = draw(wrong_values)
            case "drop":
                del parent[step]
            case "add" if isinstance(parent, dict):
                parent[draw(st.sampled_from([*TEXTS, "parts", "model", "key"]))] = draw(wrong_values)
            case "add":
                parent.append(draw(wrong_values))
            case "rename" if isinstance(parent, dict):
                parent[draw(st.sampled_from(["x", "", str(step).upper(), f"{step}_"]))] = parent.pop(step)
    return made


def raw(value: Any) -> bytes:
    text = json.dumps(value).encode()
    for name, deep in DEEP.items():
        text = text.replace(json.dumps(name).encode(), deep)
    return text


nonsense = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"", b"null", b"[]", b"\xef\xbb\xbf{}", b'{"a":NaN}', b"{}{}", b"[" * 100_000, b'{"a":' * 100_000]
    ),
    wrong_values.map(raw),
)


def bodies(*valid: Any) -> st.SearchStrategy[bytes]:
    return st.one_of(spoilt(*valid).map(raw), spoilt(*valid).map(raw), nonsense)
