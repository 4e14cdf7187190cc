"""Findings during a run: unmet requirements, once for all accelerators that agree, when the last one has finished."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from readiness.datamodel import AcceleratorFacts, Evidence, Finding, Level, Outcome, Profile, Use, Waiver
from readiness.engine.plan import Job
from readiness.judging import judge
from readiness.rendering import Kind, SharedFinding, clean, kind, names, title

Key = tuple[str, str]
#: Number of accelerators with different unmet requirements that are listed each on its own.
_MOST_STATEMENTS = 4
_WORDS = {Kind.BLOCKER: "not met", Kind.LIMIT: "not met", Kind.INFORMATION: "for information", Kind.WAIVED: "waived"}


@dataclass(frozen=True, slots=True)
class Unmet:
    """One unmet requirement: its headline, and a line for each group of accelerators."""

    kind: Kind
    level: Level
    head: str
    lines: tuple[str, ...] = ()


class LiveFindings:
    """Judges each check as it finishes, by the requirements of the profile on it."""

    def __init__(
        self, profile: Profile, uses: Sequence[Use] | None = None, waivers: Sequence[Waiver] = (), today: str = ""
    ) -> None:
        self._profile = profile
        self._uses = uses
        self._waivers = waivers
        self._today = today
        self._accelerators: tuple[AcceleratorFacts, ...] = ()
        self._places: dict[str, int] = {}
        self._awaited: dict[str, set[Key]] = {}
        #: By check and requirement, under the place of the accelerator: whose it is, and the finding.
        self._found: dict[str, dict[str, dict[int, tuple[str, Finding]]]] = {}
        #: Requirements that failed so far: those that count in a verdict, and those that only inform.
        self.unmet: set[str] = set()
        self.informing: set[str] = set()

    def plan(self, accelerators: Sequence[AcceleratorFacts], jobs: Sequence[Job], known: Collection[Key]) -> None:
        """Set the accelerators under test and the jobs to wait for; jobs in `known` have already finished."""
        self._accelerators = tuple(accelerators)
        self._places = {facts.id: place for place, facts in enumerate(accelerators)}
        for job in jobs:
            if job.left_out is None and job.key not in known:
                self._awaited.setdefault(job.check.id, set()).add(job.key)

    def take(self, job: Job, evidence: Evidence) -> list[Unmet]:
        """Record a finished job. Return its unmet requirements once all accelerators have finished this check."""
        ids = [facts.id for facts in job.accelerators]
        for finding in self._failed(job, evidence):
            entries = self._found.setdefault(job.check.id, {}).setdefault(finding.requirement, {})
            entries[self._places.get(ids[0], 0)] = names(ids) + (" together" if len(ids) > 1 else ""), finding
            if kind(finding) is Kind.INFORMATION:
                self.informing.add(finding.requirement)
            elif kind(finding) is not Kind.WAIVED:
                self.unmet.add(finding.requirement)
        awaited = self._awaited.get(job.check.id, set())
        awaited.discard(job.key)
        return [] if awaited else list(self._unmet(job.check.id))

    def rest(self) -> list[Unmet]:
        """Return what was not returned yet: the run ends before all accelerators have finished these checks."""
        return [unmet for check in list(self._found) for unmet in self._unmet(check)]

    def _failed(self, job: Job, evidence: Evidence) -> list[Finding]:
        """Return the failed findings of this check, each once."""
        lead = job.accelerators[0]
        about = replace(
            self._profile, requirements=tuple(item for item in self._profile.requirements if item.check == evidence.check)
        )
        chips = max(judge.count_of_stack(self._accelerators, lead), len(job.accelerators))
        judged = judge.judge(
            about, lead, [evidence], uses=self._uses, waivers=self._waivers, today=self._today, chips=chips
        )
        failed = {finding.requirement: finding for finding in judged.findings if finding.outcome is Outcome.FAIL}
        return list(failed.values())

    def _unmet(self, check: str) -> Iterator[Unmet]:
        for requirement, entries in self._found.pop(check, {}).items():
            by_kind: dict[Kind, list[tuple[str, Finding]]] = {}  # a waiver may be for one accelerator alone
            for _, (applies_to, finding) in sorted(entries.items()):
                by_kind.setdefault(kind(finding), []).append((applies_to, finding))
            for meaning, part in by_kind.items():
                yield self._one(requirement, meaning, part)

    def _one(self, requirement: str, meaning: Kind, entries: Sequence[tuple[str, Finding]]) -> Unmet:
        finding = entries[0][1]
        id = clean(requirement, 100)
        title_text = title(finding)
        name = f"{title_text} ({id}, {finding.level})" if title_text else f"{id} ({finding.level})"
        head = f"{_WORDS[meaning]}: {name}"
        statements = SharedFinding.of(entries).statements
        if len(statements) == 1:
            applies_to = f" on {names([id for id, _ in entries])}" if len(self._accelerators) > 1 else ""
            return Unmet(meaning, finding.level, f"{head}{applies_to}: {'; '.join(statements[0].lines)}")
        lines = [f"{each.applies_to}: {'; '.join(each.lines)}" for each in statements[:_MOST_STATEMENTS]]
        if more := len(statements) - len(lines):
            lines.append(f"and {more} more")
        return Unmet(meaning, finding.level, head, tuple(lines))


def count(findings: LiveFindings) -> str:
    """Return `2 not met, 1 for information`; empty where there is neither."""
    parts: Mapping[str, int] = {"not met": len(findings.unmet), "for information": len(findings.informing - findings.unmet)}
    return ", ".join(f"{number} {word}" for word, number in parts.items() if number)
