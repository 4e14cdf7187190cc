"""Groups of accelerators with the same findings, reported once: eight healthy ones must not fill eight screens.

Accelerators are in one group if they have the same model and software stack, their verdicts name the same
requirements, and their findings differ only in figures, labels and reasons. These are shown with their accelerators.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from readiness.datamodel import AcceleratorAssessment, Assessment, Evidence, Finding, Level, Status, Use, Verdict
from readiness.missing_evidence import Cause, SkipCause
from readiness.rendering.accelerators import device, names, simulated, software
from readiness.rendering.findings import FindingGroup, Kind, figure_of, group_by_kind, labels, reading, reason, title
from readiness.rendering.text import clean, figure
from readiness.rendering.verdicts import score_range, severity_key


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement about some accelerators of a group. `applies_to` is empty where it applies to all of them."""

    applies_to: str
    reading: str
    reason: str
    value: str
    finding: Finding

    @property
    def lines(self) -> list[str]:
        """The figure, then the reason; without a figure the reason comes first."""
        parts = [self.reading, self.reason]
        return [part for part in (parts if self.finding.value is not None else reversed(parts)) if part]


@dataclass(frozen=True, slots=True)
class SharedFinding:
    """One finding of each accelerator of a group, in their order.

    `only` names those that have it where others under test do not; `together` those that were measured as one. `causes` say
    for each, for programs, why its check has no evidence.
    """

    ids: tuple[str, ...]
    per_device: tuple[FindingGroup, ...]
    only: str = ""
    together: str = ""
    causes: tuple[Cause | None, ...] = ()

    @classmethod
    def of(cls, entries: Sequence[tuple[str, Finding]]) -> SharedFinding:
        """Combine findings of one requirement and one use, given with the names of their accelerators."""
        return cls(tuple(id for id, _ in entries), tuple(FindingGroup(finding, (finding.use,)) for _, finding in entries))

    @property
    def finding(self) -> Finding:
        """The finding that represents all in everything but figure, labels and reason."""
        return self.per_device[0].finding

    @property
    def uses_text(self) -> str:
        """`training, inference`."""
        return self.per_device[0].uses_text

    @property
    def statements(self) -> list[Statement]:
        """Figures and reasons; once where all agree, different figures of one finding as a range."""
        parts: dict[tuple[str, ...], list[tuple[str, Finding]]] = {}
        for id, finding in self._each():
            value = "number" if _plain_number(finding) else figure_of(finding)
            key = (value, str(finding.unit), labels(finding.labels), _reason(id, finding))
            parts.setdefault(key, []).append((id, finding))
        return [_statement(part, alone=len(parts) == 1) for part in parts.values()]

    @property
    def reasons(self) -> list[tuple[str, str]]:
        """The reasons, each with its accelerators; these are empty where all share the reason."""
        found: dict[str, list[str]] = {}
        for id, finding in self._each():
            found.setdefault(_reason(id, finding) or "no reason given", []).append(id)
        return [(names(ids) if len(found) > 1 else "", text) for text, ids in found.items()]

    def _each(self) -> Iterable[tuple[str, Finding]]:
        return ((id, entry.finding) for id, entry in zip(self.ids, self.per_device, strict=True))


def _reason(id: str, finding: Finding) -> str:
    """Return the reason without the accelerator's name at its start, so that eight chips have equal reasons."""
    return reason(finding).removeprefix(f"{id}: ")


def _statement(part: Sequence[tuple[str, Finding]], *, alone: bool) -> Statement:
    finding = part[0][1]
    value = _range(part)
    applies_to = "" if alone else names([id for id, _ in part])
    return Statement(applies_to, reading(finding, value), _reason(*part[0]), value, finding)


def _plain_number(finding: Finding) -> bool:
    value = finding.value
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def _range(part: Sequence[tuple[str, Finding]]) -> str:
    """Return `11.5 (npu:3) to 11.9 GB/s (npu:5)`, or the one figure of all; empty where nothing was measured."""
    first = part[0][1]
    if first.value is None:
        return ""
    if len({figure_of(finding) for _, finding in part}) == 1:
        return figure_of(first)
    ordered = sorted(part, key=lambda entry: 0 if entry[1].value is None else entry[1].value)
    low, high = ordered[0], ordered[-1]
    low_text = figure(low[1].value, beside=clean(low[1].limit, 200))
    return f"{low_text} ({clean(low[0], 40)}) to {figure_of(high[1])} ({clean(high[0], 40)})"


@dataclass(frozen=True, slots=True)
class Group:
    """Unknown findings that share their reasons and their remedy."""

    entries: tuple[SharedFinding, ...]

    @property
    def first(self) -> SharedFinding:
        """The entry that represents all in reasons and remedy."""
        return self.entries[0]


def grouped(entries: Iterable[SharedFinding]) -> list[Group]:
    """Group entries of one level, reason, remedy and uses: one crashed check must not fill three screens."""
    groups: dict[tuple[object, ...], list[SharedFinding]] = {}
    for entry in entries:
        finding = entry.finding
        key = (
            finding.level, tuple(each.finding.reason for each in entry.per_device), repr(finding.remedy),
            repr(finding.expired_waiver), entry.uses_text,
        )  # fmt: skip
        groups.setdefault(key, []).append(entry)
    return [Group(tuple(group)) for group in groups.values()]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Requirements that are unknown because an option left their checks out."""

    option: str
    entries: tuple[SharedFinding, ...]

    @property
    def words(self) -> str:
        """`214 requirements of 33 checks (120 must, 84 should, 10 info): left out by -k`."""
        levels = Counter(entry.finding.level for entry in self.entries)
        by_level = ", ".join(f"{levels[level]} {level}" for level in Level if levels[level])
        checks = len({entry.finding.check for entry in self.entries})
        count = len({entry.finding.requirement for entry in self.entries})
        return (
            f"{count} requirement{'s' if count != 1 else ''} of {checks} check{'s' if checks != 1 else ''} ({by_level}): "
            f"left out by {self.option}"
        )

    @property
    def remedy(self) -> str:
        """The remedy in words."""
        return f"Run without {self.option}."


def left_out(entries: Iterable[SharedFinding]) -> tuple[list[SharedFinding], list[LeftOut]]:
    """Split entries into those to show one by one, and those that an option left out, which are summed up."""
    kept: list[SharedFinding] = []
    options: dict[str, list[SharedFinding]] = {}
    for entry in entries:
        found = set(map(_option, entry.causes))
        option = found.pop() if len(found) == 1 else ""
        (options.setdefault(option, []) if option else kept).append(entry)
    return kept, [LeftOut(option, tuple(group)) for option, group in options.items()]


def _option(cause: Cause | None) -> str:
    """Return the option that left a check out; empty if none did."""
    return cause.option if isinstance(cause, SkipCause) else ""


@dataclass(frozen=True, slots=True)
class Time:
    """Time of all tries of a check on a group: the longest, in seconds. `applies_to` is empty if all had one result."""

    check: str
    seconds: float
    status: Status
    attempts: int
    reason: str
    applies_to: str
    cause: Cause | None = None

    @property
    def left_out(self) -> bool:
        """True if an option left the check out."""
        return _option(self.cause) != ""


@dataclass(frozen=True, slots=True)
class DeviceGroup:
    """Accelerators with the same findings; mostly one."""

    items: tuple[AcceleratorAssessment, ...]
    entries: Mapping[Kind, tuple[SharedFinding, ...]]

    @property
    def lead(self) -> AcceleratorAssessment:
        """The accelerator that represents all in everything but figures, labels and reasons."""
        return self.items[0]

    def names(self, show: Callable[[str], str] = lambda id: clean(id, 40)) -> str:
        """`sim:0, sim:1, sim:3`."""
        return names([item.facts.id for item in self.items], show)

    def title(self, show: Callable[[str], str] = lambda id: clean(id, 40)) -> str:
        """`cuda:0`, or `sim:0, sim:1, sim:3 (3 identical, simulated)`."""
        notes = [f"{len(self.items)} identical"] if len(self.items) > 1 else []
        if self.is_simulated:
            notes.append("simulated")
        return f"{self.names(show)} ({', '.join(notes)})" if notes else self.names(show)

    @property
    def is_simulated(self) -> bool:
        """True if its verdicts are about a simulated chip."""
        return simulated(self.lead.facts) is not None

    def verdict(self, use: Use) -> Verdict | None:
        """The verdict that represents all in everything but the score."""
        return self.lead.verdicts.get(use)

    def score_range(self, use: Use) -> str:
        """Return score and ceiling over all of them."""
        return score_range(*(item.verdicts[use] for item in self.items))

    @property
    def urgency(self) -> tuple[tuple[int, float], ...]:
        """Sort key: groups by their verdicts, the worst first."""
        return tuple(sorted(severity_key(verdict) for verdict in self.lead.verdicts.values()))

    @property
    def seconds(self) -> float:
        """The largest total time of the checks of one accelerator."""
        return max(sum(entry.all_tries_s for entry in item.evidence) for item in self.items)

    @property
    def times(self) -> list[Time]:
        """Times of the checks, slowest first."""
        found: dict[tuple[str, Status, int, str, Cause | None], list[tuple[str, Evidence]]] = {}
        for item in self.items:
            for entry in item.evidence:
                words = clean(entry.reason or "", 300) if entry.status is not Status.MEASURED else ""
                key = entry.check, entry.status, entry.attempts, words, entry.cause
                found.setdefault(key, []).append((item.facts.id, entry))
        times = [
            Time(
                check, max(entry.all_tries_s for _, entry in part), status, attempts, words,
                applies_to=names([id for id, _ in part]) if len(part) < len(self.items) else "", cause=cause,
            )
            for (check, status, attempts, words, cause), part in found.items()
        ]  # fmt: skip
        return sorted(times, key=lambda time: (-time.seconds, time.check))


def group_devices(assessment: Assessment) -> list[DeviceGroup]:
    """Return groups of equal accelerators, in the given order."""
    groups: dict[tuple[object, ...], list[tuple[AcceleratorAssessment, dict[Kind, list[FindingGroup]]]]] = {}
    having: dict[tuple[Kind, str], list[str]] = {}
    for item in assessment.accelerators:
        kinds = group_by_kind(item)
        groups.setdefault(_likeness(item, kinds), []).append((item, kinds))
        for kind, entries in kinds.items():
            for requirement in dict.fromkeys(entry.finding.requirement for entry in entries):
                having.setdefault((kind, requirement), []).append(item.facts.id)
    return [
        DeviceGroup(
            items=tuple(item for item, _ in members),
            entries={
                kind: tuple(
                    _shared(members, column, having[kind, column[0].finding.requirement], len(assessment.accelerators))
                    for column in zip(*(kinds[kind] for _, kinds in members), strict=True)
                )
                for kind in Kind
            },
        )
        for members in groups.values()
    ]


def _shared(
    members: Sequence[tuple[AcceleratorAssessment, object]],
    column: tuple[FindingGroup, ...],
    having: Sequence[str],
    count: int,
) -> SharedFinding:
    return SharedFinding(
        ids=tuple(item.facts.id for item, _ in members),
        per_device=column,
        only=names(having) if len(having) < count else "",
        together=together(members[0][0], column[0].finding),
        causes=tuple(_cause(item, entry.finding) for (item, _), entry in zip(members, column, strict=True)),
    )


def _cause(item: AcceleratorAssessment, finding: Finding) -> Cause | None:
    return next((entry.cause for entry in item.evidence if entry.check == finding.check), None)


def together(item: AcceleratorAssessment, finding: Finding) -> str:
    """Return the accelerators that were measured together for this finding. Empty for a single one."""
    ids = next((entry.accelerators for entry in item.evidence if entry.check == finding.check), ())
    return names(ids) if len(ids) > 1 else ""


def _likeness(item: AcceleratorAssessment, kinds: Mapping[Kind, Sequence[FindingGroup]]) -> tuple[object, ...]:
    """Return the key that accelerators of one group share."""
    return (
        device(item), software(item), simulated(item.facts),
        tuple(
            (use, verdict.decision, verdict.blockers, verdict.limits, verdict.unknown)
            for use, verdict in item.verdicts.items()
        ),
        tuple((kind, *_shape(entry)) for kind, entries in kinds.items() for entry in entries),
    )  # fmt: skip


def _shape(entry: FindingGroup) -> tuple[object, ...]:
    finding = entry.finding
    return (
        finding.requirement, entry.uses, finding.level, finding.weight, finding.check, finding.measure, finding.limit,
        finding.value is None, finding.why, repr(finding.remedy), repr(finding.waived), repr(finding.expired_waiver),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class SharedFailure:
    """One requirement that accelerators of several groups fail. `variants` has whose each reading is, the worst first."""

    first: SharedFinding
    ids: tuple[str, ...]
    variants: Mapping[tuple[str, ...], tuple[str, ...]]

    def lines(self, most: int, elsewhere: str) -> list[str]:
        """Return what was measured: line by line if it is the same of all, else a line for each of the first and a count."""
        if len(self.variants) == 1:
            return list(next(iter(self.variants)))
        shown = [f"{', '.join(who)}: {'; '.join(lines)}" for lines, who in list(self.variants.items())[:most]]
        more = len(self.variants) - len(shown)
        return [*shown, f"and {more} more like {'it' if more == 1 else 'these'}, {elsewhere}"] if more else shown


def failures_by_requirement(groups: Sequence[DeviceGroup], kind: Kind) -> list[SharedFailure]:
    """Return the failures of a kind of all groups, one for each requirement, use, remedy and waiver."""
    found: dict[tuple[object, ...], list[SharedFinding]] = {}
    for group in groups:
        for entry in group.entries[kind]:
            finding = entry.finding
            waivers = finding.waived, finding.expired_waiver
            key = finding.requirement, title(finding), entry.uses_text, finding.remedy, *waivers
            found.setdefault(key, []).append(entry)
    failures = []
    for entries in found.values():
        variants: dict[tuple[str, ...], list[str]] = {}
        for entry in entries:
            for statement in entry.statements:
                variants.setdefault(tuple(statement.lines), []).append(statement.applies_to or names(entry.ids))
        failures.append(SharedFailure(
            entries[0], tuple(dict.fromkeys(id for entry in entries for id in entry.ids)),
            {lines: tuple(who) for lines, who in variants.items()},
        ))  # fmt: skip
    return failures
