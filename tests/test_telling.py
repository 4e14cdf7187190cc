"""Texts made harmless, lines kept within their columns, figures that do not lie."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from readiness import telling
from readiness.model import Decision, Verdict
from tests.reports import build

TRICKY = st.sampled_from("\x1b\x9b[]0;m\x07\\Pa \n昇\u0301\u202e")
ANY_TEXT = st.text(st.characters(), max_size=200) | st.text(TRICKY, max_size=60)


@given(ANY_TEXT, st.integers(3, 100))
def test_clean_text_is_one_harmless_line(text: str, longest: int) -> None:
    cleaned = telling.clean(text, longest)
    assert len(cleaned) <= longest
    assert cleaned == " ".join(cleaned.split())
    assert not any(unicodedata.category(character).startswith("C") for character in cleaned)
    assert telling.clean(cleaned, longest) == cleaned


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;new title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jgone", "gone"),
        ("\x1bPq#0\x1b\\x", "x"),
        ("a\r\nb\tc", "a b c"),
        ("a\x00b", "ab"),
        ("abc\u202edef", "abcdef"),
        ("half\ud800", "half"),
        ("Grün 昇腾", "Grün 昇腾"),
        (None, "None"),
    ],
)
def test_what_terminals_obey_goes(text: object, expected: str) -> None:
    assert telling.clean(text) == expected


def test_long_texts_are_cut_before_they_are_searched() -> None:
    assert len(telling.clean("x" * 50_000_000, 100)) == 100


@given(ANY_TEXT, st.integers(20, 60), st.integers(0, 8))
def test_wrapped_lines_fit_and_lose_nothing(text: str, columns: int, indent: int) -> None:
    cleaned = telling.clean(text)
    lines = telling.wrap(cleaned, columns, first=" " * indent)
    assert all(telling.width(line) <= columns for line in lines)
    assert "".join("".join(lines).split()) == "".join(cleaned.split())


@pytest.mark.parametrize(
    ("value", "unit", "beside", "expected"),
    [
        (0.031, "1", "", "0.031"),
        (123456.789, "GB/s", "", "1.235e+05 GB/s"),
        (0.999996, None, "at_least 1", "0.999996"),
        (0.9999999999, None, "at_least 1", "0.9999999999"),
        (float("nan"), "s", "", "NaN s"),
        (float("-inf"), None, "", "-infinity"),
        (True, None, "", "true"),
        (0, "1", "", "0"),
        (10**30, None, "", "1e+30"),
        (10**400, None, "", "2^1328"),
        (None, None, "", "nothing"),
    ],
)
def test_figures(value: float | bool | None, unit: str | None, beside: str, expected: str) -> None:
    assert telling.figure(value, unit, beside=beside) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "0.0 s"), (41.84, "41.8 s"), (99.96, "1 min 40 s"), (200, "3 min 20 s"), (3599.7, "1 h 00 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_durations(seconds: float, expected: str) -> None:
    assert telling.duration(seconds) == expected


def test_nothing_is_rounded_up_to_complete() -> None:
    assert telling.span(Verdict(Decision.READY, 99.9, 99.9)) == "99..99"


@pytest.mark.parametrize(
    ("vendor", "model", "expected"),
    [
        ("GenuineIntel", "Intel(R) Xeon(R) 6", "Intel(R) Xeon(R) 6"),
        ("AuthenticAMD", "AMD EPYC 9654", "AMD EPYC 9654"),
        ("NVIDIA", "NVIDIA H20", "NVIDIA H20"),
        ("Huawei", "910B2", "Huawei 910B2"),
        ("Acme", "A1", "Acme A1"),
        (None, "A1", "A1"),
        ("Acme", None, "Acme"),
        (None, None, "unknown model"),
    ],
)
def test_a_device_is_not_named_twice(vendor: str | None, model: str | None, expected: str) -> None:
    item = build.accelerator((), facts_=build.facts(vendor=vendor, model=model, memory_bytes=None))
    assert telling.device(item) == expected
