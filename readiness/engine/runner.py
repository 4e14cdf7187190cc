"""Runner: a run from discovery to the assessment; every job in a separate process, every result on disk.

An accelerator does one check at a time; several accelerators work side by side.
"""

from __future__ import annotations

import contextlib
import datetime
import signal
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Self

from readiness import __version__, accelerators
from readiness.accelerators import remote_devices
from readiness.accelerators.run_timeline import CheckSpan, RunTimeline
from readiness.check_registry import Check, Phase
from readiness.datamodel import AcceleratorFacts, Assessment, Evidence, Joined, Profile, Status, Use, Waiver
from readiness.engine.discovery import LIMIT_S, Discovery, discover, host, of_stacks, select
from readiness.engine.journal import Journal
from readiness.engine.last_run import LastRun
from readiness.engine.plan import Job, plan
from readiness.engine.resume import reconcile_devices, reusable_evidence
from readiness.engine.scheduler import POLL_S, Running, Scheduler, Stop
from readiness.engine.worker_evidence import evidence_of, recounted, unless_cut_short, unless_starved
from readiness.isolation.worker_pool import WorkerPool
from readiness.isolation.worker_process import Worker
from readiness.judging import judge
from readiness.missing_evidence import OWN_FAULTS, SkipCause, StopCause
from readiness.profile import loader

#: What ending the running checks and telling the result may take of the time that `--within` grants.
CLOSING_S = 3.0
#: What torch imports by itself at the first optimizer, deterministic algorithm or meta tensor: a second of each worker's.
_SOON_IMPORTED = ("torch._dynamo",)
#: What each worker with a simulated chip would do anew. Workers on other devices must not have such a device beside theirs.
_SIMULATED_KERNELS = ("readiness.simulator.kernel_preload",)
#: How far apart signals to several processes of one run may come.
_SIGNALS_SPREAD_S = 1.0


@dataclass(frozen=True, slots=True)
class Request:
    """Options of a run.

    `within_s` is the time the whole run may take, `timeout_s` the limit of each check in place of its own, to which a check
    that works for `soak_s` gets that; `only` keeps these (accelerator, check) pairs. `elsewhere` are accelerators of other
    hosts, which work together with those under test; `shared` is a folder that all these hosts see. `last` is the run from
    which this one takes over what need not be measured again.
    """

    profile: Profile
    checklist: Mapping[str, Check]
    uses: tuple[Use, ...]
    devices: tuple[str, ...] = ()
    expression: str | None = None
    within_s: float | None = None
    timeout_s: float | None = None
    soak_s: float | None = None
    seed: int = 0
    only: frozenset[tuple[str, str]] | None = None
    waivers: tuple[Waiver, ...] = ()
    elsewhere: tuple[AcceleratorFacts, ...] = ()
    shared: Path | None = None
    last: LastRun | None = None


class Observer:
    """Observer of a run's progress, without output; `readiness.cli.progress` has one that prints.

    Called from the loop: its methods must return at once.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop what is shown."""

    def looking(self) -> None:
        """Accelerators are being discovered."""

    def planned(
        self, accelerators: Sequence[AcceleratorFacts], jobs: Sequence[Job], known: Mapping[tuple[str, str], Evidence]
    ) -> None:
        """All jobs are known, with the omitted ones; some have evidence already."""

    def started(self, job: Job, attempt: int) -> None:
        """A job was started."""

    def running(self, jobs: Sequence[tuple[Job, Worker]]) -> None:
        """These jobs are running; called several times a second."""

    def finished(self, job: Job, evidence: Evidence) -> None:
        """A job finished."""

    def stopping(self, reason: str, running: Sequence[Job], waiting: Sequence[Job]) -> None:
        """The run ends early: running jobs are stopped, waiting ones will not start."""


def run(request: Request, journal: Journal, observer: Observer) -> Assessment:
    """Assess this machine's accelerators. The journal is open; evidence in it is not measured again.

    An interrupted run (SIGINT, SIGTERM) returns what it has, with `interrupted` set. Raises UsageError.
    """
    began = time.monotonic()
    started = journal.started or _now()
    with stop_signals() as stop, WorkerPool() as pool:
        journal.begin_session()
        observer.looking()
        # A wedged driver must not eat all the time that was granted: that it is wedged is the answer.
        limit_s = LIMIT_S if request.within_s is None else min(LIMIT_S, request.within_s * 0.6)
        discovery = discover(pool, limit_s=limit_s, stopped=lambda: bool(stop))
        chosen = reconcile_devices(select(discovery, request.devices), discovery, journal, time.monotonic() - began)
        request = replace(request, elsewhere=of_stacks(chosen, request.elsewhere))
        if request.last is not None:
            request.last.take_over(_plan(request, chosen), chosen, journal, time.monotonic() - began)
        taken = {key for key, evidence in journal.evidence.items() if evidence.earlier is not None}
        jobs = _plan(request, chosen, taken, request.within_s)
        if all(accelerators.stack(facts.stack).host_backed for facts in chosen):
            prepare(pool, simulated=all(facts.stack == "sim" for facts in chosen))
        loop = _Run(request, journal, observer, pool, jobs, reusable_evidence(jobs, journal), began, stop)
        observer.planned(chosen, jobs, loop.evidence)
        loop.run()
    seconds = journal.seconds_before + time.monotonic() - began
    return _assemble(request, discovery, chosen, jobs, loop, started, seconds, journal)


def _plan(
    request: Request,
    chosen: Sequence[AcceleratorFacts],
    taken: Collection[tuple[str, str]] = (),
    within_s: float | None = None,
) -> list[Job]:
    return plan(
        request.profile, request.uses, chosen, request.checklist, elsewhere=request.elsewhere, expression=request.expression,
        within_s=within_s, only=request.only, soak_s=request.soak_s, known=taken,
    )  # fmt: skip


def prepare(pool: WorkerPool, *, simulated: bool = False) -> None:
    """Preload the imports that most workers need, unless they could touch a driver before a fork.

    `simulated` says that all their devices are simulated chips.
    """
    pool.preload([*_SOON_IMPORTED, *(_SIMULATED_KERNELS if simulated else ())])


class _Run(Scheduler[Job]):
    """The jobs of a run. `wedged` are devices that a process blocks although it was killed, and why."""

    observer: Observer

    def __init__(
        self, request: Request, journal: Journal, observer: Observer, pool: WorkerPool, jobs: Sequence[Job],
        evidence: dict[tuple[str, str], Evidence], began: float, signals: list[str],
    ) -> None:  # fmt: skip
        super().__init__(pool, observer, [job for job in jobs if job.left_out is None and job.key not in evidence])
        self.options = request
        self.journal = journal
        self.evidence = evidence
        self.began = began
        self.signals = signals
        self.wedged: dict[str, str] = {}
        self.rest_until: dict[str, float] = {}  # by stack, on the monotonic clock
        self.began_at = time.time() - (time.monotonic() - began)
        self.starts: dict[tuple[str, str], float] = {}
        self.spans: dict[str, list[CheckSpan]] = {}  # by accelerator

    def job(self, task: Job) -> Job:
        return task

    def wants_stop(self) -> Stop | None:
        """Return the reason to stop: a signal, or the end of the time."""
        within = self.options.within_s
        if self.signals:
            return Stop(StopCause.INTERRUPTED, f"the run was interrupted ({self.signals[0]})")
        if within is not None and time.monotonic() - self.began > within - CLOSING_S:
            return Stop(StopCause.TIME_UP, f"the time given with --within ({within:.0f} s) was used up")
        return None

    def stopping(self, reason: str) -> None:
        self.observer.stopping(reason, [running.task for running in self.running], self.waiting)

    def admits(self, task: Job) -> bool:
        """False for a job on a wedged device, which is skipped."""
        held = sorted(self.lanes(task) & self.wedged.keys())
        if held:
            reason = self.wedged[held[0]]
            self.keep(task, Evidence(task.check.id, Status.SKIPPED, reason=reason, attempts=0, cause=SkipCause.HELD))
        return not held

    def limit_s(self, task: Job) -> float:
        """Return the check's own limit, or that of `--timeout`."""
        own_s = self.options.timeout_s
        return task.limit_s if own_s is None else own_s + 1.1 * task.lasts_s

    def request(self, task: Job) -> Mapping[str, Any]:
        options = self.options
        kept = None if task.check.recount is None else self.journal.kept(task.key, make=True)
        request = task.worker_request(options.seed, kept=kept, elsewhere=options.elsewhere, shared=options.shared)
        lead = task.accelerators[0]
        request |= {"not_before": self.rest_until.get(lead.stack, 0.0)}
        if task.check.phase is Phase.LAST:
            request["timeline"] = RunTimeline(self.began_at, self.spans.get(lead.id, ())).to_json()
        return request

    def started(self, running: Running[Job]) -> None:
        self.starts.setdefault(running.task.key, time.time())
        self.observer.started(running.task, running.attempt)

    def finish(self, running: Running[Job]) -> None:
        """Turn a worker's result into evidence, or try once more with a longer limit."""
        job, worker = running.task, running.worker
        self.note_span(job)
        if self.is_stopped_with_us(worker):
            self.put_back(running)
            return
        if worker.exit_code != 0 and len(job.accelerators) > 1:  # its ranks were killed with it
            stack = accelerators.stack(job.accelerators[0].stack)
            self.rest_until[stack.name] = time.monotonic() + stack.cooldown_s
        if worker.blocker is not None:
            reason = f"process {worker.pid} of {job.check.id} holds the device and cannot be killed"
            self.wedged |= {facts.id: reason for facts in job.accelerators}
        elif running.stopped:
            self.put_back(running)
            return
        elif self.try_again(running):
            return
        evidence = unless_cut_short(evidence_of(worker, job, running.attempt), worker, job)
        evidence = replace(unless_starved(evidence, worker), earlier_tries_s=running.earlier_tries_s)
        self.keep(job, recounted(evidence, job, self.journal.kept(job.key)))

    def note_span(self, job: Job) -> None:
        """Record when a check worked, for what the host's logs say of its devices afterwards."""
        began = self.starts.pop(job.key, time.time())
        span = CheckSpan(job.check.id, began, time.time(), job.check.provokes)
        for facts in job.accelerators:
            self.spans.setdefault(facts.id, []).append(span)

    def is_stopped_with_us(self, worker: Worker) -> bool:
        """Return whether it was stopped together with the run, as by systemd or a scheduler: not evidence.

        Its end may come before the signal to us does, which may be one that ends us too.
        """
        code = worker.exit_code
        if worker.kill_sent is not None or (code is not None and (code >= 0 or -code in OWN_FAULTS)):
            return False
        deadline = time.monotonic() + _SIGNALS_SPREAD_S
        while not self.signals and time.monotonic() < deadline:
            time.sleep(POLL_S)
        self.look_for_stop()
        return bool(self.signals)

    def keep(self, job: Job, evidence: Evidence) -> None:
        """Write the evidence to disk before anything else happens."""
        self.journal.append(job.key[0], evidence, time.monotonic() - self.began)
        self.evidence[job.key] = evidence
        self.observer.finished(job, evidence)


def _assemble(
    request: Request,
    discovery: Discovery,
    chosen: Sequence[AcceleratorFacts],
    jobs: Sequence[Job],
    loop: _Run,
    started: str,
    seconds: float,
    journal: Journal,
) -> Assessment:
    stop = loop.stop
    collected: dict[str, list[Evidence]] = {facts.id: [] for facts in chosen}
    for job in jobs:
        evidence = loop.evidence.get(job.key)
        if evidence is None:
            assert job.left_out is not None or stop is not None, "a planned job has no evidence"
            reason = job.left_out or f"it had not run: {stop.reason if stop else ''}"
            cause = job.cause or (stop.cause if stop else None)
            evidence = Evidence(
                job.check.id, Status.SKIPPED, reason=reason, attempts=0, settings=job.settings, cause=cause
            )
            if job.left_out is None:
                evidence = recounted(evidence, job, journal.kept(job.key))
        for facts in job.accelerators:
            collected[facts.id].append(evidence)
    today = _now()[:10]
    return Assessment(
        version=__version__,
        seed=request.seed,
        started=started,
        seconds=seconds,
        host=host(discovery),
        profile_name=request.profile.name,
        profile_title=request.profile.title,
        profile_sha256=request.profile.sha256,
        uses=request.uses,
        accelerators=tuple(
            judge.judge(
                request.profile, facts, collected[facts.id], uses=request.uses, waivers=request.waivers, today=today,
                chips=judge.count_of_stack((*chosen, *request.elsewhere), facts),
            )
            for facts in chosen
        ),
        interrupted=stop is not None and stop.cause is StopCause.INTERRUPTED,
        joined=tuple(
            Joined(at.name, facts.id, facts.stack) for facts in request.elsewhere if (at := remote_devices.host_of(facts))
        ),
        basis=loader.basis_of(request.profile, request.checklist),
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextlib.contextmanager
def stop_signals() -> Iterator[list[str]]:
    """SIGINT and SIGTERM as a list that fills; a second one ends the tool at once."""
    received: list[str] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number).name)
        if len(received) > 1:
            signal.default_int_handler(number, frame)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
