"""Report formats: find them, parse requests, render and write.

A format is one module of `reports/`: the first line of its docstring describes it, `render(assessment, colour=)`
returns text. It may take `width` (columns of the terminal), `fail_on` (which level of failure the exit code counts as not
ready), `hints` (commands that tell more, by what they tell), `verbose` (no long list is folded), `blocks` (whether the
stream can show `readiness.rendering.charts.sparkline`) and `to_file` (whether it goes to a file), and name a `SUFFIX`
for its files. `pieces(assessment, ...)` yields the same text in parts, which a file gets one by one.
`COMMANDS` says that the log of a pipeline is to obey what goes to stdout; `APPENDS_TO` names a variable of
the environment: to the file that this names is appended what a file would hold. Nothing else is written unless asked for.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from readiness import package_data
from readiness.datamodel import Assessment
from readiness.documents.files import write_atomically, write_bytes_atomically, written_through
from readiness.errors import InternalError, ReadinessError, UsageError, did_you_mean
from readiness.host.identity import host_name, this_host

_FLAG = "--format"
#: What a format may take beside the assessment and the colour.
_PARAMETERS = {"width", "fail_on", "hints", "to_file", "verbose", "blocks"}
#: Terminals outside of these are treated as if they had that many columns.
NARROWEST, WIDEST = 60, 100


@dataclass(frozen=True, slots=True)
class Format:
    """A report format. `takes` are the further parameters of its `render`."""

    name: str
    description: str
    suffix: str
    render: Callable[..., str]
    takes: frozenset[str]
    commands: bool = False
    appends_to: str | None = None
    pieces: Callable[..., Iterator[str]] | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A request `-f FORMAT[=FILE]`; without a file, or with `-`, it goes to standard output."""

    format: str
    file: Path | None = None

    @property
    def place(self) -> str:
        """The request in the user's words."""
        return self.format if self.file is None else f"{self.format}={self.file}"


@cache
def formats() -> dict[str, Format]:
    """Return all formats by name. Raises InternalError for a module that is not a format: all are shipped."""
    found = {}
    for file in _files():
        module = importlib.import_module(f"readiness.reports.{file.stem}")
        render = getattr(module, "render", None)
        description = (module.__doc__ or "").strip().partition("\n")[0]
        if not callable(render) or not description:
            raise InternalError(
                f"the report {file.stem!r} has no `render` or no docstring",
                place=str(file),
                remedy="fix it, or remove it",
            )
        found[file.stem] = Format(
            name=file.stem,
            description=description,
            suffix=getattr(module, "SUFFIX", ".txt"),
            render=render,
            pieces=getattr(module, "pieces", None),
            takes=frozenset(inspect.signature(render).parameters) & _PARAMETERS,
            commands=getattr(module, "COMMANDS", False),
            appends_to=getattr(module, "APPENDS_TO", None),
        )
    return found


def descriptions() -> dict[str, str]:
    """Return the first line of each format's docstring. None is imported for it, a quarter of `readiness list`."""
    firsts = {}
    for file in _files():
        with file.open(encoding="utf-8") as lines:
            firsts[file.stem] = next(lines, "").strip().strip('"')
    return firsts


def _files() -> list[Path]:
    return sorted(file for file in package_data.shipped("reports").glob("*.py") if not file.name.startswith(("_", ".")))


def suffixes() -> Mapping[str, str]:
    """Return the names of all formats, each with its file suffix."""
    return {name: known.suffix for name, known in formats().items()}


def parse_request(text: str, known: Mapping[str, str] | None = None) -> Request:
    """`json`, `json=a.json` or `json=-`; `%h` is this host's name. `known` are the formats there are, as in `suffixes`.

    Raises UsageError for what is none of these.
    """
    name, equals, file = text.partition("=")
    known = suffixes() if known is None else known
    if name not in known:
        hint = did_you_mean(name.strip().lower(), known)
        what = f"there is no report format {name!r}" if name else "no report format is named"
        raise UsageError(what, place=f"{_FLAG} {text!r}", remedy=f"{hint}choose one of {', '.join(known)}")
    if equals and not file.strip():
        raise UsageError(
            "no file is named after the equals sign",
            place=f"{_FLAG} {text!r}",
            remedy=f"write {name} for standard output, or {name}=report{known[name]}",
        )
    return Request(name, None if file in ("", "-") else Path(file.replace("%h", host_name(this_host()))))


def parse_requests(texts: Iterable[str], known: Mapping[str, str] | None = None) -> list[Request]:
    """Parse all requests. Raises UsageError also where two reports would overwrite each other or be mixed."""
    known = suffixes() if known is None else known
    requests: list[Request] = []
    for text in texts:
        request = parse_request(text, known)
        for other in requests:
            if _target(request) == _target(other):
                where = "standard output" if request.file is None else f"the file {request.file}"
                example = f"{request.format}=other{known[request.format]}"
                raise UsageError(
                    f"both {other.place!r} and {request.place!r} would be written to {where}",
                    place=_FLAG,
                    remedy=f"give one of them a file of its own, like {example}",
                )
        requests.append(request)
    return requests


def _target(request: Request) -> str | None:
    # os.path: Path.resolve raises for a link that leads to itself.
    return None if request.file is None else os.path.realpath(os.fspath(request.file).replace("\0", "?"))


def check_writable(requests: Iterable[Request]) -> None:
    """Check before the measurements that every report can be written. Raises UsageError."""
    for request in requests:
        file = request.file
        if file is None:
            continue
        try:
            _try_to_write(file)
        except (OSError, ValueError) as problem:  # ValueError: a NUL in the path
            raise UsageError(
                f"no report can be written there: {getattr(problem, 'strerror', None) or problem}",
                place=f"{_FLAG} {request.place!r}",
                remedy="name a file in a folder in which you may write",
            ) from None


def _try_to_write(file: Path) -> None:
    def refuse(what: str, remedy: str) -> None:
        raise UsageError(what, place=f"{_FLAG} {str(file)!r}", remedy=remedy)

    target = written_through(file)
    if file.is_dir():
        refuse("this is a folder", f"name a file in it, like {file / 'report'}")
    if file.exists() and not file.is_file():
        return  # a device, a pipe: opening it now could block or end it
    folder = target.parent
    if not folder.is_dir():
        refuse(f"the folder {str(folder)!r} does not exist", "create it first, or correct the path")
    if file.exists() and not os.access(file, os.W_OK):
        refuse("the file is write-protected", "remove the protection, or name another file")
    # Not os.access: only the attempt knows about quotas, read-only mounts, squashed users and names that are too long.
    with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{file.name}."):
        pass


def render(name: str, assessment: Assessment, colour: bool = False, width: int | None = None, **further: Any) -> str:
    """An assessment in a format, as text that any UTF-8 stream takes. `further` is told to formats that take it.

    Raises InternalError where the report fails: that must cost this report only.
    """
    format_ = formats()[name]
    known = further if width is None else further | {"width": width}
    try:
        text = format_.render(assessment, colour=colour, **{key: known[key] for key in format_.takes & known.keys()})
    except ReadinessError:
        raise
    except Exception as problem:
        raise _failed(name, problem) from problem
    # Halves of surrogate pairs come from undecodable file names and from JSON escapes; no stream takes them.
    return text.encode("utf-8", "replace").decode("utf-8")


def _failed(name: str, problem: Exception) -> InternalError:
    return InternalError(
        f"the report {name!r} failed: {type(problem).__name__}: {problem}",
        remedy="use another format and report this bug; `readiness report` can write the assessment again",
    )


def write(request: Request, assessment: Assessment, colour: bool, stdout: TextIO, **further: Any) -> None:
    """Render and write one report, a file whole or not at all. Colour goes to `stdout` alone; `further` as for `render`.

    Raises UsageError naming the target where it cannot be written: the assessment itself is untouched, and so is the
    run's journal.
    """
    if request.file is None:
        from readiness.rendering.charts import shows_blocks

        blocks = shows_blocks(getattr(stdout, "encoding", None))
        text = render(request.format, assessment, colour, columns(stdout), blocks=blocks, **further)
        format_ = formats()[request.format]
        try:
            put(text, getattr(stdout, "obeyed", stdout) if format_.commands else stdout)
        except (OSError, ValueError) as problem:
            raise _unwritten(f"standard output ({request.format})", problem) from None
        if format_.appends_to is not None and (named := os.environ.get(format_.appends_to)):
            text = render(request.format, assessment, to_file=True, **further)
            try:
                with Path(named).open("a", encoding="utf-8") as stream:
                    stream.write(text)
            except (OSError, ValueError) as problem:
                raise _unwritten(f"{format_.appends_to}={named}", problem) from None
        return
    parts = _pieces(request.format, assessment, **further)
    try:
        if parts is None:
            write_text(request.file, render(request.format, assessment, to_file=True, **further))
        else:
            _write_pieces(request.file, parts)
    except (OSError, ValueError) as problem:
        raise _unwritten(str(request.file), problem) from None


def _pieces(name: str, assessment: Assessment, **further: Any) -> Iterator[bytes] | None:
    """Return the parts of a report, None for a format that has none. They raise InternalError as `render` does."""
    format_ = formats()[name]
    if format_.pieces is None:
        return None
    found = format_.pieces(assessment, **{key: further[key] for key in format_.takes & further.keys() if key != "to_file"})

    def guarded() -> Iterator[bytes]:
        try:
            for piece in found:
                yield piece.encode("utf-8", "replace")
        except (ReadinessError, GeneratorExit):
            raise
        except Exception as problem:
            raise _failed(name, problem) from problem

    return guarded()


def deliver(request: Request, text: str | bytes, stdout: TextIO | None = None) -> None:
    """Write what is made already, a file whole or not at all; bytes only to a file. Raises UsageError with the target."""
    try:
        if isinstance(text, bytes):
            assert request.file is not None, "no terminal takes bytes"
            _write_bytes(request.file, text)
        elif request.file is None:
            put(text, sys.stdout if stdout is None else stdout)
        else:
            write_text(request.file, text.encode("utf-8", "replace").decode("utf-8"))
    except (OSError, ValueError) as problem:
        target = f"standard output ({request.format})" if request.file is None else str(request.file)
        raise _unwritten(target, problem) from None


def write_all(requests: Sequence[Request], assessment: Assessment, colour: bool, stdout: TextIO, **further: Any) -> None:
    """Write every report; one that fails does not cost the others. Raises the first error at the end."""
    problems: list[ReadinessError] = []
    for request in requests:
        try:
            write(request, assessment, colour, stdout, **further)
        except ReadinessError as problem:
            problems.append(problem)
    if problems:
        raise problems[0]


def write_text(file: Path, text: str) -> None:
    """Write a file whole or not at all. Raises OSError, and ValueError for a path that is none."""
    target = written_through(file)
    if file.exists() and not file.is_file():
        with file.open("w", encoding="utf-8") as stream:  # /dev/stdout, a pipe: never replaced by a file
            stream.write(text)
    else:
        write_atomically(target, text)  # through links, not over them


def _write_bytes(file: Path, content: bytes) -> None:
    target = written_through(file)
    if file.exists() and not file.is_file():
        file.write_bytes(content)  # a pipe
    else:
        write_bytes_atomically(target, content)


def _write_pieces(file: Path, pieces: Iterator[bytes]) -> None:
    target = written_through(file)
    if file.exists() and not file.is_file():
        with file.open("wb") as stream:  # a pipe
            stream.writelines(pieces)
    else:
        write_bytes_atomically(target, pieces)


def columns(stream: TextIO, widest: int = WIDEST) -> int | None:
    """The width of the terminal that a stream is, within reason; None where it is none."""
    try:
        terminal = stream.isatty()
    except ValueError:  # closed
        return None
    if not terminal:
        return None
    return min(max(shutil.get_terminal_size((WIDEST, 24)).columns, NARROWEST), widest)


def put(text: str, stream: TextIO) -> None:
    """Write text to a stream, what its encoding lacks as escapes. Raises OSError, and ValueError where it is closed.

    A reader that has left (`| head`) is no fault of ours: what it did not take is dropped in silence.
    """
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:  # a terminal that is not UTF-8
            encoding = stream.encoding or "ascii"
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except BrokenPipeError:
        # What is still buffered must not complain at exit either.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _unwritten(target: str, problem: Exception) -> UsageError:
    reason = getattr(problem, "strerror", None) or problem
    return UsageError(
        f"the report could not be written: {reason}",
        place=target,
        remedy="name another file; no measurement is lost: `readiness run --resume` writes the report again",
    )
