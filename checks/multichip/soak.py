"""A model's work for as long as one likes, and what that proves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from readiness import Accelerator, Action, Better, Cost, Measure, Row, Scope, Yield, check


def recount(path: Path) -> Iterator[Yield]:
    """Return what a soak had found when it was cut off."""
    from readiness.probes.soak import measurements as soak_measurements
    from readiness.probes.soak import soak_log

    yield from soak_measurements.measurements(soak_log.read(path))


@check(
    "multichip.soak",
    title="The chips last under a model's work for as long as they are given",
    measures={
        "faults": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Wrong results, deaths, hangs and errors, by cause and all together; of one call that several ranks see "
                "wrong, one."
            ),
            title="The soak ends without a fault",
            why="A fault a day on eight chips is one every eleven minutes on a thousand.",
            remedy=(
                "The rows name cause, rank and chip of each fault: take the chip that took part in most of them out of "
                "service, and soak again."
            ),
            action=Action.REPLACE,
        ),
        "fault_events": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "The same, with those within a minute of the first counted as one: faults of one host come together, and "
                "would break the arithmetic of the bounds."
            ),
            why="Bounds on how often faults come must count those that come together once.",
            remedy="Take the chip or the host that took part in most of them out of service, and soak again.",
            action=Action.REPLACE,
        ),
        "exposure_chip_hours": Measure(
            "h", better=Better.HIGHER,
            meaning="Hours of rounds that all ranks finished, times chips, without pauses (a suspended job).",
            why="Without hours of work, having no fault proves nothing.",
            remedy="Soak longer, or more chips (readiness run --soak 72h).",
            action=Action.GATHER_EVIDENCE,
        ),
        "chip_mtbf_h": Measure(
            "h", better=Better.HIGHER,
            meaning="Hours between the faults of a chip: lower bound with 95 % confidence.",
            why="How often a chip fails decides how many of them can work at one job.",
            remedy="Soak longer if no fault was seen; else replace what failed.",
            action=Action.GATHER_EVIDENCE,
        ),
        "host_mtbf_h": Measure(
            "h", better=Better.HIGHER,
            meaning="Hours between the faults of a host: lower bound with 95 % confidence.",
            why="How often a host fails decides how many of them can work at one job.",
            remedy="Soak longer if no fault was seen; else replace what failed.",
            action=Action.GATHER_EVIDENCE,
        ),
        "job_mtbf_h": Measure(
            "h", better=Better.HIGHER,
            meaning="Hours between the faults of a job of job_chips: lower bound with 95 % confidence.",
            why="It decides how often the job must save, and how much it loses.",
            remedy="Soak longer if no fault was seen; else replace what failed.",
            action=Action.GATHER_EVIDENCE,
        ),
        "uninterrupted_day": Measure(
            "1", better=Better.HIGHER,
            meaning="Probability that such a job runs a day without a fault: lower bound with 95 % confidence.",
            why="It shows whether somebody must be on call at night.",
            remedy="Soak longer if no fault was seen; else replace what failed.",
            action=Action.GATHER_EVIDENCE,
        ),
        "training_time_share": Measure(
            "1", better=Better.HIGHER,
            meaning=(
                "Share of time that such a job trains, beside checkpoints and recovery: lower bound with 95 % confidence."
            ),
            title="The soak spends its time on training",
            why=(
                "What a job spends on coming back from faults is not spent on training; a soak that is too short to show "
                "it shows nothing."
            ),
            remedy=(
                "Soak longer or more chips (readiness run --soak 72h): exposure_share says how much longer. Faults of one "
                "chip: replace it."
            ),
            action=Action.GATHER_EVIDENCE,
        ),
        "exposure_share": Measure(
            "1", better=Better.HIGHER,
            meaning="What was done of what it takes to show that the job runs job_days through at even odds.",
            why="Below 1 the soak was too short to promise what the job needs.",
            remedy="Soak longer, or more chips (readiness run --soak 72h).",
            action=Action.GATHER_EVIDENCE,
        ),
        "recovery_s": Measure(
            "s", better=Better.LOWER,
            meaning="Slowest recovery that was measured.",
            why="Every fault costs the whole job this long, besides the steps since the last checkpoint.",
            remedy="Look at how long workers take to start, to load the state and to take the first step.",
            action=Action.GATHER_EVIDENCE,
        ),
        "pace_kept": Measure(
            "1", better=Better.HIGHER,
            meaning="Best pace of the last quarter over that of the first.",
            why="A device that slows down within hours slows every other device of the job with it.",
            remedy="Look at temperatures, power limits and clocks with the vendor's tool; repair the cooling.",
            action=Action.CHECK_CONFIG,
        ),
        "completed": Measure(
            "1", better=Better.HIGHER,
            meaning="0 where there was no progress.",
            why="A soak that comes no further shows nothing but that something is broken.",
            remedy="The rows name cause, rank and chip; run multichip.collectives and multichip.recovery.",
            action=Action.CONTACT_VENDOR,
        ),
        "compared_share": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of the work that repeats to the bit here, so that a wrong result would be seen.",
            why="Where results are not reproducible, a wrong one cannot be detected, and no fault proves nothing.",
            remedy="Set the stack's switch for deterministic algorithms.",
            action=Action.CHECK_CONFIG,
        ),
    },
    cost=Cost.SOAK,
    typical_s=5.0,
    limit_s=600.0,
    scope=Scope.GROUP,
    alone=True,
    lasting="seconds",
    recount=recount,
    least={"job_chips": 1, "job_days": 0.001, "patience_s": 1},
)  # fmt: skip
def soak(
    accelerator: Accelerator,
    *,
    seconds: float = 0.0,
    ranks: int = 0,
    dtypes: Sequence[str] = ("float32", "bfloat16"),
    job_chips: int = 1024,
    job_days: float = 7.0,
    checkpoint_s: float = 30.0,
    recovery_s: float = 0.0,
    patience_s: float = 60.0,
) -> Iterator[Yield]:
    """Works all chips with a model's operations for as long as asked, counts every fault, and bounds how often they come.

    What fails once a day passes every test of an hour, and stops a job on a thousand chips every other minute. For
    `seconds` (`run --soak`), rounds of work go on: steps of training, each done twice from the same checkpoint; the
    operations of a language model; sums of pairs and of all ranks with known answers, on new data. Every result that
    repeats is checked. No fault ends it: it is counted, with the ranks that die, hang or raise, and a new group begins
    from the checkpoint. It ends early only where there is no progress. What it found is on disk: `--resume` goes on
    counting.

    Bounds are exact for Poisson, with 95 % confidence; they are about a job of `job_chips` that saves every
    `checkpoint_s` seconds and needs `recovery_s` to come back (0: the slowest recovery that was measured; without one,
    no share of time is reported). Where training does not repeat to the bit, or most operations do not, having no fault
    says nothing, and is not reported.

    Labels: `cause` of `faults` (`all`: together); others as in `multichip.collectives`.
    """
    from readiness import place
    from readiness.probes.soak.measurements import measurements
    from readiness.probes.soak.parent import Soak

    placement = place(accelerator, ranks)
    begun = {
        "chips": list(placement.ids), "ranks": len(placement.ranks), "labels": dict(placement.labels),
        "scope": placement.scope, "job_chips": job_chips, "job_days": job_days, "checkpoint_s": checkpoint_s,
        "recovery_s": recovery_s,
    }  # fmt: skip
    yield Row({"accelerators": ", ".join(placement.ids)})
    work = Soak(accelerator, placement, seconds, dtypes, patience_s, begun)
    yield from work.run()
    yield from measurements(work.log.totals)
