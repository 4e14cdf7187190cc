"""Saved evidence judged again under a profile, without hardware. Pure, as `readiness.judge` is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from readiness.judge import count_of_stack, judge
from readiness.model import AcceleratorAssessment, Assessment, Evidence, Profile, Status, Use, Waiver

#: Settings that choose what is measured: each measurement says by its labels what it is of. All others change how.
_TOLD_BY_LABELS = frozenset(
    {"dtypes", "core_dtypes", "catalogue", "only", "modes", "optimizers", "workload", "powers", "architectures"}
)


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

    What was measured with other settings than the profile asks for tells it nothing. `defaults` are those of each check.
    """

    def judged(item: AcceleratorAssessment) -> AcceleratorAssessment:
        chips = count_of_stack([*(other.facts for other in saved.accelerators), *saved.joined], item.facts)
        usable = [_as_asked(piece, profile, (defaults or {}).get(piece.check, {})) for piece in item.evidence]
        found = judge(profile, item.facts, usable, uses=uses, waivers=waivers, today=today, chips=chips)
        return replace(found, evidence=tuple(sorted(item.evidence, key=lambda piece: piece.check)))

    return replace(
        saved,
        profile_name=profile.name,
        profile_title=profile.title,
        profile_sha256=profile.sha256,
        uses=tuple(uses),
        accelerators=tuple(map(judged, saved.accelerators)),
    )


def _as_asked(evidence: Evidence, profile: Profile, defaults: Mapping[str, Any]) -> Evidence:
    """The evidence, or none in its place, where a setting that no label tells of was another one than is asked for."""
    for name, wanted in {**defaults, **profile.settings.get(evidence.check, {})}.items():
        used = evidence.settings.get(name, wanted)
        if name not in _TOLD_BY_LABELS and _plain(used) != _plain(wanted):
            reason = f"it was measured with {name} = {used}, and this profile asks for {wanted}"
            return replace(evidence, status=Status.SKIPPED, reason=reason, measurements=(), rows=())
    return evidence


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
