"""Trials between hosts in a fleet's database: what was planned, round by round, and what came of it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from readiness.fleet.links import attribution
from readiness.fleet.links.evidence import TrialEvidence, TrialJudgement, judge_trials
from readiness.fleet.store import transaction

#: Tables that a database of an earlier version has not: they are made when they are needed.
_TABLES = (
    "CREATE TABLE IF NOT EXISTS trial_plan (only INTEGER PRIMARY KEY CHECK (only = 1), plan TEXT NOT NULL, "
    "arguments TEXT NOT NULL, finished INTEGER NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS trial (round INTEGER NOT NULL, hosts TEXT NOT NULL, purpose TEXT NOT NULL, "
    "done INTEGER NOT NULL, started TEXT NOT NULL, seconds REAL NOT NULL, problem TEXT NOT NULL, faults TEXT NOT NULL, "
    "gbps REAL, latency_us REAL, tail_ratio REAL, busy INTEGER NOT NULL, PRIMARY KEY (round, hosts)) STRICT, WITHOUT ROWID",
)


@dataclass(frozen=True, slots=True)
class Campaign:
    """The plan of all trials, the options of their runs, and whether the last round has been made."""

    plan: attribution.Plan
    arguments: tuple[str, ...]
    finished: bool


@dataclass(frozen=True, slots=True)
class StoredTrial:
    """A trial in the database; `evidence` is None where it was planned and not made yet."""

    round: int
    trial: attribution.Trial
    evidence: TrialEvidence | None
    started: str = ""
    seconds: float = 0.0


def campaign(connection: sqlite3.Connection) -> Campaign | None:
    """Return the plan in the database, None without one."""
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'trial_plan'").fetchone() is None:
        return None
    found = connection.execute("SELECT plan, arguments, finished FROM trial_plan").fetchone()
    if found is None:
        return None
    plan = json.loads(found[0])
    return Campaign(
        attribution.Plan(tuple(plan["hosts"]), plan["screening_rounds"], plan["group_size"], plan["seed"]),
        tuple(json.loads(found[1])), bool(found[2]),
    )  # fmt: skip


def begin(connection: sqlite3.Connection, plan: attribution.Plan, arguments: Sequence[str]) -> None:
    """Begin anew: earlier trials are removed."""
    with transaction(connection):
        for statement in _TABLES:
            connection.execute(statement)
        connection.execute("DELETE FROM trial")
        text = json.dumps({
            "hosts": plan.hosts, "screening_rounds": plan.screening_rounds, "group_size": plan.group_size, "seed": plan.seed,
        })  # fmt: skip
        connection.execute("INSERT OR REPLACE INTO trial_plan VALUES (1, ?, ?, 0)", (text, json.dumps(list(arguments))))


def finish(connection: sqlite3.Connection) -> None:
    """Note that the last round has been made."""
    with transaction(connection):
        connection.execute("UPDATE trial_plan SET finished = 1")


def plan_round(connection: sqlite3.Connection, number: int, trials: Iterable[attribution.Trial]) -> None:
    """Keep the trials of a round before any of them is made: a run that is killed goes on with the same ones."""
    with transaction(connection):
        connection.executemany(
            "INSERT INTO trial VALUES (?, ?, ?, 0, '', 0, '', '[]', NULL, NULL, NULL, 0)",
            [(number, json.dumps(trial.hosts), trial.purpose.value) for trial in trials],
        )


def keep(connection: sqlite3.Connection, number: int, evidence: TrialEvidence, started: str, seconds: float) -> None:
    """Keep what came of a trial."""
    with transaction(connection):
        connection.execute(
            "UPDATE trial SET done = 1, started = ?, seconds = ?, problem = ?, faults = ?, gbps = ?, latency_us = ?, "
            "tail_ratio = ?, busy = ? WHERE round = ? AND hosts = ?",
            (
                started, seconds, evidence.problem, json.dumps(evidence.faults), evidence.gbps, evidence.latency_us,
                evidence.tail_ratio, evidence.busy, number, json.dumps(evidence.hosts),
            ),
        )  # fmt: skip


def trials(connection: sqlite3.Connection) -> list[StoredTrial]:
    """Return all trials by round, those that were not made yet among them."""
    found = []
    for number, hosts, purpose, done, started, seconds, problem, faults, gbps, latency_us, tail, busy in connection.execute(
        "SELECT * FROM trial ORDER BY round, hosts"
    ):
        trial = attribution.Trial(tuple(json.loads(hosts)), attribution.Purpose(purpose))
        evidence = TrialEvidence(trial.hosts, problem, tuple(json.loads(faults)), gbps, latency_us, tail, bool(busy))
        found.append(StoredTrial(number, trial, evidence if done else None, started, seconds))
    return found


def outcomes(kept: Sequence[StoredTrial]) -> tuple[list[attribution.Result], list[TrialJudgement]]:
    """Return the results of the trials that were made, for the decision; and each with its reasons, in the same order."""
    done = [one for one in kept if one.evidence is not None]
    each = judge_trials([one.evidence for one in done if one.evidence is not None])
    results = [attribution.Result(one.trial, found.outcome) for one, found in zip(done, each, strict=True)]
    return results, each
