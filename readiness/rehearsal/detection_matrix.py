"""Detection matrix: which check caught which planted defect, and false alarms. Pure.

The laws it keeps (tests/unit/rehearsal/test_detection_matrix.py proves them):

- a check catches a defect where a must or a should of the profile fails by it on a chip that has the defect, while the
  same requirement holds on a yardstick and fails on none;
- every check that ran on a planted chip has caught the defect, missed it, not met it, or unknown: nothing falls out;
- where a requirement that the defect could fail was not measured, on that chip or without the defect, its check has missed
  nothing;
- what never acted has neither been caught nor missed;
- a failed requirement on a chip with nothing wrong is a false alarm, unless the host's CPU fails it as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from readiness import rendering
from readiness.check_registry import Scope
from readiness.datamodel import AcceleratorFacts, Evidence, Finding, Level, Outcome, Profile, Status, Use
from readiness.errors import Exit
from readiness.judging import judge
from readiness.missing_evidence import KillCause, SkipCause
from readiness.rehearsal.plan import Key, RehearsalPlan, Task, Trial
from readiness.rehearsal.seeded_faults import SeededFault
from readiness.simulator.fault_counts import ACTED, MET

_LONGEST_REASON = 600
#: Why a check has no result that are the host's causes, and none that a defect could make.
_HOST_CAUSES = frozenset({
    SkipCause.BUSY_HOST, SkipCause.SHORT_LIMIT, KillCause.MEMORY, KillCause.SUSPENDED, KillCause.NOT_STARTED,
    KillCause.FORKSERVER,
})  # fmt: skip
_RANK = {Level.MUST: 0, Level.SHOULD: 1}
Found = Mapping[Key, Evidence]


class Detection(StrEnum):
    """Result of one planted defect."""

    CAUGHT = "caught"
    MISSED = "missed"              # although a check of the profile claims its kind
    UNFINISHED = "not finished"    # somebody stopped the rehearsal before all that claim it had run
    NOT_TRIED = "not tried"        # no chosen check has met it, and others that claim its kind were left out
    DID_NOT_ACT = "did not act"    # on any call of the checks that claim its kind: neither a catch nor a miss
    UNTOLD = "cannot be told"      # what would show it could not be measured, as speeds on a busy host
    NOT_REQUIRED = "not asked"        # checks claim its kind, and the profile requires nothing of them
    NOT_CLAIMED = "not claimed"    # and not caught: nobody said that it would be


@dataclass(frozen=True, slots=True)
class Catch:
    """A check that caught a defect, with the weightiest failed requirement; `requirements` are all failed ones.

    `seconds` is how far a run of the rehearsed checks on that chip would have come when this one ended. `accelerators`
    are the chips on which it was seen. `status` is how the check ended there: one that did not end may have met a busy host.
    """

    check: str
    requirement: str
    level: Level
    seconds: float
    about: str
    accelerators: tuple[str, ...]
    requirements: tuple[str, ...]
    claimed: bool
    status: Status = Status.MEASURED


@dataclass(frozen=True, slots=True)
class DefectResult:
    """Planted defect and its detections. Checks in `missed_by` claim its kind, ran and missed it; `not_run` did not run.

    `not_met` ran, claim its kind, and it never acted on their calls; `left_out` claim it, and nobody chose them; of
    `not_required` the profile requires nothing. `unable` could not tell, by check with the reason; of these `unmeasured`
    claim it, ended, and have no figure for a requirement that it could fail. `acted` is how often it acted, by check, as
    far as that is known. `expected` are the requirements that ought to fail by it, where its chip names any.
    """

    fault: SeededFault
    claimed_by: tuple[str, ...]
    catches: tuple[Catch, ...]
    missed_by: tuple[str, ...]
    unable: Mapping[str, str]
    not_run: tuple[str, ...] = ()
    not_met: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    not_required: tuple[str, ...] = ()
    unmeasured: tuple[str, ...] = ()
    acted: Mapping[str, int] = field(default_factory=dict)
    expected: tuple[str, ...] = ()

    @property
    def detection(self) -> Detection:
        """The result as one of `Detection`."""
        if self.catches:
            return Detection.CAUGHT
        if not self.claimed_by:
            return Detection.NOT_REQUIRED if self.not_required else Detection.NOT_CLAIMED
        if self.not_run:
            return Detection.UNFINISHED
        if set(self.claimed_by) <= set(self.not_met):
            return Detection.NOT_TRIED if self.left_out else Detection.DID_NOT_ACT
        return Detection.UNTOLD if self.unmeasured and not self.missed_by else Detection.MISSED


@dataclass(frozen=True, slots=True)
class FalseAlarm:
    """False alarm: a requirement that failed on a healthy chip of `machine`."""

    machine: str
    seed: int
    check: str
    requirement: str
    about: str
    accelerator: str


@dataclass(frozen=True, slots=True)
class DetectionMatrix:
    """Result of a rehearsal. `unknown` are requirements without a result on healthy chips, with the number of runs.

    `host_fails` are requirements that the host's own CPU fails: nothing can be learned from them here. `rehearsed` is
    false where no check came to an end on any simulated chip.
    """

    defects: tuple[DefectResult, ...]
    alarms: tuple[FalseAlarm, ...]
    healthy_runs: int
    unknown: Mapping[str, int]
    host_fails: tuple[str, ...]
    rehearsed: bool

    def of(self, detection: Detection) -> list[DefectResult]:
        """Return the defects with this result."""
        return [line for line in self.defects if line.detection is detection]

    def exit(self) -> Exit:
        """Return the exit code: ready if every claim was kept and no chip was blamed; undetermined if nobody can tell."""
        if not self.rehearsed or (
            self.defects and len(self.of(Detection.NOT_TRIED)) == len(self.defects) and not self.alarms
        ):
            return Exit.UNDETERMINED
        if self.alarms or self.of(Detection.MISSED):
            return Exit.NOT_READY
        open_ends = self.of(Detection.DID_NOT_ACT) + self.of(Detection.UNTOLD)
        return Exit.UNDETERMINED if open_ends else Exit.READY


def build_matrix(plan: RehearsalPlan, found: Found, profile: Profile, uses: Sequence[Use]) -> DetectionMatrix:
    """Build the detection matrix from the evidence that the tasks left."""
    evaluator = _Evaluator(profile, tuple(uses), found)
    blamed = [alarm for trial in plan.trials for alarm in _alarms_on_spared_chips(trial, evaluator)]
    alarms, unknown = _healthy(plan, evaluator)
    on_host = {name: finding for task in plan.host.values() for name, finding in evaluator.findings(task).items()}
    return DetectionMatrix(
        defects=tuple(_defect_result(trial, evaluator) for trial in plan.trials),
        alarms=(*alarms, *blamed),
        healthy_runs=sum(any(task.key in found for task in run.tasks) for run in plan.healthy),
        unknown=unknown,
        host_fails=tuple(sorted(name for name, finding in on_host.items() if finding.outcome is Outcome.FAIL)),
        rehearsed=any(
            found[task.key].status not in (Status.ERROR, Status.SKIPPED)
            for task in plan.tasks()
            if task.key in found and task.key not in {host.key for host in plan.host.values()}
        ),
    )


@dataclass(frozen=True, slots=True)
class _Evaluator:
    profile: Profile
    uses: tuple[Use, ...]
    found: Found

    def findings(self, task: Task) -> dict[str, Finding]:
        """Return the findings of a task's evidence, by requirement id; empty if it did not run."""
        evidence = self.found.get(task.key)
        if evidence is None:
            return {}
        chips = len(task.job.accelerators)
        requested = replace(
            self.profile,
            requirements=tuple(
                item
                for item in self.profile.requirements
                if item.check == evidence.check and judge.level(item, chips) is not Level.INFO
            ),
        )
        judged = judge.judge(requested, task.job.accelerators[0], [evidence], uses=self.uses, chips=chips)
        return {finding.requirement: finding for finding in judged.findings}

    def failed(self, task: Task) -> list[Finding]:
        """Return the failed findings, the weightiest first; those with a subject before others."""
        failed = [finding for finding in self.findings(task).values() if finding.outcome is Outcome.FAIL]
        return sorted(failed, key=lambda item: (_RANK[item.level], not item.reason, -item.weight, item.requirement))

    def unknown(self, task: Task, expected: Sequence[str]) -> str:
        """Return which requirement could not be judged and why: of the `expected` ones if any is the check's; else ""."""
        findings = self.findings(task)
        chosen = [findings[name] for name in expected if name in findings] or list(findings.values())
        unknown = [finding for finding in chosen if finding.outcome is Outcome.UNKNOWN]
        return rendering.clean(f"{unknown[0].requirement}: {unknown[0].reason}", _LONGEST_REASON) if unknown else ""

    def counts(self, requirement: str, baselines: Sequence[Task]) -> bool:
        """True if a failure of this requirement is due to the defect: without it the requirement was always met."""
        outcomes = self.outcomes(requirement, baselines)
        return Outcome.PASS in outcomes and Outcome.FAIL not in outcomes

    def outcomes(self, requirement: str, baselines: Sequence[Task]) -> set[Outcome]:
        """Return the outcomes of a requirement on the baselines."""
        judged = (self.findings(task).get(requirement) for task in baselines)
        return {finding.outcome for finding in judged if finding is not None}


def _about(finding: Finding) -> str:
    return rendering.reason(finding) or rendering.measured(finding)


def _can_act_on(fault: SeededFault, task: Task) -> bool:
    """True if the defect can act in this task: a check of one chip sees only that chip's defects."""
    return any(fault.defect.on_chip(facts.index) for facts in task.job.accelerators)


def _defect_result(trial: Trial, evaluator: _Evaluator) -> DefectResult:
    catches: dict[str, Catch] = {}
    detected_nothing: set[str] = set()
    met: set[str] = set()
    not_run: set[str] = set()
    unable: dict[str, str] = {}
    unmeasured: set[str] = set()
    spent: dict[str, float] = {}
    acted: dict[str, int] = {}
    for task in trial.tasks:
        evidence = evaluator.found.get(task.key)
        if evidence is None:
            not_run.add(task.job.check.id)
            continue
        ids = [facts.id for facts in task.job.accelerators]
        seconds = max(spent.get(id, 0.0) for id in ids) + evidence.seconds
        spent |= dict.fromkeys(ids, seconds)
        if not _can_act_on(trial.fault, task):
            continue
        check = evidence.check
        baselines = trial.baselines.get(check, ())
        failed = evaluator.failed(task)
        blamed = [finding for finding in failed if evaluator.counts(finding.requirement, baselines)]
        times = _times_acted(evidence)
        if times is not None:
            acted[check] = acted.get(check, 0) + times
        if blamed and times == 0:
            unable[check] = f"{blamed[0].requirement} fails, but the defect never acted there"
        elif blamed:
            catches[check] = _joined(catches.get(check), _catch(trial, blamed, seconds, task, evidence.status))
        elif failed:
            unable[check] = _not_counted(failed, evaluator, baselines)
        elif evidence.status in (Status.ERROR, Status.SKIPPED):
            unable[check] = rendering.clean(evidence.reason or evidence.status, _LONGEST_REASON)
        elif times != 0 and (why := evaluator.unknown(task, trial.expected)):
            unable[check] = why
        else:
            detected_nothing.add(check)
        if times != 0:  # nobody knows for a defect that acts on no call
            met.add(check)
        if not blamed and times != 0 and _is_unmeasured(trial, task, evidence, evaluator):
            unmeasured.add(check)
    claimed = set(trial.claimed_by)
    unmeasured &= claimed - catches.keys()
    silent = detected_nothing & claimed - catches.keys() - unmeasured
    return DefectResult(
        fault=trial.fault,
        claimed_by=trial.claimed_by,
        catches=tuple(sorted(catches.values(), key=lambda catch: (catch.seconds, catch.check))),
        missed_by=tuple(sorted(silent & met)),
        unable={
            check: why
            for check, why in sorted(unable.items())
            if check in unmeasured or check not in catches.keys() | detected_nothing
        },
        not_run=tuple(sorted(not_run & claimed - catches.keys())),
        not_met=tuple(sorted(silent - met)),
        left_out=trial.left_out,
        not_required=trial.not_required,
        unmeasured=tuple(sorted(unmeasured)),
        acted=dict(sorted(acted.items())),
        expected=trial.expected,
    )


def _is_unmeasured(trial: Trial, task: Task, evidence: Evidence, evaluator: _Evaluator) -> bool:
    """True if what blames nobody may be due to the host: no figure on the chip, or none to compare a failure with."""
    failed = evaluator.failed(task)
    if failed:
        return Outcome.FAIL not in evaluator.outcomes(failed[0].requirement, trial.baselines.get(evidence.check, ()))
    if evidence.status in (Status.ERROR, Status.SKIPPED):
        return evidence.cause in _HOST_CAUSES
    return bool(evaluator.unknown(task, trial.expected))


def _times_acted(evidence: Evidence) -> int | None:
    """Return how often the planted defect acted on calls of a check; None where nobody knows."""
    counts = evidence.environment.get(ACTED)
    if isinstance(counts, Mapping) and counts:
        return sum(int(count) for count in counts.values())
    return 0 if evidence.environment.get(MET) is False else None


def _catch(trial: Trial, blamed: Sequence[Finding], seconds: float, task: Task, status: Status) -> Catch:
    first = blamed[0]
    return Catch(
        check=first.check,
        requirement=first.requirement,
        level=first.level,
        seconds=seconds,
        about=_about(first),
        accelerators=tuple(facts.id for facts in task.job.accelerators),
        requirements=tuple(sorted(finding.requirement for finding in blamed)),
        claimed=first.check in trial.claimed_by,
        status=status,
    )


def _joined(one: Catch | None, other: Catch) -> Catch:
    """Combine the same check on several chips of a machine: the first detection counts."""
    if one is None:
        return other
    first = min(one, other, key=lambda catch: catch.seconds)
    return replace(
        first,
        accelerators=tuple(dict.fromkeys((*one.accelerators, *other.accelerators))),
        requirements=tuple(sorted({*one.requirements, *other.requirements})),
    )


def _not_counted(failed: Sequence[Finding], evaluator: _Evaluator, baselines: Sequence[Task]) -> str:
    requirement = failed[0].requirement
    if Outcome.FAIL in evaluator.outcomes(requirement, baselines):
        return f"{requirement} fails, but also fails without the defect"
    return f"{requirement} fails, but was not measured without the defect"


def _alarms_on_spared_chips(trial: Trial, evaluator: _Evaluator) -> Iterator[FalseAlarm]:
    """Yield failures on chips of the machine that have no defect."""
    for task in trial.tasks:
        if task.job.check.scope is Scope.GROUP or _can_act_on(trial.fault, task):
            continue
        for finding in evaluator.failed(task):
            if evaluator.counts(finding.requirement, trial.baselines.get(finding.check, ())):
                yield _alarm(trial.fault.name, task, finding)


def _alarm(machine: str, task: Task, finding: Finding) -> FalseAlarm:
    accelerators: tuple[AcceleratorFacts, ...] = task.job.accelerators
    return FalseAlarm(
        machine=machine,
        seed=task.seed,
        check=finding.check,
        requirement=finding.requirement,
        about=_about(finding),
        accelerator=rendering.names([facts.id for facts in accelerators]),
    )


def _healthy(plan: RehearsalPlan, evaluator: _Evaluator) -> tuple[list[FalseAlarm], dict[str, int]]:
    alarms: list[FalseAlarm] = []
    unknown: dict[str, int] = {}
    for run in plan.healthy:
        outcomes: dict[str, set[Outcome]] = {}
        for task in run.tasks:
            host = [plan.host[task.job.check.id]] if task.job.check.id in plan.host else []
            for name, finding in evaluator.findings(task).items():
                outcomes.setdefault(name, set()).add(finding.outcome)
                if finding.outcome is Outcome.FAIL and Outcome.FAIL not in evaluator.outcomes(name, host):
                    alarms.append(_alarm(run.chip, task, finding))
        for name, seen in outcomes.items():
            if seen == {Outcome.UNKNOWN}:
                unknown[name] = unknown.get(name, 0) + 1
    return alarms, dict(sorted(unknown.items()))
