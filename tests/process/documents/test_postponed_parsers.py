"""Formats that take the parsers which are built late."""

from __future__ import annotations

import jsonschema
import pytest


@pytest.mark.parametrize(("text", "right"), [("https://example.org/ü", True), ("no address", False), ("//", False)])
def test_international_addresses_are_told_from_others(text: str, right: bool) -> None:
    pytest.importorskip("rfc3987_syntax")
    schema = {"type": "string", "format": "iri"}
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    assert validator.is_valid(text) is right
