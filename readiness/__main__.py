"""Entry point of `python -m readiness` and the `readiness` command: every exit has its code."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import traceback
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from readiness.errors import Exit, InternalError, ReadinessError, UsageError
from readiness.host.gc_pause import without_collection
from readiness.rendering.log_commands import Neutraliser

#: By this variable a shell asks how a word goes on.
_COMPLETES = "_READINESS_COMPLETE"
#: What a stream's encoding is called that takes English alone.
_NARROW = ("ascii", "us-ascii", "ansi_x3.4-1968")


class Standard:
    """Standard stream whose closed reader or terminal changes no exit code.

    What else keeps data from being written (a full disk) is an error where they are wanted (`what` names the stream);
    messages are dropped. What a pipeline would take for its commands is broken. Raises UsageError.
    """

    def __init__(self, stream: Any, what: str | None) -> None:
        self._stream = stream
        self._what = what
        self._problem: UsageError | None = None
        self._broken: Callable[[str], str] = Neutraliser()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def obeyed(self) -> Standard:
        """Return the stream unchanged, for commands that a pipeline is meant to run: their writer has escaped what they
        quote.
        """
        stream = Standard(self._stream, self._what)
        stream._broken = lambda text: text
        return stream

    def write(self, text: str) -> int:
        """Write as long as there is a reader."""
        safe = self._broken(text)
        self._try(lambda: self._stream.write(safe))
        return len(text)

    def flush(self) -> None:
        """Flush as long as there is a reader."""
        self._try(self._stream.flush)

    def _try(self, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError as problem:
            # What is still buffered must not complain again, here or at the end of the process.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            if self._what is not None and problem.errno not in (errno.EPIPE, errno.EIO):
                self._problem = UsageError(
                    f"it cannot be written: {problem.strerror}",
                    place=self._what,
                    remedy="check disk space, or write elsewhere",
                )
                raise self._problem from None

    def finish(self) -> None:
        """Flush the rest. Raises an earlier error again: the writer may have suppressed it."""
        self.flush()
        if self._problem is not None:
            raise self._problem


def main() -> NoReturn:
    """Run the command line. An uncaught exception is 70, never Python's 1, which would read `not ready`."""
    stdout = _open_standard_streams()
    try:
        _refuse_a_folder_that_is_gone()
        try:
            code = _call()
        finally:
            stdout.finish()  # what could not be written is an error of the command, not of the interpreter's end
        sys.exit(code)
    except ReadinessError as problem:
        _complain(f"readiness: {problem}")
        sys.exit(_failed(problem.exit_code, str(problem)))
    except FileNotFoundError as problem:
        if "usable temporary directory" not in str(problem):  # tempfile's words
            _give_up()
        _complain(f"readiness: {problem.strerror or problem}\n  remedy: point TMPDIR to a folder that can be written")
        sys.exit(_failed(Exit.USAGE, str(problem)))
    except KeyboardInterrupt:
        print("readiness: interrupted", file=sys.stderr)
        sys.exit(_failed(Exit.INTERRUPTED, "interrupted"))
    except Exception:  # noqa: BLE001 - the last resort
        _give_up()


def _failed(code: Exit, message: str) -> int:
    """The exit code where no verdict was reached; with `--exit-style nagios` that plugin's, and its line on stdout.

    Looked up among the arguments, since it holds for those that cannot be understood as well: 2 would read `critical`.
    """
    arguments = sys.argv[1:]
    if "--exit-style=nagios" not in arguments and ("--exit-style", "nagios") not in pairwise(arguments):
        return code
    from readiness.judging.nagios_status import NagiosStatus
    from readiness.rendering import clean

    with contextlib.suppress(ReadinessError, OSError):
        text = clean(message.partition("\n")[0], 600).replace("|", "/")
        print(f"READINESS {NagiosStatus.UNKNOWN.name} - {text}")
        sys.stdout.flush()
    return NagiosStatus.UNKNOWN


def _call() -> int:
    """Run the command and return its exit code.

    None that typer has by itself is taken over: its 1, for a broken pipe or the end of some input, would read `not ready`.
    Nor is a word completed where there are arguments, as shells give none then: a variable that somebody has left behind
    would have a run end with the code of READY.
    """
    with without_collection():
        from readiness.cli import app

    if _COMPLETES in os.environ:
        if sys.argv[1:]:
            del os.environ[_COMPLETES]
        else:
            return _complete(app)
    try:
        code = app(prog_name="readiness", standalone_mode=False)
    except SystemExit as left:
        raise InternalError("the command ended in an unexpected way", remedy="report this bug") from left
    except Exception as problem:
        if not callable(getattr(problem, "show", None)):
            raise
        from readiness.cli import usage_errors

        if usage_errors.is_help(problem):
            usage_errors.show_help(problem)
            return _failed(Exit.USAGE, "no command was given")
        raise usage_errors.usage_error(problem) from problem
    return code if isinstance(code, int) else Exit.READY


def _complete(app: Any) -> int:
    """Run shell completion; errors never return a verdict's exit code."""
    try:
        app(prog_name="readiness")
    except SystemExit as left:
        return Exit.USAGE if left.code else Exit.READY
    except (KeyError, ValueError, IndexError) as problem:
        what = f"completion failed: {type(problem).__name__}: {problem}"
        raise UsageError(what, place=_COMPLETES, remedy="unset this variable, which the shell sets") from None
    return Exit.READY


def _give_up() -> NoReturn:
    # What it quotes may come from a device: as escapes, and without an import that could fail as well.
    text = "".join(
        character if character == "\n" or character.isprintable() else character.encode("unicode_escape").decode()
        for character in traceback.format_exc()
    )
    print(
        f"{text}"
        "readiness: internal fault; this says nothing about the accelerator\n"
        "  remedy: report the lines above; a run's evidence is safe in its journal (`readiness run --resume DIR`)",
        file=sys.stderr,
    )
    sys.exit(_failed(Exit.INTERNAL, "internal fault; this says nothing about the accelerator"))


def _open_standard_streams() -> Standard:
    """Redirect closed standard streams to null, else a pipe to a worker gets their numbers. Return the one for data."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "r" if descriptor == 0 else "w", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and (stream.encoding or "").lower() in _NARROW:
            # Libraries go around a stream that cannot take what they write; as escapes it takes everything.
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    stdout = Standard(sys.stdout, "standard output")
    sys.stdout, sys.stderr = stdout, Standard(sys.stderr, None)
    return stdout


def _refuse_a_folder_that_is_gone() -> None:
    try:
        Path.cwd()
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise UsageError(
            f"the current folder cannot be used: {reason}", remedy="change to an existing folder"
        ) from None


def _complain(text: str) -> None:
    """Print an error to stderr, cleaned of control sequences."""
    from readiness.rendering import message

    print(message(text), file=sys.stderr)


if __name__ == "__main__":
    main()
