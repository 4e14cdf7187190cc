"""Maturity of a stack: the share of what a PyTorch user relies on that is present and right, from a run's findings. Pure.

Each feature is a row of `FEATURES`: the findings that are about it say whether it is right, wrong, or not offered, by the
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
    """Standing of one feature."""

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
class Feature:
    """Something that PyTorch users rely on: findings of this check, of these labels and measures (of all if none)."""

    area: str
    name: str
    check: str
    where: Mapping[str, str] = field(default_factory=dict)
    measures: tuple[str, ...] = ()
    #: A measure of the check that is above 0 where the feature is wrong, with its labels.
    wrong: str | None = None


def _of_sweep(phase: str, dtype: str, which: str = "all") -> Feature:
    name = f"{'core ' if which == 'core' else ''}operators in {dtype}" if phase == "forward" else f"gradients in {dtype}"
    where = {"catalogue": which, "dtype": dtype}
    return Feature("operators", name, "operators.sweep", where, (f"{phase}_coverage", "wrong"))


FEATURES: tuple[Feature, ...] = (
    Feature("driver", "versions that fit together", "driver.stack", measures=("inconsistencies",)),
    Feature("driver", "devices that open and close", "driver.lifecycle"),
    Feature("driver", "processes that share a device", "driver.processes",
            measures=("sharing_supported", "sharing_failures")),
    Feature("driver", "recovery from a killed process", "driver.processes",
            measures=("usable_after_kill", "recovery_s", "unreturned_bytes")),
    Feature("driver", "memory to its limit, and beyond", "driver.memory"),
    Feature("driver", "reported memory", "driver.memory_statistics"),
    Feature("driver", "copies from pageable memory", "driver.copies", {"memory": "pageable"}),
    Feature("driver", "copies from pinned memory", "driver.copies", {"memory": "pinned"}),
    Feature("driver", "streams and events", "driver.streams"),
    Feature("driver", "random numbers", "driver.random"),
    Feature("driver", "errors that are raised", "driver.errors"),
    Feature("driver", "profiler", "driver.profiler", measures=("supported", "time_ratio", "missing_calls")),
    Feature("driver", "exchange by DLPack", "driver.dlpack"),
    Feature("driver", "health that can be read", "driver.health", measures=("fields_read",)),
    Feature("mixed precision", "autocast to bfloat16", "driver.autocast", {"dtype": "bfloat16"}),
    Feature("mixed precision", "autocast to float16", "driver.autocast", {"dtype": "float16"}),
    *(_of_sweep("forward", dtype) for dtype in ("float32", "bfloat16")),
    *(_of_sweep("backward", dtype) for dtype in ("float32", "bfloat16")),
    *(_of_sweep("forward", dtype, "core") for dtype in ("float16", "int64", "int32", "uint8", "bool")),
    Feature("numerics", "matrix products", "parity.matmul"),
    Feature("numerics", "sums", "parity.reductions"),
    Feature("numerics", "normalisation", "parity.normalisation"),
    Feature("numerics", "attention", "parity.attention"),
    Feature("numerics", "special values", "parity.special_values"),
    Feature("numerics", "training", "parity.training"),
    Feature("numerics", "decoding", "parity.inference"),
    Feature("numerics", "activation checkpointing", "parity.recomputation"),
    Feature("ways of running", "tracing by torch.compile", "parity.execution", {"mode": "traced"}, wrong="wrong"),
    Feature("ways of running", "compiled training", "parity.compiled"),
    Feature("ways of running", "graphs", "parity.execution", {"mode": "graph"}, wrong="wrong"),
    Feature("ways of running", "weights in 8 bits", "parity.execution", {"mode": "int8-weights"}, wrong="wrong"),
    Feature("ways of running", "weights in 4 bits", "parity.execution", {"mode": "int4-weights"}, wrong="wrong"),
    Feature("ways of running", "deterministic algorithms", "parity.determinism", {"mode": "deterministic"}),
    Feature("ways of running", "checkpoints", "stability.checkpoint"),
    Feature("several chips", "collectives in float32", "multichip.collectives", {"dtype": "float32"}),
    Feature("several chips", "collectives in bfloat16", "multichip.collectives", {"dtype": "bfloat16"}),
    Feature("several chips", "data parallelism", "multichip.data_parallel"),
    Feature("several chips", "sharded and other parallelism", "multichip.parallelism"),
    Feature("several chips", "failed ranks that are noticed", "multichip.drills"),
    Feature("several chips", "recovery from checkpoints", "multichip.recovery"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class StatedLevel:
    """What somebody states about a backend: not measured. Beyond `until` it is unknown whether it is so still."""

    level: str
    by: str
    as_of: str
    until: str
    source: str


#: By stack. The levels are L1 (events are forwarded), L2 (results are shown), L3 (checks on request) and L4 (checks on every
#: change). Source: pytorch/rfcs RFC-0050; pytorch/pytorch .github/allowlist.yml.
STATED: Mapping[str, StatedLevel] = {
    "ascend": StatedLevel(
        "L3 of L1 to L4", "PyTorch's CI for backends outside of its tree", "2026-09-11", "2027-09-11",
        "https://github.com/pytorch/pytorch/pull/196580",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FeatureResult:
    """One feature on one accelerator. `credit` is 1 where it is right, and a part where a part of it is there."""

    feature: Feature
    standing: Standing
    credit: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Maturity:
    """All features that apply to an accelerator, and what is stated of its stack (None: nothing that is known here)."""

    features: Sequence[FeatureResult]
    stated: StatedLevel | None

    @property
    def known(self) -> list[FeatureResult]:
        """Those of which a run has shown something."""
        return [one for one in self.features if one.standing is not Standing.UNKNOWN]

    @property
    def share(self) -> float | None:
        """The share of what is known that is present and right; None where nothing is known."""
        return sum(one.credit for one in self.known) / len(self.known) if self.known else None

    def areas(self) -> Iterator[tuple[str, float | None, int, int]]:
        """Yield each area, its share (None if nothing is known), how many of its features are known, and how many apply."""
        for area in dict.fromkeys(one.feature.area for one in self.features):
            own = [one for one in self.features if one.feature.area == area]
            known = [one for one in own if one.standing is not Standing.UNKNOWN]
            yield area, sum(one.credit for one in known) / len(known) if known else None, len(known), len(own)


def assess(item: AcceleratorAssessment, day: str) -> Maturity:
    """Return the maturity of an accelerator's stack. `day` (ISO 8601) is the run's, for statements that end."""
    evidence = {piece.check: piece for piece in item.evidence}
    found = []
    for feature in FEATURES:
        about = list({finding.requirement: finding for finding in item.findings if _is_about(finding, feature)}.values())
        applicable = [finding for finding in about if finding.outcome is not Outcome.NOT_APPLICABLE]
        if not applicable:
            if about:
                continue  # it does not exist on this kind of device
            found.append(FeatureResult(feature, Standing.UNKNOWN, 0.0, "the profile does not ask for it"))
            continue
        found.append(_judged(feature, applicable, evidence.get(feature.check)))
    stated = STATED.get(item.facts.stack)
    return Maturity(tuple(found), stated if stated is not None and day <= stated.until else None)


def _is_about(finding: Finding, feature: Feature) -> bool:
    if finding.check != feature.check or finding.level is Level.INFO:
        return False
    if feature.measures and finding.measure not in feature.measures:
        return False
    return feature.where.items() <= dict(finding.labels).items()


def _judged(feature: Feature, findings: Sequence[Finding], evidence: Evidence | None) -> FeatureResult:
    failed = [finding for finding in findings if finding.outcome is Outcome.FAIL]
    wrong = next((finding for finding in failed if finding.measure not in _PRESENCE), None)
    if wrong is not None:
        return FeatureResult(feature, Standing.WRONG, 0.0, wrong.reason or wrong.requirement)
    if _is_spoiled(feature, evidence):
        return FeatureResult(feature, Standing.WRONG, 0.0, "its results are wrong")
    absent = next(iter(failed), None)
    if absent is not None:
        part = as_float(absent.value) if absent.measure in _SHARES and absent.value is not None else 0.0
        return FeatureResult(feature, Standing.MISSING, min(max(part, 0.0), 1.0), absent.reason or absent.requirement)
    unknown = [finding for finding in findings if finding.outcome is Outcome.UNKNOWN]
    if not unknown:
        return FeatureResult(feature, Standing.RIGHT, 1.0)
    if evidence is not None and evidence.status is Status.MEASURED and all(_is_refused(one, evidence) for one in unknown):
        return FeatureResult(feature, Standing.MISSING, 0.0, "the stack does not offer it")
    return FeatureResult(feature, Standing.UNKNOWN, 0.0, unknown[0].reason or "it was not measured")


def _is_spoiled(feature: Feature, evidence: Evidence | None) -> bool:
    return feature.wrong is not None and evidence is not None and any(
        one.name == feature.wrong and feature.where.items() <= dict(one.labels).items() and as_float(one.value) > 0
        for one in evidence.measurements
    )


def _is_refused(finding: Finding, evidence: Evidence) -> bool:
    """Return whether the check says that the stack does not offer what an unknown finding is about."""
    return any(
        one.name in _PRESENCE and as_float(one.value) == 0 and dict(one.labels).items() <= dict(finding.labels).items()
        for one in evidence.measurements
    )
