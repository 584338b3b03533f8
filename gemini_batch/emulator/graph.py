"""What the schemas of one place mean together: its form, built of the nodes below it.

In: a `Document`. Out: `Graph`, the nodes by what they have to follow: the same schemas are the same node, which closes
loops. A place that no instance can be made for keeps no form, and its reason.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from gemini_batch.emulator import figures, strings
from gemini_batch.emulator.checks import Accepts, Visits, acceptance
from gemini_batch.emulator.containers import Array, Extras, Object
from gemini_batch.emulator.dialects import Document, Schema, SchemaError
from gemini_batch.emulator.forms import Checked, Choice, Form, Node, constants

Fragment = dict[str, Any]
"""A schema without references and `allOf`."""

_WHOLE = "x-whole"
"""Keyword of our own: the schema that a fragment was cut from, which instances are checked against."""
_NUMERAL = "x-numeral"
"""Keyword of our own: the number beside which a string stands, or which a string stands beside."""

_MOST_NODES = 5000
_MOST_BYTES = 1 << 24  # of schemas looked at, again and again where they are merged
_OVERHEAD = 256  # bytes that take as long as anything else about a fragment
_MOST_SEARCHES = 500
_MOST_CHAIN = 64

_CHECKED_KEYWORDS = frozenset(
    ("not", "if", "dependentRequired", "dependentSchemas", "contains", "unevaluatedItems", "unevaluatedProperties")
)
_KINDS = {
    "object": ("properties", "required", "additionalProperties", "minProperties", "maxProperties", "patternProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "string": ("minLength", "maxLength", "pattern", "format"),
}
_USUAL_MORE = 3
_MOST_CONTAINED = 1000


class Graph:
    def __init__(self, document: Document) -> None:
        self._defs = document.defs
        self._defs_bytes = len(orjson.dumps(document.defs))
        self._bytes_left = _MOST_BYTES
        self._searches_left = _MOST_SEARCHES
        self.visits = Visits(document.defs)
        self._patterns: dict[str, Accepts] = {}
        self._nodes: dict[bytes, Node] = {}
        self._waiting: list[tuple[Node, list[Fragment]]] = []
        self.reasons: dict[Node, str] = {}
        self.root = self._node([document.root])
        while self._waiting:
            node, fragments = self._waiting.pop()
            try:
                node.form = self._form(fragments)
            except SchemaError as e:
                self.reasons[node] = str(e)

    @property
    def nodes(self) -> list[Node]:
        return list(self._nodes.values())

    def _node(self, schemas: Sequence[Schema]) -> Node:
        fragments = self._fragments(schemas)
        key = b"\n".join(fragments)
        if key not in self._nodes:
            if len(self._nodes) == _MOST_NODES:
                raise SchemaError("the schema is too large")
            self._nodes[key] = Node()
            self._waiting.append((self._nodes[key], list(fragments.values())))
        return self._nodes[key]

    def _fragments(self, schemas: Sequence[Schema]) -> dict[bytes, Fragment]:
        seen: set[str] = set()
        found: dict[bytes, Fragment] = {}
        for schema in schemas:
            for fragment in self._flat(schema, (), seen):
                text = orjson.dumps(fragment)
                self._spend(len(text) + _OVERHEAD)
                found.setdefault(text, fragment)
        return found

    def _spend(self, size: int) -> None:
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise SchemaError("the schema is too large")

    def _flat(self, schema: Schema, within: tuple[str, ...], seen: set[str]) -> Iterator[Fragment]:
        if isinstance(schema, bool) or len(within) > _MOST_CHAIN:
            yield {"enum": []}
            return
        own = {name: value for name, value in schema.items() if name not in ("$ref", "allOf")}
        if own.keys() & _CHECKED_KEYWORDS:
            own.setdefault(_WHOLE, schema)
        if own:
            yield own
        for one in schema.get("allOf", ()):
            yield from self._flat(one, within, seen)
        ref = schema.get("$ref", "")
        if ref in within:
            yield {"enum": []}
        elif ref and ref not in seen:
            seen.add(ref)
            yield from self._flat(self._defs[ref.removeprefix("#/$defs/")], (*within, ref), seen)

    def _form(self, fragments: list[Fragment]) -> Form:
        if any("enum" in one or "const" in one for one in fragments):
            return self._listed(fragments)
        for keyword in ("anyOf", "oneOf"):
            for place, one in enumerate(fragments):
                if keyword in one:
                    return self._choice(fragments, place, keyword)
        kinds = _kinds(fragments)
        if not kinds:
            raise SchemaError("no type is allowed")
        if len(kinds) > 1:
            return Choice([self._node([*fragments, {"type": kind}]) for kind in kinds])
        form = self._typed(kinds[0], fragments)
        doubts = [one[_WHOLE] for one in fragments if _WHOLE in one]
        if len(_patterns(fragments)) > 1:  # a key may match more than the one it is made of
            doubts += [{"patternProperties": one.get("patternProperties", {})} for one in fragments]
        return self._checked(form, {"allOf": doubts}) if doubts else form

    def _listed(self, fragments: list[Fragment]) -> Form:
        values = next(one.get("enum", [one.get("const")]) for one in fragments if "enum" in one or "const" in one)
        accepts = self._acceptance({"allOf": fragments}, max(map(_levels, values), default=0))
        if kept := [value for value in values if accepts(value)]:
            return constants(kept)
        raise SchemaError("no value is allowed")

    def _acceptance(self, schema: Schema, levels: int = 0) -> Accepts:
        """Of values so deep; raises SchemaError where it would take too long to say."""
        if not self.visits.bearable(schema, levels):
            raise SchemaError("the schema takes too much searching")
        if b'"$ref"' not in orjson.dumps(schema):
            return acceptance(schema, {})
        self._spend(self._defs_bytes)
        return acceptance(schema, self._defs)

    def _checked(self, form: Form, schema: Schema) -> Checked:
        self._search()
        return Checked(form, self._acceptance(schema), schema)

    def _search(self) -> None:
        self._searches_left -= 1
        if self._searches_left < 0:
            raise SchemaError("the schema takes too much searching")

    def _choice(self, fragments: list[Fragment], place: int, keyword: str) -> Form:
        branches = _marked(fragments[place][keyword])
        rest = {name: value for name, value in fragments[place].items() if name != keyword}
        merged = [[*fragments[:place], rest, branch, *fragments[place + 1 :]] for branch in branches]
        choice = Choice(list(dict.fromkeys(map(self._node, merged))))
        if keyword == "anyOf" or self._disjoint(branches):
            return choice
        return self._checked(choice, {"oneOf": fragments[place][keyword]})

    def _disjoint(self, branches: Sequence[Schema]) -> bool:
        """Plainly so: by their types, or by a tag that every branch requires."""
        parts = [list(self._fragments([branch]).values()) for branch in branches]
        typed = all(any("type" in one for one in fragments) for fragments in parts)
        if typed and _apart([set(_kinds(fragments, widened=True)) for fragments in parts]):
            return True
        tags = [self._tags(fragments) for fragments in parts]
        return any(_apart([own.get(name, set()) for own in tags]) for name in tags[0])

    def _tags(self, fragments: Sequence[Fragment]) -> dict[str, set[bytes]]:
        required = {name for one in fragments for name in one.get("required", ())}
        tags: dict[str, set[bytes]] = {}
        for one in fragments:
            for name in required & one.get("properties", {}).keys():
                for part in self._fragments([one["properties"][name]]).values():
                    if values := part.get("enum", [part["const"]] if "const" in part else None):
                        tags[name] = {orjson.dumps(value) for value in values}
        return tags

    def _typed(self, kind: str, fragments: list[Fragment]) -> Form:
        beside = [one[_NUMERAL] for one in fragments if _NUMERAL in one]
        match kind:
            case "object":
                return self._object(fragments)
            case "array":
                return self._array(fragments)
            case "string" if beside:
                return strings.numeral(figures.number(beside, places=2), fragments)
            case "string":
                if any("pattern" in one for one in fragments):
                    self._search()
                return strings.text(fragments)
            case "integer":
                return figures.integer(fragments)
            case "number":
                return figures.number(fragments, places=2 if beside else 3)
            case "boolean":
                return constants([False, True])
        return constants([None])

    def _object(self, fragments: list[Fragment]) -> Form:
        known = dict.fromkeys(name for one in fragments for name in one.get("properties", ()))
        ordered = [name for one in fragments for name in one.get("propertyOrdering", ()) if name in known]
        required = dict.fromkeys(name for one in fragments for name in one.get("required", ()))
        names: Sequence[str] = list(dict.fromkeys([*ordered, *known, *required]))
        key_schemas = [one["propertyNames"] for one in fragments if "propertyNames" in one]
        if key_schemas:
            accepts = self._acceptance({"allOf": key_schemas})
            names = [name for name in names if accepts(name)]
        fewest, ceiling = _span(fragments, "minProperties", "maxProperties", 1 << 53)
        if len(required) > ceiling or not required.keys() <= set(names):
            raise SchemaError("an object cannot have all its required members")
        fields = {name: self._node(self._of_member(fragments, name)) for name in names}
        made = Object(fields, frozenset(required), self._extras(fragments, key_schemas, bool(names)), fewest, ceiling)
        if made.extras.keys is None:
            return made
        self._search()
        return Checked(made, lambda value: len(value) >= fewest)

    def _of_member(self, fragments: Sequence[Fragment], name: str) -> list[Schema]:
        found = _variety(fragments)
        for one in fragments:
            own = [one["properties"][name]] if name in one.get("properties", ()) else []
            for pattern, schema in one.get("patternProperties", {}).items():
                self._spend(_OVERHEAD)
                own += [schema] if self._matching(pattern)(name) else []
            found += own or [one.get("additionalProperties", {})]
        return found

    def _matching(self, pattern: str) -> Accepts:
        if pattern not in self._patterns:
            self._patterns[pattern] = acceptance({"pattern": pattern}, {})
        return self._patterns[pattern]

    def _extras(self, fragments: list[Fragment], key_schemas: list[Schema], named: bool) -> Extras:
        pattern = next(iter(_patterns(fragments)), None)
        keys = key_schemas if pattern is None else [*key_schemas, {"pattern": pattern}]
        values = [
            one.get("patternProperties", {}).get(pattern, one.get("additionalProperties", {})) for one in fragments
        ]
        free = any("additionalProperties" in one for one in fragments)
        return Extras(
            self._node([*values, *_variety(fragments)]),
            self._node([{"type": "string"}, *keys, {strings.VARIED: True}]) if keys else None,
            _USUAL_MORE if not named and (free or keys) else 0,
        )

    def _array(self, fragments: list[Fragment]) -> Form:
        unique = any(one.get("uniqueItems") for one in fragments)
        varied = [{strings.VARIED: True}] if unique else _variety(fragments)
        longest = max((len(one.get("prefixItems", ())) for one in fragments), default=0)
        fewest, ceiling = _span(fragments, "minItems", "maxItems", longest + _USUAL_MORE)
        rest = [*(one["items"] for one in fragments if "items" in one), *varied]
        first = [self._node([*_of_place(fragments, place), *varied]) for place in range(longest)]
        for one in fragments:
            if "contains" in one and not longest:
                wanted = min(one.get("minContains", 1), ceiling, _MOST_CONTAINED)
                first += [self._node([*rest, one["contains"]])] * wanted
        made = Array(first, self._node(rest), fewest if longest else max(fewest, len(first)), ceiling, unique)
        if not unique:
            return made
        self._search()
        return Checked(made, lambda value: len(value) >= made.fewest)


def _kinds(fragments: Sequence[Fragment], widened: bool = False) -> list[str]:
    """The types that are allowed; those that the keywords are about where none is named."""
    kinds: list[str] | None = None
    for one in fragments:
        if "type" in one:
            own = one["type"] if isinstance(one["type"], list) else [one["type"]]
            own = [*own, "integer"] if "number" in own else own
            kinds = own if kinds is None else [kind for kind in kinds if kind in own]
    if kinds is None:
        kinds = [kind for kind, names in _KINDS.items() if any(not one.keys().isdisjoint(names) for one in fragments)]
        kinds = kinds or (["string", *_KINDS] if any(_WHOLE in one for one in fragments) else ["string"])
    return [kind for kind in dict.fromkeys(kinds) if widened or kind != "integer" or "number" not in kinds]


def _marked(branches: Sequence[Schema]) -> Sequence[Schema]:
    """A number or a string without bounds is how pydantic spells Decimal: of both, only numerals are read."""
    by_kind = {str(branch.get("type")): branch for branch in branches if isinstance(branch, dict)}
    if len(by_kind) < len(branches) or by_kind.keys() - {"null"} != {"number", "string"}:
        return branches
    if not by_kind["string"].keys() <= {"type", "pattern"}:
        return branches
    mark = {_NUMERAL: by_kind["number"]}
    return [branch if kind == "null" else {**branch, **mark} for kind, branch in by_kind.items()]


def _levels(value: Any) -> int:
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max((1 + _levels(one) for one in below), default=0)


def _apart(sets: Sequence[set[Any]]) -> bool:
    return all(sets) and sum(map(len, sets)) == len(set().union(*sets))


def _span(fragments: Sequence[Fragment], low: str, high: str, usual: int) -> tuple[int, int]:
    fewest = max((one.get(low, 0) for one in fragments), default=0)
    ceiling = min((one[high] for one in fragments if high in one), default=max(usual, fewest + _USUAL_MORE))
    if fewest > ceiling:
        raise SchemaError(f"{low} is above {high}")
    return fewest, ceiling


def _patterns(fragments: Sequence[Fragment]) -> list[str]:
    return list(dict.fromkeys(pattern for one in fragments for pattern in one.get("patternProperties", ())))


def _variety(fragments: Sequence[Fragment]) -> list[Schema]:
    return [{strings.VARIED: True}] if any(strings.VARIED in one for one in fragments) else []


def _of_place(fragments: Sequence[Fragment], place: int) -> list[Schema]:
    found: list[Schema] = []
    for one in fragments:
        prefix = one.get("prefixItems", ())
        found.append(prefix[place] if place < len(prefix) else one.get("items", {}))
    return found
