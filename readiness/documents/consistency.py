"""Consistency of a saved assessment: a schema cannot check that a verdict follows from evidence.

All that follows from something else is derived again and compared: findings from evidence and from what the profile
demanded, verdicts, scores and lists from findings. A file that early versions wrote does not say what its profile demanded:
its findings are held against their own limits, and their values against the evidence.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Mapping
from dataclasses import fields
from fnmatch import fnmatchcase
from typing import Any

from readiness.datamodel import (
    AcceleratorAssessment,
    Assessment,
    Basis,
    Evidence,
    Finding,
    Operator,
    Outcome,
    Profile,
    Status,
    Use,
    Verdict,
)
from readiness.errors import BadFileError
from readiness.judging import profile_demands
from readiness.judging.failure_reason import is_reason
from readiness.judging.legacy_consistency import contradiction, differing_judgements, shown
from readiness.judging.rejudge import Rejudging
from readiness.judging.verdict import decide

#: Where something is that contradicts something else, and what.
Contradiction = tuple[str, str]
#: Of what did not run to its end nothing was measured.
_WITHOUT_TRY = (Status.MEASURED, Status.TIMEOUT, Status.CRASHED)


def validate(assessment: Assessment, place: str) -> None:
    """Raise BadFileError for an assessment that contradicts itself."""
    for path, what in contradictions(assessment):
        remedy = f"give the file unchanged, as readiness {assessment.version} wrote it"
        raise BadFileError(what, place=f"{place}, at {path}", remedy=remedy)


def contradictions(assessment: Assessment) -> Iterator[Contradiction]:
    """Yield all contradictions with their places."""
    ids = [item.facts.id for item in assessment.accelerators]
    if len(set(ids)) != len(ids):
        yield "accelerators", "two accelerators share an id"
    judging = None
    if assessment.basis is not None:
        odd = list(_of_basis(assessment, assessment.basis))
        if odd:
            yield from odd
            return
        judging = _judging(assessment, assessment.basis)
    if judging is None:
        yield from differing_judgements(assessment.accelerators)
    known = {*ids, *(joined.id for joined in assessment.joined)}
    together: dict[tuple[str, ...], Evidence] = {}
    for number, item in enumerate(assessment.accelerators):
        path = f"accelerators[{number}]"
        for place, piece in enumerate(item.evidence):
            for what in _of_evidence(piece, item.facts.id, known):
                yield f"{path}.evidence[{place}]", f"{item.facts.id}: {piece.check} {what}"
            group = (piece.check, *piece.accelerators)
            if len(piece.accelerators) > 1 and not _is_same(together.setdefault(group, piece), piece):
                what = f"{piece.check} was measured on several accelerators together, but their copies of it differ"
                yield f"{path}.evidence[{place}]", f"{item.facts.id}: {what}"
        for where, what in _of_one(item, assessment, judging):
            yield path + where, f"{item.facts.id}: {what}"


# ------------------------------------------------------------------------------------------ what the profile demanded


def _of_basis(assessment: Assessment, basis: Basis) -> Iterator[Contradiction]:
    demands, where = basis.demands, "profile.demands"
    if profile_demands.digest_of(demands) != assessment.profile_sha256:
        yield where, "the digest of the requirements differs from profile.sha256"
    if sorted(basis.files.values()) != demands.get("files", []):
        yield "profile.files", "the digests of the profile's files differ from those required"
    for use in assessment.uses:
        if use not in demands["uses"]:
            yield "uses", f"it was judged for {use}, which its profile does not cover"
    for check in sorted({entry["check"] for entry in demands["require"]} - basis.settings.keys()):
        yield "profile.settings", f"it does not contain the settings of {check}"
    for entry in demands["require"]:
        limit = entry["limit"]
        if (limit["operator"] == Operator.BETWEEN) is (limit.get("high") is None):
            yield where, f"the bound of {entry['id']} is none"
    for check, settings in demands["settings"].items():
        given = basis.settings.get(check)
        for name, value in settings.items():
            if given is not None and not _is_as_demanded(value, given.get(name)):
                yield "profile.settings", f"{shown(name)} of {shown(check)} differs from what the profile required"


def _is_as_demanded(demanded: Any, given: Any) -> bool:
    """Return whether a check's setting is what the profile required; of a file beside the profile, only the name counts."""
    if isinstance(demanded, str) and demanded.startswith(profile_demands.BESIDE) and isinstance(given, str):
        return given.rpartition("/")[2] == demanded.removeprefix(profile_demands.BESIDE)
    return _is_same(demanded, given)


def _judging(assessment: Assessment, basis: Basis) -> Rejudging | None:
    """Return the judge that derives the findings again; None if only a later version knows the requirements."""
    if not profile_demands.understood(basis.demands):
        return None
    profile = Profile(
        name=assessment.profile_name,
        title=assessment.profile_title,
        uses=tuple(use for use in Use if use in basis.demands["uses"]),
        requirements=profile_demands.requirements_of(basis.demands),
    )
    return Rejudging(assessment, profile, assessment.uses, basis)


# ------------------------------------------------------------------------------------------------ evidence in itself


def _of_evidence(piece: Evidence, id: str, known: set[str]) -> Iterator[str]:
    if piece.attempts == 0 and piece.status in _WITHOUT_TRY:
        yield f"is {piece.status}, and has no attempt"
    if piece.status is Status.MEASURED and (end := _bad_end(piece.process)) is not None:
        yield f"is measured, but its process {end}"
    if piece.accelerators and id not in piece.accelerators:
        yield f"was measured on {', '.join(piece.accelerators[:4])}, but is filed under another accelerator"
    elif missing := [other for other in piece.accelerators if other not in known]:
        yield f"was measured together with {', '.join(missing[:4])}, which are missing in the file"


def _bad_end(process: Mapping[str, Any]) -> str | None:
    """Return how a process ended, in words; None for exit code 0, as after every measurement, or if it is not recorded."""
    code, died_by = process.get("exit_code", 0), process.get("signal")
    if type(code) is int and code < 0:
        with contextlib.suppress(ValueError):
            died_by = signal.Signals(-code).name
    if died_by is not None:
        return f"died by {str(died_by)[:20]}"
    return None if type(code) is int and code == 0 else f"ended with exit code {str(code)[:20]}"


# ---------------------------------------------------------------------------------------------------- one accelerator


def _of_one(item: AcceleratorAssessment, assessment: Assessment, judging: Rejudging | None) -> Iterator[Contradiction]:
    checks = [piece.check for piece in item.evidence]
    keys = [(finding.requirement, finding.use) for finding in item.findings]
    for what, where, each in (("pieces of evidence", ".evidence", checks), ("findings", ".findings", keys)):
        if len(set(each)) != len(each):
            yield where, f"two {what} are about the same"
    if judging is not None:
        yield from _against_derived(item, judging)
    else:
        by_check = {piece.check: piece for piece in item.evidence}
        for number, finding in enumerate(item.findings):
            if (unmet := contradiction(finding, by_check)) is not None:
                yield f".findings[{number}]", f"{finding.requirement} for {finding.use} {unmet}"
    for number, finding in enumerate(item.findings):
        if (unmet := _of_waiver(finding, item.facts.id, assessment.started[:10])) is not None:
            yield f".findings[{number}]", f"{finding.requirement} for {finding.use} {unmet}"
    for use in dict.fromkeys([*assessment.uses, *item.verdicts]):
        findings = [finding for finding in item.findings if finding.use is use]
        verdict = item.verdicts.get(use)
        if verdict is None and (findings or judging is not None):
            yield ".verdicts", f"there are findings for {use}, but no verdict" if findings else f"no verdict for {use}"
        if use not in assessment.uses and (findings or verdict is not None):
            yield ".verdicts", f"it is judged for {use}, which was not requested"
        if verdict is not None:
            yield from ((f".verdicts.{use}", what) for what in _of_verdict(verdict, decide(findings), use))


def _of_verdict(verdict: Verdict, follows: Verdict, use: Use) -> Iterator[str]:
    if verdict.decision is not follows.decision:
        yield f"the verdict for {use} is {verdict.decision}, but {follows.decision} follows from the findings"
    for name in ("score", "ceiling"):
        recorded, derived = getattr(verdict, name), getattr(follows, name)
        if recorded != derived:
            yield f"the {name} for {use} is {recorded}, but {derived} follows from the findings"
    for name in ("blockers", "limits", "unknown", "waived"):
        recorded, derived = getattr(verdict, name), getattr(follows, name)
        if sorted(recorded) != list(derived):
            odd = sorted(set(recorded) ^ set(derived)) or sorted(recorded)
            yield f"{name} for {use} differ from what follows from the findings: {', '.join(odd[:3])}"


def _of_waiver(finding: Finding, id: str, began: str) -> str | None:
    """Return why a waiver does not apply to this finding, or None."""
    for waiver in (finding.waived, finding.expired_waiver):
        if waiver is None:
            continue
        if finding.outcome is not Outcome.FAIL:
            return f"is {finding.outcome}, but only a failure can be waived"
        if waiver.requirement != finding.requirement or not fnmatchcase(id, waiver.accelerator):
            return f"is waived by a waiver for {shown(waiver.requirement)} on {shown(waiver.accelerator)}"
    if finding.waived is not None and finding.expired_waiver is not None:
        return "is waived, but its waiver has also expired"
    if finding.waived is not None and finding.waived.until < began:
        return f"was waived until {finding.waived.until}, but the run began on {began}"
    return None


# -------------------------------------------------------------------------------------- findings derived from evidence

#: What is compared of a finding. Prose may change from version to version.
_COMPARED = tuple(
    field.name for field in fields(Finding) if field.name not in (
        "title", "why", "source", "remedy", "reason", "waived", "expired_waiver",
    )
)


def _against_derived(item: AcceleratorAssessment, judging: Rejudging) -> Iterator[Contradiction]:
    derived = {(finding.requirement, finding.use): finding for finding in judging.judged(item).findings}
    early: dict[tuple[str, Use], Finding] = {}
    for number, finding in enumerate(item.findings):
        key = (finding.requirement, finding.use)
        follows = derived.pop(key, None)
        if follows is not None and finding.outcome is Outcome.FAIL and _difference(finding, follows) is not None:
            # For early versions a value that misses its bound by no more than its spread had failed.
            early = early or {(one.requirement, one.use): one for one in judging.judged(item, by_spread=False).findings}
            follows = early[key]
        name = f"{finding.requirement} for {finding.use}"
        if follows is None:
            yield f".findings[{number}]", f"the profile does not require {name}"
        elif (what := _difference(finding, follows)) is not None:
            yield f".findings[{number}]", f"{name}: {what}"
    for requirement, use in derived:
        yield ".findings", f"there is no finding of {requirement} for {use}, which the profile requires"
        return


def _difference(finding: Finding, follows: Finding) -> str | None:
    for name in _COMPARED:
        recorded, derived = getattr(finding, name), getattr(follows, name)
        if name == "earned" and finding.waived is not None:
            derived = 0.0
        if not _is_same(recorded, derived):
            return f"{name} is {shown(recorded)}, but {shown(derived)} follows from evidence and profile"
    if finding.outcome is Outcome.FAIL and follows.value is not None and not is_reason(finding.reason, follows.reason):
        return "it is about something other than its evidence"
    return None


def _is_same(one: object, other: object) -> bool:
    """Return whether two values are equal; NaN equals itself, and no boolean equals a number."""
    return (one == other and isinstance(one, bool) is isinstance(other, bool)) or repr(one) == repr(other)
