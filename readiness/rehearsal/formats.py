"""What `-f FORMAT[=FILE]` means for a rehearsal: understood before anything runs, written at the end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TextIO

from readiness.assessment import dumps
from readiness.errors import ReadinessError, UsageError
from readiness.rehearsal import markdown, page, table
from readiness.rehearsal.document import to_json
from readiness.rehearsal.play import Rehearsal
from readiness.reporting import WIDEST, Request, columns, put, write_text

_FLAG = "--format"
_PLAIN: dict[str, Callable[[Rehearsal], str]] = {
    "json": lambda rehearsal: dumps(to_json(rehearsal)) + "\n",
    "markdown": markdown.render,
    "html": page.render,
}
NAMES = ("table", *_PLAIN)


def requests(texts: Iterable[str]) -> list[Request]:
    """All that was asked for. Raises UsageError, also for a file that cannot be written."""
    asked: list[Request] = []
    targets: set[str | None] = set()
    for text in texts:
        name, equals, file = text.partition("=")
        if name not in NAMES:
            raise UsageError(
                f"there is no format {name[:100]!r} for a rehearsal", place=_FLAG, remedy=f"choose of {', '.join(NAMES)}"
            )
        if equals and not file.strip():
            raise UsageError("it names no file after the equals sign", place=_FLAG, remedy=f"write {name}=FILE or {name}")
        request = Request(name, None if file in ("", "-") else Path(file))
        target = None if request.file is None else os.path.realpath(file.replace("\0", "?"))
        if target in targets:
            raise UsageError(
                f"two formats would go to {target or 'standard output'}", place=_FLAG, remedy="give each a file of its own"
            )
        targets.add(target)
        _refuse_unwritable(request)
        asked.append(request)
    return asked


def _refuse_unwritable(request: Request) -> None:
    """Find out now, and not after half an hour of rehearsing."""
    file = request.file
    if file is None:
        return
    try:
        if file.is_dir():
            raise IsADirectoryError("this is a folder")
        if file.is_file() and not os.access(file, os.W_OK):
            raise PermissionError("the file is write-protected")
        if not file.exists() or file.is_file():
            with tempfile.NamedTemporaryFile(dir=Path(os.path.realpath(file)).parent, prefix=f".{file.name}."):
                pass
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the path
        raise _unwritten(request, problem) from None


def _unwritten(request: Request, problem: Exception) -> UsageError:
    reason = getattr(problem, "strerror", None) or problem
    return UsageError(
        f"it cannot be written: {reason}",
        place=f"{_FLAG} {request.place!r}",
        remedy="name a file in a folder in which you may write",
    )


def write_all(asked: Sequence[Request], rehearsal: Rehearsal, *, quiet: bool, colour: bool, stdout: TextIO) -> None:
    """Write all of them; the table (one line with `quiet`) goes to `stdout` unless another does.

    One that fails does not cost the others: the first error (UsageError) is raised at the end.
    """
    problems: list[ReadinessError] = []
    for request in asked:
        try:
            _write(request, rehearsal, colour, stdout)
        except ReadinessError as problem:
            problems.append(problem)
        except (OSError, ValueError) as problem:
            problems.append(_unwritten(request, problem))
    if quiet:
        put(table.line(rehearsal), stdout)
    elif all(request.file is not None for request in asked):
        put(_render("table", rehearsal, colour, stdout), stdout)
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
