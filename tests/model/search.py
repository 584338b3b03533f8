"""Every state of a model, breadth first: the shortest way to a violation, and the states that cannot end well.

A state ends well if what goes right from there on can lead to a final one. As it must hold in every state that is
reached, any run ends, in which what goes wrong stops and what can always happen again does happen at last.
"""

import gc
import itertools
from array import array
from collections.abc import Callable, Iterable
from time import process_time
from typing import Any, NamedTuple

from judge import Violation, is_end
from rules import World
from world import Worlds


class Found(NamedTuple):
    states: int
    steps: int
    seconds: float
    """Of CPU."""
    violation: str | None = None
    way: tuple[tuple[Any, World | None], ...] = ()
    """Labels and states up to the violation, or to the first state that cannot end well."""

    def __str__(self) -> str:
        return f"{self.states:,} states, {self.steps:,} steps, {self.seconds:.1f} s: {self.violation or 'holds'}"


def search(worlds: Worlds, most: int | None = None) -> Found:
    """Visit every state, or the first `most` ones."""
    graph = _Graph(worlds)
    began = process_time()
    gc.disable()  # there are no cycles, and looking for them among millions of tuples takes a while
    try:
        graph.explore(most)
        violation, at = graph.violation, graph.at
        if violation is None and most is None and (lost := graph.lost()) is not None:
            violation, at = "from here it cannot end", lost
    finally:
        gc.enable()
    way = tuple(graph.way(at)) if violation else ()
    return Found(len(graph.worlds), graph.steps, process_time() - began, violation, way)


class _Graph:
    def __init__(self, worlds: Worlds) -> None:
        self.of = worlds
        self.worlds = [worlds.first()]
        self.steps = 0
        self.violation: str | None = None
        self.at = 0
        """The state that is being looked at."""
        self._parents = array("l", [-1])
        self._fair = (array("l"), array("l"))
        """Steps in which nothing goes wrong: from, to."""

    def explore(self, most: int | None) -> None:
        numbers = {self.worlds[0]: 0}
        try:
            while self.at < len(self.worlds) and self.at != most:
                for _, fair, after in self.of.steps(self.worlds[self.at]):
                    self.steps += 1
                    number = numbers.setdefault(after, len(self.worlds))
                    if number == len(self.worlds):
                        self.worlds.append(after)
                        self._parents.append(self.at)
                    if fair:
                        self._fair[0].append(self.at)
                        self._fair[1].append(number)
                self.at += 1
        except Violation as error:
            self.violation = str(error)

    def lost(self) -> int | None:
        """The first state from which no steps lead to an end."""
        before = _reversed(len(self.worlds), *self._fair)
        todo = [number for number, world in enumerate(self.worlds) if is_end(self.of, world)]
        ends = bytearray(len(self.worlds))
        for number in todo:
            ends[number] = 1
        while todo:
            for number in before(todo.pop()):
                if not ends[number]:
                    ends[number] = 1
                    todo.append(number)
        found = ends.find(0)
        return None if found < 0 else found

    def way(self, at: int) -> Iterable[tuple[Any, World | None]]:
        """How a state came about; past the last one there is the step that is none."""
        path = [at]
        while self._parents[path[-1]] >= 0:
            path.append(self._parents[path[-1]])
        path.reverse()
        for here, there in itertools.pairwise(path):
            label = next(step.label for step in self.of.steps(self.worlds[here]) if step.world == self.worlds[there])
            yield label, self.worlds[there]


def _reversed(nodes: int, sources: array, targets: array) -> Callable[[int], array]:
    """Where the edges into a node come from."""
    first = array("l", bytes((nodes + 1) * array("l").itemsize))
    for target in targets:
        first[target + 1] += 1
    for node in range(nodes):
        first[node + 1] += first[node]
    free, into = array("l", first), array("l", bytes(len(targets) * array("l").itemsize))
    for source, target in zip(sources, targets, strict=True):
        into[free[target]] = source
        free[target] += 1
    return lambda node: into[first[node] : first[node + 1]]
