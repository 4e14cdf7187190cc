"""From what the ranks of `multichip.parallelism` reported to measurements and rows. Pure.

A course that did not come to its end tells nothing but that: a part of it proves no parity.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from readiness.model import Labels, Measurement, Row, Yield
from readiness.multichip.measurements import relative_difference
from readiness.ranks.values import LONGEST_ABOUT, Json, Placement

Course = tuple[str, str, str]
#: Parameters are compared under an optimizer that keeps the size of a gradient: one that divides by it makes roundoff large.
COMPARABLE = "sgd"
#: A chip whose training alone is so far from float64, and so many times as far as the best one's, is named with the rest.
ODD, ODD_TIMES = 2e-6, 8.0


@dataclass(slots=True)
class Heard:
    """What all worlds reported, by rank: training alone and on the host by reference, and the courses that ended."""

    placement: Placement
    alone: dict[str, dict[int, Json]] = field(default_factory=dict)
    host: dict[str, Json] = field(default_factory=dict)
    ended: dict[Course, dict[int, Json]] = field(default_factory=dict)
    begun: Course | None = None
    refused: dict[Course, dict[int, str]] = field(default_factory=dict)

    def hear(self, reports: Sequence[Sequence[Json]]) -> None:
        """The reports of one world; `begun` is then the last course that any rank began."""
        latest: list[Course] = []
        for rank, told in enumerate(reports):
            for report in told:
                match report:
                    case {"reference": about}:
                        self.alone.setdefault(about, {})[rank] = report
                    case {"host": about}:
                        self.host.setdefault(about, report)
                    case {"begun": course}:
                        latest.append(tuple(course))
                    case {"refused": course, "reason": reason}:
                        self.refused.setdefault(tuple(course), {})[rank] = reason
                    case {"course": course}:
                        self.ended.setdefault(tuple(course), {})[rank] = report
        ended = {course for course in latest if len(self.ended.get(course, ())) == len(reports)}
        self.begun = next((course for course in latest if course not in ended), None)


def finished(heard: Heard, course: Course) -> Iterator[Yield]:
    """All figures of a course that every rank has ended."""
    reports = heard.ended[course]
    ranks = sorted(reports)
    labels = labels_of(course, heard.placement)
    about = reports[ranks[0]]["alone"]
    odd = _odd(heard, about)
    reference = heard.alone[about][min((rank for rank in ranks if rank not in odd), default=ranks[0])]
    name = f"{course[0]}, {course[2]}, {course[1]}"
    suffix = f"; trained alone, {heard.placement.name(*odd)} is off as well" if odd else ""
    losses = [_mean(step) for step in zip(*(reports[rank]["losses"] for rank in ranks), strict=True)]
    norms = [math.sqrt(math.fsum(step)) for step in zip(*(reports[rank]["squares"] for rank in ranks), strict=True)]
    expected = [math.sqrt(square) for square in reference["squares"]]
    yield Row({
        "mode": course[0], "dtype": course[1], "optimizer": course[2],
        "losses": losses, "losses_alone": reference["losses"], "gradient_norms": norms, "gradient_norms_alone": expected,
    })  # fmt: skip
    for measure, found, wanted, what in (
        ("loss_difference", losses, reference["losses"], "the loss"),
        ("gradient_norm_difference", norms, expected, "the gradient's norm"),
    ):
        differences = list(map(relative_difference, found, wanted))
        step = differences.index(max(differences))
        told = f"{name}: {what} at step {step} is {found[step]:.9g} on {len(ranks)} ranks, {wanted[step]:.9g} on one{suffix}"
        yield Measurement(measure, differences[step], labels, samples=len(found), about=told[:LONGEST_ABOUT])
    yield _replicas(heard, course, labels, name)
    if course[2] == COMPARABLE:
        sound = [rank for rank in ranks if rank not in odd] or ranks
        worst = max(sound, key=lambda rank: reports[rank]["parameter_difference"])
        told = f"{name}: {reports[worst]['parameter']} as {heard.placement.name(worst)} has it at the end{suffix}"
        value = reports[worst]["parameter_difference"]
        yield Measurement("parameter_difference", value, labels, samples=len(ranks), about=told[:LONGEST_ABOUT])


def _mean(shares: Sequence[float | None]) -> float:
    there = [share for share in shares if share is not None]
    return math.fsum(there) / len(there) if there else math.nan


def labels_of(course: Course, placement: Placement) -> Labels:
    """What a course's figures are evidence about."""
    return {**placement.labels, "mode": course[0], "dtype": course[1], "optimizer": course[2]}


def _replicas(heard: Heard, course: Course, labels: Labels, name: str) -> Measurement:
    """After how many steps, the putting together at the end included, ranks differ that should hold the same bytes."""
    reports = heard.ended[course]
    steps = len(next(iter(reports.values()))["replicas"])
    differing, about = 0, None
    for number in range(steps + 1):
        told = {rank: report["replicas"][number] if number < steps else report["left"] for rank, report in reports.items()}
        odd = [(key, rank) for key in sorted({key for of in told.values() for key in of}) for rank in _minority(told, key)]
        differing += bool(odd)
        if odd and about is None:
            when = f"after step {number}" if number < steps else "when all is put together"
            who = heard.placement.name(*sorted({rank for _, rank in odd}))
            about = f"{name}: {who} has other bytes than its like {when} ({odd[0][0]})"[:LONGEST_ABOUT]
    return Measurement("replicas_differ", differing, labels, samples=steps + 1, about=about)


def _minority(told: Mapping[int, Mapping[str, str]], key: str) -> list[int]:
    """The few against the many; of equally many, those that are not with the first rank."""
    digests = {rank: of[key] for rank, of in sorted(told.items()) if key in of}
    counts = Counter(digests.values())
    first = next(iter(digests.values()))
    usual = max(counts, key=lambda digest: (counts[digest], digest == first))
    return [rank for rank, digest in digests.items() if digest != usual]


def chips(heard: Heard) -> Iterator[Yield]:
    """How far each chip by itself is from float64 on the host, over all models; the worst of them named."""
    found: dict[str, list[tuple[float, int]]] = {}
    for about, reports in heard.alone.items():
        _, optimizer, dtype = about.rsplit(" ", 2)
        if optimizer == COMPARABLE and about in heard.host:
            host = heard.host[about]
            found.setdefault(dtype, []).extend((_distance(report, host), rank) for rank, report in reports.items())
    for dtype, distances in found.items():
        distance, rank = max(distances, key=lambda item: (item[0], -item[1]))
        labels = {**heard.placement.labels, "dtype": dtype, "optimizer": COMPARABLE}
        told = f"{heard.placement.name(rank)}, trained alone in {dtype}, against float64 on the host"
        yield Measurement("chip_difference", distance, labels, samples=len(distances), about=told)


def _odd(heard: Heard, about: str) -> list[int]:
    """The ranks whose chips train otherwise than the rest by themselves; what they say of a mode names the chip."""
    reports = heard.alone.get(about, {})
    if about not in heard.host:
        return []
    distances = {rank: _distance(report, heard.host[about]) for rank, report in reports.items()}
    if about.rsplit(" ", 2)[1] != COMPARABLE:
        # Roundoff grows here: what differs from the many is odd.
        told = {rank: {"course": f"{report['losses']}{report['squares']}"} for rank, report in reports.items()}
        return _minority(told, "course") if len(reports) > 2 else []
    least = min(distances.values(), default=0.0)
    return [rank for rank, distance in distances.items() if distance > max(ODD, ODD_TIMES * least)]


def _distance(report: Json, host: Json) -> float:
    losses = map(relative_difference, report["losses"], host["losses"])
    found, wanted = (map(math.sqrt, told["squares"]) for told in (report, host))
    return max(*losses, *map(relative_difference, found, wanted))
