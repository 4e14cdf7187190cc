"""Strict JSON: what is written by hand is what the interpreter's own module writes."""

from __future__ import annotations

import collections
import json
import math
from enum import IntEnum, StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from readiness.documents.strict_json import indented
from tests.support.paths import RESOURCES


class Word(StrEnum):
    """A text of a subclass."""

    ONE = "one"


class Number(IntEnum):
    """A number of a subclass."""

    TWO = 2


def wanted(document: Any) -> str:
    """What the interpreter's own module writes."""
    return json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
KEYS = st.text() | st.integers() | st.booleans() | st.none()


@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner)))
def test_any_document(value: Any) -> None:
    assert indented({"value": value}) == wanted({"value": value})


def test_subclasses() -> None:
    inner = collections.OrderedDict(a=[1, {"b": {}}], c=collections.OrderedDict())
    document = {Word.ONE: Word.ONE, Number.TWO: [Number.TWO, inner], "line\nline": "line\nline"}
    assert indented(document) == wanted(document)


def test_an_assessment() -> None:
    document = json.loads((RESOURCES / "assessments" / "early.json").read_text())
    assert indented(document) == wanted(document)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    for document in ({"a": value}, {"a": [{"b": value}]}):
        with pytest.raises(ValueError, match="Out of range float values"):
            indented(document)


def test_what_json_has_no_word_for_is_refused() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        indented({"a": [object()]})
