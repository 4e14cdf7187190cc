"""Settings and reports of `multichip.soak`. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from readiness.distributed.rank_messages import Report


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings: the duration of a rank group, and what it knows of earlier ones.

    `turn` chooses the first pairing; `sums_first` is how many rounds of sums come before all else; `checkpoint` is where
    training saves itself, None for memory alone.
    """

    seconds: float
    dtypes: tuple[str, ...]
    turn: int = 0
    sums_first: int = 0
    checkpoint: Path | None = None


@dataclass(frozen=True, slots=True)
class SoakFault:
    """Fault that a rank saw in a round; `subgroup` are the ranks of a sum, None if it concerns all."""

    cause: str
    what: str
    subgroup: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class RoundReport(Report):
    """Report of one round of one rank.

    `replica` is a digest of model and optimizer after the round; `resumed` why training began anew, None where it went on
    from the checkpoint; `repeats` whether equal steps give equal bits here; `unkept` why checkpoints stay in memory;
    `uncompared` how many operations differ from call to call, so that none can be compared, and of how many.
    """

    round: int
    seconds: float
    loss: float
    step: int
    replica: str
    faults: tuple[SoakFault, ...]
    operations: int
    operations_s: float
    sensors: dict[str, int | float]
    resumed: str | None = None
    repeats: bool = True
    unkept: str | None = None
    uncompared: tuple[int, int] = (0, 0)
