"""A JSON Schema compiled into functions that find the first violation in a document, in time linear in its size.

`jsonschema` collects every violation with its path: seconds a megabyte, and minutes for a document that is wrong in many
places. The keywords are those that the shipped schemas use; any other is refused when it is compiled.
`tests/unit/documents/test_compiled_schema.py` holds both against each other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_NONE = type(None)
_TYPES: dict[str, tuple[type, ...]] = {
    "null": (_NONE,), "boolean": (bool,), "integer": (int, float), "number": (int, float), "string": (str,),
    "array": (list,), "object": (dict,),
}  # fmt: skip
_ALL = (_NONE, bool, int, float, str, list, dict)
_ANNOTATIONS = frozenset({"$schema", "$id", "$defs", "title", "description"})
#: Texts that fit are remembered, so many for each part of a schema: names repeat.
_MOST_REMEMBERED = 10_000


class Violation:
    """The first violation in a document: its place, and the violated keyword of the schema.

    `value` is what breaks it; of a key that is missing or not allowed, its name.
    """

    __slots__ = ("keyword", "schema", "steps", "value")

    def __init__(self, schema: Mapping[str, Any], keyword: str, value: Any) -> None:
        self.schema, self.keyword, self.value = schema, keyword, value
        self.steps: list[str | int] = []

    def prefixed(self, step: str | int) -> Violation:
        """Return the violation seen from the enclosing object or list."""
        self.steps.append(step)
        return self

    @property
    def path(self) -> tuple[str | int, ...]:
        """The path to the value from the top of the document."""
        return tuple(reversed(self.steps))


Handler = Callable[[Any], Violation | None]


class Table(dict[type, Handler | None]):
    """The requirements of a part of a schema, by type of the value; None where that type is unrestricted."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        super().__init__()
        self.schema = schema

    def __missing__(self, kind: type) -> Handler | None:
        base = next((base for base in _ALL if issubclass(kind, base)), None)  # bool before int, which it derives from
        handler = self[base] if base is not None else _never(self.schema, "type") if "type" in self.schema else None
        self[kind] = handler
        return handler

    def first(self, value: Any) -> Violation | None:
        """Return the first violation in a value."""
        handler = self[type(value)]
        return None if handler is None else handler(value)


def compiled(schema: Mapping[str, Any]) -> Table:
    """Compile a schema. Raises ValueError for an unsupported keyword."""
    return _Compiler(schema).table(schema)


class _Compiler:
    def __init__(self, whole: Mapping[str, Any]) -> None:
        self.whole = whole
        self.known: dict[int, Table] = {}

    def table(self, schema: Mapping[str, Any]) -> Table:
        if id(schema) in self.known:
            return self.known[id(schema)]
        if set(schema) - _ANNOTATIONS == {"$ref"}:
            return self.table(self.target(schema["$ref"]))
        table = self.known[id(schema)] = Table(schema)  # known before it is filled: schemas may refer to themselves
        allowed = self.allowed(schema)
        own = {kind: self.own(schema, kind) if kind in allowed else _never(schema, "type") for kind in _ALL}
        if "integer" in _list(schema.get("type", ())) and "number" not in _list(schema["type"]):
            own[float] = _both(_whole_number(schema), own[float])
        others = [self.table(part) for part in schema.get("allOf", ())]
        if "$ref" in schema:
            others.append(self.table(self.target(schema["$ref"])))
        for kind in _ALL:
            handler = own[kind]
            for other in others:
                handler = _both(handler, other.first)
            table[kind] = handler
        self.refuse_unknown(schema)
        return table

    def target(self, reference: str) -> Mapping[str, Any]:
        found: Any = self.whole
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
        assert isinstance(found, Mapping)
        return found

    @staticmethod
    def allowed(schema: Mapping[str, Any]) -> set[type]:
        words = _list(schema["type"]) if "type" in schema else list(_TYPES)
        return {kind for word in words for kind in _TYPES[word]}

    @staticmethod
    def refuse_unknown(schema: Mapping[str, Any]) -> None:
        unknown = set(schema) - _ANNOTATIONS - _KEYWORDS - {"type", "allOf", "$ref", "then", "else"}
        if unknown:
            raise ValueError(f"the keywords {sorted(unknown)} of the schema are not supported")

    def own(self, schema: Mapping[str, Any], kind: type) -> Handler | None:
        """Return the requirements of this part's own keywords on a type."""
        handler: Handler | None = None
        for keyword, (kinds, make) in _MAKERS.items():
            if keyword in schema and kind in kinds:
                handler = _both(handler, make(self, schema, keyword))
        if kind is str and handler is not None:
            handler = _remembering(handler)
        if kind is dict and not schema.keys().isdisjoint(("properties", "additionalProperties", "propertyNames")):
            handler = _both(handler, self.members(schema))
        return handler

    def members(self, schema: Mapping[str, Any]) -> Handler:
        """Return the requirements on the members of an object."""
        tables = {name: self.table(part) for name, part in schema.get("properties", {}).items()}
        rest = schema.get("additionalProperties", True)
        other = None if isinstance(rest, bool) else self.table(rest)
        names = self.table(schema["propertyNames"]) if "propertyNames" in schema else None
        closed = rest is False

        def handler(value: dict[str, Any]) -> Violation | None:
            for name, item in value.items():
                if names is not None and (found := names.first(name)) is not None:
                    return found
                table = tables.get(name, other)
                if table is None:
                    if closed:
                        return Violation(schema, "additionalProperties", name).prefixed(name)
                    continue
                inner = table[type(item)]
                if inner is not None and (found := inner(item)) is not None:
                    return found.prefixed(name)
            return None

        return handler


# ------------------------------------------------------------------------------------------------ single keywords


def _list(words: str | Iterable[str]) -> list[str]:
    return [words] if isinstance(words, str) else list(words)


def _never(schema: Mapping[str, Any], keyword: str) -> Handler:
    return lambda value: Violation(schema, keyword, value)


def _both(one: Handler | None, other: Handler | None) -> Handler | None:
    if one is None or other is None:
        return one or other
    first, then = one, other

    def handler(value: Any) -> Violation | None:
        found = first(value)
        return then(value) if found is None else found

    return handler


def _whole_number(schema: Mapping[str, Any]) -> Handler:
    return lambda value: None if value.is_integer() else Violation(schema, "type", value)


def _remembering(handler: Handler) -> Handler:
    """Return the requirements on texts, which short ones that have met them meet without another look."""
    known: set[str] = set()

    def remembering(value: str) -> Violation | None:
        if value in known:
            return None
        found = handler(value)
        if found is None and len(known) < _MOST_REMEMBERED and len(value) < 1000:
            known.add(value)
        return found

    return remembering


def _least(_: _Compiler, schema: Mapping[str, Any], keyword: str) -> Handler:
    limit = schema[keyword]
    return lambda value: Violation(schema, keyword, value) if value < limit else None


def _most(_: _Compiler, schema: Mapping[str, Any], keyword: str) -> Handler:
    limit = schema[keyword]
    return lambda value: Violation(schema, keyword, value) if value > limit else None


def _above(_: _Compiler, schema: Mapping[str, Any], keyword: str) -> Handler:
    limit = schema[keyword]
    return lambda value: Violation(schema, keyword, value) if value <= limit else None


def _longest(_: _Compiler, schema: Mapping[str, Any], keyword: str) -> Handler:
    limit = schema[keyword]
    return lambda value: Violation(schema, keyword, value) if len(value) > limit else None


def _shortest(_: _Compiler, schema: Mapping[str, Any], keyword: str) -> Handler:
    limit = schema[keyword]
    return lambda value: Violation(schema, keyword, value) if len(value) < limit else None


def _pattern(_: _Compiler, schema: Mapping[str, Any], keyword: str) -> Handler:
    search = re.compile(schema["pattern"]).search
    return lambda value: Violation(schema, keyword, value) if search(value) is None else None


def _required(_: _Compiler, schema: Mapping[str, Any], keyword: str) -> Handler:
    wanted = frozenset(schema["required"])

    def handler(value: dict[str, Any]) -> Violation | None:
        if value.keys() >= wanted:
            return None
        if schema.get("additionalProperties", True) is False:  # a key that was mistyped is lacking and too many: it is shown
            for name in value:
                if name not in schema.get("properties", {}):
                    return Violation(schema, "additionalProperties", name).prefixed(name)
        return Violation(schema, keyword, next(name for name in schema["required"] if name not in value))

    return handler


def _items(compiler: _Compiler, schema: Mapping[str, Any], _: str) -> Handler:
    table = compiler.table(schema["items"])
    skipped = len(schema.get("prefixItems", ()))

    def handler(value: list[Any]) -> Violation | None:
        for number, item in enumerate(value[skipped:] if skipped else value):
            inner = table[type(item)]
            if inner is not None and (found := inner(item)) is not None:
                return found.prefixed(number + skipped)
        return None

    return handler


def _prefix(compiler: _Compiler, schema: Mapping[str, Any], _: str) -> Handler:
    tables = [compiler.table(part) for part in schema["prefixItems"]]

    def handler(value: list[Any]) -> Violation | None:
        for number, (table, item) in enumerate(zip(tables, value, strict=False)):
            if (found := table.first(item)) is not None:
                return found.prefixed(number)
        return None

    return handler


def _unique(_: _Compiler, schema: Mapping[str, Any], keyword: str) -> Handler:
    def handler(value: list[Any]) -> Violation | None:
        seen = {(isinstance(item, bool), item if item.__hash__ else json.dumps(item, sort_keys=True)) for item in value}
        return None if len(seen) == len(value) else Violation(schema, keyword, value)

    return handler


def _choice(_: _Compiler, schema: Mapping[str, Any], keyword: str) -> Handler:
    """`enum` and `const`; of texts alone, so that no number equals a boolean."""
    choices = schema["enum"] if keyword == "enum" else [schema["const"]]
    if not all(isinstance(choice, str) for choice in choices):
        raise ValueError(f"{keyword} of values other than texts is not supported")
    known = frozenset(choices)
    return lambda value: None if isinstance(value, str) and value in known else Violation(schema, keyword, value)


def _any_of(compiler: _Compiler, schema: Mapping[str, Any], keyword: str) -> Handler:
    tables = [compiler.table(part) for part in schema["anyOf"]]

    def handler(value: Any) -> Violation | None:
        inside: Violation | None = None  # of the form that has the right type: what is wrong there is what was meant
        for table in tables:
            if (found := table.first(value)) is None:
                return None
            if found.steps or found.keyword != "type":
                inside = inside or found
        return inside or Violation(schema, keyword, value)

    return handler


def _if(compiler: _Compiler, schema: Mapping[str, Any], _: str) -> Handler:
    condition, then, otherwise = (compiler.table(schema.get(name, {})) for name in ("if", "then", "else"))
    return lambda value: (then if condition.first(value) is None else otherwise).first(value)


_NUMBERS, _STRING, _ARRAY, _OBJECT = (int, float), (str,), (list,), (dict,)
#: By keyword: the types that it speaks of, and what makes its handler. Sizes come first: nothing too large is looked into.
_MAKERS: dict[str, tuple[tuple[type, ...], Callable[[_Compiler, Mapping[str, Any], str], Handler]]] = {
    "const": (_ALL, _choice),
    "enum": (_ALL, _choice),
    "minimum": (_NUMBERS, _least),
    "maximum": (_NUMBERS, _most),
    "exclusiveMinimum": (_NUMBERS, _above),
    "minLength": (_STRING, _shortest),
    "maxLength": (_STRING, _longest),
    "pattern": (_STRING, _pattern),
    "minItems": (_ARRAY, _shortest),
    "maxItems": (_ARRAY, _longest),
    "minProperties": (_OBJECT, _shortest),
    "maxProperties": (_OBJECT, _longest),
    "required": (_OBJECT, _required),
    "prefixItems": (_ARRAY, _prefix),
    "items": (_ARRAY, _items),
    "uniqueItems": (_ARRAY, _unique),
    "anyOf": (_ALL, _any_of),
    "if": (_ALL, _if),
}
_KEYWORDS = frozenset(_MAKERS) | {"properties", "additionalProperties", "propertyNames"}
