"""Defects of graphs: of what a compiler makes, and of what is captured and replayed. Call by call, all is right."""

from __future__ import annotations

from readiness.simulator.faults import kind
from readiness.simulator.faults.results import scale
from readiness.simulator.injection import Injection, Stage


@kind("wrong-compiled", at=Stage.AFTER, severity=0.05, unit="relative error", within="compiled")
def wrong_compiled(injection: Injection) -> bool:
    """Results are wrong in graphs that the compiler has made."""
    return scale(injection)


@kind("stale-replay", at=Stage.AFTER, within="replayed")
def stale_replay(injection: Injection) -> bool:
    """The replay of a captured graph does not write a result: it stays as it was."""
    injection.call.results = injection.call.replaced
    return True
