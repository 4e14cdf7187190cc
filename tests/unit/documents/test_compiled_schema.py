"""The compiled schemas against `jsonschema`: the same documents fit, and what is wrong is found in time that grows with size."""

from __future__ import annotations

import copy
import json
import pickle
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from readiness import package_data
from readiness.documents import assessment, schema
from readiness.documents.compiled_schema import Table, compiled
from tests.support import build

WAIVER = {"requirement": "a", "accelerator": "*", "reason": "r", "by": "b", "until": "2027-01-31"}
REQUESTED = {"profile": None, "uses": ["training"], "devices": [], "expression": None, "within_s": 1.5, "timeout_s": None, "seed": 7,
         "only": [["cpu:0", "parity.matmul"]], "sha256": "", "elsewhere": [["cuda:0", None]]}  # fmt: skip


@cache
def documents() -> list[tuple[str, Any]]:
    """Documents that fit, with the name of their schema."""
    tomls = [("profile", file) for file in sorted(package_data.shipped("profiles").glob("*.toml"))]
    chips = Path(schema.__file__).parent / "simulator"
    tomls += [("chip", file) for folder in ("chips", "planted") for file in sorted((chips / folder).glob("*.toml"))[:12]]
    return [
        *((name, tomllib.loads(file.read_text(encoding="utf-8"))) for name, file in tomls),
        *(("assessment", assessment.to_json(made())) for made in (build.everything, build.simulated, build.hostile)),
        ("waivers", {"schema": "readiness.waivers/1", "waive": [WAIVER, WAIVER]}),
        ("run", {"schema": "readiness.run/1", "asked": REQUESTED}),
    ]


@cache
def pickled() -> list[tuple[str, bytes]]:
    """The same, to be copied quickly."""
    return [(name, pickle.dumps(document)) for name, document in documents()]


@cache
def validator(name: str) -> Draft202012Validator:
    """The other library's, of a published schema."""
    return Draft202012Validator(json.loads(schema.text(name)))


def agree(name: str, document: Any) -> bool:
    """Whether the document fits; both must say the same, and speak of the same place."""
    found = schema.first_problem(name, document)
    errors = list(validator(name).iter_errors(document))
    assert (found is None) == (not errors), (found, [error.message for error in errors[:3]])
    if found is not None:
        assert found.message
        assert found.path_text.isprintable()
        places = [tuple(error.absolute_path) for error in errors]
        assert any(found.path[: len(place)] == place for place in places), (found, places[:5])
    return found is None


@pytest.mark.parametrize("number", range(len(documents())))
def test_what_fits_one_fits_the_other(number: int) -> None:
    assert agree(*documents()[number])


def nodes(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to everything below the top."""
    items = document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from nodes(value, (*path, key))


odd: st.SearchStrategy[Any] = st.sampled_from([
    None, True, False, 0, 1, -1, 7.0, 1.5, 2**70, -(10**400), 1e308, float("inf"), "", "x", "NaN", "a b", "x\n", "\x1b[2J", "A" * 25_000,
    [], {}, [1], [True, 1], [1, 1.0], ["x", "x"], [[]], {"a": 1}, {"a": {"b": [{}]}}, {"\x00": None}, [None] * 101,
]).map(copy.deepcopy)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_both_agree_on_documents_with_something_changed(data: st.DataObject) -> None:
    name, saved = data.draw(st.sampled_from(pickled()))
    document = pickle.loads(saved)
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(list(nodes(document)) or [()]))
        if not path:
            break
        inner = document
        for step in path[:-1]:
            inner = inner[step]
        match data.draw(st.sampled_from(["delete", "replace", "add"])):
            case "delete":
                del inner[path[-1]]
            case "replace":
                inner[path[-1]] = data.draw(odd)
            case "add" if isinstance(inner, dict):
                inner[data.draw(st.sampled_from(["zzz", "zero", "", "X" * 400]))] = data.draw(odd)
            case _:
                inner.append(data.draw(odd))
    agree(name, document)


small = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 12) | st.sampled_from([0.5, 1.0, -3.25]) | st.sampled_from(["", "a", "abc", "b" * 9]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "cc"]), inner, max_size=3), max_leaves=8,
)  # fmt: skip
PARTS: dict[str, Any] = {
    "type": {"type": ["integer", "null"]},
    "integer": {"type": "integer", "minimum": 0, "maximum": 5},
    "exclusive": {"exclusiveMinimum": 1},
    "texts": {"type": "string", "minLength": 1, "maxLength": 3, "pattern": "^a"},
    "choice": {"enum": ["a", "abc"]},
    "constant": {"const": "a"},
    "list": {"type": "array", "minItems": 1, "maxItems": 3, "items": {"type": ["number", "boolean"]}, "uniqueItems": True},
    "tuple": {"prefixItems": [{"type": "integer"}, {"type": "string"}], "items": {"type": "null"}},
    "object": {"type": "object", "required": ["a"], "properties": {"a": {"minimum": 1}, "b": {}}, "additionalProperties": False},
    "named": {"propertyNames": {"maxLength": 1}, "minProperties": 1, "maxProperties": 2, "additionalProperties": {"type": "integer"}},
    "either": {"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 3}, {"type": "array", "items": {"type": "string"}}]},
    "both": {"allOf": [{"minLength": 2}, {"maxLength": 3}], "maxItems": 2},
    "condition": {"if": {"type": "array"}, "then": {"minItems": 2}, "else": {"type": "string"}},
    "reference": {"$ref": "#/$defs/one", "minimum": 2},
    "itself": {"$ref": "#/$defs/tree"},
}
DEFS = {"one": {"type": ["integer", "string"], "maxLength": 2}, "tree": {"type": ["array", "integer"], "items": {"$ref": "#/$defs/tree"}}}


@cache
def part_of(name: str) -> tuple[Table, Draft202012Validator]:
    """A part of a schema, compiled, and the other library's."""
    part = PARTS[name] | {"$defs": DEFS}
    return compiled(part), Draft202012Validator(part)


@pytest.mark.parametrize("name", PARTS)
@settings(max_examples=60, deadline=None)
@given(value=small)
def test_each_keyword_means_the_same(name: str, value: Any) -> None:
    own, other = part_of(name)
    assert (own.first(value) is None) == other.is_valid(value)


def test_a_keyword_that_is_not_understood_is_refused() -> None:
    with pytest.raises(ValueError, match="contains"):
        compiled({"type": "array", "contains": {"type": "integer"}})
    with pytest.raises(ValueError, match="enum"):
        compiled({"enum": [1, 2]})


class Counted(list[Any]):
    """A list that counts how many of its items are looked at."""

    looked = 0

    def __iter__(self) -> Iterator[Any]:
        for item in super().__iter__():
            Counted.looked += 1
            yield item


def test_what_is_too_long_is_not_looked_into_and_the_first_mistake_ends_it() -> None:
    Counted.looked = 0
    document = assessment.to_json(build.nothing())
    document["accelerators"] = Counted([1] * 600_000)
    found = schema.first_problem("assessment", document)
    assert found is not None
    assert found.message == "a list of 600000 items is too long: the maximum is 10000"
    assert Counted.looked == 0
    document["accelerators"] = Counted([1] * 9_000)
    found = schema.first_problem("assessment", document)
    assert found is not None
    assert found.path_text == "accelerators[0]"
    assert Counted.looked == 1


def test_a_message_quotes_no_more_than_an_excerpt() -> None:
    document = assessment.to_json(build.nothing())
    for value in ([["x" * 10**6] * 100] * 9000, {str(number): "y" * 1000 for number in range(100_000)}):
        document["profile"]["name"] = value
        found = schema.first_problem("assessment", document)
        assert found is not None
        assert len(found.message) <= 300
        assert found.message.endswith("is not of type 'string'")


def test_a_key_or_word_that_was_mistyped_comes_with_what_was_meant() -> None:
    profile = {"schema": "readiness.profile/1", "name": "a", "title": "t", "require": [{"id": "a", "wieght": 2}]}
    found = schema.first_problem("profile", profile)
    assert found is not None
    assert (found.path_text, found.hint) == ("require[0].wieght", "did you mean weight?")
    profile["require"] = [{"id": "a", "level": "shuold"}]
    found = schema.first_problem("profile", profile)
    assert found is not None
    assert (found.path_text, found.hint) == ("require[0].level", "did you mean should?")
    profile["require"] = [{"id": "a", "qqq": 1}]
    found = schema.first_problem("profile", profile)
    assert found is not None
    assert found.hint is None
