"""Saved evidence judged again under a profile, without hardware. Pure, as `readiness.judging.judge` is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from readiness.datamodel import (
    AcceleratorAssessment,
    Action,
    Assessment,
    Basis,
    Evidence,
    Finding,
    Outcome,
    Profile,
    Remedy,
    Status,
    Use,
    Waiver,
)
from readiness.judging.judge import judge
from readiness.judging.verdict import decide

#: Settings that choose what is measured, each with the label of measurements that it belongs to.
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
    basis: Basis | None = None,
) -> Assessment:
    """Saved evidence judged again under a profile, without hardware.

    What was measured with other settings than the profile asks for tells it nothing; what was measured of a part of what it
    asks for nothing of the whole. `basis` has the settings of its checks; without it those that the profile itself gives.
    """
    if basis is None:
        basis = Basis(profile.demands, profile.settings, files=profile.files)
    judging = Rejudging(saved, profile, uses, basis, waivers, today)
    return replace(
        saved,
        profile_name=profile.name,
        profile_title=profile.title,
        profile_sha256=profile.sha256,
        uses=tuple(uses),
        accelerators=tuple(map(judging.judged, saved.accelerators)),
        basis=basis,
    )


class Rejudging:
    """The accelerators of one assessment judged again, one by one."""

    def __init__(
        self,
        saved: Assessment,
        profile: Profile,
        uses: Sequence[Use],
        basis: Basis,
        waivers: Sequence[Waiver] = (),
        today: str = "",
    ) -> None:
        self.profile, self.uses, self.basis, self.waivers, self.today = profile, uses, basis, waivers, today
        self.of_stack = Counter(item.facts.stack for item in saved.accelerators)
        self.of_stack.update(joined.stack for joined in saved.joined)
        self.where = {requirement.id: requirement.where for requirement in profile.requirements}

    def judged(self, item: AcceleratorAssessment, *, by_spread: bool = True) -> AcceleratorAssessment:
        """Judge one of them again, with its saved evidence; without `by_spread` as early versions did."""
        usable = [self._within_requested(piece) for piece in item.evidence]
        chips = self.of_stack[item.facts.stack]
        found = judge(
            self.profile, item.facts, usable, uses=self.uses, waivers=self.waivers, today=self.today, chips=chips,
            by_spread=by_spread,
        )  # fmt: skip
        evidence = tuple(sorted(item.evidence, key=lambda piece: piece.check))
        other = {piece.check: others for piece in usable if (others := self._missing_coverage(piece))}
        if not other:
            return replace(found, evidence=evidence)
        findings = tuple(self._unless_of_other(finding, other.get(finding.check, {})) for finding in found.findings)
        verdicts = {use: decide([finding for finding in findings if finding.use is use]) for use in found.verdicts}
        return replace(found, evidence=evidence, findings=findings, verdicts=verdicts)

    def _requested_settings(self, evidence: Evidence) -> Iterator[tuple[str, Any, Any]]:
        """Yield each setting's name, the value used (None if the evidence does not have it), and the requested value."""
        for name, wanted in self.basis.settings.get(evidence.check, {}).items():
            yield name, _plain(evidence.settings.get(name)), _plain(wanted)

    def _within_requested(self, evidence: Evidence) -> Evidence:
        """Return the evidence without measurements beyond what is requested, by their labels.

        Nothing is left of it where a setting that no label tells of was another one than is asked for, or is not known here;
        and, where a check did not come to its end, any setting: under what is asked for it might have.
        """
        if evidence.status in (Status.SKIPPED, Status.ERROR) and not evidence.measurements:
            return evidence
        if (unknown := self._unknown_setting(evidence)) is not None:
            how = f"with {unknown} = {evidence.settings[unknown]}"
            return _of_another(evidence, f"it was measured {how}, a setting that this version does not know")
        ended = evidence.status not in (Status.CRASHED, Status.TIMEOUT)
        beyond: dict[str, set[str]] = {}
        requested: dict[str, set[str]] = {}
        for name, used, wanted in self._requested_settings(evidence):
            if isinstance(wanted, str) and wanted in self.basis.files and (evidence.rows or evidence.measurements):
                if all(row.get("sha256") != self.basis.files[wanted] for row in evidence.rows):
                    reason = f"it was measured with another file than {wanted}, or the file is not recorded"
                    return _of_another(evidence, reason)
            elif name in _LABELS and (ended or used == wanted):
                beyond.setdefault(_LABELS[name], set()).update(map(str, used if isinstance(used, list) else ()))
                requested.setdefault(_LABELS[name], set()).update(map(str, wanted if isinstance(wanted, list) else ()))
            elif (name not in _NAMED or not ended) and used != wanted:
                how = f"with {name} = {used}" if name in evidence.settings else f"before the setting {name} existed"
                return _of_another(evidence, f"it was measured {how}, but this profile requires {wanted}")
        extra = {label: values - requested[label] for label, values in beyond.items() if values - requested[label]}
        if not extra:
            return evidence
        kept = [
            item
            for item in evidence.measurements
            if all(item.labels.get(label) not in values for label, values in extra.items())
        ]
        return replace(evidence, measurements=tuple(kept))

    def _unknown_setting(self, evidence: Evidence) -> str | None:
        """Return a setting that neither the profile nor the check has: its effect is unknown."""
        known = self.basis.settings.get(evidence.check)
        if known is None:
            return None
        lasting = self.basis.lasting.get(evidence.check)
        return next((name for name in evidence.settings if name not in known and name != lasting), None)

    def _missing_coverage(self, evidence: Evidence) -> dict[tuple[str, Outcome], str]:
        """Return what a finding does not cover, by the missing label and its outcome.

        One that passed, of a whole of which not all was measured; one that failed, of a whole that more was measured of.
        """
        found: dict[tuple[str, Outcome], str] = {}
        for name, used, wanted in self._requested_settings(evidence):
            if name in _LABELS and isinstance(wanted, list) and used != wanted:
                had = used if isinstance(used, list) else []
                lacking = ", ".join(str(item) for item in wanted if item not in had)
                beyond = ", ".join(str(item) for item in had if item not in wanted)
                label = _LABELS[name]
                if lacking:
                    how = f"was measured without {label} {lacking}, which this profile requires"
                    found[label, Outcome.PASS] = how
                if beyond:
                    found[label, Outcome.FAIL] = f"was measured with {label} {beyond}, which this profile does not include"
        return found

    def _unless_of_other(self, finding: Finding, other: Mapping[tuple[str, Outcome], str]) -> Finding:
        """Return the finding, as unknown if it is about another whole than the requested one."""
        where = self.where[finding.requirement]
        for (label, outcome), how in other.items():
            is_fixed = label in where or (outcome is Outcome.FAIL and label in finding.labels)
            if finding.outcome is outcome and not is_fixed:
                remedy = Remedy(f"Run {finding.check}.", Action.GATHER_EVIDENCE)
                reason = f"{finding.check} {how}"
                return replace(
                    finding, outcome=Outcome.UNKNOWN, earned=0.0, value=None, unit=None, reason=reason, remedy=remedy,
                    waived=None, expired_waiver=None,
                )  # fmt: skip
        return finding


def _of_another(evidence: Evidence, reason: str) -> Evidence:
    """Return evidence as if the check had not run: so the remedy is to run it."""
    return replace(evidence, status=Status.SKIPPED, reason=reason, attempts=0, measurements=(), rows=())


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
