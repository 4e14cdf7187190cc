"""Differences between a run and a reference: what is worse, better, new, gone, or unclear. Pure.

Requirements are compared by their outcomes, values by whole runs' spread (`comparable_values`). A value of one
run against one value of another cannot tell a slower chip from a busier host: such a difference is `unclear`, never `worse`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from readiness import rendering
from readiness.comparison.comparable_values import FEWEST_RUNS, Key, Kind, figures, kind, number, settings_of, worse_by
from readiness.comparison.reference import Directions, Expected, Figure, Reference, Subject, is_disturbed, is_of_speed
from readiness.datamodel import (
    AcceleratorAssessment,
    Assessment,
    Better,
    Evidence,
    Finding,
    Level,
    Measurement,
    Outcome,
    Status,
    Use,
)
from readiness.errors import Exit
from readiness.judging.host_load import in_words, measured_while_busy, measured_while_quiet
from readiness.rendering import clean, figure

#: What is allowed for a speed where the spread between runs is not known.
TOLERANCE = 0.10
#: So many times as long as before is no matter of the host's load any more.
_HANG = 10.0


class Change(StrEnum):
    """Change of a requirement or a value, most urgent first."""

    WORSE = "worse"
    UNCLEAR = "cannot be told"
    BETTER = "better"
    GONE = "gone"
    NEW = "new"


@dataclass(frozen=True, slots=True)
class Entry:
    """One change. `requirement` is empty where it is about a value that no requirement changed with.

    `counts` says whether the exit code counts it: what only informs, or is waived, does not.
    """

    change: Change
    ids: tuple[str, ...]
    subject: str
    before: str
    after: str
    note: str = ""
    requirement: str = ""
    title: str = ""
    uses: tuple[Use, ...] = ()
    level: Level | None = None
    counts: bool = True
    without_spread: bool = False  # of a value: too few runs are known to tell


@dataclass(frozen=True, slots=True)
class Retest:
    """The rule of contracts: a re-test must reach so large a share of each accepted value of performance."""

    share: float
    reached: int
    missed: tuple[Entry, ...]
    missing: tuple[Entry, ...]  # not measured, or below it on a host that is not known to have been quiet

    @property
    def words(self) -> str:
        """One line."""
        total = self.reached + len(self.missed) + len(self.missing)
        text = f"{self.reached} of {total} accepted values of performance reach {self.share:.0%} of what was accepted"
        if self.missing:
            text += f"; {len(self.missing)} were not measured again on a quiet host"
        return text if total else "no value of performance was accepted, so none can be held against one"


@dataclass(frozen=True, slots=True)
class Difference:
    """A run against a reference. `conditions` are circumstances that differ; `unchanged` counts what stayed as it was."""

    title: str
    reference: Reference
    entries: tuple[Entry, ...]
    conditions: tuple[str, ...]
    unchanged: int
    compared: int
    hidden: tuple[str, ...] = ()
    retest: Retest | None = None

    def of(self, change: Change) -> list[Entry]:
        """The entries of one kind."""
        return [entry for entry in self.entries if entry.change is change]

    @property
    def exit_code(self) -> Exit:
        """The exit code: 1 for a regression, 3 if unclear, else 0."""
        if any(entry.counts for entry in self.of(Change.WORSE)) or (self.retest is not None and self.retest.missed):
            return Exit.NOT_READY
        if any(entry.counts for entry in self.of(Change.UNCLEAR)):
            return Exit.UNDETERMINED
        if self.retest is not None and (self.retest.missing or not self.retest.reached):
            return Exit.UNDETERMINED
        return Exit.READY


def compare(
    reference: Reference,
    assessment: Assessment,
    directions: Directions,
    *,
    title: str = "",
    tolerance: float = TOLERANCE,
    retest: float | None = None,
) -> Difference:
    """A run held against a reference. `tolerance` and `retest` are shares of values of the reference."""
    judge = _Comparison(reference, assessment, directions, tolerance)
    entries = _merged(judge.entries())
    order = list(Change)
    entries.sort(key=lambda entry: (order.index(entry.change), not entry.counts, not entry.requirement))
    return Difference(
        title=title, reference=reference, entries=tuple(entries), conditions=tuple(judge.conditions()),
        unchanged=judge.unchanged, compared=judge.compared, hidden=tuple(sorted(judge.hidden)),
        retest=None if retest is None else judge.retest(retest),
    )  # fmt: skip


class _Comparison:
    def __init__(self, reference: Reference, assessment: Assessment, directions: Directions, tolerance: float) -> None:
        self.reference, self.assessment, self.tolerance = reference, assessment, tolerance
        self.directions = directions
        self.unchanged = self.compared = 0
        self.hidden: set[str] = set()
        self.pairs = [(item, reference.subject(item.facts)) for item in assessment.accelerators]

    def conditions(self) -> Iterator[str]:
        """Circumstances that differ, each in a sentence."""
        old, new = self.reference, self.assessment
        if old.profile_sha256 != new.profile_sha256:
            yield (
                f"the profile differs: {clean(old.profile_name, 100)} ({old.profile_sha256[:12]}) and "
                f"{clean(new.profile_name, 100)} ({new.profile_sha256[:12]}); only what both ask alike is compared"
            )
        if old.versions != (new.version,):
            yield f"the version of readiness differs: {', '.join(old.versions)} and {new.version}"
        for item, subject in self.pairs:
            if subject is not None and (subject.vendor, subject.model) != (item.facts.vendor, item.facts.model):
                yield (
                    f"{clean(item.facts.id, 40)} is another model: {clean(subject.model or 'unknown', 100)} and "
                    f"{clean(item.facts.model or 'unknown', 100)}"
                )
        yield from dict.fromkeys(self._software())
        yield from self._busy_host()

    def _busy_host(self) -> Iterator[str]:
        """Yield one sentence on the checks with speeds during which the host was busy."""
        busy = {
            evidence.check: evidence.host_load
            for item, _ in self.pairs
            for evidence, _, measurement in figures(item)
            if evidence.host_load is not None and is_disturbed(evidence, measurement, self.directions)
        }
        if busy:
            worst = max(busy, key=lambda check: (busy[check].others or 0, busy[check].waited or 0))
            those = "1 check" if len(busy) == 1 else f"{len(busy)} checks"
            yield f"the host was busy while {those} of speeds ran; in {clean(worst, 60)} {in_words(busy[worst])}"

    def _software(self) -> Iterator[str]:
        for item, subject in self.pairs:
            if subject is None:
                continue
            now = {name: version or "unknown" for name, version in item.facts.software.items()}
            for name in sorted(subject.software.keys() | now.keys()):
                before = subject.software.get(name, ("none",))
                if before != (now.get(name, "none"),):
                    yield f"{clean(name, 60)}: {clean(', '.join(before), 100)}, now {clean(now.get(name, 'none'), 60)}"

    def entries(self) -> Iterator[Entry]:
        """All changes, accelerator by accelerator."""
        if self.assessment.interrupted:
            yield Entry(Change.UNCLEAR, (), "the run", "", "interrupted", "what was not measured by then is unknown")
        for item, subject in self.pairs:
            if subject is None:
                what = f"the baseline knows no {clean(item.facts.model or 'model', 100)}" if self.reference.by_model else ""
                change = Change.UNCLEAR if self.reference.by_model else Change.NEW
                yield Entry(change, (item.facts.id,), "the accelerator", "", rendering.device(item), what)
                continue
            changed = list(self._requirements(item, subject))
            yield from changed
            yield from self._values(item, subject, _about(item, changed))
        if not self.reference.by_model:
            there = {item.facts.id for item in self.assessment.accelerators}
            for subject in self.reference.subjects:
                if subject.name not in there:
                    note = "it was assessed before and is not now: nothing is known of it"
                    before = clean(subject.model or "unknown model", 100)
                    yield Entry(Change.UNCLEAR, (subject.name,), "the accelerator", before, "gone", note)
        if not self.pairs:
            yield Entry(Change.UNCLEAR, (), "the run", "", "no accelerator", "nothing was assessed")

    # ------------------------------------------------------------------------------------------------- requirements

    def _requirements(self, item: AcceleratorAssessment, subject: Subject) -> Iterator[Entry]:
        now = {(finding.requirement, finding.use): finding for finding in item.findings}
        uses = {finding.use for finding in item.findings}
        for where, finding in now.items():
            expected = subject.expected.get(where)
            found = self._requirement(item.facts.id, finding, expected)
            if found is not None:
                yield _unless_busy(found, item, finding, subject, self.directions)
            else:
                self.unchanged += 1
        for (id, use), expected in subject.expected.items():
            if (id, use) not in now and use in uses and expected.outcome is not Outcome.NOT_APPLICABLE:
                entry = _entry(Change.GONE, item.facts.id, expected, _outcomes(expected), "not asked")
                yield replace(entry, counts=False)

    def _requirement(self, accelerator: str, finding: Finding, expected: Expected | None) -> Entry | None:
        if expected is None:
            if finding.outcome is Outcome.NOT_APPLICABLE:
                return None
            return replace(_entry(Change.NEW, accelerator, finding, "not asked", _now(finding)), counts=False)
        before, after = expected.outcome, finding.outcome
        same_limit = (expected.limit, expected.check, expected.measure) == (finding.limit, finding.check, finding.measure)
        if before is after or (before is None and expected.outcomes.get(after)):
            return None
        counts = finding.level is not Level.INFO and finding.waived is None
        entry = replace(_entry(Change.WORSE, accelerator, finding, _outcomes(expected), _now(finding)), counts=counts)
        if not same_limit:
            note = f"the bound was different: {clean(expected.limit, 100)}, now {clean(finding.limit, 100)}"
            return replace(entry, change=Change.UNCLEAR, note=note, counts=counts and after is not Outcome.PASS)
        match before, after:
            case _, Outcome.NOT_APPLICABLE:
                return replace(entry, change=Change.GONE, counts=False)
            case Outcome.NOT_APPLICABLE, _:
                return replace(entry, change=Change.NEW, counts=False)
            case _, Outcome.PASS:
                return replace(entry, change=Change.BETTER)
            case Outcome.PASS, Outcome.FAIL:
                return entry
            case None, Outcome.FAIL if expected.outcomes.get(Outcome.PASS):
                return entry
            case Outcome.UNKNOWN | None, Outcome.FAIL:
                return replace(entry, change=Change.UNCLEAR, note="it fails now; before, nothing was known")
            case _:
                reason = rendering.reason(finding) or "no reason was given"
                return replace(entry, change=Change.UNCLEAR, after=UNKNOWN, note=reason)

    # ------------------------------------------------------------------------------------------------------- values

    def _values(self, item: AcceleratorAssessment, subject: Subject, reported: set[tuple[str, ...]]) -> Iterator[Entry]:
        """Values that moved and that no changed requirement speaks of already."""
        odd: set[str] = set()
        for evidence, key, measurement in figures(item):
            known = subject.figures.get(key)
            if known is None:
                continue
            if dict(subject.settings.get(evidence.check, {})) != settings_of(self.assessment, evidence):
                if evidence.check not in odd:
                    odd.add(evidence.check)
                    note = "it was measured with other settings: its values are not compared"
                    yield Entry(Change.UNCLEAR, (item.facts.id,), evidence.check, "", "", note, counts=False)
                continue
            found = self._value(item, measurement, known, evidence)
            if found is not None and _subject(key) not in reported:
                yield found

    def _value(
        self, item: AcceleratorAssessment, measurement: Measurement, known: Figure, evidence: Evidence
    ) -> Entry | None:
        better = known.better or self.directions.get((known.check, known.name))
        of = kind(known.name, known.unit, better)
        if of is Kind.OTHER or better is None:
            return None
        self.compared += 1
        value, spread = number(measurement.value), known.spread
        entry = Entry(
            Change.WORSE, (item.facts.id,), _name(known.key), figure(spread.median, known.unit),
            figure(measurement.value, known.unit), _moved(spread.median, value, better),
        )  # fmt: skip
        if value is None:
            return replace(entry, note="it is not finite now")
        if of.is_speed and (spread.share or 0) > self.tolerance and spread.runs >= FEWEST_RUNS:
            self.hidden.add(f"{_name(known.key)}: runs lie up to {spread.share:.0%} from their median")
        worse = worse_by(of, known.name, better, spread, value, self.tolerance)
        if worse is None:
            self.unchanged += 1
            return None
        if worse and of.is_speed and not measured_while_quiet(evidence):
            return replace(entry, change=Change.UNCLEAR, note=f"{entry.note}; {_host(evidence)}")
        if spread.runs < FEWEST_RUNS:
            return replace(entry, change=Change.UNCLEAR, counts=worse, without_spread=True)
        note = f"{entry.note}; {spread.runs} runs lay between {figure(spread.low)} and {figure(spread.high, known.unit)}"
        return replace(entry, change=Change.WORSE if worse else Change.BETTER, note=note)

    def retest(self, share: float) -> Retest:
        """Compare every accepted value of performance with the re-test rule."""
        reached, missed, missing = 0, [], []
        for item, subject in self.pairs:
            now = {key: measurement for _, key, measurement in figures(item)}
            measured_in = {key: evidence for evidence, key, _ in figures(item)}
            for key, known in subject.figures.items() if subject is not None else ():
                better, accepted = known.better or self.directions.get((known.check, known.name)), known.spread.median
                if better is None or kind(known.name, known.unit, better) is not Kind.PERFORMANCE or accepted <= 0:
                    continue
                entry = Entry(
                    Change.WORSE, (item.facts.id,), _name(key), figure(accepted, known.unit), "not measured",
                    f"{share:.0%} of it was to be reached",
                )  # fmt: skip
                value = number(now[key].value) if key in now else None
                if key not in now:
                    missing.append(replace(entry, change=Change.UNCLEAR))
                elif value is not None and value > 0 and _ratio(value, accepted, better) >= share - 1e-12:
                    reached += 1
                else:
                    ratio = _ratio(value, accepted, better) if value else 0.0
                    after = f"{figure(now[key].value, known.unit)}, {math.floor(ratio * 1000) / 10:g}% of it"
                    if not measured_while_quiet(measured_in[key]):
                        note = f"{entry.note}; {_host(measured_in[key])}"
                        missing.append(replace(entry, change=Change.UNCLEAR, after=after, note=note))
                    else:
                        missed.append(replace(entry, after=after))
        return Retest(share, reached, tuple(missed), tuple(missing))


def _ratio(value: float, accepted: float, better: Better) -> float:
    return value / accepted if better is Better.HIGHER else accepted / value


def _moved(before: float, value: float | None, better: Better) -> str:
    if value is None or before == 0:
        return ""
    moved = value / before - 1
    if abs(moved) >= 1:
        return f"{value / before:.3g} times"
    words = ("higher", "lower")[moved < 0]
    return f"{abs(moved):.1%} {words}, and {better.value} is better"


def _entry(change: Change, accelerator: str, of: Finding | Expected, before: str, after: str) -> Entry:
    return Entry(
        change, (accelerator,), of.check, before, after, requirement=clean(of.requirement, 200), title=clean(of.title, 200),
        uses=(of.use,), level=of.level,
    )  # fmt: skip


UNKNOWN = "unknown"


def _host(evidence: Evidence) -> str:
    """Return why a slow measurement may be the host's."""
    if measured_while_busy(evidence):
        return "the host was busy"
    return "how busy the host was is not known"


def _unless_busy(
    entry: Entry, item: AcceleratorAssessment, finding: Finding, subject: Subject, directions: Directions
) -> Entry:
    """Return the entry, as unclear where the host may be the reason.

    That is for a speed, and for a timeout of a check that already took much of its limit before, unless the host is known to
    have been quiet.
    """
    evidence = next((piece for piece in item.evidence if piece.check == finding.check), None)
    if evidence is None or entry.change is not Change.WORSE:
        return entry
    quiet = measured_while_quiet(evidence)
    if finding.value is not None and not quiet and is_of_speed(finding, directions):
        return replace(entry, change=Change.UNCLEAR, note=_host(evidence))
    if evidence.status is not Status.TIMEOUT or finding.value is not None:
        return entry
    usual = subject.seconds.get(finding.check)
    if usual is not None and evidence.seconds > _HANG * max(usual, 1.0):
        return replace(entry, note=f"it took {rendering.duration(usual)} before: that is no busy host")
    if quiet:
        return replace(entry, note="the host was not busy")
    reason = rendering.reason(finding) or "it did not end"
    return replace(entry, change=Change.UNCLEAR, after=UNKNOWN, note=f"{reason}: a hang, or a busy host")


_WORDS = {Outcome.PASS: "met", Outcome.FAIL: "not met", Outcome.UNKNOWN: UNKNOWN, Outcome.NOT_APPLICABLE: "not applicable"}


def _outcomes(expected: Expected) -> str:
    if expected.outcome is not None:
        return _WORDS[expected.outcome]
    total = sum(expected.outcomes.values())
    return ", ".join(f"{_WORDS[outcome]} in {count} of {total}" for outcome, count in expected.outcomes.items() if count)


def _now(finding: Finding) -> str:
    word = _WORDS[finding.outcome] + (" (waived)" if finding.waived is not None else "")
    if finding.outcome is Outcome.PASS:
        return word
    return f"{word}: {rendering.measured(finding)}"


def _subject(key: Key) -> tuple[str, ...]:
    """Return the subject of a value, coarsely: a check, and its operator and dtype if it has them."""
    labels = dict(key[2])
    return key[0], labels.get("op", ""), labels.get("dtype", "")


def _about(item: AcceleratorAssessment, entries: Iterable[Entry]) -> set[tuple[str, ...]]:
    changed = {entry.requirement for entry in entries if entry.change in (Change.WORSE, Change.UNCLEAR, Change.BETTER)}
    return {
        (finding.check, finding.labels.get("op", ""), finding.labels.get("dtype", ""))
        for finding in item.findings
        if clean(finding.requirement, 200) in changed
    }


def _name(key: Key) -> str:
    check, name, labels = key
    where = ", ".join(f"{label}={value}" for label, value in labels)
    return clean(f"{check} {name}" + (f" ({where})" if where else ""), 300)


def _merged(entries: Iterable[Entry]) -> list[Entry]:
    """Merge equal changes of several accelerators or of both uses."""
    found: dict[tuple[object, ...], Entry] = {}
    for entry in entries:
        key = (entry.change, entry.subject, entry.requirement, entry.before, entry.after, entry.note, entry.counts)
        known = found.get(key)
        if known is None:
            found[key] = entry
        else:
            ids = tuple(dict.fromkeys((*known.ids, *entry.ids)))
            found[key] = replace(known, ids=ids, uses=tuple(use for use in Use if use in (*known.uses, *entry.uses)))
    return list(found.values())


def by_change(difference: Difference) -> Mapping[Change, list[Entry]]:
    """All kinds of changes with their entries, most urgent first."""
    return {change: difference.of(change) for change in Change}
