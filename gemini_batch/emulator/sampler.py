"""A schema compiled once into a sampler of valid instances.

In: a `responseSchema` or a `responseJsonSchema`, as JSON. Out: `Sampler`, dice to instance. Whatever the schema, time
and size are bounded and what is sampled is valid; a schema that this cannot be done for is refused.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import orjson

from gemini_batch.emulator.dialects import Document, SchemaError
from gemini_batch.emulator.forms import Checked, Node, Patience, Sampler, Size
from gemini_batch.emulator.graph import Graph

__all__ = ["Sampler", "SchemaError", "compile_schema"]

_DEEP = 6
_HIGHEST = 100  # orjson writes no more than 254 levels
_LARGEST = 4 * 65_536  # characters: no answer has more than 65,536 tokens
_LARGEST_SEARCHED = 1 << 15  # as one answer may take several
_SEARCHED = 1 << 22  # characters, of all examples together
_EXAMPLES = 4
_ROUNDS = 8


@lru_cache(maxsize=256)
def compile_schema(schema: bytes) -> Sampler:
    """The sampler of a schema given as JSON; raises SchemaError."""
    try:
        return _Compilation(Graph(Document(orjson.loads(schema)))).sampler()
    except RecursionError:
        raise SchemaError("the schema is nested too deeply") from None


class _Compilation:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._barred: set[Node] = set()

    def sampler(self) -> Sampler:
        """Again without the places that no example was found for, as long as there are such."""
        for _ in range(_ROUNDS):
            known = self._measure()
            checked = {node: node.form for node in known if isinstance(node.form, Checked)}
            deep, levels = self._depth(known, checked)
            for node in known:
                node.sample = node.form.sampler(deep) if node.form else None
            missed = self._search(checked, deep, levels)
            if not missed:
                return self._patient() if checked else self._graph.root.follow()
            self._barred |= missed
        raise SchemaError("the schema takes too much searching")

    def _patient(self) -> Sampler:
        sample = self._graph.root.follow()
        return lambda dice, depth: sample(Patience(dice), depth)

    def _measure(self) -> list[Node]:
        """The nodes that have an instance, the lowest first; raises SchemaError when the root is none of them."""
        waiting = [node for node in self._graph.nodes if node not in self._barred]
        known: list[Node] = []
        for node in self._graph.nodes:
            node.height, node.sample = 0, None
        while found := {node: least for node in waiting if node.form and (least := node.form.least())}:
            for node, (height, characters) in found.items():
                if height > _HIGHEST or characters > _LARGEST:
                    self._graph.reasons[node] = "every instance is too large"
                    continue
                node.height, node.characters = height, characters
                known.append(node)
            waiting = [node for node in waiting if node not in found]
        if not self._graph.root.height:
            raise SchemaError(self._reason())
        return known

    def _reason(self) -> str:
        reasons = self._graph.reasons
        own = reasons.get(self._graph.root)
        return own or "; ".join(["no finite instance", *list(dict.fromkeys(reasons.values()))[:1]])

    def _depth(self, known: Sequence[Node], checked: Mapping[Node, Checked]) -> tuple[int, int]:
        """Down to which depth all may be made that need not be, so that no instance is too large; and its levels."""
        tables = [{node: Size(node.characters, node.height) for node in known}]
        for _ in range(_DEEP):
            tables.append({node: node.form.most(tables[-1]) for node in known if node.form})
        largest = _LARGEST_SEARCHED if checked else _LARGEST
        for deep in reversed(range(_DEEP + 1)):
            sizes = [tables[deep][node] for node in (self._graph.root, *checked)]
            levels = max(size.levels for size in sizes)
            small = max(size.characters for size in sizes) <= largest
            if small and all(self._graph.visits.bearable(form.schema, levels) for form in checked.values()):
                break
        return deep, levels

    def _search(self, checked: Mapping[Node, Checked], deep: int, levels: int) -> set[Node]:
        """Finds examples; the nodes that have none, or whose schema it would take too long to check."""
        for node, form in checked.items():
            if self._graph.visits.bearable(form.schema, levels):
                tries = _SEARCHED // (len(checked) * (node.characters + 1000))
                form.find_examples(deep, range(min(max(tries, 8), 64)), _EXAMPLES)
        missed = {node for node, form in checked.items() if not form.examples}
        self._graph.reasons |= dict.fromkeys(missed, "no instance found")
        return missed
