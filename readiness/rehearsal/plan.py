"""Plan of a rehearsal: which checks run on which machines, with which baselines. Pure.

A simulated chip computes with the host's kernels: what fails on the host's CPU is no finding about the chip, and
neither is what fails on the same machine without its defect. These two are the yardsticks of everything planted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from readiness.accelerators import sim
from readiness.check_registry import Check, Scope
from readiness.datamodel import AcceleratorFacts, Level, Profile, Use
from readiness.engine import plan
from readiness.engine.plan import Job
from readiness.judging import judge
from readiness.rehearsal.seeded_faults import SeededFault, Selection, healthy_machine
from readiness.simulator.machine_file import Chip

HOST = "host"
#: What hangs shall not hold up the rehearsal for as long as a real device may take; but for as long as a check waits, twice
#: if it must, before it names the operator or the rank that hangs.
HANG_LIKE, HANG_PATIENCE_S = frozenset({"hang", "rank-exit"}), 100.0
Key = tuple[str, int, str, str]


@dataclass(frozen=True, slots=True)
class Request:
    """Request for a rehearsal. `checks` keeps only these ids; `full` runs all of them on every chip with a defect.

    `seeds` are those of the healthy runs; the first one, or `seed` where there is none, is that of all else.
    """

    profile: Profile
    checklist: Mapping[str, Check]
    selection: Selection
    uses: tuple[Use, ...]
    seed: int
    seeds: tuple[int, ...]
    full: bool = False
    expression: str | None = None
    checks: frozenset[str] | None = None
    timeout_s: float | None = None
    jobs: int = 1


@dataclass(frozen=True, slots=True)
class Task:
    """One check on one machine. `fault_kind` is the kind of its defect, None for a healthy machine."""

    machine: str
    seed: int
    job: Job
    fault_kind: str | None = None

    @property
    def key(self) -> Key:
        """Unique key."""
        lead, check = self.job.key
        return self.machine, self.seed, check, lead


@dataclass(frozen=True, slots=True)
class Trial:
    """Trial of one planted defect: its tasks in order, the checks that ought to detect it, the baselines by check.

    `left_out` are checks of the profile that ought to see it too, and that nobody chose; `not_required` those of which the
    profile requires nothing. `expected` are the requirements that it expects to fail.
    """

    fault: SeededFault
    tasks: tuple[Task, ...]
    claimed_by: tuple[str, ...]
    baselines: Mapping[str, tuple[Task, ...]]
    left_out: tuple[str, ...] = ()
    not_required: tuple[str, ...] = ()
    expected: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HealthyRun:
    """The whole profile on a healthy machine, with one seed."""

    chip: str
    seed: int
    tasks: tuple[Task, ...]


@dataclass(frozen=True, slots=True)
class RehearsalPlan:
    """All tasks of a rehearsal.

    `host` are the tasks on the host's CPU by check; `left_out` counts the planted defects that no chosen check claims.
    """

    trials: tuple[Trial, ...]
    healthy: tuple[HealthyRun, ...]
    host: Mapping[str, Task]
    left_out: int = 0

    def tasks(self) -> list[Task]:
        """Return every task once: baselines, chips with defects, further healthy runs.

        In each of these the slow come first, and those that want to be alone last.
        """
        priorities: dict[Key, tuple[int, Task]] = {}
        for priority, task in self._prioritised():
            priorities.setdefault(task.key, (priority, task))
        return [task for _, task in sorted(priorities.values(), key=_order)]

    def _prioritised(self) -> Iterator[tuple[int, Task]]:
        for task in self.host.values():
            yield 0, task
        for trial in self.trials:
            for baselines in trial.baselines.values():
                for task in baselines:
                    yield 0, task
            for task in trial.tasks:
                yield 1, task
        for run in self.healthy:
            for task in run.tasks:
                yield 2, task


def _order(item: tuple[int, Task]) -> tuple[int, bool, float, Key]:
    priority, task = item
    return priority, task.job.check.alone, -task.job.check.typical_s, task.key


def plan_rehearsal(request: Request, host: AcceleratorFacts) -> RehearsalPlan:
    """Return the plan of a rehearsal. Raises UsageError for a bad expression."""
    writer = _Writer(request, host)
    trials = [writer.trial(fault) for fault in request.selection.faults]
    narrowed = (request.expression is not None or request.checks is not None) and not request.full
    kept = [trial for trial in trials if trial.tasks or not narrowed]
    sizes = sorted(
        {trial.fault.chip.chips for trial in kept for task in trial.tasks if task.job.check.scope is Scope.GROUP}
    )
    healthy = [
        writer.healthy(chip, seed, sizes if seed == request.seeds[0] else sizes[-1:])
        for seed in request.seeds
        for chip in request.selection.healthy
    ]
    return RehearsalPlan(tuple(kept), tuple(healthy), writer.host_tasks(kept, healthy), left_out=len(trials) - len(kept))


def claims(check: Check, fault: SeededFault, profile: Profile) -> bool:
    """Return whether a check ought to see a defect: as the defect itself expects, else where the check claims its kind."""
    expected = expectations(fault, profile)
    return check.id in expected.values() if expected else fault.defect.kind in check.catches


def expectations(fault: SeededFault, profile: Profile) -> dict[str, str]:
    """Return the requirements of the profile that a defect expects to fail, with the check of each."""
    return {item.id: item.check for item in profile.requirements if item.id in fault.defect.expected}


class _Writer:
    def __init__(self, request: Request, host: AcceleratorFacts) -> None:
        self.request = request
        self.seed = request.seeds[0] if request.seeds else request.seed
        self.host = {job.check.id: Task(HOST, self.seed, job) for job in self.jobs([host])}

    def jobs(self, accelerators: Sequence[AcceleratorFacts], *, chosen: bool = True) -> list[Job]:
        """Return a run's jobs on a machine without informational ones; if not `chosen`, also those not selected."""
        request = self.request
        planned = plan.plan(
            request.profile, request.uses, accelerators, request.checklist, expression=request.expression if chosen else None
        )
        return [
            job
            for job in planned
            if job.left_out is None
            and _decides(job, request.profile, request.uses)
            and (not chosen or request.checks is None or job.check.id in request.checks)
        ]

    def trial(self, fault: SeededFault) -> Trial:
        """Return the tasks of a defect: of the checks that ought to see it, or all."""
        jobs = self.jobs(sim.facts(fault.chip))
        kind = fault.defect.kind
        profile = self.request.profile
        tried = _limit_unaffected([job for job in jobs if self.request.full or claims(job.check, fault, profile)], fault)
        every = self.jobs(sim.facts(fault.chip), chosen=False)
        chosen, claiming = ({job.check.id for job in some if claims(job.check, fault, profile)} for some in (jobs, every))
        return Trial(
            fault=fault,
            tasks=tuple(Task(f"planted {fault.name}", self.seed, job, fault_kind=kind) for job in tried),
            claimed_by=tuple(sorted(chosen)),
            baselines={job.check.id: self.baselines(fault.chip, job.check) for job in tried},
            left_out=tuple(sorted(claiming - chosen)),
            not_required=tuple(sorted(self._claiming(kind) - claiming)),
            expected=tuple(sorted(expectations(fault, profile))),
        )

    def _claiming(self, kind: str) -> set[str]:
        """Return the checks that claim a kind, whatever the profile requires."""
        return {check.id for check in self.request.checklist.values() if kind in check.catches}

    def baselines(self, chip: Chip, check: Check) -> tuple[Task, ...]:
        """Return baselines: the check on the host, and on the same machine without its defect (one chip for all)."""
        host = [self.host[check.id]] if check.id in self.host else []
        return (*host, *self.on_healthy(chip, [chip.chips], self.seed, {check.id}))

    def healthy(self, chip: Chip, seed: int, sizes: Sequence[int]) -> HealthyRun:
        """Return a healthy run: checks of one accelerator on one chip, group checks on machines of the given sizes."""
        return HealthyRun(chip.name, seed, self.on_healthy(chip, sizes or [chip.chips], seed, None))

    def on_healthy(self, chip: Chip, sizes: Sequence[int], seed: int, only: Set[str] | None) -> tuple[Task, ...]:
        tasks = []
        for scope, counts in ((Scope.ACCELERATOR, [1]), (Scope.GROUP, sizes)):
            for count in counts:
                machine = healthy_machine(chip, count)
                name = f"healthy {json.dumps(machine.to_json(), sort_keys=True)}"
                tasks += [
                    Task(name, seed, job)
                    for job in self.jobs(sim.facts(machine))
                    if job.check.scope is scope and (only is None or job.check.id in only)
                ]
        return tuple(tasks)

    def host_tasks(self, trials: Sequence[Trial], healthy: Sequence[HealthyRun]) -> dict[str, Task]:
        """Return the baseline tasks on the host."""
        tasks = [task for trial in trials for task in trial.tasks] + [task for run in healthy for task in run.tasks]
        needed = {task.job.check.id for task in tasks}
        return {check: task for check, task in self.host.items() if check in needed}


def _limit_unaffected(jobs: Sequence[Job], fault: SeededFault) -> list[Job]:
    """Return the jobs without those on chips that have no defect, except for the first such chip."""
    spared = [facts.index for facts in sim.facts(fault.chip) if not fault.defect.on_chip(facts.index)]
    return [
        job for job in jobs if job.check.scope is Scope.GROUP or job.accelerators[0].index not in spared[1:]
    ]


def _decides(job: Job, profile: Profile, uses: Sequence[Use]) -> bool:
    return any(
        requirement.check == job.check.id
        and judge.level(requirement, len(job.accelerators)) is not Level.INFO
        and set(requirement.uses) & set(uses)
        and any(judge.applies(requirement, facts, len(job.accelerators)) for facts in job.accelerators)
        for requirement in profile.requirements
    )


def only_claimed(request: Request, checks: Set[str]) -> Request:
    """Return the rehearsal limited to these checks and to defects that one of them ought to see."""
    known = [request.checklist[id] for id in checks if id in request.checklist]
    faults = tuple(
        fault for fault in request.selection.faults if any(claims(check, fault, request.profile) for check in known)
    )
    return replace(request, checks=frozenset(checks), selection=replace(request.selection, faults=faults))
