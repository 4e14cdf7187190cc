"""Mean time between faults (MTBF) of a job from a soak: bounds, days without a fault, kept training time. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from readiness.probes.soak.poisson_bound import upper_bound

DAY_H = 24.0
#: A job is called likely to run through where it does so at least so often.
LIKELY = 0.5


@dataclass(frozen=True, slots=True)
class Job:
    """Job that a soak is judged for: chips, days, seconds of a checkpoint, and seconds of recovery after a fault."""

    chips: int
    days: float
    checkpoint_s: float
    recovery_s: float


@dataclass(frozen=True, slots=True)
class FaultBounds:
    """Bounds that `faults` in `chip_hours` under load prove for a job, each with 95 % confidence."""

    chip_hours: float
    faults: int
    job: Job

    @property
    def rate_per_chip_hour(self) -> float:
        """Upper bound of the faults per chip-hour."""
        return upper_bound(self.faults) / self.chip_hours if self.chip_hours > 0 else math.inf

    @property
    def chip_mtbf_h(self) -> float:
        """Lower bound of the hours between faults of one chip."""
        return 1 / self.rate_per_chip_hour

    @property
    def job_mtbf_h(self) -> float:
        """Lower bound of the hours between faults of the job: any chip's fault stops it."""
        return self.chip_mtbf_h / self.job.chips

    def uninterrupted(self, hours: float) -> float:
        """Return a lower bound of the probability that the job runs for so long without a fault."""
        return math.exp(-hours / self.job_mtbf_h) if self.job_mtbf_h > 0 else 0.0

    @property
    def training_time_share(self) -> float:
        """Return a lower bound of the share of time spent on steps that are kept (effective training time ratio)."""
        return training_time_share(self.job_mtbf_h, self.job.checkpoint_s, self.job.recovery_s)

    @property
    def needed_chip_hours(self) -> float:
        """Return the chip-hours that, with so many faults, show that a job runs through with at least this probability."""
        return needed_chip_hours(self.faults, self.job.chips, DAY_H * self.job.days)


def training_time_share(job_mtbf_h: float, checkpoint_s: float, recovery_s: float) -> float:
    """The share of time that a job keeps that fails so often, with checkpoints at the interval that loses least.

    Lost are the writing of checkpoints, the work since the last one, and coming back. The interval is Young's (1974) and
    Daly's (2006) sqrt(2 x checkpoint x time between faults), all to first order: pessimistic where faults are frequent.
    """
    between_s = 3600 * job_mtbf_h
    interval_s = math.sqrt(2 * checkpoint_s * between_s)
    if not 0 < interval_s < math.inf:
        return 0.0
    return max(0.0, 1 - checkpoint_s / interval_s - (interval_s / 2 + recovery_s) / between_s)


def needed_chip_hours(faults: int, chips: int, hours: float, likely: float = LIKELY) -> float:
    """Chip-hours of exposure that show, with so many faults, that a job runs through with this probability at least."""
    return upper_bound(faults) * chips * hours / -math.log(likely)
