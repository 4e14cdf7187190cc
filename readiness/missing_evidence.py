"""Causes for programs: why evidence is missing or a run ended early; a reason for people stands beside each."""

from __future__ import annotations

import signal
from enum import StrEnum


class StopCause(StrEnum):
    """Reason why a run or a rehearsal ended early."""

    INTERRUPTED = "interrupted"  # by a signal
    TIME_UP = "time-up"          # the time granted with --within


class KillCause(StrEnum):
    """Reason why the process of a check was killed from outside, or could not start."""

    TIME_LIMIT = "time-limit"
    MEMORY = "host-memory"         # by us or by the kernel, before the host had none left
    OUTPUT = "output"              # what it sent is no evidence, or it sent or printed too much
    STOP = "stop"                  # the run was stopped
    SUSPENDED = "suspended"        # somebody had stopped it by a signal, and it was not late
    LOST = "lost"                  # it had ended, and nobody learned how
    NOT_STARTED = "not-started"
    FORKSERVER = "forkserver"      # the process that had made it died


class SkipCause(StrEnum):
    """Reason why a check did not run, or why its result says nothing about the accelerator."""

    EXPRESSION = "left-out-by-expression"
    FAILED = "left-out-by-failed"
    WITHIN = "left-out-by-within"
    SOAK = "no-soak"               # it works for as long as --soak says, and nothing was said
    UNUSABLE = "device-unusable"
    HELD = "device-held"           # a process that cannot be killed holds the device
    SHORT_LIMIT = "short-limit"    # --timeout granted it less than its own limit
    BUSY_HOST = "host-busy"        # it ran into its limit while it waited for a processor nearly all the time

    @property
    def option(self) -> str:
        """The option that left the check out; empty if none did."""
        return {SkipCause.EXPRESSION: "-k", SkipCause.FAILED: "--failed", SkipCause.WITHIN: "--within"}.get(self, "")


Cause = StopCause | KillCause | SkipCause


def cause_of(name: str) -> Cause | None:
    """Return the cause of this name; None for an unknown name."""
    return next((cause for kind in (StopCause, KillCause, SkipCause) for cause in kind if cause == name), None)


#: What the reason begins with in documents of early versions, which name no cause.
_EARLY_REASONS = {
    f"left out by {cause.option}": cause for cause in (SkipCause.EXPRESSION, SkipCause.FAILED, SkipCause.WITHIN)
}


def cause_of_early_version(reason: str) -> SkipCause | None:
    """Return the option that left a check out, from its reason; None if none did."""
    return next((cause for words, cause in _EARLY_REASONS.items() if reason.startswith(words)), None)

#: Signals by which the kernel ends a process for what it did itself. All others somebody sends: a person, a scheduler, the
#: kernel for want of something, a driver that takes its device back. They say nothing about the device.
OWN_FAULTS = frozenset({
    signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS,
})  # fmt: skip
