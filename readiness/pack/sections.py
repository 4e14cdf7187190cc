"""Sections of a pack's page, as plain values for its template."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from readiness import rendering
from readiness.datamodel import (
    AcceleratorAssessment,
    Assessment,
    Evidence,
    Finding,
    Operator,
    Outcome,
    Use,
    Verdict,
)
from readiness.missing_evidence import Cause, SkipCause
from readiness.pack import evidence_matrix, mlperf_system
from readiness.pack.contents import Core, Subject, sha256
from readiness.pack.evidence_matrix import MatrixRow
from readiness.pack.glossary import WORDS
from readiness.pack.in_toto import overall
from readiness.rendering import Kind, diagnosis
from readiness.rendering.detection_summary import describe
from readiness.rendering.text import clean, duration, figure, memory

#: A re-test must reach so much of an accepted rate.
RETEST_SHARE = 0.9
#: Of accelerators of which one requirement says different things, so many are quoted.
_MOST_STATEMENTS = 3
STATUS: Mapping[str, str] = {
    "available": "on sale", "preview": "announced, not yet on sale", "rdi": "research, development or internal",
    "loan": "a sample on loan", "": "not stated",
}  # fmt: skip
_OUTCOMES = tuple(Kind)


def context(core: Core) -> dict[str, Any]:
    """All that the template of the page asks for."""
    parts = [_part(core, subject) for subject in core.subjects]
    return {
        "simulated": core.is_simulated,
        "cover": core.pack["cover"],
        "status": STATUS[core.pack["cover"]["status"]],
        "tool": core.pack["tool"],
        "result": overall(core).value,
        "parts": parts,
        "verdict_rows": [row for part in parts for row in part["verdict_rows"]],
        "cards": [card for part in parts for card in part["cards"]],
        "profiles": [_profile(path, core, document) for path, document in core.profiles.items()],
        "redactions": core.pack["redactions"],
        "kept": core.pack["kept"],
        "rehearsals": [
            (path, describe(document), list(_planted(document))) for path, document in core.rehearsal_documents()
        ],
        "comparison": _comparison(core, parts) if len(parts) > 1 else None,
        "hashes": [(path, len(content), sha256(content)) for path, content in core.given().items()],
        "attachments": [(path, len(content), sha256(content)) for path, content in core.attachments.items()],
        "files": core.pack["files"],
        "glossary": WORDS,
        "retest_percent": f"{RETEST_SHARE:.0%}",
    }


def _part(core: Core, subject: Subject) -> dict[str, Any]:
    """Return everything about one assessment."""
    assessment = subject.assessment
    rows = list(evidence_matrix.rows(subject, core.profiles[subject.profile_path]))
    left_out, unknown = _unknown(assessment)
    titles = [group.title() for group in rendering.group_devices(assessment)]
    defects, unexplained = diagnosis.diagnosis_texts(assessment)
    return {
        "diagnosis": defects,
        "unexplained": unexplained,
        "report": subject.report_path,
        "name": subject.name,
        "path": subject.path,
        "assessment": assessment,
        "title": f"{subject.name}: {', '.join(titles) or 'no accelerator'}",
        "took": duration(assessment.seconds),
        "verdict_rows": list(verdict_rows(subject)),
        "cards": list(_cards(subject)),
        "scores": list(_scores(assessment)),
        "maturity": list(rendering.maturity_texts(assessment)),
        "system": mlperf_system.described(assessment, core.pack["system"].get(subject.path, {})),
        "devices": [_device(item) for item in assessment.accelerators],
        "rows": rows,
        "blockers": list(_points(assessment, Kind.BLOCKER)),
        "limits": list(_points(assessment, Kind.LIMIT)),
        "waivers": list(_waivers(assessment)),
        "deviations": list(_deviations(assessment)),
        "unknown": unknown,
        "left_out": left_out,
        "families": list(_families(rows)),
        "soak": [claim for group in rendering.group_devices(assessment) for claim in rendering.soak_claim_rows(group.lead)],
        "method": list(_method(assessment)),
        "command": command(assessment),
        "environment": list(_environment(assessment)),
        "retest": list(_retest(subject, rows)),
        "software": [(group.names(), rendering.software(group.lead)) for group in rendering.group_devices(assessment)],
    }


# ------------------------------------------------------------------------------------------------ verdicts and scores


def verdict_rows(subject: Subject) -> Iterator[dict[str, Any]]:
    """Verdicts of one assessment, accelerators that are alike together."""
    for _, row in _verdicts(subject):
        yield row


def _cards(subject: Subject) -> Iterator[dict[str, Any]]:
    """The worst verdict for each use, with the number of accelerators that have others."""
    rows = list(_verdicts(subject))
    for use in dict.fromkeys(row["use"] for _, row in rows):
        of_use = [(severity, row) for severity, row in rows if row["use"] == use]
        _, worst = min(of_use, key=lambda entry: entry[0])
        others = len(of_use) - 1
        note = f"The worst of {others + 1} groups of accelerators; section 8 has all." if others else ""
        yield {**worst, "note": note}


def _verdicts(subject: Subject) -> Iterator[tuple[tuple[int, float], dict[str, Any]]]:
    for group in rendering.group_devices(subject.assessment):
        for use in subject.assessment.uses:
            verdict = group.verdict(use)
            yield rendering.severity_key(verdict), {
                "subject": subject.name, "accelerators": group.title(), "use": use.value,
                "device": rendering.device(group.lead),
                "decision": "no verdict" if verdict is None else verdict.decision,
                "score": "" if verdict is None else group.score_range(use),
                "outcome_counts": "nothing was judged" if verdict is None else rendering.outcome_counts(verdict),
                "started": subject.assessment.started, "profile": subject.assessment.profile_name,
            }  # fmt: skip
    if not subject.assessment.accelerators:
        yield rendering.severity_key(None), {
            "subject": subject.name, "accelerators": "none", "device": "", "use": "", "decision": "no verdict", "score": "",
            "outcome_counts": "no accelerator was assessed", "started": subject.assessment.started,
            "profile": subject.assessment.profile_name,
        }  # fmt: skip


def _scores(assessment: Assessment) -> Iterator[tuple[str, Use, Verdict]]:
    for group in rendering.group_devices(assessment):
        for use, verdict in group.lead.verdicts.items():
            yield group.title(), use, verdict


def _device(item: AcceleratorAssessment) -> tuple[str, ...]:
    facts = item.facts
    firmware = ", ".join(
        f"{clean(key, 60)} {clean(value, 100)}"
        for key, value in (*facts.software.items(), *facts.properties.items())
        if any(word in key.lower() for word in ("firmware", "bios", "driver")) and isinstance(value, str)
    )
    return (
        facts.id, clean(facts.vendor or "unknown", 100), clean(facts.model or "unknown", 200), memory(facts.memory_bytes),
        clean(facts.serial or "not reported", 100), firmware or "not reported",
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------- what stands in the way


def _points(assessment: Assessment, kind: Kind) -> Iterator[dict[str, Any]]:
    for failure in rendering.failures_by_requirement(rendering.group_devices(assessment), kind):
        finding = failure.first.finding
        yield {
            "requirement": finding.requirement, "title": rendering.title(finding), "uses": failure.first.uses_text,
            "accelerators": rendering.names(failure.ids),
            "statements": "; ".join(failure.lines(_MOST_STATEMENTS, "in section 4")),
            "remedy": "" if finding.remedy is None else finding.remedy.text,
        }  # fmt: skip


def _waivers(assessment: Assessment) -> Iterator[tuple[str, ...]]:
    seen = set()
    for item in assessment.accelerators:
        for finding in item.findings:
            for waiver, state in ((finding.waived, "in force"), (finding.expired_waiver, "expired: the failure counts")):
                if waiver is None:
                    continue
                row = (finding.requirement, waiver.accelerator, waiver.by, waiver.until, state, waiver.reason)
                if row not in seen:
                    seen.add(row)
                    yield row


def _deviations(assessment: Assessment) -> Iterator[str]:
    """Return how the run deviated from a run of the whole profile on all accelerators."""
    if assessment.interrupted:
        yield "The run was interrupted before its end: what was not measured by then is unknown."
    for stack, reason in rendering.failed_stacks(assessment).items():
        yield f"Accelerators of the stack {stack} could not be listed, and none of them was assessed: {reason}"
    for text in rendering.earlier(assessment):
        yield f"Taken over: {text}."
    by_cause: dict[str, set[str]] = {}
    retried: dict[str, set[str]] = {}
    for item in assessment.accelerators:
        for piece in item.evidence:
            if piece.attempts > 1:
                retried.setdefault(piece.check, set()).add(item.facts.id)
            elif piece.attempts == 0 and piece.cause is not None:
                by_cause.setdefault(_why(piece.cause), set()).add(piece.check)
    for why, checks in sorted(by_cause.items()):
        yield f"Not run ({why}): {', '.join(sorted(checks))}"
    for check, ids in sorted(retried.items()):
        yield f"{check} did not finish within its first time limit on {rendering.names(sorted(ids))} and was tried again."


def _why(cause: Cause) -> str:
    """`left out by -k`, `no soak`: why a check did not run."""
    option = cause.option if isinstance(cause, SkipCause) else ""
    return f"left out by {option}" if option else cause.value.replace("-", " ")


def _unknown(assessment: Assessment) -> tuple[list[tuple[str, str]], list[dict[str, Any]]]:
    """Return one sentence for each part that the caller left out, and every other reason for unknown findings, with its
    remedy.
    """
    left: list[tuple[str, str]] = []
    found: list[dict[str, Any]] = []
    for group in rendering.group_devices(assessment):
        kept, chosen = rendering.left_out(group.entries[Kind.UNKNOWN])
        left += [(f"{group.names()}: {one.words}", one.remedy) for one in chosen]
        for cause in rendering.grouped(kept):
            first = cause.first
            found.append({
                "accelerators": group.names(), "uses": first.uses_text, "level": first.finding.level.value,
                "requirements": [
                    rendering.title(entry.finding) or entry.finding.requirement for entry in cause.entries
                ],
                "ids": [entry.finding.requirement for entry in cause.entries],
                "reasons": "; ".join(f"{applies_to}: {text}" if applies_to else text for applies_to, text in first.reasons),
                "remedy": "" if first.finding.remedy is None else first.finding.remedy.text,
            })  # fmt: skip
    return left, found


# --------------------------------------------------------------------------------------------------------- results


def _families(rows: list[MatrixRow]) -> Iterator[tuple[str, list[MatrixRow], dict[Kind, int]]]:
    found: dict[str, list[MatrixRow]] = {}
    for row in rows:
        found.setdefault(row.check.partition(".")[0] if "." in row.check else "other", []).append(row)
    for family, members in sorted(found.items()):
        counts = Counter(row.outcome for row in members)
        yield family, members, {kind: counts[kind] for kind in _OUTCOMES if counts[kind]}


def _planted(rehearsal: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """A row of the detection matrix for each planted defect: what it was, whether it was seen, and by what."""
    for defect in rehearsal["defects"]:
        caught, claimed = defect["caught"], defect.get("claimed")
        result = defect.get("result") or ("caught" if caught else "missed" if claimed else "not claimed")
        style = "good" if caught else "bad" if result == "missed" else "open" if claimed else "none"
        seen_by = ", ".join(dict.fromkeys(one["check"] for one in defect.get("by") or ()))
        missed_by = ", ".join(defect.get("missed_by") or ())
        yield defect["defect"], defect["kind"], {"text": result, "style": style}, seen_by, missed_by


def _comparison(core: Core, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The assessments side by side: what differs between them, and what keeps them from being compared."""
    warnings = []
    for what, values in (
        ("profiles", {subject.assessment.profile_sha256 for subject in core.subjects}),
        ("versions of readiness", {subject.assessment.version for subject in core.subjects}),
        ("uses", {subject.assessment.uses for subject in core.subjects}),
    ):
        if len(values) > 1:
            warnings.append(f"They were judged under different {what}: their verdicts cannot be compared.")
    cells: dict[tuple[str, str], dict[str, list[MatrixRow]]] = {}
    for part in parts:
        for row in part["rows"]:
            cells.setdefault((row.requirement, row.title), {}).setdefault(part["name"], []).append(row)
    names = [part["name"] for part in parts]
    rows = []
    for (requirement, title), by_name in sorted(cells.items()):
        outcomes = [_worst_row(by_name.get(name, [])) for name in names]
        if len({None if row is None else row.outcome for row in outcomes}) > 1:
            rows.append((requirement, title, [_compared(row) for row in outcomes]))
    return {"names": names, "warnings": warnings, "rows": rows, "all": len(cells)}


def _worst_row(rows: list[MatrixRow]) -> MatrixRow | None:
    return min(rows, key=lambda row: _OUTCOMES.index(row.outcome), default=None)


def _compared(row: MatrixRow | None) -> tuple[str, str]:
    """Return an assessment's result for a requirement, and its meaning."""
    if row is None:
        return "not asked", ""
    return f"{row.outcome}{f': {row.measured}' if row.measured else ''}", row.outcome


# ---------------------------------------------------------------------------------------------------- how to repeat it


def command(assessment: Assessment) -> str:
    """Return the command that repeats the run, as far as an assessment records it."""
    words = ["readiness", "run", "--profile", assessment.profile_name]
    covered = assessment.basis.demands["uses"] if assessment.basis is not None else [use.value for use in Use]
    if set(covered) != {use.value for use in assessment.uses}:
        words += [word for use in assessment.uses for word in ("--use", use.value)]
    for spec in dict.fromkeys(map(_device_spec, assessment.accelerators)):
        words += ["--device", spec]
    words += ["--seed", str(assessment.seed)]
    if (soak := _soak(assessment)) is not None:
        words += ["--soak", f"{soak:g}s"]
    if assessment.rehearsal is not None:
        words += ["--rehearse"]
    return shlex.join(words)


def _device_spec(item: AcceleratorAssessment) -> str:
    chip = item.facts.properties.get("chip")
    if item.facts.properties.get("simulated") and isinstance(chip, Mapping) and chip.get("name"):
        return f"sim:{clean(chip['name'], 100)}"
    return item.facts.id.rpartition("/")[2]


def _soak(assessment: Assessment) -> float | None:
    if assessment.basis is None:
        return None
    found = [
        value
        for item in assessment.accelerators
        for piece in item.evidence
        if (name := assessment.basis.lasting.get(piece.check)) and isinstance(value := piece.settings.get(name), int | float)
        and piece.attempts
    ]
    return max(found, default=None)


def _method(assessment: Assessment) -> Iterator[tuple[str, str]]:
    yield "readiness", assessment.version
    yield "seed of all random data", str(assessment.seed)
    yield "started", assessment.started
    yield "duration", duration(assessment.seconds)
    yield "profile", f"{assessment.profile_name}, SHA-256 {assessment.profile_sha256}"
    yield "order", "each check in a process of its own; seconds before minutes before hours"
    excluded = assessment.host.get("failed_stacks")
    excluded = excluded if isinstance(excluded, Mapping) else {}
    yield "accelerators under test", rendering.names([item.facts.id for item in assessment.accelerators]) or "none"
    if assessment.joined:
        yield "accelerators of other hosts that took part", rendering.names([f"{one.id}" for one in assessment.joined])
    yield "stacks that are there and could not be listed", ", ".join(map(str, excluded)) or "none"
    for key, name in (("system", "operating system"), ("python", "Python"), ("cores", "usable cores")):
        if key in assessment.host:
            yield name, clean(assessment.host[key], 300)
    packages = assessment.host.get("packages")
    for name, version in (packages if isinstance(packages, Mapping) else {}).items():
        yield f"package {clean(name, 60)}", clean(version, 100)
    for name, values in _conditions(assessment):
        yield name, values


def _conditions(assessment: Assessment) -> Iterator[tuple[str, str]]:
    """Temperatures, clocks and power, wherever a check measured them."""
    found: dict[str, list[tuple[float, str]]] = {}
    for item in assessment.accelerators:
        for piece in item.evidence:
            for one in piece.measurements:
                is_one = any(word in one.name for word in ("temperature", "clock", "power"))
                if is_one and isinstance(one.value, int | float):
                    found.setdefault(f"{one.name} ({piece.check})", []).append((float(one.value), one.unit or ""))
    for name, values in sorted(found.items()):
        numbers = [value for value, _ in values]
        low, high = figure(min(numbers)), figure(max(numbers), values[0][1])
        yield name, high if len(set(numbers)) == 1 else f"{low} to {high}"


def _environment(assessment: Assessment) -> Iterator[tuple[str, str]]:
    """Variables and flags that change results, once each."""
    seen = set()
    for piece in _evidence(assessment):
        variables = piece.environment.get("variables")
        for name, value in (variables if isinstance(variables, Mapping) else {}).items():
            if (row := (clean(name, 100), clean(value, 300))) not in seen:
                seen.add(row)
                yield row


def _evidence(assessment: Assessment) -> Iterator[Evidence]:
    return (piece for item in assessment.accelerators for piece in item.evidence)


def _retest(subject: Subject, rows: list[MatrixRow]) -> Iterator[tuple[str, str, str, str]]:
    """Requirement, accelerators, what was accepted and what a re-test must reach: of every rate that passed."""
    limits = evidence_matrix.limits_of(subject)
    for row in rows:
        limit = limits.get(row.requirement)
        is_rate = row.unit and limit is not None and limit.operator is Operator.AT_LEAST
        if is_rate and row.value and row.outcome is Kind.PASSED:
            yield row.requirement, row.accelerators, row.measured, figure(row.value * RETEST_SHARE, row.unit)


def _profile(path: str, core: Core, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the demands: each requirement with its limit and the limit's source."""
    subject = next(subject for subject in core.subjects if subject.profile_path == path)
    findings: dict[str, list[Finding]] = {}
    for item in subject.assessment.accelerators:
        for finding in item.findings:
            findings.setdefault(finding.requirement, []).append(finding)
    rows = []
    for id, prose in document["requirements"].items():
        of_one = findings.get(id, [])
        first = of_one[0] if of_one else None
        rows.append((
            id, clean(prose["title"], 200), "" if first is None else first.level.value,
            ", ".join(dict.fromkeys(finding.use.value for finding in of_one)),
            "" if first is None else rendering.limit(first), prose["source"] or "not stated",
        ))  # fmt: skip
    stated = {row[0] for row in rows if row[2]}
    return {
        "path": path, "name": document["name"], "title": document["title"], "sha256": document["sha256"], "rows": rows,
        "sources": any(prose["source"] for prose in document["requirements"].values()), "stated": len(stated),
        "inapplicable": sum(all(one.outcome is Outcome.NOT_APPLICABLE for one in of) for of in findings.values()),
        "uses": ", ".join(subject.assessment.uses),
        "other_uses": ", ".join(use for use in Use if use not in subject.assessment.uses),
    }  # fmt: skip
