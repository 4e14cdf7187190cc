"""Diagnosis: failed requirements put together by what their evidence has in common, each group as one defect. Pure.

What operators are to blame is read from labels and rows; what else is known by the rules of `diagnosis_rules`. The groups
that explain most come first; a requirement that no rule explains is in none and stays in the list of blockers and limits.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache

from readiness.datamodel import (
    AcceleratorAssessment,
    Assessment,
    Diagnosis,
    Evidence,
    Finding,
    Level,
    Limit,
    Measurement,
    Outcome,
    Remedy,
    Status,
    Use,
)
from readiness.judging import diagnosis_rules as rules
from readiness.judging import profile_demands
from readiness.judging.diagnosis_rules import OperatorRule, Rule
from readiness.judging.judge import satisfies

_MOST_NAMED = 3
_LONGEST_ABOUT = 220
_MOST_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class _Failure:
    """A failed requirement on one accelerator, over all uses; `blocks` are those that it blocks."""

    accelerator: str
    finding: Finding
    evidence: Evidence | None
    blocks: tuple[Use, ...]

    @property
    def key(self) -> tuple[str, str]:
        """A unique key."""
        return self.accelerator, self.finding.requirement

    @property
    def id(self) -> str:
        return self.finding.requirement

    @property
    def status(self) -> Status | None:
        """The status of its check, if it left no value."""
        return self.evidence.status if self.evidence is not None and self.finding.value is None else None

    def fits(self, patterns: Iterable[str]) -> bool:
        """Return whether one of the patterns matches it: check, measure, and perhaps a label."""
        return any(_fits(pattern, self.finding) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class _Atom:
    """One operator that a failed requirement is about: how it failed and where.

    `key` is the failure's; `kernel` the one that the stack itself says it lacks.
    """

    key: tuple[str, str]
    operator: str
    dtype: str
    phase: str
    outcome: str
    layout: str = ""
    finite: bool = True
    kernel: str = ""

    @property
    def blamed(self) -> str:
        """The kernel that is missing, where the stack names it, else the operator."""
        return self.kernel or bare(self.operator)


@dataclass(slots=True)
class _Group:
    """The failures on one accelerator that one rule explains."""

    rule: str
    sentence: str
    remedy: Remedy
    subject: Mapping[str, tuple[str, ...]]
    failures: list[_Failure] = field(default_factory=list)
    name: str = ""  # the operator or family that operators of it have in common


def diagnose(assessment: Assessment) -> tuple[Diagnosis, ...]:
    """Return the defects, the one that explains most requirements first. Empty if nothing failed, or no rule fits.

    Accelerators of one model and stack are looked at together: what they share is one defect.
    """
    limits = _limits(assessment)
    by_model: dict[tuple[str | None, str], list[AcceleratorAssessment]] = {}
    for item in assessment.accelerators:
        by_model.setdefault((item.facts.model, item.facts.stack), []).append(item)
    found = [_diagnosis(group) for items in by_model.values() for group in _groups_of_kind(items, limits)]
    return tuple(sorted(found, key=lambda one: (-len(one.blockers), -len(one.requirements), one.rule, one.sentence)))


def unexplained(assessment: Assessment, found: Sequence[Diagnosis]) -> tuple[str, ...]:
    """The blockers and limits that no diagnosis explains, by id."""
    explained = {requirement for one in found for requirement in one.requirements}
    verdicts = (verdict for item in assessment.accelerators for verdict in item.verdicts.values())
    failed = (id for verdict in verdicts for id in (*verdict.blockers, *verdict.limits))
    return tuple(id for id in dict.fromkeys(failed) if id not in explained)


def _diagnosis(group: _Group) -> Diagnosis:
    uses = {use for failure in group.failures for use in failure.blocks}
    return Diagnosis(
        rule=group.rule,
        sentence=group.sentence,
        accelerators=tuple(dict.fromkeys(failure.accelerator for failure in group.failures)),
        requirements=tuple(sorted({failure.id for failure in group.failures})),
        blockers=tuple(sorted({failure.id for failure in group.failures if failure.blocks})),
        stops=tuple(use for use in Use if use in uses),
        remedy=group.remedy,
        subject=group.subject,
    )


def _limits(assessment: Assessment) -> Mapping[str, Limit]:
    basis = assessment.basis
    if basis is None or not basis.demands or not profile_demands.understood(basis.demands):
        return {}
    return {requirement.id: requirement.limit for requirement in profile_demands.requirements_of(basis.demands)}


# ------------------------------------------------------------------------------------------- accelerators of one kind


def _groups_of_kind(items: Sequence[AcceleratorAssessment], limits: Mapping[str, Limit]) -> Iterator[_Group]:
    left = [failure for item in items for failure in _failures(item)]
    if not left:
        return
    lost, left = _by_rules(rules.RULES[:1], left)
    operators, left = _by_operators(left, limits)
    others, _ = _by_rules(rules.RULES[1:], left)
    operators = _absorbed(operators, others)
    order = {item.facts.id: place for place, item in enumerate(items)}
    for group in (*lost, *operators, *others):
        group.failures.sort(key=lambda failure: (order[failure.accelerator], failure.id))
        yield group


def _absorbed(operators: Sequence[_Group], others: Sequence[_Group]) -> list[_Group]:
    """Return the groups without slow operators that a slow copy explains, which join its group."""
    absorbing = {rule.id: rule.absorbs for rule in rules.RULES if rule.absorbs}
    kept = []
    for group in operators:
        into = next(
            (other for other in others if group.rule == "operator-slow" and other.rule in absorbing
             and all(_named(operator, absorbing[other.rule]) for operator in group.subject["operator"])), None,
        )  # fmt: skip
        if into is None:
            kept.append(group)
        else:
            into.failures += group.failures
    return kept


def _failures(item: AcceleratorAssessment) -> list[_Failure]:
    by_check = {piece.check: piece for piece in item.evidence}
    found: dict[str, tuple[Finding, list[Use]]] = {}
    for finding in item.findings:
        if finding.outcome is Outcome.FAIL and finding.waived is None and finding.level is not Level.INFO:
            uses = found.setdefault(finding.requirement, (finding, []))[1]
            uses += [finding.use] if finding.level is Level.MUST else []
    return [
        _Failure(item.facts.id, finding, by_check.get(finding.check), tuple(uses)) for finding, uses in found.values()
    ]


def _by_rules(chosen: Sequence[Rule], left: list[_Failure]) -> tuple[list[_Group], list[_Failure]]:
    """The first rule that fits a failure has it, and with it what follows from that on the same accelerator."""
    groups: list[_Group] = []
    for rule in chosen:
        shown = [failure for failure in left if _is_shown(rule, failure)]
        if not shown:
            continue
        on = {failure.accelerator for failure in shown}
        keys = {failure.key for failure in shown}
        keys |= {failure.key for failure in left if failure.accelerator in on and failure.fits(rule.follows)}
        explained = [failure for failure in left if failure.key in keys]
        left = [failure for failure in left if failure.key not in keys]
        groups.append(_Group(rule.id, _sentence(rule, shown), Remedy(rule.remedy, rule.action), _subject(shown), explained))
    return groups, left


def _is_shown(rule: Rule, failure: _Failure) -> bool:
    if not failure.fits(rule.shows):
        return False
    if rule.statuses and failure.status not in rule.statuses:
        return False
    if not rule.statuses and failure.status is not None and not rule.words:
        return False  # a check that died or hung says nothing about what it was to measure
    reason = failure.finding.reason or ""
    return not rule.words or any(word in reason for word in rule.words)


def _subject(shown: Sequence[_Failure]) -> dict[str, tuple[str, ...]]:
    """Return what the failures name by their labels, and their checks; without figures such as sizes."""
    found: dict[str, dict[str, None]] = {"check": dict.fromkeys(failure.finding.check for failure in shown)}
    for failure in shown:
        for name, value in failure.finding.labels.items():
            found.setdefault(name, {})[value] = None
        for row in failure.evidence.rows if failure.evidence is not None else ():
            for cell, name in _BLAMED.items():
                if isinstance(text := row.get(cell), str) and row.get("trouble"):
                    found.setdefault(name, {})[text] = None
    return {name: tuple(sorted(values)) for name, values in found.items()}


#: Cells of rows in which a check of several ranks names the culprit.
_BLAMED = {"culprit_chips": "chip", "culprit_ranks": "rank", "operation": "operation"}


def _sentence(rule: Rule, shown: Sequence[_Failure]) -> str:
    worst = max(shown, key=lambda failure: (bool(failure.blocks), bool(failure.finding.reason), failure.finding.weight))
    subject = _subject(shown)
    found_rule = (text for one in (worst, *shown) if (text := _about(one)))
    about = _named_by_rows(rule, shown) or next(found_rule, "")
    if not about:
        title = worst.finding.title.removesuffix(".")
        about = f'"{title}" is not met' if title else worst.id
    values = {f"in_{name}": f" in {_listed(list(found))}" for name, found in subject.items()}
    text = rule.sentence.format_map(_Blank(values | {"about": about, "check": _listed(list(subject["check"]))}))
    return text.removesuffix(".") + "."


class _Blank(dict[str, str]):
    """Values of a sentence; what is not known leaves nothing behind."""

    def __missing__(self, key: str) -> str:
        return ""


def _named_by_rows(rule: Rule, shown: Sequence[_Failure]) -> str:
    """Return what the rows of the checks name as faulty by the rule: `subnormal (a, b); overflow (c)`."""
    if rule.bad is None:
        return ""
    cell, values = rule.bad
    *heads, last = rule.names
    found: dict[str, dict[str, None]] = {}
    for failure in shown:
        labels = failure.finding.labels
        for row in failure.evidence.rows[:_MOST_ROWS] if failure.evidence is not None else ():
            if cell in row and _is_trouble(row[cell], values) and all(row.get(name, value) == value for name,
            value in labels.items()):
                found.setdefault(" ".join(str(row.get(name)) for name in heads), {})[str(row.get(last))] = None
    if "" in found:
        return _listed(list(found[""]))
    return "; ".join(f"{head} ({_listed(list(names))})" for head, names in found.items())


def _is_trouble(value: object, values: Sequence[object]) -> bool:
    if rules.POSITIVE in values and isinstance(value, int | float) and not isinstance(value, bool):
        return value > 0
    return value in values


def _about(failure: _Failure) -> str:
    text = (failure.finding.reason or "").removeprefix(f"{failure.accelerator}: ").strip()
    text = text.removeprefix(f"{failure.finding.check} did not finish: ")
    return text if len(text) <= _LONGEST_ABOUT else f"{text[:_LONGEST_ABOUT - 3].rstrip()}..."


# --------------------------------------------------------------------------------------------------------- operators


def _by_operators(left: list[_Failure], limits: Mapping[str, Limit]) -> tuple[list[_Group], list[_Failure]]:
    """Groups of operators by how they fail, and what none of them explains."""
    by_key = {failure.key: failure for failure in left}
    atoms = [atom for failure in left for atom in _atoms(failure, limits.get(failure.id))]
    groups: list[tuple[OperatorRule, list[_Atom], _Group]] = []
    for rule in rules.OPERATOR_RULES:
        if rule.outcome == _NAN:
            continue  # looked at with what is wrong: which of the two a group is shows in the group
        meant = [atom for atom in atoms if atom.outcome == rule.outcome]
        for name, part in _together(rule, meant):
            found_rule = _as_nan(rule, part)
            also = _dying_with(found_rule, part, atoms)
            atoms = _without(atoms, also)
            made = _operator_group(found_rule, name, part)
            made.failures += [by_key[key] for key in dict.fromkeys(atom.key for atom in (*part, *also))]
            groups.append((found_rule, part, made))
    groups = _without_noise(groups)
    explained = {failure.key for _, _, group in groups for failure in group.failures}
    groups.sort(key=lambda entry: -len(entry[2].failures))
    reach = [
        ({atom.key[0] for atom in part}, {atom.dtype for atom in part}, _in_gradients({atom.phase for atom in part}))
        for _, part, _ in groups
    ]
    for failure in left:
        if failure.key in explained:
            continue
        for (rule, _, group), (accelerators, dtypes, in_gradients) in zip(groups, reach, strict=True):
            if in_gradients and failure.fits(rules.FORWARD_ONLY):
                continue
            if failure.accelerator in accelerators and (_follows(failure, rule, dtypes) or _is_same(failure, group, dtypes)):
                group.failures.append(failure)
                explained.add(failure.key)
                break
    return [group for _, _, group in groups], [failure for failure in left if failure.key not in explained]


def _without_noise(
    groups: list[tuple[OperatorRule, list[_Atom], _Group]]
) -> list[tuple[OperatorRule, list[_Atom], _Group]]:
    """Merge wrong results of operators that give other bits each time with these: it is one defect."""
    varying = {name: place for place, (rule, _, group) in enumerate(groups) if rule.outcome == "nondeterministic"
               for name in (*group.subject.get("family", ()), *group.subject["operator"])}  # fmt: skip
    merged: dict[int, tuple[OperatorRule, list[_Atom], _Group]] = {}
    gone = set()
    for number, (rule, _, group) in enumerate(groups):
        names = (*group.subject.get("family", ()), *group.subject["operator"])
        place = next((varying[name] for name in names if name in varying), None)
        if rule.outcome in ("wrong", _NAN) and place is not None:
            _, own, into = merged.get(place, groups[place])
            made = _operator_group(rules.VARYING_AND_WRONG, into.name, own)
            made.failures = into.failures + [failure for failure in group.failures if failure not in into.failures]
            merged[place] = rules.VARYING_AND_WRONG, own, made
            gone.add(number)
    return [merged.get(number, entry) for number, entry in enumerate(groups) if number not in gone]


_NAN = "nan"


def _as_nan(rule: OperatorRule, part: Sequence[_Atom]) -> OperatorRule:
    """The rule about NaN where most of what is wrong is not finite."""
    if rule.outcome == "wrong" and 2 * sum(not atom.finite for atom in part) > len(part):
        return next(one for one in rules.OPERATOR_RULES if one.outcome == _NAN)
    return rule


def _dying_with(rule: OperatorRule, part: Sequence[_Atom], atoms: Sequence[_Atom]) -> list[_Atom]:
    """Operators that end their process where a kernel that they are made of is missing."""
    if rule.outcome != "missing":
        return []
    lacking = {bare(atom.blamed).partition(".")[0] for atom in part}
    dependants = [globs for name, (_, globs) in rules.FAMILIES.items() if name in lacking]
    return [
        atom for atom in atoms
        if atom.outcome == "crash" and any(_named(bare(atom.operator), globs) for globs in dependants)
    ]  # fmt: skip


def _is_same(failure: _Failure, group: _Group, dtypes: Collection[str]) -> bool:
    """Return whether a failure is about the circumstance in which these operators fail."""
    meant = rules.SAME_CIRCUMSTANCE.get(next(iter(group.subject.get("layout", ())), ""), ())
    return failure.fits(meant) and failure.finding.labels.get("dtype") in dtypes


def _follows(failure: _Failure, rule: OperatorRule, dtypes: Collection[str]) -> bool:
    """Return whether operators that fail in these dtypes may have caused a failure: by check, and by its own dtype."""
    if rule.died and failure.status == rule.died:
        return True
    if failure.status is not None or not failure.fits(rule.follows):
        return False
    dtype = failure.finding.labels.get("dtype")
    # Work in a narrow type keeps some of its operators in float32.
    return dtype is None or dtype in dtypes or ("float32" in dtypes and failure.finding.labels.get("precision") != "full")


def _atoms(failure: _Failure, limit: Limit | None) -> Iterator[_Atom]:
    """The operators that a failure is about, from the rows of its check or from its labels."""
    outcomes = next((found_rule for pattern, found_rule in rules.OUTCOMES.items() if _fits(pattern, failure.finding)), ())
    if not outcomes or failure.evidence is None or failure.status is not None:
        return
    if failure.finding.check.startswith("operators."):
        yield from _from_rows(failure, outcomes)
    elif failure.finding.check == "stability.pace":
        yield from _from_operations(failure, outcomes[0])
    else:
        yield from _from_labels(failure, outcomes[0], limit)


def _from_rows(failure: _Failure, outcomes: Sequence[str]) -> Iterator[_Atom]:
    finding = failure.finding
    assert failure.evidence is not None
    dtype = finding.labels.get("dtype")
    for row in failure.evidence.rows[:_MOST_ROWS]:
        outcome, operator = row.get("outcome"), row.get("operator")
        if outcome not in outcomes or not isinstance(operator, str) or (dtype and row.get("dtype") != dtype):
            continue
        phase = str(row.get("phase", ""))
        if finding.measure == "forward_coverage" and phase != "forward":
            continue
        detail = str(row.get("detail", ""))
        layout = _layout(detail)
        result = detail.partition(": ")[2] or detail  # without what is special about the call: inputs may hold NaN too
        finite = not any(word in result for word in rules.NOT_FINITE)
        kernel = _kernel(detail) if outcome in _LACKING else ""
        yield _Atom(failure.key, operator, str(row.get("dtype", "")), phase, str(outcome), layout, finite, kernel)


_OPERATION = re.compile(
    r"(?P<operator>.+?) in (?P<dtype>\w+)(?:, (?P<layout>\w+) inputs)?(?:, (?P<phase>forward|backward))?\b"
)


def _from_operations(failure: _Failure, outcome: str) -> Iterator[_Atom]:
    """Operations as stability.pace names them: `sort in float32, contiguous inputs, backward`."""
    finding = failure.finding
    assert failure.evidence is not None
    listed = (row.get("on the host") for row in failure.evidence.rows)
    names = [str(name) for cell in listed if isinstance(cell, list | tuple) for name in cell]
    for name in names if outcome == "CPU fallback" else [finding.reason or ""]:
        match = _OPERATION.match(name)
        if match is not None and finding.labels.get("dtype", match["dtype"]) == match["dtype"]:
            kernel = _kernel(name) if outcome in _LACKING else ""
            yield _Atom(failure.key, match["operator"], match["dtype"], match["phase"] or "", outcome, kernel=kernel)


def _from_labels(failure: _Failure, outcome: str, limit: Limit | None) -> Iterator[_Atom]:
    """Return the labels of every measurement that breaks the limit: the finding itself shows only the worst."""
    finding = failure.finding
    assert failure.evidence is not None
    for item in failure.evidence.measurements:
        if item.name != finding.measure or not _breaks(item, finding, limit):
            continue
        operator = item.labels.get("op") or rules.IMPLIED.get(finding.check, "")
        if not operator or operator == _TRAINING_STEP:
            continue
        dtype, phase = item.labels.get("dtype", ""), item.labels.get("phase", "")
        layout = _layout_of_cases(failure.evidence, operator, dtype, phase, limit) if outcome == "wrong" else ""
        finite = math.isfinite(float(item.value))
        kernel = _kernel(_refusal(failure.evidence, operator, dtype)) if outcome in _LACKING else ""
        yield _Atom(failure.key, operator, dtype, phase, outcome, layout, finite, kernel)


def _refusal(evidence: Evidence, operator: str, dtype: str) -> str:
    """Return the stack's message when it did not support an operator."""
    rows = (row for row in evidence.rows[:_MOST_ROWS] if (row.get("op"), row.get("dtype")) == (operator, dtype))
    return next((str(row["refused"]) for row in rows if row.get("refused")), "")


_LACKING = ("missing", "CPU fallback")
_KERNEL = re.compile(r"'aten::(?P<name>\w+)(?:\.\w+)?'")


def _kernel(text: str) -> str:
    """Return the kernel that the stack reports as missing: `where` of "Could not run 'aten::where.self' ..."."""
    match = _KERNEL.search(text)
    return match["name"] if match is not None else ""


_TRAINING_STEP = "training_step"


def _breaks(item: Measurement, finding: Finding, limit: Limit | None) -> bool:
    """Return whether a measurement is one of those that fail this requirement."""
    same = item.labels == finding.labels
    if limit is None:
        return same
    # Where a requirement chose by a label, all that it speaks of share it: those that differ from the worst in `op` alone.
    chosen = {name: value for name, value in finding.labels.items() if name in _CHOSEN_BY}
    same_choice = all(item.labels.get(name) == value for name, value in chosen.items())
    return same or (same_choice and not satisfies(item.value, limit))


_CHOSEN_BY = ("dtype", "phase", "mode", "kind")


def _layout_of_cases(evidence: Evidence, operator: str, dtype: str, phase: str, limit: Limit | None) -> str:
    """The layout of inputs if nearly all cases that fail have it."""
    if limit is None:
        return ""
    found: Counter[str] = Counter()
    for row in evidence.rows[:_MOST_ROWS]:
        value = row.get("bound_ratio")
        value = math.inf if isinstance(value, str) else value
        meant = (row.get("op"), row.get("dtype")) == (operator, dtype) and row.get("phase") in (phase, None)
        if meant and value is not None and not satisfies(value, limit):
            found[_layout(str(row.get("case", "")))] += 1
    return _usual(found)


def _usual(layouts: Counter[str]) -> str:
    """The layout of most; empty where less than two thirds share one."""
    name, count = layouts.most_common(1)[0] if layouts else ("", 0)
    return name if 3 * count >= 2 * layouts.total() else ""


def _layout(case: str) -> str:
    return next((words for glob, words in rules.LAYOUTS.items() if fnmatchcase(case, glob)), "")


def _together(rule: OperatorRule, atoms: list[_Atom]) -> Iterator[tuple[str, list[_Atom]]]:
    """Atoms of one outcome by the operator, dtype or layout that they have in common, with its name; empty for several.

    What the stack lacks is one defect, whatever it lacks. Of what is wrong, the layout is to blame where many operators
    share it, then the operator that others are made of.
    """
    if atoms and rule.as_one:
        yield "", atoms
        return
    if len({bare(atom.operator) for atom in atoms}) >= rules.WIDESPREAD:
        for layout, part in _shared(atoms, lambda atom: atom.layout):
            yield layout, part
            atoms = _without(atoms, part)
    families = list(_families(atoms))
    circumstances = {atom.layout for atom in atoms}
    if len(families) > rules.MOST_APART or (len(families) > 1 and len(circumstances) == 1 and circumstances != {""}):
        yield "", atoms
    else:
        yield from families


def _families(atoms: list[_Atom]) -> Iterator[tuple[str, list[_Atom]]]:
    """Operators by what they are made of; those of no family each alone, or together where they are many."""
    while atoms:
        name, part = _family(atoms)
        if not part:
            break
        yield name, part
        atoms = _without(atoms, part)
    by_operator: dict[str, list[_Atom]] = {}
    for atom in atoms:
        by_operator.setdefault(bare(atom.operator), []).append(atom)
    if len(by_operator) >= rules.WIDESPREAD:
        yield "", atoms
    else:
        yield from by_operator.items()


def _without(atoms: Sequence[_Atom], others: Iterable[_Atom]) -> list[_Atom]:
    gone = set(others)
    return [atom for atom in atoms if atom not in gone]


def _shared(atoms: Sequence[_Atom], of: Callable[[_Atom], str]) -> Iterator[tuple[str, list[_Atom]]]:
    """Return what nearly all have in common, and those that have it."""
    counts = Counter(map(of, atoms))
    name, count = counts.most_common(1)[0]
    if name and count >= 0.8 * len(atoms):
        yield name, [atom for atom in atoms if of(atom) == name]


def _family(atoms: Sequence[_Atom]) -> tuple[str, list[_Atom]]:
    """The family of operators that explains most of them, and those; none where no member of a family failed itself."""
    best: tuple[str, list[_Atom]] = ("", [])
    for family, (members, dependants) in rules.FAMILIES.items():
        own = {(atom.dtype, atom.phase) for atom in atoms if _named(bare(atom.operator), members)}
        if not own:
            continue
        dtypes = {dtype for dtype, _ in own}
        part = [
            atom for atom in atoms
            if _named(bare(atom.operator), members) or (_named(bare(atom.operator), dependants) and atom.dtype in dtypes)
        ]  # fmt: skip
        if len(part) > len(best[1]):
            best = family, part
    return best


def _operator_group(rule: OperatorRule, name: str, part: Sequence[_Atom]) -> _Group:
    subject = _operator_subject(name, part)
    text, plural = _operators_text(name, part, subject["operator"])
    in_gradients = _in_gradients(subject.get("phase", ()))
    where = {
        "operators": text,
        "in_dtypes": f" in {_listed(subject['dtype'])}" if subject.get("dtype") else "",
        "phase": " in gradients" if in_gradients else "",
        "results": "gradients" if in_gradients else "results",
        "layout": f" {subject['layout'][0]}" if "layout" in subject else "",
        **{verb: verb if plural else f"{verb}es" if verb == "do" else f"{verb}s" for verb in _VERBS},
    }
    sentence = rule.sentence.format_map(_Blank(where))
    return _Group(rule.id, f"{sentence}.", Remedy(rule.remedy, rule.action), subject, name=name)


def _in_gradients(phases: Collection[str]) -> bool:
    """Return whether operators that fail in these phases fail in gradients alone."""
    return any(phases) and "forward" not in phases


def _operators_text(name: str, part: Sequence[_Atom], operators: Sequence[str]) -> tuple[str, bool]:
    """The operators in words, those that fail most first, and whether they are several."""
    if name in rules.FAMILIES:
        members = rules.FAMILIES[name][0]
        own = [operator for operator in operators if _named(operator, members)]
        others = len(operators) - len(own)
        also = [operator for operator in own if operator != name]
        using = f" and {others} operator{'s' if others > 1 else ''} made of it" if others else ""
        return f"{name}{f' ({_listed(also)})' if also else ''}{using}", others > 0
    counts = Counter(atom.blamed for atom in part)
    blamed = sorted(counts, key=lambda one: (-counts[one], one))
    users = len({bare(atom.operator) for atom in part if atom.kernel and bare(atom.operator) != atom.kernel})
    using = f" (which {users} other operator{'s need' if users > 1 else ' needs'})" if users else ""
    if len(blamed) > _MOST_NAMED + 1:
        return f"{len(blamed)} operators, among them {', '.join(blamed[:_MOST_NAMED])}{using},", True
    return f"{_listed(blamed)}{using}", len(blamed) > 1


_VERBS = ("end", "do", "yield", "give", "run", "take")


def _operator_subject(name: str, part: Sequence[_Atom]) -> dict[str, tuple[str, ...]]:
    """Return what they have in common; a layout only if nearly all of them show it."""
    found = {
        "operator": {bare(atom.operator) for atom in part},
        "kernel": {atom.kernel for atom in part},
        "family": {name} if name in rules.FAMILIES else set(),
        "dtype": {atom.dtype for atom in part},
        "phase": {atom.phase for atom in part},
        "layout": {_usual(Counter(atom.layout for atom in part))},
    }
    return {key: tuple(sorted(value for value in values if value)) for key, values in found.items() if any(values)}


def _listed(names: Sequence[str]) -> str:
    """`a, b and c`, or `a, b, c and 4 more`."""
    if len(names) > _MOST_NAMED + 1:
        return f"{', '.join(names[:_MOST_NAMED])} and {len(names) - _MOST_NAMED} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))


@cache
def bare(operator: str) -> str:
    """The operator without the name of the module that it is called from: `layer_norm` of `nn.functional.layer_norm`."""
    for prefix in rules.PREFIXES:
        operator = operator.removeprefix(prefix)
    return operator


@cache
def _named(operator: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(operator, glob) for glob in globs)


def _fits(pattern: str, finding: Finding) -> bool:
    check, *further = pattern.split(" ")
    measure, *labels = further or ["*"]
    return (
        fnmatchcase(finding.check, check)
        and fnmatchcase(finding.measure, measure)
        and all(finding.labels.get(name) == value for name, _, value in (label.partition("=") for label in labels))
    )
