"""One tree of errors: each knows its exit code and tells where the mistake is and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
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
    """`did you mean weight? `, to stand before a remedy; empty where nothing known is like the word."""
    near = get_close_matches(word[:100], list(known), n=1, cutoff=cutoff)
    return f"did you mean {near[0]}? " if near else ""


class ReadinessError(Exception):
    """What went wrong, where, and what to do.

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
    """The command line or the environment asks for something that cannot be."""

    exit_code = Exit.USAGE


class BadFileError(UsageError):
    """A file that readiness was given (profile, waivers, assessment, chip, journal) is unusable."""


class CheckFileError(UsageError):
    """A file of the checklist cannot be loaded or declares something impossible."""


class InternalError(ReadinessError):
    """readiness itself is at fault; nothing is known about the accelerator."""

    exit_code = Exit.INTERNAL


class InterruptedRunError(ReadinessError):
    """A person or a scheduler stopped the run; what was found so far is kept."""

    exit_code = Exit.INTERRUPTED
