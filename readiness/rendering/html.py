"""HTML pages in one file: no font, no image, no request, one script on which nothing depends. Environment of all templates.

A page extends `page.html.jinja`; `parts.html.jinja` has macros for verdicts, tables, folds and heat maps, and
`charts.html.jinja` for what `readiness.rendering.charts` draws. Every value that a template writes is cleaned as
`readiness.rendering.text.clean` does it and escaped, whether the template says so or not.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from readiness.datamodel import Decision
from readiness.rendering.findings import Kind
from readiness.rendering.text import clean, duration, figure, visible

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = Path(__file__).parent / "templates"
#: A longer text is cut; the JSON assessment has all of it.
LONGEST_TEXT = 4000
#: The colours of meanings: classes of the style sheet.
STYLES: Mapping[str, str] = {
    Decision.READY: "good", Decision.NOT_READY: "bad", Decision.UNDETERMINED: "open",
    Kind.BLOCKER: "bad", Kind.LIMIT: "warn", Kind.UNKNOWN: "open", Kind.WAIVED: "warn", Kind.INFORMATION: "info",
    Kind.NOT_APPLICABLE: "none", Kind.PASSED: "good",
}  # fmt: skip
SIMULATED = "Simulated chips: a rehearsal, not a measurement of a product"


@cache
def environment() -> Environment:
    """The one environment. Raises at once for a name that a template misspells."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    made = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=_harmless,
    )  # fmt: skip
    made.filters.update(clean=clean, figure=figure, duration=duration, words=_breakable)
    made.tests["number"] = lambda value: isinstance(value, int | float) and not isinstance(value, bool)
    script = (FOLDER / "tools.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    made.globals.update(
        style_of=lambda word: STYLES.get(word, "none"), simulated_notice=SIMULATED,
        tools_script=Markup(script), tools_digest=f"sha256-{digest}",  # noqa: S704 - ours; no other script may run
    )  # fmt: skip
    return made


def render(template: str, **values: Any) -> str:
    """A page of a template of this folder: `report.html.jinja`. `ids` counts what needs a name of its own in the page."""
    numbers = count(1)
    return environment().get_template(template).render(ids=lambda: f"n{next(numbers)}", **values).rstrip("\n") + "\n"


def _harmless(value: object) -> object:
    """Return a template's output value: texts without control and direction characters, our own markup unchanged."""
    from markupsafe import Markup

    if isinstance(value, str) and not isinstance(value, Markup):
        return clean(value, LONGEST_TEXT)
    return value


def lines(text: str, longest: int = 100_000) -> str:
    """A whole text whose lines stay, for `<pre>`: without control and direction characters."""
    return visible(text[:longest])


def _breakable(text: object) -> Any:
    """A name with places where a narrow page may break it: after each dot, underscore, slash and hyphen."""
    from markupsafe import Markup, escape

    parts = re.split(r"(?<=[._/:-])", clean(text, 400))
    return Markup("<wbr>").join(escape(part) for part in parts if part)


def cells(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> list[list[str]]:
    """Rows of detail as texts, column by column; empty where a row has nothing there."""
    wanted = list(columns)
    return [[_cell(row.get(name)) for name in wanted] for row in rows]


def _cell(value: object) -> str:
    if value is None:
        return ""
    return figure(value) if isinstance(value, bool | int | float) else clean(value, 300)
