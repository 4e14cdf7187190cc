"""Colours of a terminal: the same ones for the same meaning in every report for people."""

from __future__ import annotations

from collections.abc import Callable

from readiness.model import Decision

Paint = Callable[[str, str], str]
_STYLES = {"bold": "1", "dim": "2", "bad": "1;31", "good": "1;32", "open": "1;33"}
_DECISIONS = {Decision.READY: "good", Decision.NOT_READY: "bad", Decision.UNDETERMINED: "open"}


def painter(colour: bool) -> Paint:
    """What puts a text into a style (`bold`, `dim`, `bad`, `good`, `open`); without `colour` it changes nothing."""

    def paint(text: str, style: str) -> str:
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if colour and text else text

    return paint


def paint_decisions(line: str, paint: Paint) -> str:
    """The decisions in a line in colour. Longest first: READY is part of NOT READY."""
    words = sorted(_DECISIONS, key=lambda decision: -len(decision.value))
    result, rest = "", line
    while rest:
        word = next((word for word in words if rest.startswith(word.value.upper())), None)
        if word is None:
            result, rest = result + rest[0], rest[1:]
        else:
            text = word.value.upper()
            result, rest = result + paint(text, _DECISIONS[word]), rest[len(text) :]
    return result
