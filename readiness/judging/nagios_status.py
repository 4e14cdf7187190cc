"""The four states of Nagios and Icinga plugins, and which of them an assessment is. Pure."""

from __future__ import annotations

from enum import IntEnum

from readiness.datamodel import Assessment, Decision, Level
from readiness.judging.judge import worst_decision


class NagiosStatus(IntEnum):
    """Exit codes of the Monitoring Plugins' guidelines. Not readiness's own: there 1 is `not ready` and 3 `undetermined`."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


def nagios_status(assessment: Assessment, fail_on: Level | None = Level.MUST) -> NagiosStatus:
    """Return critical for the exit code not ready, unknown for undetermined or an interrupted run.

    Ready with limits, or with something waived, is a warning. With `fail_on` None all but a stopped run is OK.
    """
    if assessment.interrupted:
        return NagiosStatus.UNKNOWN
    match worst_decision(assessment.accelerators, fail_on):
        case Decision.NOT_READY:
            return NagiosStatus.CRITICAL
        case Decision.UNDETERMINED:
            return NagiosStatus.UNKNOWN
        case Decision.READY:
            verdicts = [verdict for item in assessment.accelerators for verdict in item.verdicts.values()]
            some = fail_on is not None and any(verdict.limits or verdict.waived for verdict in verdicts)
            return NagiosStatus.WARNING if some else NagiosStatus.OK
