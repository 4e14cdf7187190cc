"""Saved evidence judged again under a profile, without hardware. Pure, as `readiness.judge` is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from readiness.judge import count_of_stack, decide, judge
from readiness.model import (
    AcceleratorAssessment,
    Action,
    Assessment,
    Evidence,
    Finding,
    Outcome,
    Profile,
    Remedy,
    Status,
    Use,
    Waiver,
)

#: Settings that choose what is measured, with the label by which each measurement says of which of them it is.
_LABELS = {
    "dtypes": "dtype", "core_dtypes": "dtype", "modes": "mode", "optimizers": "optimizer", "powers": "elements",
    "architectures": "architecture",
}  # fmt: skip
#: The same of one thing, or of few: every measurement names it, or says that it is of a part. All others change how.
_NAMED = frozenset({"catalogue", "only", "workload"})


def rejudge(
    saved: Assessment,
    profile: Profile,
    uses: Sequence[Use],
    *,
    waivers: Sequence[Waiver] = (),
    today: str = "",
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
) -> Assessment:
    """Saved evidence judged again under a profile, without hardware.

    What was measured with other settings than the profile asks for tells it nothing; what was measured of a part of what it
    asks for nothing of the whole. `defaults` are the settings of each check.
    """

    def judged(item: AcceleratorAssessment) -> AcceleratorAssessment:
        chips = count_of_stack([*(other.facts for other in saved.accelerators), *saved.joined], item.facts)
        usable = [_as_asked(piece, profile, (defaults or {}).get(piece.check, {})) for piece in item.evidence]
        found = judge(profile, item.facts, usable, uses=uses, waivers=waivers, today=today, chips=chips)
        parts = {piece.check: _lacking(piece, profile, (defaults or {}).get(piece.check, {})) for piece in usable}
        findings = tuple(_unless_partial(finding, profile, parts.get(finding.check, {})) for finding in found.findings)
        return replace(
            found,
            evidence=tuple(sorted(item.evidence, key=lambda piece: piece.check)),
            findings=findings,
            verdicts={use: decide([finding for finding in findings if finding.use is use]) for use in found.verdicts},
        )

    return replace(
        saved,
        profile_name=profile.name,
        profile_title=profile.title,
        profile_sha256=profile.sha256,
        uses=tuple(uses),
        accelerators=tuple(map(judged, saved.accelerators)),
    )


def _asked(evidence: Evidence, profile: Profile, defaults: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Name of each setting, what it was (None where the evidence does not say), and what it should be."""
    for name, wanted in {**defaults, **profile.settings.get(evidence.check, {})}.items():
        yield name, _plain(evidence.settings.get(name)), _plain(wanted)


def _as_asked(evidence: Evidence, profile: Profile, defaults: Mapping[str, Any]) -> Evidence:
    """The evidence, or none in its place, where a setting that no label tells of was another one than is asked for."""
    if not evidence.measurements:
        return evidence
    for name, used, wanted in _asked(evidence, profile, defaults):
        if name not in _LABELS and name not in _NAMED and used != wanted:
            how = f"with {name} = {used}" if name in evidence.settings else f"before {name} could be chosen"
            reason = f"it was measured {how}, and this profile asks for {wanted}"
            return replace(evidence, status=Status.SKIPPED, reason=reason, measurements=(), rows=())
    return evidence


def _lacking(evidence: Evidence, profile: Profile, defaults: Mapping[str, Any]) -> dict[str, str]:
    """The labels of which not all was measured that is asked for, each with what is lacking, in words."""
    lacking = {}
    for name, used, wanted in _asked(evidence, profile, defaults):
        if name in _LABELS and isinstance(wanted, list):
            missing = [item for item in wanted if not isinstance(used, list) or item not in used]
            if missing:
                lacking[_LABELS[name]] = ", ".join(map(str, missing))
    return lacking


def _unless_partial(finding: Finding, profile: Profile, lacking: Mapping[str, str]) -> Finding:
    """The finding; unknown where it speaks of a whole that has passed in a part."""
    if finding.outcome is not Outcome.PASS or not lacking:
        return finding
    where = next(item.where for item in profile.requirements if item.id == finding.requirement)
    for label, missing in lacking.items():
        if label not in where:
            reason = f"{finding.check} was measured without {label} {missing}, which this profile asks for"
            remedy = Remedy(f"Run {finding.check}.", Action.GATHER_EVIDENCE)
            return replace(finding, outcome=Outcome.UNKNOWN, earned=0.0, value=None, unit=None, reason=reason, remedy=remedy)
    return finding


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
