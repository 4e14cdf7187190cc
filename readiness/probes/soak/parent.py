"""Parent of `multichip.soak`: runs rank groups until the time is over, and counts faults."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch._dynamo  # noqa: F401 - here once, and not in each rank that is forked

from readiness.accelerators.base import Accelerator
from readiness.accelerators.remote_devices import host_of
from readiness.datamodel import Note
from readiness.distributed import Failure, Placement, RanksOutcome, run_ranks
from readiness.distributed.types import Json
from readiness.errors import UsageError
from readiness.probes.soak.rank import rank_main
from readiness.probes.soak.reports import RoundReport, Settings, SoakFault
from readiness.probes.soak.soak_log import SCHEMA, SoakLog, same_soak

#: A rank group lasts no longer: the next one draws new data, and leaving and joining a group are part of the work.
SESSION_S = 900.0
#: Groups in a row without one round, or rounds in a row with faults: there is no progress, and nothing new to learn.
MOST_FRUITLESS_GROUPS, MOST_FAULTY_ROUNDS = 5, 50
#: Rounds of sums before all else, once there was a fault that nobody could be named for.
SUMS_FIRST = 4
#: What is on disk is no older than this.
KEEP_S = 5.0

#: A round that took more than so many times the median of the last ones stood still; with too few of them that is unknown.
LONG_ROUNDS, FEW_ROUNDS, RECENT_ROUNDS = 4.0, 5, 21

Run = Callable[..., RanksOutcome]


@dataclass(slots=True)
class Soak:
    """A soak, new or resumed. `run` it; the totals are in its log."""

    accelerator: Accelerator
    placement: Placement
    seconds: float
    dtypes: Sequence[str]
    patience_s: float
    begun: Json
    clock: Callable[[], float] = time.monotonic
    run_ranks: Run = run_ranks
    log: SoakLog = field(init=False)
    _round: dict[int, dict[int, RoundReport]] = field(default_factory=dict)
    _faulty_rounds: int = 0
    _rounds_here: int = 0
    _pending: tuple[int, float] = (0, 0.0)
    _kept_s: float = 0.0
    _sampled_s: float = -1e9
    _began: float = 0.0
    _before_s: float = 0.0
    _failed_at: float | None = None
    _last_round_at: float | None = None
    _recent_s: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_ROUNDS))

    def __post_init__(self) -> None:
        """Open the log. Raises UsageError if it belongs to other chips."""
        self.log = SoakLog(self.accelerator.kept)
        if not same_soak(self.log.totals, self.placement.ids, len(self.placement.ranks)):
            self.log.close()
            raise UsageError(
                "the soak in this folder had other chips or another number of ranks",
                place=str(self.accelerator.kept),
                remedy="start a new run: exposure of two machines cannot be added",
            )
        self._before_s = self.log.totals.spent_s
        self._began = self.clock()
        self.log.add("begun", schema=SCHEMA, **self.begun)
        self.log.add("session", spent_s=self.spent_s)

    @property
    def spent_s(self) -> float:
        """Seconds of this soak, earlier sessions included."""
        return self._before_s + self.clock() - self._began

    def run(self) -> Iterator[Note]:
        """Run until the time is over, or there is no progress."""
        fruitless = 0
        try:
            while (left_s := self.seconds - self.spent_s) > 0:
                yield Note(f"{self.spent_s:.0f} of {self.seconds:g} s, {self.log.totals.count} faults so far")
                self._rounds_here = 0
                failure = self._group(min(left_s, SESSION_S))
                self._keep()
                if failure is not None:
                    self._fail(failure)
                fruitless = fruitless + 1 if failure is not None and self._rounds_here == 0 else 0
                if why := self._no_progress(fruitless):
                    self.log.add("ended", why=why, spent_s=self.spent_s)
                    return
            self.log.add("ended", why="", spent_s=self.spent_s)
        finally:
            self.log.close()

    def _no_progress(self, fruitless: int) -> str:
        if fruitless >= MOST_FRUITLESS_GROUPS:
            return f"{fruitless} rank groups in a row completed no round"
        return f"{self._faulty_rounds} rounds in a row had faults" if self._faulty_rounds >= MOST_FAULTY_ROUNDS else ""

    def _group(self, seconds: float) -> Failure | None:
        self._round.clear()
        seed = self.accelerator.seed + 7919 * self.log.totals.rounds  # new data for every group, the same when repeated
        fresh = Accelerator(self.accelerator.facts, self.accelerator.stack, seed=seed, peers=self.accelerator.peers)
        kept = self.accelerator.kept
        settings = Settings(
            seconds=seconds,
            dtypes=tuple(self.dtypes),
            turn=self.log.totals.count,
            sums_first=SUMS_FIRST if any(not fault["chips"] for fault in self.log.totals.faults) else 0,
            checkpoint=None if kept is None or any(map(host_of, self.placement.ranks)) else _checkpoint(kept),
        )
        limit_s = seconds + 2 * self.patience_s + 60
        try:
            outcome = self.run_ranks(
                rank_main, fresh, self.placement, settings,
                patience_s=self.patience_s, limit_s=limit_s, on_report=self.add_report,
            )  # fmt: skip
            return outcome.failure
        except _NoProgressError:
            return None

    def add_report(self, rank: int, report: RoundReport) -> None:
        """Add one rank's report of a round; the round is judged when all ranks have reported it."""
        of_round = self._round.setdefault(report.round, {})
        of_round[rank] = report
        if len(of_round) == len(self.placement.ranks):
            del self._round[report.round]
            self._end_of_round(of_round)

    def _end_of_round(self, reports: dict[int, RoundReport]) -> None:
        if self._failed_at is not None:
            self.log.add("recovered", seconds=self.clock() - self._failed_at, spent_s=self.spent_s)
            self._failed_at = None
        if not self.log.totals.unrepeatable and any(not report.repeats for report in reports.values()):
            self.log.add("unrepeatable", spent_s=self.spent_s)
        uncompared, operations = max(report.uncompared for report in reports.values())
        if operations and (uncompared, operations) != (self.log.totals.uncompared, self.log.totals.operations):
            self.log.add("operations", uncompared=uncompared, operations=operations, spent_s=self.spent_s)
        unkept = next((report.unkept for report in reports.values() if report.unkept), None)
        if unkept is not None and self.log.totals.unkept is None:
            self.log.add("unkept", why=unkept, spent_s=self.spent_s)
        faults = list(self._faults(reports))
        for cause, what, ranks in faults:
            self._fault(cause, what, ranks)
        self._faulty_rounds = self._faulty_rounds + 1 if faults else 0
        self._rounds_here += 1
        rounds, exposure_s = self._pending
        self._pending = rounds + 1, exposure_s + self._worked_s(min(report.seconds for report in reports.values()))
        self._sample(reports)
        if self.clock() - self._kept_s > KEEP_S:
            self._keep()
        if self._faulty_rounds >= MOST_FAULTY_ROUNDS:
            raise _NoProgressError

    def _worked_s(self, seconds: float) -> float:
        """Return the seconds of a round that count as work: if all ranks stood still, those of a usual round.

        A job that is suspended, or a container that is paused, sees no time pass that would show it.
        """
        usual = sorted(self._recent_s)[len(self._recent_s) // 2] if len(self._recent_s) >= FEW_ROUNDS else self.patience_s
        self._recent_s.append(seconds)
        return min(seconds, LONG_ROUNDS * usual)

    def _keep(self) -> None:
        rounds, exposure_s = self._pending
        if rounds:
            self.log.add("rounds", rounds=rounds, exposure_s=exposure_s, spent_s=self.spent_s)
        self._pending, self._kept_s = (0, 0.0), self.clock()

    def _faults(self, reports: dict[int, RoundReport]) -> Iterator[tuple[str, str, list[int]]]:
        """Return the faults of a round with suspects. What several ranks saw of one call is one fault."""
        replicas = Counter(report.replica for report in reports.values())
        if len(replicas) > 1:
            usual = max(replicas, key=lambda digest: (replicas[digest], digest == reports[0].replica))
            odd = [rank for rank, report in reports.items() if report.replica != usual]
            step = reports[0].step
            yield "replicas differ", f"after step {step} these ranks hold weights that differ from the rest", sorted(odd)
        found: dict[str, list[tuple[int, SoakFault]]] = {}
        for rank, report in sorted(reports.items()):
            for fault in report.faults:
                key = fault.what.partition(":")[0] if fault.cause == "wrong sum" else fault.cause
                found.setdefault(f"{fault.cause}/{key}", []).append((rank, fault))
        for seen in found.values():
            first = seen[0][1]
            if first.cause == "recomputation" and len(replicas) > 1:
                continue  # one and the same fault, reported above with its rank
            ranks = sorted({rank for rank, _ in seen})
            taking_part = list(reports) if first.subgroup is None else first.subgroup
            yield first.cause, first.what, ranks if len(ranks) < len(taking_part) else sorted(taking_part)

    def _fault(self, cause: str, what: str, ranks: Sequence[int]) -> None:
        everybody = len(ranks) == len(self.placement.ranks) > 1
        chips = [] if everybody else list(dict.fromkeys(self.placement.ranks[rank].id for rank in ranks))
        who = "" if everybody or not ranks else f"{self.placement.name(*ranks)}: "
        number = self.log.totals.rounds + self._pending[0]
        self.log.add("fault", cause=cause, what=f"{who}{what}"[:400], chips=chips, round=number, spent_s=self.spent_s)

    def _fail(self, failure: Failure) -> None:
        self._fault(failure.kind.value, failure.reason, failure.culprits)
        # The work stood still since the last round that all had finished: from there on the time counts as lost.
        self._failed_at = self._failed_at or min(self._last_round_at or self.clock(), self.clock())

    def _sample(self, reports: dict[int, RoundReport]) -> None:
        self._last_round_at = self.clock()
        if self.spent_s - self._sampled_s < max(2.0, self.seconds / 100):
            return
        self._sampled_s = self.spent_s
        first = reports[min(reports)]
        sensors = {name for report in reports.values() for name in report.sensors}
        self.log.add(
            "sample", spent_s=self.spent_s, step=first.step, loss=first.loss, round_s=first.seconds,
            operations=first.operations, operations_s=first.operations_s,
            **{name: max(report.sensors.get(name, -1e9) for report in reports.values()) for name in sorted(sensors)},
        )  # fmt: skip


class _NoProgressError(Exception):
    """Ends a rank group in which every round is faulty."""


def _checkpoint(kept: Path) -> Path:
    return kept.with_suffix(".checkpoint")
