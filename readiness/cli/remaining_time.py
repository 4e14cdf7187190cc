"""Estimate of a run's remaining time, from the usual times of its checks and its speed so far. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from readiness.engine.plan import Job

Key = tuple[str, str]
#: So many seconds at the usual pace are believed before this run's own pace counts as much.
_PRIOR_S = 10.0
#: A check that takes longer than was thought is thought to take this share of its time more.
_LATE = 0.1


class Remaining:
    """Remaining time of jobs. Accelerators work in parallel as far as the host has cores; some jobs need the whole host."""

    def __init__(self, jobs: Iterable[Job], cores: int) -> None:
        self._left = {job.key: job for job in jobs}
        self._lanes = list(dict.fromkeys(facts.id for job in self._left.values() for facts in job.accelerators))
        self._cores = max(cores, 1)
        self._usual_s = self._taken_s = 0.0

    def finish(self, job: Job, seconds: float) -> None:
        """Record the time that a job took."""
        if self._left.pop(job.key, None) is not None and job.lasts_s == 0:  # one that is told for how long says nothing
            self._usual_s += job.typical_s
            self._taken_s += seconds

    @property
    def pace(self) -> float:
        """The ratio of measured to usual times."""
        return (self._taken_s + _PRIOR_S) / (self._usual_s + _PRIOR_S)

    def seconds(self, running: Iterable[tuple[Job, float]] = ()) -> float:
        """Return the seconds until all are done; `running` are the current jobs with their seconds so far."""
        at_work = {job.key: seconds for job, seconds in running}
        lanes = dict.fromkeys(self._lanes, 0.0)
        total = 0.0
        for job in self._left.values():
            needed = job.lasts_s + (job.typical_s - job.lasts_s) * self.pace
            done = at_work.get(job.key, 0.0)
            needed = max(needed - done, _LATE * done)
            own = self._lanes if job.check.alone else [facts.id for facts in job.accelerators]
            end = max(lanes[lane] for lane in own) + needed
            lanes |= dict.fromkeys(own, end)
            total += needed
        return max([*lanes.values(), total / min(self._cores, len(lanes) or 1)])
