"""Plan of a run: which checks, on which accelerators, in what order. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from readiness.accelerators import remote_devices
from readiness.check_registry import Check, Phase, Scope
from readiness.datamodel import AcceleratorFacts, Level, Profile, Use
from readiness.documents.assessment import facts_to_json
from readiness.errors import UsageError
from readiness.judging import judge
from readiness.missing_evidence import SkipCause

#: What starting up, looking for accelerators and reporting take off the time that `--within` grants.
OVERHEAD_S = 6.0
#: Skip causes of checks that were not requested: they are unknown, and no reason to run them again.
NOT_REQUESTED = (SkipCause.EXPRESSION, SkipCause.FAILED)
_RANK = {Level.MUST: 0, Level.SHOULD: 1, Level.INFO: 2}


@dataclass(frozen=True, slots=True)
class Job:
    """One check on one accelerator, or on all of a stack together (the first one leads).

    `left_out` says why it will not run, None where it will; `cause` is the same for programs.
    """

    check: Check
    accelerators: tuple[AcceleratorFacts, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    level: Level = Level.MUST
    left_out: str | None = None
    cause: SkipCause | None = None

    @property
    def lasts_s(self) -> float:
        """The soak duration in seconds; 0 for a check that ends by itself."""
        return float(self.settings[self.check.lasting]) if self.check.lasting is not None else 0.0

    @property
    def typical_s(self) -> float:
        """The usual time on two CPU cores, in seconds."""
        return self.check.typical_s + self.lasts_s

    @property
    def limit_s(self) -> float:
        """The time limit of its first try."""
        return self.check.limit_s + 1.1 * self.lasts_s

    @property
    def key(self) -> tuple[str, str]:
        """The id of the leading accelerator and of the check."""
        return self.accelerators[0].id, self.check.id

    def worker_request(
        self,
        seed: int,
        *,
        kept: Path | None = None,
        elsewhere: Sequence[AcceleratorFacts] = (),
        shared: Path | None = None,
    ) -> dict[str, Any]:
        """Return the request to a worker: check, accelerators, settings, seed and files.

        A check of a group may use those `elsewhere`, on other hosts, that are of its stack.
        """
        lead = self.accelerators[0]
        others = [facts for facts in elsewhere if facts.stack == lead.stack and self.check.scope is Scope.GROUP]
        return {
            "job": "check",
            "check": self.check.id,
            "file": self.check.file,
            "accelerator": facts_to_json(lead),
            "peers": [remote_devices.delta_encode(facts, lead) for facts in (*self.accelerators, *others)],
            "seed": seed,
            "settings": dict(self.settings),
            "kept": None if kept is None else str(kept),
            "shared": None if shared is None else str(shared),
        }


def plan(
    profile: Profile,
    uses: Sequence[Use],
    accelerators: Sequence[AcceleratorFacts],
    checklist: Mapping[str, Check],
    *,
    expression: str | None = None,
    within_s: float | None = None,
    only: frozenset[tuple[str, str]] | None = None,
    soak_s: float | None = None,
    elsewhere: Sequence[AcceleratorFacts] = (),
    known: Collection[tuple[str, str]] = (),
) -> list[Job]:
    """Return every job that the profile requires, in order of execution; omitted ones have a reason.

    `only` keeps the jobs of these (accelerator, check) pairs. `soak_s` is for how long checks work that go on for as long
    as they are told: it is given to all of these, also where no requirement asks for them. `elsewhere` are accelerators of
    other hosts: they count where requirements ask for several, and no job is about them. Of what is `known` already, by its
    key, nothing is left out, and it takes no time. Raises UsageError for a bad expression.
    """
    chosen = parse_expression(expression) if expression else None
    jobs: list[Job] = []
    for check in checklist.values():
        soaks = check.lasting is not None and soak_s is not None
        needed = list(accelerators) if soaks else _needed_by(check, profile, uses, accelerators, elsewhere)
        groups = _groups(needed) if check.scope is Scope.GROUP else [(facts,) for facts in needed]
        for group in groups:
            job = Job(
                check,
                group,
                settings=dict(check.settings)
                | dict(profile.settings.get(check.id, {}))
                | ({str(check.lasting): soak_s} if soaks else {}),
                level=_level(check, profile, uses, group, (*accelerators, *elsewhere)),
            )
            jobs.append(job if job.key in known else _unless_left_out(job, chosen, only))
    if within_s is not None:
        jobs = _fit(jobs, within_s, known)
    return sorted(jobs, key=_order)


def _needed_by(
    check: Check,
    profile: Profile,
    uses: Sequence[Use],
    accelerators: Sequence[AcceleratorFacts],
    elsewhere: Sequence[AcceleratorFacts],
) -> list[AcceleratorFacts]:
    matching = [item for item in profile.requirements if item.check == check.id and set(item.uses) & set(uses)]
    return [
        facts
        for facts in accelerators
        if any(judge.applies(item, facts, judge.count_of_stack((*accelerators, *elsewhere), facts)) for item in matching)
    ]


def _level(
    check: Check,
    profile: Profile,
    uses: Sequence[Use],
    group: Sequence[AcceleratorFacts],
    accelerators: Sequence[AcceleratorFacts],
) -> Level:
    matching = [
        judge.level(item, chips)
        for item in profile.requirements
        if item.check == check.id and set(item.uses) & set(uses)
        for facts in group
        if judge.applies(item, facts, chips := judge.count_of_stack(accelerators, facts))
    ]
    return min(matching, key=_RANK.__getitem__, default=Level.INFO)


def _groups(accelerators: Sequence[AcceleratorFacts]) -> list[tuple[AcceleratorFacts, ...]]:
    stacks = dict.fromkeys(facts.stack for facts in accelerators)
    return [tuple(facts for facts in accelerators if facts.stack == stack) for stack in stacks]


def _unless_left_out(job: Job, chosen: Callable[[str], bool] | None, only: frozenset[tuple[str, str]] | None) -> Job:
    for facts in job.accelerators:
        if reason := facts.properties.get("unusable"):
            return replace(job, left_out=f"the device cannot be used: {reason}", cause=SkipCause.UNUSABLE)
    if job.check.lasting is not None and job.lasts_s <= 0:
        return replace(job, left_out="left out: it runs only with --soak TIME", cause=SkipCause.SOAK)
    if chosen is not None and not chosen(job.check.id):
        return _left_out_by(job, SkipCause.EXPRESSION)
    if only is not None and not any((facts.id, job.check.id) in only for facts in job.accelerators):
        return _left_out_by(job, SkipCause.FAILED)
    return job


def _left_out_by(job: Job, cause: SkipCause, detail: str = "") -> Job:
    return replace(job, left_out=f"left out by {cause.option}{detail}", cause=cause)


def _fit(jobs: Sequence[Job], within_s: float, known: Collection[tuple[str, str]]) -> list[Job]:
    """Omit what does not fit into the time: musts first, cheap before expensive. Accelerators run in parallel.

    A check that wants the machine to itself takes everybody's.
    """
    spent: dict[str, float] = {facts.id: 0.0 for job in jobs for facts in job.accelerators}
    fitted = []
    for job in sorted(jobs, key=lambda job: (_RANK[job.level], job.typical_s, job.key)):
        if job.left_out is None and job.key not in known:
            lanes = list(spent) if job.check.alone else [facts.id for facts in job.accelerators]
            after = max(spent[lane] for lane in lanes) + job.typical_s
            if after > within_s - OVERHEAD_S:
                job = _left_out_by(job, SkipCause.WITHIN, f": it takes about {job.typical_s:g} s")  # noqa: PLW2901
            else:
                spent |= dict.fromkeys(lanes, after)
        fitted.append(job)
    return fitted


def _order(job: Job) -> tuple[bool, bool, float, str, str]:
    """Sort key: fault counters last, checks that need the whole machine before them, cheap before expensive."""
    check = job.check
    return check.phase is Phase.LAST, check.alone, job.typical_s, check.id, job.key[0]


_TOKEN = re.compile(r"\s*(?:(\()|(\))|([\w.*?\[\]:-]+))")


def refuse_what_fits_nothing(expression: str, profile: Profile, checklist: Mapping[str, Check]) -> None:
    """Raise UsageError for an expression that matches no check of the profile and no soak."""
    chosen = parse_expression(expression)
    requested = {requirement.check for requirement in profile.requirements}
    if not any(chosen(id) for id in requested | {check.id for check in checklist.values() if check.lasting is not None}):
        raise UsageError(
            f"no check of the profile {profile.name} matches",
            place=f"-k {expression!r}",
            remedy="give an id of `readiness list`, a part of one or a glob; or name the --profile that requires it",
        )


def parse_expression(text: str) -> Callable[[str], bool]:
    """Parse `-k` into a predicate over check ids: names and globs with `and`, `or`, `not` and parentheses.

    A name without glob characters matches any id that contains it. Raises UsageError.
    """
    position, tokens = 0, []
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            raise _bad_expression(text, f"{text[position:].strip()[0]!r} is unexpected there")
        tokens.append(match[0].strip())
        position = match.end()
    if len(tokens) > 200:
        raise _bad_expression(text, "it has more than 200 words")
    predicate, rest = _either(tokens, text)
    if rest:
        raise _bad_expression(text, f"{rest[0]!r} is unexpected")
    return predicate


_Parsed = tuple[Callable[[str], bool], list[str]]


def _either(tokens: list[str], text: str) -> _Parsed:
    left, rest = _both(tokens, text)
    if rest and rest[0] == "or":
        right, rest = _either(rest[1:], text)
        return (lambda id: left(id) or right(id)), rest
    return left, rest


def _both(tokens: list[str], text: str) -> _Parsed:
    left, rest = _single(tokens, text)
    if rest and rest[0] == "and":
        right, rest = _both(rest[1:], text)
        return (lambda id: left(id) and right(id)), rest
    return left, rest


def _single(tokens: list[str], text: str) -> _Parsed:
    if not tokens:
        raise _bad_expression(text, "it ends where a name is expected")
    word, *rest = tokens
    if word == "not":
        inner, rest = _single(rest, text)
        return (lambda id: not inner(id)), rest
    if word == "(":
        inner, rest = _either(rest, text)
        if not rest or rest[0] != ")":
            raise _bad_expression(text, "a parenthesis is not closed")
        return inner, rest[1:]
    if word in (")", "and", "or"):
        raise _bad_expression(text, f"{word!r} is in the place of a name")
    glob = word if set(word) & set("*?[") else f"*{word}*"
    return (lambda id: fnmatchcase(id, glob)), rest


def _bad_expression(text: str, what: str) -> UsageError:
    return UsageError(
        f"the expression {text!r} cannot be read: {what}", place="-k", remedy="write it like -k 'parity and not training'"
    )
