"""Makes the trials of a fleet: round by round, all trials of a round side by side, each result in the database at once.

A trial is `readiness run --host` on the host that leads it; how it is started there is another's business (`Start`).
"""

from __future__ import annotations

import datetime
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from readiness.documents import assessment as assessments
from readiness.documents import files
from readiness.errors import ReadinessError
from readiness.fleet.coordinator import GRACE_S, NodeLostError, Task
from readiness.fleet.links import attribution, trial_store
from readiness.fleet.links.evidence import GROUP_CHECKS, PAIR_CHECKS, TrialEvidence, from_assessment

#: Starts `readiness run` with these arguments on a host, with a time limit in seconds.
Start = Callable[[str, Sequence[str], float], Task]
_PERIOD_S = 0.2
_LONGEST_PROBLEM = 300


@dataclass(slots=True)
class _Running:
    trial: attribution.Trial
    task: Task
    began: float
    started: str
    deadline: float
    content: bytes | None = None
    output: str = ""
    late: bool = False
    last_event: float = field(default=0.0)


def arguments_of(trial: attribution.Trial, options: Sequence[str], reach: str) -> list[str]:
    """Return the arguments of the run that makes a trial: options of the user stand after ours, and win."""
    checks = PAIR_CHECKS if len(trial.hosts) == 2 else GROUP_CHECKS
    hosts = [word for host in trial.hosts[1:] for word in ("--host", host)]
    chosen = [] if "-k" in options else ["-k", " or ".join(checks)]
    return [*chosen, *hosts, "--reach", reach, *options]


def run(
    connection: sqlite3.Connection,
    start: Start,
    *,
    reach: str,
    limit_s: float,
    at_once: int,
    on_event: Callable[[str], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> attribution.Conclusion:
    """Make all rounds of the campaign in the database that are missing; return who is to blame."""
    campaign = trial_store.campaign(connection)
    assert campaign is not None
    notify = on_event or (lambda _: None)
    while True:
        kept = trial_store.trials(connection)
        waiting = [one for one in kept if one.evidence is None]
        if not waiting and not _plan_next(connection, campaign.plan, kept, notify):
            break
        waiting = waiting or [one for one in trial_store.trials(connection) if one.evidence is None]
        _make(connection, waiting, campaign.arguments, start, reach, limit_s, at_once, notify, clock, sleep)
    trial_store.finish(connection)
    results, _ = trial_store.outcomes(trial_store.trials(connection))
    return attribution.conclude(campaign.plan, results)


def _plan_next(
    connection: sqlite3.Connection, plan: attribution.Plan, kept: Sequence[trial_store.StoredTrial],
    notify: Callable[[str], None]
) -> bool:
    results, _ = trial_store.outcomes(kept)
    number = max((one.round for one in kept), default=0) + 1
    further = number - len(attribution.screening(plan))
    planned = attribution.next_round(plan, results) if further <= attribution.FURTHER_ROUNDS else []
    if not planned:
        return False
    trial_store.plan_round(connection, number, planned)
    purposes = ", ".join(sorted({trial.purpose.value for trial in planned}))
    notify(f"round {number}: {len(planned)} trials ({purposes})")
    return True


def _make(
    connection: sqlite3.Connection, waiting: Sequence[trial_store.StoredTrial], options: Sequence[str], start: Start,
    reach: str,
    limit_s: float, at_once: int, notify: Callable[[str], None], clock: Callable[[], float], sleep: Callable[[float], None],
) -> None:  # fmt: skip
    rest = list(waiting)
    running: list[tuple[int, _Running]] = []
    try:
        while rest or running:
            while rest and len(running) < at_once:
                one = rest.pop(0)
                now = clock()
                task = start(one.trial.hosts[0], arguments_of(one.trial, options, reach), limit_s)
                running.append((one.round, _Running(one.trial, task, now, _now(), now + limit_s + GRACE_S, last_event=now)))
            for entry in list(running):
                number, current = entry
                evidence = _looked_at(current, clock())
                if evidence is not None:
                    running.remove(entry)
                    trial_store.keep(connection, number, evidence, current.started, clock() - current.began)
                    notify(f"{' with '.join(evidence.hosts)}: {_in_short(evidence)}")
            if running:
                sleep(_PERIOD_S)
    finally:
        for _, current in running:
            current.task.cancel()


def _looked_at(current: _Running, now: float) -> TrialEvidence | None:
    """Take in what is new of a trial; return its evidence once there is some."""
    hosts = current.trial.hosts
    try:
        for event in current.task.events():
            current.last_event = now
            match event:
                case ("output", str(line)):
                    current.output = line
                case ("file", "assessment.json", bytes(content)):
                    current.content = content
                case ("limit", *_):
                    current.late = True
                case ("end", *rest):
                    return _evidence(current, rest[0] if rest else None)
    except NodeLostError as problem:
        return _not_tried(hosts, f"{hosts[0]}: {problem}")
    if now > current.deadline:
        current.task.cancel()
        silent_s = now - current.last_event
        return _not_tried(hosts, f"nothing was heard of {hosts[0]} for {silent_s:.0f} s, and its time was up")
    return None


def _evidence(current: _Running, code: object) -> TrialEvidence:
    hosts = current.trial.hosts
    if current.content is None:
        late = "it was stopped at its time limit; " if current.late else ""
        return _not_tried(hosts, f"{late}readiness on {hosts[0]} ended with {code}: {current.output or 'no assessment'}")
    try:
        document = files.json_of(current.content, hosts[0])
        return from_assessment(assessments.from_json(document, hosts[0]), hosts)
    except ReadinessError as problem:
        return _not_tried(hosts, f"the assessment of {hosts[0]} cannot be used: {problem.what}")


def _not_tried(hosts: tuple[str, ...], problem: str) -> TrialEvidence:
    return TrialEvidence(hosts, problem=" ".join(problem.split())[:_LONGEST_PROBLEM])


def _in_short(evidence: TrialEvidence) -> str:
    if evidence.problem:
        return f"not tried: {evidence.problem}"
    if evidence.faults:
        return evidence.faults[0]
    return "right" if evidence.gbps is None else f"right, {evidence.gbps:.3g} GB/s"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
