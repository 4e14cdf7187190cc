"""Words that options, documents and checks choose from: uses, levels, outcomes, verdicts, costs, actions.

They stand apart from the data model, which takes a tenth of the time that a command takes to start.
"""

from __future__ import annotations

from enum import StrEnum


class Use(StrEnum):
    """Use of an accelerator; each has its own verdict and score."""

    TRAINING = "training"
    INFERENCE = "inference"


class Level(StrEnum):
    """Level of a requirement: musts decide the verdict, shoulds limit, infos only inform."""

    MUST = "must"
    SHOULD = "should"
    INFO = "info"


class Status(StrEnum):
    """Outcome of a check on one accelerator."""

    MEASURED = "measured"
    SKIPPED = "skipped"      # it did not run, or found that it has nothing to measure here; the reason says why
    ERROR = "error"          # it raised, was ended from outside, or sent what is no evidence: nothing is known of the device
    TIMEOUT = "timeout"      # it did not finish within its limit, nor within the longer one of the second try
    CRASHED = "crashed"      # its process died of what it did, or left without delivering its evidence


class Outcome(StrEnum):
    """A requirement judged against the evidence."""

    PASS = "pass"
    FAIL = "fail"
    UNKNOWN = "unknown"
    NOT_APPLICABLE = "not_applicable"


class Decision(StrEnum):
    """The verdict on one accelerator for one use."""

    READY = "ready"
    NOT_READY = "not ready"
    UNDETERMINED = "undetermined"


class Cost(StrEnum):
    """The order of magnitude of a check's duration, and with it its first time limit."""

    SECONDS = "seconds"
    MINUTES = "minutes"
    LONG = "long"
    SOAK = "soak"

    @property
    def typical_s(self) -> float:
        """The time that `--within` assumes for a check without its own `typical_s`."""
        return {"seconds": 5.0, "minutes": 60.0, "long": 600.0, "soak": 3600.0}[self.value]

    @property
    def limit_s(self) -> float:
        """Time limit of the first try, counted from the moment the worker is ready; the second try gets three times that."""
        return {"seconds": 60.0, "minutes": 300.0, "long": 1800.0, "soak": 8 * 86400.0}[self.value]


class Action(StrEnum):
    """The machine-readable half of a remedy. Append only."""

    NONE = "none"
    RETRY = "retry"
    CHECK_CONFIG = "check-config"
    UPDATE_SOFTWARE = "update-software"
    CONTACT_VENDOR = "contact-vendor"
    RESET_DEVICE = "reset-device"
    REBOOT = "reboot"
    REPLACE = "replace"
    ADD_HARDWARE = "add-hardware"
    GATHER_EVIDENCE = "gather-evidence"


class Better(StrEnum):
    """Direction in which a measurement gets better."""

    HIGHER = "higher"
    LOWER = "lower"


class Operator(StrEnum):
    """Comparison of a limit. Fixed: nothing in a profile is code."""

    AT_LEAST = "at_least"
    AT_MOST = "at_most"
    BETWEEN = "between"
    EQUALS = "equals"
