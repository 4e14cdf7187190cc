"""The error tree: each error has an exit code, the place of the mistake, and a remedy."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of the command line. A promise to users: never renumbered."""

    READY = 0
    NOT_READY = 1
    USAGE = 2
    UNDETERMINED = 3
    INTERNAL = 70
    INTERRUPTED = 130


def did_you_mean(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return `did you mean weight? ` to put before a remedy; empty if no known word is similar."""
    from difflib import get_close_matches  # each process imports this file, and few errors are slips

    near = get_close_matches(word[:100], list(known), n=1, cutoff=cutoff)
    return f"did you mean {near[0]}? " if near else ""


class ReadinessError(Exception):
    """Base class of errors: the problem, its place, and the remedy.

    `place` is a file, `file:line` or a flag; `remedy` is one sentence. The message is one paragraph for a person.
    """

    exit_code: Exit = Exit.INTERNAL

    def __init__(self, what: str, *, place: str | None = None, remedy: str | None = None) -> None:
        self.what = what
        self.place = place
        self.remedy = remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        """One line: place, what, remedy."""
        text = f"{self.place}: {self.what}" if self.place else self.what
        return f"{text}\n  remedy: {self.remedy}" if self.remedy else text


class UsageError(ReadinessError):
    """The command line or the environment asks for something impossible."""

    exit_code = Exit.USAGE


class BadFileError(UsageError):
    """An input file (profile, waivers, assessment, chip, journal) is unusable."""


class CheckFileError(UsageError):
    """A check file cannot be loaded or has an impossible declaration."""


class InternalError(ReadinessError):
    """A fault of readiness itself, which says nothing about the accelerator."""

    exit_code = Exit.INTERNAL


class InterruptedRunError(ReadinessError):
    """A person or a scheduler stopped the run; the evidence so far is saved."""

    exit_code = Exit.INTERRUPTED
