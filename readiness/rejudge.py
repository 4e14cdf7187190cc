"""Saved evidence judged again under a profile, without hardware. Pure, as `readiness.judge` is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from readiness.decision import decide
from readiness.judge import count_of_stack, judge
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
#: The same of one thing, which every measurement names. All other settings change how something is measured.
_NAMED = frozenset({"catalogue"})


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
    usual = defaults or {}

    def judged(item: AcceleratorAssessment) -> AcceleratorAssessment:
        chips = count_of_stack([*(other.facts for other in saved.accelerators), *saved.joined], item.facts)
        usable = [_as_asked(piece, profile, usual.get(piece.check, {})) for piece in item.evidence]
        found = judge(profile, item.facts, usable, uses=uses, waivers=waivers, today=today, chips=chips)
        other = {piece.check: _other_than_asked(piece, profile, usual.get(piece.check, {})) for piece in usable}
        findings = tuple(_unless_of_other(finding, profile, other.get(finding.check, {})) for finding in found.findings)
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
    """The evidence, without what it says of more than is asked for, by its labels.

    None in its place where a setting that no label tells of was another one than is asked for; and, where a check did not
    come to its end, any setting: under what is asked for it might have.
    """
    if evidence.status in (Status.SKIPPED, Status.ERROR) and not evidence.measurements:
        return evidence
    ended = evidence.status not in (Status.CRASHED, Status.TIMEOUT)
    beyond: dict[str, set[str]] = {}
    asked: dict[str, set[str]] = {}
    for name, used, wanted in _asked(evidence, profile, defaults):
        if isinstance(wanted, str) and wanted in profile.files:
            if all(row.get("sha256") != profile.files[wanted] for row in evidence.rows):
                return _of_another(evidence, f"it was measured with another file than {wanted}, or does not say with which")
        elif name in _LABELS and (ended or used == wanted):
            beyond.setdefault(_LABELS[name], set()).update(map(str, used if isinstance(used, list) else ()))
            asked.setdefault(_LABELS[name], set()).update(map(str, wanted if isinstance(wanted, list) else ()))
        elif (name not in _NAMED or not ended) and used != wanted:
            how = f"with {name} = {used}" if name in evidence.settings else f"before {name} could be chosen"
            return _of_another(evidence, f"it was measured {how}, and this profile asks for {wanted}")
    kept = [
        item
        for item in evidence.measurements
        if all(item.labels.get(label) not in values - asked[label] for label, values in beyond.items())
    ]
    return replace(evidence, measurements=tuple(kept))


def _of_another(evidence: Evidence, reason: str) -> Evidence:
    """As if it had not been run: so the remedy is to run it."""
    return replace(evidence, status=Status.SKIPPED, reason=reason, attempts=0, measurements=(), rows=())


def _other_than_asked(evidence: Evidence, profile: Profile, defaults: Mapping[str, Any]) -> dict[tuple[str, Outcome], str]:
    """What a finding tells nothing of, by the label that it lacks and its outcome, in words.

    One that passed, of a whole of which not all was measured; one that failed, of a whole that more was measured of.
    """
    found: dict[tuple[str, Outcome], str] = {}
    for name, used, wanted in _asked(evidence, profile, defaults):
        if name in _LABELS and isinstance(wanted, list):
            had = used if isinstance(used, list) else []
            for word, outcome, one, other in (("without", Outcome.PASS, wanted, had), ("with", Outcome.FAIL, had, wanted)):
                items = ", ".join(str(item) for item in one if item not in other)
                if items:
                    asks = "which this profile asks for" if outcome is Outcome.PASS else "which it does not ask for"
                    found[_LABELS[name], outcome] = f"was measured {word} {_LABELS[name]} {items}, {asks}"
    return found


def _unless_of_other(finding: Finding, profile: Profile, other: Mapping[tuple[str, Outcome], str]) -> Finding:
    """The finding; unknown where it speaks of a whole that was another one than is asked for."""
    where = next(item.where for item in profile.requirements if item.id == finding.requirement)
    for (label, outcome), how in other.items():
        told = label in where or (outcome is Outcome.FAIL and label in finding.labels)
        if finding.outcome is outcome and not told:
            remedy = Remedy(f"Run {finding.check}.", Action.GATHER_EVIDENCE)
            reason = f"{finding.check} {how}"
            return replace(
                finding, outcome=Outcome.UNKNOWN, earned=0.0, value=None, unit=None, reason=reason, remedy=remedy,
                waived=None, expired_waiver=None,
            )  # fmt: skip
    return finding


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
