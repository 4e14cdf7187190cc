"""Terminal colours: the same meaning has the same colour in every report."""

from __future__ import annotations

import re
from collections.abc import Callable

from readiness.datamodel import Decision
from readiness.rendering import verdicts

Paint = Callable[[str, str], str]
_STYLES = {"bold": "1", "dim": "2", "bad": "1;31", "good": "1;32", "open": "1;33"}
#: The longest first: READY is part of NOT READY.
_WORDS = re.compile("|".join(sorted((decision.value.upper() for decision in Decision), key=len, reverse=True)))


def painter(colour: bool) -> Paint:
    """Return a function that styles a text (`bold`, `dim`, `bad`, `good`, `open`); without `colour` it changes nothing."""

    def paint(text: str, style: str) -> str:
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if colour and text else text

    return paint


def paint_decisions(line: str, paint: Paint) -> str:
    """Colour the verdicts in a line."""
    return _WORDS.sub(lambda match: paint(match[0], verdicts.STYLES[Decision(match[0].lower())]), line)
