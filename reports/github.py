"""GitHub Actions: at most ten annotations on stdout, and the step summary as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from readiness import rendering
from readiness.datamodel import Assessment, Level
from readiness.rendering import Kind, ci_results, formats
from readiness.rendering.ci_results import Result

SUFFIX = ".md"
#: What goes to stdout is meant to be obeyed there; whatever it quotes is escaped here.
COMMANDS = True
#: The file that this variable names gets the summary at its end, where annotations go to stdout.
APPENDS_TO = "GITHUB_STEP_SUMMARY"

#: GitHub shows ten of a kind and step, and omits the others without a note.
MOST = 10
_WORDS = {Kind.BLOCKER: "warning", Kind.LIMIT: "warning", Kind.UNKNOWN: "notice"}


def render(
    assessment: Assessment,
    *,
    colour: bool = False,  # noqa: ARG001
    fail_on: Level | None = Level.MUST,
    to_file: bool = False,
) -> str:
    """Annotations, an `::error` exactly where the exit code is not 0; in a file the step summary."""
    if to_file:
        return formats.render("markdown", assessment)
    found = list(_annotations(assessment, fail_on))
    shown = found if len(found) <= MOST else found[: MOST - 1]
    lines = [_command(word, properties, message) for word, properties, message in shown]
    if len(found) > len(shown):
        rest = found[len(shown) :]
        word = "error" if any(word == "error" for word, _, _ in rest) else "notice"
        lines.append(_command(word, {"title": f"{len(rest)} more"}, "The step summary and the other reports have them."))
    return "".join(f"{line}\n" for line in lines)


@dataclass(slots=True)
class _Entry:
    """One result, with all accelerators and uses that have it."""

    result: Result
    ids: list[str] = field(default_factory=list)
    uses: list[str] = field(default_factory=list)


def _annotations(assessment: Assessment, fail_on: Level | None) -> Iterator[tuple[str, dict[str, str], str]]:
    """Word, properties and message; the red ones first. What is met, waived, not applicable or for information has none."""
    entries: dict[tuple[object, ...], _Entry] = {}
    for suite in ci_results.suites(assessment, fail_on):
        for result in suite.results:
            if result.status.red or result.kind in _WORDS:
                entry = entries.setdefault((result.name, result.status, result.kind, result.finding is None), _Entry(result))
                if suite.id not in entry.ids:
                    entry.ids.append(suite.id)
                if suite.use is not None and suite.use.value not in entry.uses:
                    entry.uses.append(suite.use.value)
    order = list(Kind)
    for entry in sorted(
        entries.values(),
        key=lambda entry: (not entry.result.status.red, order.index(entry.result.kind) if entry.result.kind else -1),
    ):
        result = entry.result
        word = "error" if result.status.red else _WORDS[result.kind or Kind.UNKNOWN]
        where = rendering.names(entry.ids)
        uses = f" ({', '.join(entry.uses)})" if entry.uses else ""
        simulated = "simulated: " if rendering.simulated_chips(assessment) else ""
        properties = {"title": f"readiness: {simulated}{where}: {result.name}{uses}"}
        place = None if result.finding is None else ci_results.place(assessment, result.finding.requirement)
        if place is not None and not place.shipped:
            properties |= {"file": place.file, "line": str(place.line)}
        remedy = result.finding.remedy if result.finding is not None else None
        yield word, properties, result.message + (f"\ndo: {rendering.clean(remedy.text)}" if remedy is not None else "")


def _command(word: str, properties: Mapping[str, str], message: str) -> str:
    """A workflow command: percent and line breaks stand as escapes, in properties also what ends them."""
    escaped = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    listed = ",".join(f"{name}={_property(text)}" for name, text in properties.items())
    return f"::{word} {listed}::{escaped}"


def _property(text: str) -> str:
    return rendering.clean(text, 300).replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
