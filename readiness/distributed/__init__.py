"""Rank groups: started, watched and ended.

A rank is a process of its own with one device. A group of them is started from a check's worker, which has imported torch
and touched no device; whatever becomes of the ranks is a value (`RanksOutcome`), and none of them outlives the worker.
"""

from readiness.distributed.group_runner import run_ranks
from readiness.distributed.rank_messages import Report
from readiness.distributed.types import (
    Failure,
    FailureKind,
    Network,
    Placement,
    RankContext,
    RankFunction,
    RanksOutcome,
    place,
)

__all__ = [
    "Failure",
    "FailureKind",
    "Network",
    "Placement",
    "RankContext",
    "RankFunction",
    "RanksOutcome",
    "Report",
    "place",
    "run_ranks",
]
