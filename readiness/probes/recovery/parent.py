"""Parent of `multichip.recovery`: groups that are killed and restarted, against an uninterrupted one."""

from __future__ import annotations

import math
import shutil
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from readiness.accelerators.base import Accelerator
from readiness.datamodel import Note, Yield
from readiness.distributed.group_runner import run_ranks
from readiness.distributed.types import FailureKind, Placement, RankFunction, RanksOutcome, speaks_tcp
from readiness.probes.ranks_common.measurements import completion
from readiness.probes.recovery import measurements
from readiness.probes.recovery import rank as recovery_rank
from readiness.probes.recovery.measurements import ReshardedRun, ResumedRun
from readiness.probes.recovery.rank import DATA_PARALLEL, FULLY_SHARDED, BrokenSettings, Kill, Killed, Settings

#: Two saves, a death after the second, a death within the third; then some steps more, on as many ranks and on fewer.
SAVE_EVERY = 8
KILL_AT_STEP = 20
KILL_DURING_SAVE_AT_STEP = 24
#: More than twenty steps, so that a defect which begins with the twentieth collective shows itself.
STEPS = 26


class FailedError(Exception):
    """A group did not end as planned. `where` are its ranks."""

    def __init__(self, outcome: RanksOutcome, where: Placement) -> None:
        super().__init__(outcome.failure.reason if outcome.failure else "the group should have been killed, but finished")
        self.outcome, self.where = outcome, where


@dataclass(slots=True)
class RecoveryRun:
    """All rank groups of one check, with their checkpoints and the times of deaths.

    `deaths` are the times at which a rank was killed, and at which its group had been cleared away.
    """

    accelerator: Accelerator
    placement: Placement
    folder: Path
    patience_s: float
    parts: int = 1
    deaths: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        # The batch divides among all ranks and among half of them, where two train it among four too: else ranks have
        # parts of several sizes, and the mean of their means is another loss.
        count = len(self.placement.ranks)
        self.parts = math.lcm(count, max(count // 2, 1), 4 if count <= 2 else 1)

    def recovery(self) -> Iterator[Yield]:
        """Kill and resume twice; load broken checkpoints; resume with other numbers of ranks; then fully sharded."""
        try:
            yield from self._data_parallel()
            yield from self._sharded()
        except FailedError as failed:
            yield from completion(failed.outcome, failed.where, self.placement.labels)
        else:
            yield from completion(RanksOutcome((), None, 0.0), self.placement)

    def _data_parallel(self) -> Iterator[Yield]:
        saved = self._new_folder("saved")
        yield Note("training without interruption")
        straight = self._train(self.placement, self._new_folder("straight"), STEPS, saves=False)
        yield Note("a rank is killed")
        outcomes = [
            self._train_until_killed(saved, KILL_AT_STEP, during_save=False),
            self._train_until_killed(saved, KILL_DURING_SAVE_AT_STEP, during_save=True),
        ]
        cut_short = self._kept_aside(saved / str(KILL_DURING_SAVE_AT_STEP))
        yield Note("training goes on")
        outcomes.append(self._train(self.placement, saved, KILL_DURING_SAVE_AT_STEP))
        resumed = ResumedRun(straight, tuple(outcomes), tuple(self.deaths), None)
        if measurements.differences(resumed):  # do two uninterrupted runs agree at all?
            again = self._train(self.placement, self._new_folder("again"), STEPS, saves=False)
            resumed = replace(resumed, again=again)
        yield from measurements.resume_measurements(resumed, self.placement)
        yield Note("broken checkpoints")
        yield from self._broken(saved, cut_short, outcomes[-1])
        yield from self._reshard(saved, straight, outcomes[-1])

    def _broken(self, saved: Path, cut_short: Path, writer: RanksOutcome) -> Iterator[Yield]:
        whole = saved / str(recovery_rank.newest(saved))
        broken = {recovery_rank.CUT_SHORT: cut_short, **recovery_rank.break_copies(whole, self._new_folder("broken"))}
        state = measurements.saved_state(writer, int(whole.name))[0]
        settings = BrokenSettings(broken, dict(state), DATA_PARALLEL, self.parts)
        outcome = self._run(recovery_rank.load_broken, self.placement, settings)
        self._must_finish(outcome, self.placement)
        yield from measurements.broken_measurements(outcome, self.placement)

    def _reshard(self, saved: Path, straight: RanksOutcome, writer: RanksOutcome) -> Iterator[Yield]:
        """Resume with half the ranks and then with all or twice as many; and with one."""
        count = len(self.placement.ranks)
        half = max(count // 2, 1)
        yield Note(f"from {count} ranks to {half}")
        fewer = self._of(half)
        outcome = self._train(fewer, saved, STEPS, saves=False)
        reloaded = ReshardedRun(DATA_PARALLEL, writer, outcome, straight)
        yield from measurements.reshard_measurements(reloaded, self.placement, fewer)
        if half > 1:
            one = self._of(1)
            outcome = self._train(one, saved, STEPS, saves=False)
            run = ReshardedRun(DATA_PARALLEL, writer, outcome, straight)
            yield from measurements.reshard_measurements(run, self.placement, one)
        most = count * 2 if count == 2 and speaks_tcp(self.accelerator.stack.collective_backend or "") else count
        yield Note(f"from {half} ranks to {most}")
        by_few = self._new_folder("by few")
        writer = self._train(fewer, by_few, SAVE_EVERY)
        more = self._of(most)
        outcome = self._train(more, by_few, SAVE_EVERY + 2, saves=False)
        reloaded = ReshardedRun(DATA_PARALLEL, writer, outcome, straight)
        yield from measurements.reshard_measurements(reloaded, fewer, more, labels=self.placement.labels)

    def _sharded(self) -> Iterator[Yield]:
        reason = self.accelerator.stack.unsupported_modes.get("fsdp")
        if reason is not None:
            yield measurements.left_out(FULLY_SHARDED, reason)
            return
        yield Note("fully sharded")
        saved, steps = self._new_folder("sharded"), SAVE_EVERY + 2
        straight = self._train(self.placement, saved, steps, mode=FULLY_SHARDED)
        outcome = self._train(self.placement, saved, steps, mode=FULLY_SHARDED, saves=False)
        resumed = ResumedRun(straight, (outcome,), (), None, FULLY_SHARDED)
        if measurements.differences(resumed):
            again = self._train(self.placement, self._new_folder("sharded again"), steps, mode=FULLY_SHARDED)
            resumed = replace(resumed, again=again)
        yield from measurements.resume_measurements(resumed, self.placement)
        fewer = self._of(max(len(self.placement.ranks) // 2, 1))
        outcome = self._train(fewer, saved, steps, mode=FULLY_SHARDED, saves=False)
        run = ReshardedRun(FULLY_SHARDED, straight, outcome, straight)
        yield from measurements.reshard_measurements(run, self.placement, fewer)

    def _train_until_killed(self, folder: Path, at: int, *, during_save: bool) -> RanksOutcome:
        """Train in a group in which one rank is killed at this step, and must be the only culprit."""
        seed = zlib.crc32(f"{self.accelerator.seed}/{at}".encode())
        rank = seed % len(self.placement.ranks)
        settings = Settings(folder, at, SAVE_EVERY, DATA_PARALLEL, self.parts, Kill(rank, at, during_save))
        outcome = self._run(recovery_rank.rank_main, self.placement, settings)
        failure = outcome.failure
        killed = [report.at for own, report in outcome.of(Killed) if own == rank]
        if failure is None or not killed or failure.kind is not FailureKind.DIED or failure.culprits != (rank,):
            raise FailedError(outcome, self.placement)
        self.deaths.append((killed[0], time.monotonic()))
        return outcome

    def _train(
        self, where: Placement, folder: Path, steps: int, *, saves: bool = True, mode: str = DATA_PARALLEL
    ) -> RanksOutcome:
        save_every = SAVE_EVERY if saves else 0
        outcome = self._run(recovery_rank.rank_main, where, Settings(folder, steps, save_every, mode, self.parts))
        self._must_finish(outcome, where)
        return outcome

    def _run(self, function: RankFunction, where: Placement, settings: object) -> RanksOutcome:
        return run_ranks(function, self.accelerator, where, settings, patience_s=self.patience_s, limit_s=120.0)

    @staticmethod
    def _must_finish(outcome: RanksOutcome, where: Placement) -> None:
        if outcome.failure is not None:
            raise FailedError(outcome, where)

    def _of(self, count: int) -> Placement:
        ranks = self.placement.ranks
        return Placement(tuple(ranks[number % len(ranks)] for number in range(count)), self.placement.chips)

    def _new_folder(self, name: str) -> Path:
        folder = self.folder / name.replace(" ", "-")
        folder.mkdir()
        return folder

    def _kept_aside(self, folder: Path) -> Path:
        return Path(shutil.move(folder, self.folder / "cut-short")) if folder.is_dir() else self.folder / "cut-short"
