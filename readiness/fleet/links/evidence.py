"""What a run of several hosts says about them: faults, rate, latency, tail; and which of a fleet's trials are slow. Pure.

The run is an ordinary assessment of the host that leads it. Its profile judges what is right and what is broken; what is
slow is known only beside the fleet's other pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from readiness.datamodel import Assessment, Evidence, Level, Outcome, Status
from readiness.fleet.links import attribution
from readiness.judging.host_load import measured_while_busy

#: What pairs are tried with, and what groups and all hosts are tried with beside it.
PAIR_CHECKS = ("multichip.world", "multichip.collectives", "multichip.links", "multichip.bandwidth")
GROUP_CHECKS = (*PAIR_CHECKS, "multichip.integrity", "multichip.drills")
#: A pair is slow below this share of the rate that a tenth of all pairs exceed, and beyond so many times the latency that
#: a tenth stay below.
SLOW_SHARE, LATE_FACTOR = 0.6, 5.0
#: Other work on a host explains as much: two cores under a load of 15 gave rates that differ by 3.6 times.
_BUSY_FACTOR = 10.0
_FAMILY = "multichip."
#: Shoulds that mean a link where a pair fails them; others are of one host, or of a host's load.
_LINK_MEASURES = ("tail_ratio", "completed", "wrong_results", "wrong_elements", "rank_mismatches", "interruptions")
_LONGEST_FAULT = 300


@dataclass(frozen=True, slots=True)
class TrialEvidence:
    """Evidence of one trial. `problem` says why it could not be tried; then nothing else is known.

    `busy` says that other work kept the host busy that leads it: its speeds say less.
    """

    hosts: tuple[str, ...]
    problem: str = ""
    faults: tuple[str, ...] = ()
    gbps: float | None = None
    latency_us: float | None = None
    tail_ratio: float | None = None
    busy: bool = False


@dataclass(frozen=True, slots=True)
class TrialJudgement:
    """A trial's outcome with the reasons for it."""

    evidence: TrialEvidence
    outcome: attribution.Outcome
    reasons: tuple[str, ...]


def from_assessment(assessment: Assessment, hosts: Sequence[str]) -> TrialEvidence:
    """Return what an assessment by the first of these hosts says about them together."""
    pieces = [
        piece for item in assessment.accelerators for piece in item.evidence
        if piece.check.startswith(_FAMILY) and piece.status is not Status.SKIPPED
    ]  # fmt: skip
    found = TrialEvidence(tuple(hosts), faults=tuple(dict.fromkeys(_faults(assessment))))
    if found.faults:
        return _with_figures(found, pieces)
    unfinished = next((piece for piece in pieces if piece.status is not Status.MEASURED), None)
    if unfinished is not None:
        why = f"{unfinished.check}: {unfinished.reason or unfinished.status.value}"
        return replace(found, problem=why[:_LONGEST_FAULT])
    completed = [one.value for piece in pieces for one in piece.measurements if one.name == "completed"]
    missing = {host for host in hosts[1:] if not any(_takes_part(host, piece) for piece in pieces)}
    if not completed or missing:
        who = f" of {', '.join(sorted(missing)[:4])}" if missing else ""
        return replace(found, problem=f"no collective{who} was measured")
    return _with_figures(found, pieces)


def judge_trials(found: Sequence[TrialEvidence]) -> list[TrialJudgement]:
    """Return the outcome of each trial; pairs are slow or late beside the others of the fleet."""
    rates = sorted(one.gbps for one in found if len(one.hosts) == 2 and one.gbps is not None)
    latencies = sorted(one.latency_us for one in found if len(one.hosts) == 2 and one.latency_us is not None)
    usual_gbps = rates[int(0.9 * (len(rates) - 1))] if rates else None
    usual_us = latencies[int(0.1 * (len(latencies) - 1))] if latencies else None
    return [_judged(one, usual_gbps, usual_us) for one in found]


def _judged(one: TrialEvidence, usual_gbps: float | None, usual_us: float | None) -> TrialJudgement:
    if one.problem:
        return TrialJudgement(one, attribution.Outcome.UNKNOWN, (one.problem,))
    reasons = list(one.faults)
    if len(one.hosts) != 2:
        return TrialJudgement(one, attribution.Outcome.BAD if reasons else attribution.Outcome.GOOD, tuple(reasons))
    if one.gbps is None and not reasons:
        return TrialJudgement(one, attribution.Outcome.UNKNOWN, ("no transfer between the two was measured",))
    slow = [*_slow(one.gbps, usual_gbps), *_late(one.latency_us, usual_us)]
    reasons += [text for factor, text in slow if factor > (_BUSY_FACTOR if one.busy else 1.0)]
    if reasons:
        return TrialJudgement(one, attribution.Outcome.BAD, tuple(reasons))
    if slow:
        why = f"{slow[0][1]}, while other work kept {one.hosts[0]} busy"
        return TrialJudgement(one, attribution.Outcome.UNKNOWN, (why,))
    return TrialJudgement(one, attribution.Outcome.GOOD, ())


def _slow(gbps: float | None, usual: float | None) -> Iterator[tuple[float, str]]:
    """Yield how many times the allowed slowness this is, where it is more than once, and a sentence."""
    if gbps is not None and usual is not None and gbps < SLOW_SHARE * usual:
        times = SLOW_SHARE * usual / gbps if gbps > 0 else float("inf")
        yield times, f"slow: {gbps:.3g} GB/s, where a tenth of all pairs reach {usual:.3g} GB/s"


def _late(latency_us: float | None, usual: float | None) -> Iterator[tuple[float, str]]:
    if latency_us is not None and usual is not None and latency_us > LATE_FACTOR * usual:
        times = latency_us / (LATE_FACTOR * usual) if usual > 0 else float("inf")
        yield times, f"late: {latency_us:.3g} us, where a tenth of all pairs take at most {usual:.3g} us"


def _faults(assessment: Assessment) -> Iterator[str]:
    for item in assessment.accelerators:
        for one in item.findings:
            if one.outcome is not Outcome.FAIL or not one.check.startswith(_FAMILY) or one.waived is not None:
                continue
            if one.level is Level.MUST or (one.level is Level.SHOULD and one.measure in _LINK_MEASURES):
                yield f"{one.title or one.requirement}: {one.reason or 'failed'}"[:_LONGEST_FAULT]


def _takes_part(host: str, piece: Evidence) -> bool:
    return any(id.startswith(f"{host}/") for id in piece.accelerators) or any(
        str(name).startswith(f"{host}/") for row in piece.rows for name in _chips(row)
    )


def _chips(row: Mapping[str, Any]) -> Sequence[Any]:
    chips = row.get("chips") if row.get("shape") == "pairs/1" else None
    return chips if isinstance(chips, Sequence) and not isinstance(chips, str) else ()


def _with_figures(found: TrialEvidence, pieces: Sequence[Evidence]) -> TrialEvidence:
    rates = [rate for piece in pieces for row in piece.rows for rate in _rates_between_hosts(row)]
    latencies = _values(pieces, "latency_us", {"op": "send_recv"})
    tails = _values(pieces, "tail_ratio", {"host": "excluded"})
    return replace(
        found, gbps=max(_slowest_of_each(rates), default=None), latency_us=min(latencies, default=None),
        tail_ratio=min(tails, default=None), busy=any(measured_while_busy(piece) for piece in pieces),
    )  # fmt: skip


def _slowest_of_each(rates: Sequence[tuple[int, float]]) -> list[float]:
    """Return the slowest rate of each matrix: several checks measure one, and the kinder of them counts."""
    slowest: dict[int, float] = {}
    for matrix, rate in rates:
        slowest[matrix] = min(rate, slowest.get(matrix, rate))
    return list(slowest.values())


def _rates_between_hosts(row: Mapping[str, Any]) -> Iterator[tuple[int, float]]:
    """Yield the rates of pairs of chips on two hosts, with what tells this matrix from others."""
    chips = [str(chip) for chip in _chips(row)]
    for one, (own, values) in enumerate(zip(chips, row.get("values") or (), strict=False)):
        for other, value in zip(chips[one + 1 :], values[one + 1 :], strict=False):
            if _host(own) != _host(other) and isinstance(value, int | float):
                yield id(row), float(value)


def _host(chip: str) -> str:
    return chip.rpartition("/")[0]


def _values(pieces: Sequence[Evidence], name: str, where: Mapping[str, str]) -> list[float]:
    return [
        float(one.value) for piece in pieces for one in piece.measurements
        if one.name == name and isinstance(one.value, int | float) and where.items() <= dict(one.labels).items()
    ]  # fmt: skip
