"""Report formats of a rehearsal: `-f FORMAT[=FILE]` is parsed before the run, and written after it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

from readiness.documents.assessment import dumps
from readiness.errors import ReadinessError, UsageError
from readiness.rehearsal import html, markdown, table
from readiness.rehearsal.document import to_json
from readiness.rehearsal.run import Rehearsal
from readiness.rendering.formats import WIDEST, Request, check_writable, columns, parse_requests, put, write_text

#: The formats there are, and how their files end.
SUFFIXES = {"table": ".txt", "json": ".json", "markdown": ".md", "html": ".html"}
_PLAIN: dict[str, Callable[[Rehearsal], str]] = {
    "json": lambda rehearsal: dumps(to_json(rehearsal)) + "\n",
    "markdown": markdown.render,
    "html": html.render,
}


def requests(texts: Iterable[str]) -> list[Request]:
    """Parse all requests. Raises UsageError, also for a file that cannot be written."""
    requested = parse_requests(texts, SUFFIXES)
    check_writable(requested)
    return requested


def write_all(requested: Sequence[Request], rehearsal: Rehearsal, *, quiet: bool, colour: bool, stdout: TextIO) -> None:
    """Write all requested reports; the table (one line with `quiet`) goes to `stdout` unless another report does.

    One that fails does not cost the others: the first error (UsageError) is raised at the end.
    """
    problems: list[ReadinessError] = []
    for request in requested:
        try:
            _write(request, rehearsal, colour, stdout)
        except ReadinessError as problem:
            problems.append(problem)
        except (OSError, ValueError) as problem:
            what = f"it cannot be written: {getattr(problem, 'strerror', None) or problem}"
            remedy = "name a file in a folder in which you may write"
            problems.append(UsageError(what, place=f"--format {request.place!r}", remedy=remedy))
    if all(request.file is not None for request in requested):
        put(table.line(rehearsal) if quiet else _render("table", rehearsal, colour, stdout), stdout)
    if problems:
        raise problems[0]


def _write(request: Request, rehearsal: Rehearsal, colour: bool, stdout: TextIO) -> None:
    if request.file is None:
        put(_render(request.format, rehearsal, colour, stdout), stdout)
        return
    text = _render(request.format, rehearsal, False, None)
    write_text(request.file, text)


def _render(name: str, rehearsal: Rehearsal, colour: bool, stream: TextIO | None) -> str:
    width = WIDEST if stream is None else columns(stream) or WIDEST
    text = table.render(rehearsal, colour=colour, width=width) if name == "table" else _PLAIN[name](rehearsal)
    return text.encode("utf-8", "replace").decode("utf-8")  # halves of surrogate pairs
