"""Maturity of a stack: the share of what a PyTorch user relies on that is present and right, from a run's findings. Pure.

Each thing is a row of `THINGS`: the findings that are about it say whether it is right, wrong, or not offered, by the
limits of the profile that was used. What was not measured, or not asked for, is unknown. Beside it stands, as stated and
not measured, the level that PyTorch's own CI gives a backend.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from readiness.datamodel import AcceleratorAssessment, Evidence, Finding, Level, Outcome, Status
from readiness.judging.measurement_values import as_float


class Standing(StrEnum):
    """Standing of one thing."""

    RIGHT = "right"
    WRONG = "wrong"
    MISSING = "missing"
    UNKNOWN = "unknown"


#: Measures that say whether a stack has something; all others say whether it is right.
_PRESENCE = frozenset({
    "supported", "sharing_supported", "generator_supported", "coverage", "forward_coverage", "backward_coverage",
    "unsupported", "fields_read",
})  # fmt: skip
#: Of these a part counts as a part.
_SHARES = frozenset({"coverage", "forward_coverage", "backward_coverage"})


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that a PyTorch user relies on: findings of this check, of these labels and measures (of all if none)."""

    area: str
    name: str
    check: str
    where: Mapping[str, str] = field(default_factory=dict)
    measures: tuple[str, ...] = ()
    #: A measure of the check that is above 0 where the thing is wrong, with its labels.
    wrong: str | None = None


def _of_sweep(phase: str, dtype: str, which: str = "all") -> Thing:
    name = f"{'core ' if which == 'core' else ''}operators in {dtype}" if phase == "forward" else f"gradients in {dtype}"
    return Thing("operators", name, "operators.sweep", {"catalogue": which, "dtype": dtype}, (f"{phase}_coverage", "wrong"))


THINGS: tuple[Thing, ...] = (
    Thing("driver", "versions that fit together", "driver.stack", measures=("inconsistencies",)),
    Thing("driver", "devices that open and close", "driver.lifecycle"),
    Thing("driver", "processes that share a device", "driver.processes", measures=("sharing_supported", "sharing_failures")),
    Thing("driver", "recovery from a killed process", "driver.processes",
          measures=("usable_after_kill", "recovery_s", "unreturned_bytes")),
    Thing("driver", "memory to its limit, and beyond", "driver.memory"),
    Thing("driver", "reported memory", "driver.memory_statistics"),
    Thing("driver", "copies from pageable memory", "driver.copies", {"memory": "pageable"}),
    Thing("driver", "copies from pinned memory", "driver.copies", {"memory": "pinned"}),
    Thing("driver", "streams and events", "driver.streams"),
    Thing("driver", "random numbers", "driver.random"),
    Thing("driver", "errors that are raised", "driver.errors"),
    Thing("driver", "profiler", "driver.profiler", measures=("supported", "time_ratio", "missing_calls")),
    Thing("driver", "exchange by DLPack", "driver.dlpack"),
    Thing("driver", "health that can be read", "driver.health", measures=("fields_read",)),
    Thing("mixed precision", "autocast to bfloat16", "driver.autocast", {"dtype": "bfloat16"}),
    Thing("mixed precision", "autocast to float16", "driver.autocast", {"dtype": "float16"}),
    *(_of_sweep("forward", dtype) for dtype in ("float32", "bfloat16")),
    *(_of_sweep("backward", dtype) for dtype in ("float32", "bfloat16")),
    *(_of_sweep("forward", dtype, "core") for dtype in ("float16", "int64", "int32", "uint8", "bool")),
    Thing("numerics", "matrix products", "parity.matmul"),
    Thing("numerics", "sums", "parity.reductions"),
    Thing("numerics", "normalisation", "parity.normalisation"),
    Thing("numerics", "attention", "parity.attention"),
    Thing("numerics", "special values", "parity.special_values"),
    Thing("numerics", "training", "parity.training"),
    Thing("numerics", "decoding", "parity.inference"),
    Thing("numerics", "activation checkpointing", "parity.recomputation"),
    Thing("ways of running", "tracing by torch.compile", "parity.execution", {"mode": "traced"}, wrong="wrong"),
    Thing("ways of running", "compiled training", "parity.compiled"),
    Thing("ways of running", "graphs", "parity.execution", {"mode": "graph"}, wrong="wrong"),
    Thing("ways of running", "weights in 8 bits", "parity.execution", {"mode": "int8-weights"}, wrong="wrong"),
    Thing("ways of running", "weights in 4 bits", "parity.execution", {"mode": "int4-weights"}, wrong="wrong"),
    Thing("ways of running", "deterministic algorithms", "parity.determinism", {"mode": "deterministic"}),
    Thing("ways of running", "checkpoints", "stability.checkpoint"),
    Thing("several chips", "collectives in float32", "multichip.collectives", {"dtype": "float32"}),
    Thing("several chips", "collectives in bfloat16", "multichip.collectives", {"dtype": "bfloat16"}),
    Thing("several chips", "data parallelism", "multichip.data_parallel"),
    Thing("several chips", "sharded and other parallelism", "multichip.parallelism"),
    Thing("several chips", "failed ranks that are noticed", "multichip.drills"),
    Thing("several chips", "recovery from checkpoints", "multichip.recovery"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stated:
    """What somebody states about a backend: not measured. Beyond `until` it is unknown whether it is so still."""

    level: str
    by: str
    as_of: str
    until: str
    source: str


#: By stack. The levels are L1 (events are forwarded), L2 (results are shown), L3 (checks on request) and L4 (checks on every
#: change). Source: pytorch/rfcs RFC-0050; pytorch/pytorch .github/allowlist.yml.
STATED: Mapping[str, Stated] = {
    "ascend": Stated(
        "L3 of L1 to L4", "PyTorch's CI for backends outside of its tree", "2026-09-11", "2027-09-11",
        "https://github.com/pytorch/pytorch/pull/196580",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Judged:
    """One thing on one accelerator. `credit` is 1 where it is right, and a part where a part of it is there."""

    thing: Thing
    standing: Standing
    credit: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Maturity:
    """All things that apply to an accelerator, and what is stated of its stack (None: nothing that is known here)."""

    things: Sequence[Judged]
    stated: Stated | None

    @property
    def known(self) -> list[Judged]:
        """Those of which a run has shown something."""
        return [one for one in self.things if one.standing is not Standing.UNKNOWN]

    @property
    def share(self) -> float | None:
        """The share of what is known that is present and right; None where nothing is known."""
        return sum(one.credit for one in self.known) / len(self.known) if self.known else None

    def areas(self) -> Iterator[tuple[str, float | None, int, int]]:
        """Yield each area: its share (None where nothing is known), how many things are known of it, and how many apply."""
        for area in dict.fromkeys(one.thing.area for one in self.things):
            own = [one for one in self.things if one.thing.area == area]
            known = [one for one in own if one.standing is not Standing.UNKNOWN]
            yield area, sum(one.credit for one in known) / len(known) if known else None, len(known), len(own)


def assess(item: AcceleratorAssessment, day: str) -> Maturity:
    """Return the maturity of an accelerator's stack. `day` (ISO 8601) is the run's, for statements that end."""
    evidence = {piece.check: piece for piece in item.evidence}
    found = []
    for thing in THINGS:
        about = list({finding.requirement: finding for finding in item.findings if _is_about(finding, thing)}.values())
        asked = [finding for finding in about if finding.outcome is not Outcome.NOT_APPLICABLE]
        if not asked:
            if about:
                continue  # it does not exist on this kind of device
            found.append(Judged(thing, Standing.UNKNOWN, 0.0, "the profile does not ask for it"))
            continue
        found.append(_judged(thing, asked, evidence.get(thing.check)))
    stated = STATED.get(item.facts.stack)
    return Maturity(tuple(found), stated if stated is not None and day <= stated.until else None)


def _is_about(finding: Finding, thing: Thing) -> bool:
    if finding.check != thing.check or finding.level is Level.INFO:
        return False
    if thing.measures and finding.measure not in thing.measures:
        return False
    return thing.where.items() <= dict(finding.labels).items()


def _judged(thing: Thing, findings: Sequence[Finding], evidence: Evidence | None) -> Judged:
    failed = [finding for finding in findings if finding.outcome is Outcome.FAIL]
    wrong = next((finding for finding in failed if finding.measure not in _PRESENCE), None)
    if wrong is not None:
        return Judged(thing, Standing.WRONG, 0.0, wrong.reason or wrong.requirement)
    if _is_spoiled(thing, evidence):
        return Judged(thing, Standing.WRONG, 0.0, "its results are wrong")
    absent = next(iter(failed), None)
    if absent is not None:
        part = as_float(absent.value) if absent.measure in _SHARES and absent.value is not None else 0.0
        return Judged(thing, Standing.MISSING, min(max(part, 0.0), 1.0), absent.reason or absent.requirement)
    unknown = [finding for finding in findings if finding.outcome is Outcome.UNKNOWN]
    if not unknown:
        return Judged(thing, Standing.RIGHT, 1.0)
    if evidence is not None and evidence.status is Status.MEASURED and all(_is_refused(one, evidence) for one in unknown):
        return Judged(thing, Standing.MISSING, 0.0, "the stack does not offer it")
    return Judged(thing, Standing.UNKNOWN, 0.0, unknown[0].reason or "it was not measured")


def _is_spoiled(thing: Thing, evidence: Evidence | None) -> bool:
    return thing.wrong is not None and evidence is not None and any(
        one.name == thing.wrong and thing.where.items() <= dict(one.labels).items() and as_float(one.value) > 0
        for one in evidence.measurements
    )


def _is_refused(finding: Finding, evidence: Evidence) -> bool:
    """Return whether the check says that the stack does not offer what an unknown finding is about."""
    return any(
        one.name in _PRESENCE and as_float(one.value) == 0 and dict(one.labels).items() <= dict(finding.labels).items()
        for one in evidence.measurements
    )
