"""Data model of a run, as frozen dataclasses; their JSON is in `readiness.documents.assessment`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from readiness.enums import Action, Better, Cost, Decision, Level, Operator, Outcome, Status, Use
from readiness.missing_evidence import Cause

#: What others import from here that stands elsewhere.
__all__ = ["Action", "Better", "Cost", "Decision", "Level", "Operator", "Outcome", "Status", "Use"]

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Measure:
    """Meaning of a check's measurement, and the default prose of a requirement on it.

    `unit` is "1" for a number without one. `meaning` is one sentence about the value; `better` is None where neither
    direction is better. `title` says in plain words what holds where a requirement is met; in it and in the other texts
    `{LABEL}` is the value that the requirement asks of a label. `why`, `remedy` and `action` are a requirement's.
    """

    unit: str
    meaning: str = ""
    better: Better | None = None
    title: str = ""
    why: str = ""
    remedy: str = ""
    action: Action = Action.NONE


@dataclass(frozen=True, slots=True)
class AcceleratorFacts:
    """One device under test: its identity and driver stack. What it can do is measured, never looked up here.

    `id` is the device as the user names it (`cpu:0`, `cuda:3`); `kind` the part before the colon; `stack` the software
    that drives it (`cuda` and `rocm` both present as `cuda:N`). `software` maps a component to its version, None where
    the component exists and its version could not be read. `counters` are the vendor's fault counters as they stood at
    the start of the run, None where the vendor offers none.
    """

    id: str
    kind: str
    index: int
    stack: str
    vendor: str | None
    model: str | None
    serial: str | None = None
    memory_bytes: int | None = None
    software: Mapping[str, str | None] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)
    counters: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Joined:
    """An accelerator of another host that worked together with those under test; no verdict is given on it."""

    host: str
    id: str
    stack: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """One figure. For repeated measurements the check's docstring names the statistic (default: median).

    `unit` is filled in from the check's declaration. `labels` tell measurements of one name apart (`dtype`, `op`).
    `about` names in words what a poor value is about (operator, dtype, layout, rank, chip): it becomes the reason of a
    failed requirement. NaN and infinity are legitimate values, which satisfy no limit; a boolean satisfies none that is
    a number. What else can be one says `readiness.judging.measurement_values`.
    """

    name: str
    value: float | int | bool
    labels: Labels = field(default_factory=dict)
    unit: str | None = None
    spread: float | None = None
    samples: int | None = None
    about: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One row of detail behind the measurements: JSON scalars by name. For people; never judged."""

    cells: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Note:
    """Current step of a long check, for the progress display. Not saved."""

    text: str


Yield = Measurement | Row | Note


#: The key of an evidence's environment under which stands how often each planted defect of a simulated chip acted.
PLANTED_ACTED = "planted_defects_acted"


@dataclass(frozen=True, slots=True)
class HostLoad:
    """What the host did beside one check: shares from 0 to 1, each None where the system does not report it.

    `others` is what processes that are none of the run's had of the time of the processors that it may use, `stolen` what a
    hypervisor withheld of it; both of the second before its end where the check took less. `waited` is the share of the
    check's time in which a thread of its process was ready and had no processor. `elsewhere` is the share of the time of the
    host's other processors that they worked, 0 where the run may use all. `peak` is the largest share of others in a second.
    """

    others: float | None = None
    stolen: float | None = None
    waited: float | None = None
    elsewhere: float | None = None
    peak: float | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Result of one check on one accelerator: status, measurements, rows, environment.

    `seconds` is the wall time of the last try, `attempts` the number of tries, 0 where it did not run, `cause` for programs
    what `reason` is for people, `log` the tail of what was printed, `process` how it ended (`exit_code`, `signal`, ...),
    `environment` what can change results. `accelerators` are the ids that took part, where it is more than one.
    """

    check: str
    status: Status
    reason: str | None = None
    seconds: float = 0.0
    attempts: int = 1
    measurements: tuple[Measurement, ...] = ()
    rows: tuple[Mapping[str, Any], ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    process: Mapping[str, Any] = field(default_factory=dict)
    accelerators: tuple[str, ...] = ()
    log: str = ""
    earlier: str | None = None  # when the run began that measured it, where this one took it over
    cause: Cause | None = None
    earlier_tries_s: float = 0.0  # wall time of the tries before the last one
    host_load: HostLoad | None = None  # None where the system reports none of it; documents of early versions have none

    @property
    def all_tries_s(self) -> float:
        """Wall time of all tries."""
        return self.seconds + self.earlier_tries_s


Number = float | int | bool


@dataclass(frozen=True, slots=True)
class Limit:
    """Condition on a measurement. `high` is the upper end of `between`.

    `zero` is the value from which on partial credit begins: nothing there, everything at the bound. Only with
    `at_least` and `at_most`.
    """

    operator: Operator
    bound: Number
    high: float | None = None
    zero: float | None = None

    def __str__(self) -> str:
        """The limit as text in reports, e.g. `at_most 1e-05`."""
        if self.operator is Operator.BETWEEN:
            return f"between {self.bound:g} and {self.high:g}"
        if isinstance(self.bound, bool):
            return f"{self.operator} {str(self.bound).lower()}"
        return f"{self.operator} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Remedy:
    """Action to take when a requirement is not met."""

    text: str
    action: Action = Action.NONE


@dataclass(frozen=True, slots=True)
class Requirement:
    """One line of a profile.

    `only_on` and `not_on` are globs over stack names; elsewhere the requirement is not applicable, and neither is it where
    fewer than `least_chips` accelerators of the stack are under test. `level_of_several` is its level where two or more are
    under test, None where that makes no difference. `place` is `file:line` of its declaration.
    """

    id: str
    uses: tuple[Use, ...]
    check: str
    measure: str
    limit: Limit
    where: Labels = field(default_factory=dict)
    level: Level = Level.MUST
    weight: float = 1.0
    why: str = ""
    source: str = ""
    remedy: Remedy | None = None
    only_on: tuple[str, ...] = ()
    not_on: tuple[str, ...] = ()
    least_chips: int = 1
    level_of_several: Level | None = None
    place: str | None = None
    title: str = ""  # in a few plain words, what holds where it is met


@dataclass(frozen=True, slots=True)
class Profile:
    """A workload and its requirements. `settings` go to its checks; `files` are those they name, by path with SHA-256.

    `demands` is all that it demands in canonical form, of which `sha256` is the digest.
    """

    name: str
    title: str
    uses: tuple[Use, ...]
    requirements: tuple[Requirement, ...]
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    description: str = ""
    sha256: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    demands: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Basis:
    """The basis of findings: with the evidence, enough to derive each of them again.

    `demands` is the profile's canonical form; `settings` are those that its checks were to be told, their own defaults among
    them; `lasting` names by check the setting that says for how long it works; `files` are the profile's. `places` say for
    people where each requirement is declared (`file:line`, by `profile.requirement_places`); nothing is judged by them.
    """

    demands: Mapping[str, Any]
    settings: Mapping[str, Mapping[str, Any]]
    lasting: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Waiver:
    """A named person's decision to accept one failed requirement on some accelerators until a day (inclusive)."""

    requirement: str
    accelerator: str
    reason: str
    by: str
    until: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One requirement judged on one accelerator for one use.

    `earned` is the share of the weight that is proven (0 to 1). `reason` says in words why the outcome is not a pass.
    """

    requirement: str
    use: Use
    level: Level
    outcome: Outcome
    limit: str
    weight: float
    check: str
    measure: str
    labels: Labels = field(default_factory=dict)
    value: Number | None = None
    unit: str | None = None
    earned: float = 0.0
    reason: str | None = None
    why: str = ""
    remedy: Remedy | None = None
    waived: Waiver | None = None
    expired_waiver: Waiver | None = None
    title: str = ""  # the requirement's; documents of early versions have none
    source: str = ""  # where the requirement's limit comes from; documents of early versions have none


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer for one use: points proven (`score`), points possible (`ceiling`), both 0 to 100.

    `blockers`, `limits` and `unknown` are requirement ids: failed musts, failed shoulds, and what could not be told;
    `waived` those of any level that failed and that somebody decided to live with.
    """

    decision: Decision
    score: float
    ceiling: float
    blockers: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    waived: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One defect that explains several failed requirements: what is wrong in a sentence, and what to do first.

    `rule` names the rule that found it, `subject` what its evidence has in common (`operator`, `dtype`, `phase`, `layout`,
    `op`, `link`, ...). `requirements` are ids, the blockers among them in `blockers`; `stops` are the uses that these keep
    from being ready.
    """

    rule: str
    sentence: str
    accelerators: tuple[str, ...]
    requirements: tuple[str, ...]
    blockers: tuple[str, ...]
    stops: tuple[Use, ...]
    remedy: Remedy
    subject: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AcceleratorAssessment:
    """One accelerator with its evidence, findings and verdicts."""

    facts: AcceleratorFacts
    evidence: tuple[Evidence, ...]
    findings: tuple[Finding, ...]
    verdicts: Mapping[Use, Verdict]


@dataclass(frozen=True, slots=True)
class Assessment:
    """The whole document of a run. `started` is UTC, ISO 8601 with `Z`; `seconds` wall time over all its sessions.

    `rehearsal` is what the checks caught of planted defects on simulated chips that day, as the schema has it; None where
    none was asked for. `joined` are the accelerators of other hosts that took part. `basis` is None where early versions
    wrote none.
    """

    version: str
    seed: int
    started: str
    seconds: float
    host: Mapping[str, Any]
    profile_name: str
    profile_title: str
    profile_sha256: str
    uses: tuple[Use, ...]
    accelerators: tuple[AcceleratorAssessment, ...]
    interrupted: bool = False
    rehearsal: Mapping[str, Any] | None = None
    joined: tuple[Joined, ...] = ()
    basis: Basis | None = None
