"""What all reports say alike: text made harmless, figures, and findings sorted by what they mean to the reader.

Texts come from devices, drivers and files of other people. `clean` is for every one of them; what HTML, Markdown or XML
could misread is escaped by the report itself.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from readiness.model import (
    AcceleratorAssessment,
    Assessment,
    Decision,
    Evidence,
    Finding,
    Level,
    Number,
    Outcome,
    Use,
    Verdict,
)

# What terminals act upon: CSI and OSC (and their kin that carry text), in 7 and 8 bits, then any other short escape.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)


def clean(text: object, longest: int = 1000) -> str:
    """One line, at most `longest` characters, without what a terminal, an editor or an XML parser would act upon.

    Escape sequences go as a whole; blanks and line breaks become one space; control, format (direction, zero width),
    private and unassigned characters and halves of surrogate pairs go.
    """
    # Cut first, generously: a text of many megabytes is not searched to its end.
    kept = _ESCAPES.sub("", str(text)[: 4 * longest + 1000])
    kept = "".join(
        character for character in kept if character.isspace() or unicodedata.category(character)[0] != "C"
    )
    kept = " ".join(kept.split())
    return kept if len(kept) <= longest else f"{kept[: longest - 3].rstrip()}..."


def width(text: str) -> int:
    """How many columns of a terminal a clean text takes: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def wrap(text: str, columns: int, *, first: str = "", rest: str | None = None) -> list[str]:
    """A clean text in lines of at most `columns`: the first begins with `first`, all others with `rest` (else blanks).

    A word that is longer than a line is broken. The two beginnings may hold colour only if they take no columns.
    """
    rest = " " * width(first) if rest is None else rest
    lines: list[str] = []
    line, used, empty = first, width(first), True
    for word in _pieces(text, max(columns - max(width(first), width(rest)), 8)):
        needed = width(word) + (not empty)
        if used + needed > columns and not empty:
            lines.append(line)
            line, used, empty = rest, width(rest), True
            needed = width(word)
        line += word if empty else f" {word}"
        used, empty = used + needed, False
    return [*lines, line.rstrip()]


def _pieces(text: str, longest: int) -> Iterable[str]:
    for word in text.split():
        piece, used = "", 0
        for character in word:
            columns = _columns(character)
            if used + columns > longest:
                yield piece
                piece, used = "", 0
            piece, used = piece + character, used + columns
        yield piece


def figure(value: Number | str | None, unit: str | None = None, *, beside: str = "") -> str:
    """A measured value with its unit, short.

    `beside` is a text it stands next to: 0.99999 beside `at_least 1` keeps the digits that tell it from the limit.
    """
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        text = str(value) if abs(value) < 10**15 else _huge(value)
    elif isinstance(value, float):
        text = _float(value, beside.split())
    else:
        text = str(value)
    return text if unit in (None, "", "1") else f"{text} {clean(unit, 40)}"


def _huge(value: int) -> str:
    try:
        return f"{value:.4g}"
    except OverflowError:
        return f"{'-' if value < 0 else ''}2^{value.bit_length() - 1}"


def _float(value: float, beside: Sequence[str]) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "infinity" if value > 0 else "-infinity"
    return next((text for digits in (4, 6, 9) if (text := f"{value:.{digits}g}") not in beside), repr(value))


def limit(finding: Finding) -> str:
    """A limit for people: `at most 0.01 GB/s`."""
    text = clean(finding.limit, 200)
    for operator in ("at_least", "at_most"):
        text = text.replace(operator, operator.replace("_", " "))
    return text if finding.unit in (None, "", "1") else f"{text} {clean(finding.unit, 40)}"


def labels(finding_labels: Mapping[str, str]) -> str:
    """Labels for people: `dtype=bfloat16, op=softmax`; empty where there are none."""
    return clean(", ".join(f"{key}={value}" for key, value in sorted(finding_labels.items())), 300)


def measured(finding: Finding) -> str:
    """What was measured, against which limit and where; or, where nothing was, why not."""
    parts = []
    if finding.value is not None:
        value = figure(finding.value, finding.unit, beside=clean(finding.limit, 200))
        where = f" ({labels(finding.labels)})" if finding.labels else ""
        parts.append(f"{clean(finding.measure or 'value', 100)} is {value}, limit {limit(finding)}{where}")
    if finding.reason is not None:
        parts.append(clean(finding.reason))
    if finding.value is None:
        where = f" ({labels(finding.labels)})" if finding.labels else ""
        parts.append(f"wanted: {clean(finding.measure or 'value', 100)} {limit(finding)}{where}")
    return "; ".join(part for part in parts if part)


def duration(seconds: float) -> str:
    """`0.4 s`, `41.8 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def memory(size: int | None) -> str:
    """`96 GiB`, `512 MiB`; empty where it is not known."""
    if size is None:
        return ""
    return f"{size / 2**30:.4g} GiB" if size >= 2**30 else f"{size / 2**20:.4g} MiB"


def span(verdict: Verdict) -> str:
    """Score and ceiling: `61..97`. Rounded down, so that nothing looks complete that is not."""
    return f"{math.floor(verdict.score)}..{math.floor(verdict.ceiling)}"


class Kind(StrEnum):
    """What a finding means to the reader, most urgent first."""

    BLOCKER = "blocker"                # a must that failed
    LIMIT = "limit"                    # a should that failed
    UNKNOWN = "unknown"                # it could not be told
    WAIVED = "waived"                  # it failed, and somebody decided to live with it
    INFORMATION = "information"        # it failed and decides nothing
    NOT_APPLICABLE = "not applicable"
    PASSED = "passed"


def kind(finding: Finding) -> Kind:
    """What this finding means to the reader."""
    match finding.outcome:
        case Outcome.PASS:
            return Kind.PASSED
        case Outcome.NOT_APPLICABLE:
            return Kind.NOT_APPLICABLE
        case Outcome.UNKNOWN:
            return Kind.UNKNOWN
        case Outcome.FAIL if finding.waived is not None:
            return Kind.WAIVED
        case Outcome.FAIL:
            return {Level.MUST: Kind.BLOCKER, Level.SHOULD: Kind.LIMIT, Level.INFO: Kind.INFORMATION}[finding.level]


@dataclass(frozen=True, slots=True)
class Told:
    """One finding with all the uses that it is said of in the same words."""

    finding: Finding
    uses: tuple[Use, ...]

    @property
    def uses_text(self) -> str:
        """`training, inference`."""
        return ", ".join(self.uses)


def told(item: AcceleratorAssessment) -> dict[Kind, list[Told]]:
    """The findings of one accelerator by what they mean; those common to both uses once. Musts and heavy ones first."""
    merged: dict[tuple[object, ...], tuple[Finding, list[Use]]] = {}
    for finding in item.findings:
        # repr: NaN must equal NaN here.
        key = (
            finding.requirement, kind(finding), finding.level, repr(finding.value), finding.limit,
            repr(sorted(finding.labels.items())), finding.reason, repr(finding.remedy),
            repr(finding.waived), repr(finding.expired_waiver),
        )  # fmt: skip
        merged.setdefault(key, (finding, []))[1].append(finding.use)
    order = list(Level)
    entries = [Told(finding, tuple(use for use in Use if use in uses)) for finding, uses in merged.values()]
    entries.sort(key=lambda entry: (order.index(entry.finding.level), -entry.finding.weight, entry.finding.requirement))
    return {name: [entry for entry in entries if kind(entry.finding) is name] for name in Kind}


def strays(item: AcceleratorAssessment) -> list[str]:
    """What a verdict names without a finding that says so: files of other writers. Never hidden."""
    wanted = {"blockers": Kind.BLOCKER, "limits": Kind.LIMIT, "unknown": Kind.UNKNOWN}
    there = {(finding.requirement, finding.use, kind(finding)) for finding in item.findings}
    return [
        f"{clean(requirement, 100)} ({use}, {meaning})"
        for use, verdict in item.verdicts.items()
        for name, meaning in wanted.items()
        for requirement in getattr(verdict, name)
        if (requirement, use, meaning) not in there
    ]


@dataclass(frozen=True, slots=True)
class Group:
    """Unknown findings that share their reason and their remedy."""

    entries: tuple[Told, ...]

    @property
    def first(self) -> Finding:
        """Stands for all of them in reason and remedy."""
        return self.entries[0].finding


def grouped(entries: Iterable[Told]) -> list[Group]:
    """Entries of one level, reason, remedy and uses together: one check that died must not fill three screens."""
    groups: dict[tuple[object, ...], list[Told]] = {}
    for entry in entries:
        finding = entry.finding
        key = (finding.level, finding.reason, repr(finding.remedy), repr(finding.expired_waiver), entry.uses)
        groups.setdefault(key, []).append(entry)
    return [Group(tuple(group)) for group in groups.values()]


_WORST_FIRST = (Decision.NOT_READY, Decision.UNDETERMINED, Decision.READY)


def badness(verdict: Verdict | None) -> tuple[int, float]:
    """Sorts verdicts worst first: by decision, then by score. A verdict that is missing counts as undetermined."""
    if verdict is None:
        return _WORST_FIRST.index(Decision.UNDETERMINED), 0.0
    return _WORST_FIRST.index(verdict.decision), verdict.score


def worst(assessment: Assessment) -> dict[Use, tuple[AcceleratorAssessment, Verdict]]:
    """For each use, the accelerator that is worst off and its verdict; the worse use first."""
    found = {
        use: min(candidates, key=lambda candidate: badness(candidate[1]))
        for use in Use
        if (candidates := [(item, item.verdicts[use]) for item in assessment.accelerators if use in item.verdicts])
    }
    return dict(sorted(found.items(), key=lambda entry: badness(entry[1][1])))


def tally(verdict: Verdict) -> str:
    """`2 blockers, 1 limit, 3 unknown`, or that nothing stands in the way."""
    parts = [
        f"{len(ids)} {word}{'s' if plural and len(ids) != 1 else ''}"
        for ids, word, plural in (
            (verdict.blockers, "blocker", True), (verdict.limits, "limit", True), (verdict.unknown, "unknown", False),
        )
        if ids
    ]  # fmt: skip
    if parts:
        return ", ".join(parts)
    return "nothing stands in the way" if verdict.decision is Decision.READY else "nothing was judged"


def device(item: AcceleratorAssessment) -> str:
    """`NVIDIA H20, 96 GiB`: what the accelerator is, as far as it is known."""
    facts = item.facts
    vendor, model = clean(facts.vendor or "", 100), clean(facts.model or "", 200)
    # GenuineIntel and Intel(R) Xeon(R) say the same twice; Acme and A1 do not.
    words = re.findall(r"[^\W\d_]{3,}", model.casefold())
    if vendor and model and not any(word in vendor.casefold() for word in words):
        model = f"{vendor} {model}"
    return ", ".join(part for part in (model or vendor or "unknown model", memory(facts.memory_bytes)) if part)


def failed_stacks(assessment: Assessment) -> dict[str, str]:
    """Stacks that are there and whose accelerators could not be listed, with the reason: none of those was assessed."""
    failed = assessment.host.get("failed_stacks")
    if not isinstance(failed, Mapping):
        return {}
    return {clean(stack, 100): clean(reason) for stack, reason in failed.items()}


def software(item: AcceleratorAssessment) -> str:
    """`torch 2.9.1, driver 570.86`; a component without a version says so."""
    return ", ".join(
        f"{clean(name, 60)} {clean(version, 60) if version else '(version unknown)'}"
        for name, version in item.facts.software.items()
    )


def slowest_first(evidence: Iterable[Evidence]) -> list[Evidence]:
    """Where the time went."""
    return sorted(evidence, key=lambda item: (-item.seconds, item.check))
