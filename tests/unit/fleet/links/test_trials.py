"""Rounds of trials by an engine of the tests' own: nothing is lost by a kill, and what could not be tried says why."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from readiness.datamodel import Decision, Use
from readiness.fleet import fleet_summary, page, reports, store, workbook
from readiness.fleet.coordinator import NodeLostError
from readiness.fleet.links import attribution, evidence, summary, trial_store, trials
from readiness.fleet.links.attribution import Outcome, Plan
from readiness.fleet.links.evidence import TrialEvidence
from readiness.fleet.node_run import Event
from tests.support import fleets

HOSTS = ("node-1", "node-2", "node-3", "node-4")
PLAN = Plan(HOSTS)


class Killed(BaseException):
    """Plays a kill of the command."""


class Cluster:
    """Plays hosts: which fail, and after how many ended trials the command is killed; its clock goes on with every sleep."""

    def __init__(self, bad: frozenset[str] = frozenset(), killed_after: int | None = None) -> None:
        self.bad, self.killed_after = bad, killed_after
        self.now = 0.0
        self.ended = 0
        self.started: list[tuple[str, Sequence[str]]] = []
        self.running = 0
        self.most_running = 0
        self.cancelled = 0

    def start(self, host: str, arguments: Sequence[str], limit_s: float) -> Task:
        self.started.append((host, arguments))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        others = [other for flag, other in pairwise(arguments) if flag == "--host"]
        return Task(self, {host, *others})

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def clock(self) -> float:
        return self.now


class Task:
    """A trial that ends at the second look."""

    def __init__(self, cluster: Cluster, hosts: set[str]) -> None:
        self.cluster, self.hosts, self.looks = cluster, hosts, 0

    def events(self) -> list[Event]:
        self.looks += 1
        if self.looks == 1:
            return [("output", "works")]
        if self.cluster.ended == self.cluster.killed_after:
            raise Killed
        self.cluster.ended += 1
        self.cluster.running -= 1
        fault = ["Sums are exact: 7 wrong"] if self.hosts & self.cluster.bad else []
        return [("file", "assessment.json", json.dumps({"hosts": sorted(self.hosts), "faults": fault}).encode()), ("end", 1)]

    def cancel(self) -> None:
        self.cluster.cancelled += 1


@pytest.fixture(autouse=True)
def played(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the played assessments say is read by a reader of their own."""
    monkeypatch.setattr("readiness.documents.assessment.from_json", lambda document, place: document)

    def read(document: dict[str, list[str]], hosts: Sequence[str]) -> TrialEvidence:
        assert sorted(hosts) == document["hosts"]
        return TrialEvidence(tuple(hosts), faults=tuple(document["faults"]), gbps=10.0, latency_us=5.0)

    monkeypatch.setattr(trials, "from_assessment", read)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    opened = store.open_store(tmp_path / "fleet.sqlite", create=True)
    yield opened
    opened.close()


def run(connection: sqlite3.Connection, cluster: Cluster, at_once: int = 64) -> attribution.Conclusion:
    return trials.run(
        connection, cluster.start, reach="ssh {host} {python}", limit_s=60.0, at_once=at_once, clock=cluster.clock,
        sleep=cluster.sleep,
    )  # fmt: skip


def content(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    return [
        (one.round, one.trial, one.evidence) for one in trial_store.trials(connection)
    ]  # fmt: skip


def test_a_bad_host_is_named_and_its_trials_are_in_the_database(connection: sqlite3.Connection) -> None:
    trial_store.begin(connection, PLAN, ["--profile", "smoke"])
    cluster = Cluster(frozenset({"node-3"}))
    found = run(connection, cluster)
    assert found.bad_hosts == ("node-3",)
    between = summary.read(connection)
    assert between is not None
    assert between.finished
    assert (between.pairs, between.pairs_good, between.pairs_bad, between.pairs_untried) == (6, 3, 3, 0)
    assert [one.trials for one in between.rounds[:3]] == [2, 2, 2]
    assert cluster.most_running == 2, "the pairs of a round are side by side"
    host, arguments = cluster.started[0]
    assert host in HOSTS
    assert list(arguments[:2]) == ["-k", " or ".join(evidence.PAIR_CHECKS)]
    assert arguments[-2:] == ["--profile", "smoke"]
    groups = [arguments for _, arguments in cluster.started if arguments.count("--host") > 1]
    assert groups, "the sound ones are tried together"
    assert all("multichip.drills" in arguments[1] for arguments in groups)


def test_one_trial_at_a_time_where_that_is_asked_for(connection: sqlite3.Connection) -> None:
    trial_store.begin(connection, PLAN, [])
    cluster = Cluster()
    run(connection, cluster, at_once=1)
    assert cluster.most_running == 1


def test_a_command_that_is_killed_after_any_trial_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    whole = store.open_store(tmp_path / "whole.sqlite", create=True)
    trial_store.begin(whole, PLAN, [])
    first = Cluster(frozenset({"node-2"}))
    run(whole, first)
    expected = content(whole)
    whole.close()
    for moment in range(first.ended):
        database = store.open_store(tmp_path / f"{moment}.sqlite", create=True)
        trial_store.begin(database, PLAN, [])
        before = Cluster(frozenset({"node-2"}), killed_after=moment)
        with pytest.raises(Killed):
            run(database, before)
        assert before.cancelled == before.running, "nothing of it goes on"
        unfinished = summary.read(database)
        assert unfinished is not None
        assert not unfinished.finished
        after = Cluster(frozenset({"node-2"}))
        run(database, after)
        assert before.ended + after.ended == first.ended, "only what was missing is tried"
        assert content(database) == expected
        database.close()


class Silent:
    def __init__(self, kind: str) -> None:
        self.kind, self.cancelled = kind, False

    def events(self) -> list[Event]:
        match self.kind:
            case "lost":
                raise NodeLostError("the command ended: Permission denied")
            case "refused":
                return [("output", "readiness: --host: node-2 cannot be examined"), ("end", 2)]
            case "broken":
                return [("file", "assessment.json", b"{"), ("end", 0)]
            case "late":
                return [("limit", 60.0), ("end", None)]
        return []

    def cancel(self) -> None:
        self.cancelled = True


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("lost", "Permission denied"),
        ("refused", "ended with 2: readiness: --host: node-2 cannot be examined"),
        ("broken", "cannot be used"),
        ("late", "stopped at its time limit"),
        ("hanging", "nothing was heard of"),
    ],
)
def test_what_could_not_be_tried_is_unknown_and_says_why(connection: sqlite3.Connection, kind: str, says: str) -> None:
    trial_store.begin(connection, Plan(HOSTS[:2]), [])
    cluster = Cluster()
    found = trials.run(
        connection, lambda *_: Silent(kind), reach="x {host}", limit_s=60.0, at_once=4, clock=cluster.clock,
        sleep=cluster.sleep,
    )  # fmt: skip
    assert found.unknown_hosts == HOSTS[:2]
    assert found.blamed == set()
    between = summary.read(connection)
    assert between is not None
    assert (between.pairs, between.pairs_untried) == (1, 1)
    (only,) = between.trials
    assert only.outcome is Outcome.UNKNOWN
    assert says in only.reasons[0]
    assert any(says in text for style, text in summary.sentences(between) if style == "open")


# ---------------------------------------------------------------------------------------------------------- reports


@pytest.fixture
def fleet(connection: sqlite3.Connection) -> fleet_summary.Fleet:
    """Four hosts of which one fails with the others, which says something that is no markup of ours."""
    for name in HOSTS:
        made = fleets.host(name, 1, chips=1, count=5)
        store.add(connection, [store.Entry(f"/{name}.json", name, None, store.digest_of(made), made, True)])
    trial_store.begin(connection, PLAN, [])
    run(connection, Cluster(frozenset({"node-3"})))
    connection.execute("UPDATE trial SET faults = '[\"<b>wrong</b> \\u001b[31m sums\"]' WHERE faults != '[]'")
    return fleet_summary.read(connection, {})


def test_a_host_that_fails_with_others_does_not_train(fleet: fleet_summary.Fleet) -> None:
    assert fleet.ready(Use.TRAINING) == ["node-1", "node-2", "node-4"]
    assert fleet.ready(Use.INFERENCE) == list(HOSTS), "alone it serves"
    assert [host.name for host in fleet.of(Use.TRAINING, Decision.NOT_READY)] == ["node-3"]
    assert "scontrol update nodename=node-3 state=drain" in reports.drain_commands(fleet, Use.TRAINING, "slurm")


def test_every_report_shows_who_fails_and_the_matrix(fleet: fleet_summary.Fleet) -> None:
    text = reports.table(fleet, width=100)
    assert "of 6 pairs of 4 hosts, 3 good, 3 bad, 0 unknown" in " ".join(text.split())
    assert "node-3 fails with each of the 3 hosts that it was tried with" in " ".join(text.split())
    assert "\x1b" not in text
    html = page.render(fleet, "0").replace("<wbr>", "")
    assert "Suspects and the hosts that they were tried with" in html
    assert "&lt;b&gt;wrong" in html
    assert "<b>wrong" not in html
    document = reports.as_json(fleet, "0")["between_hosts"]
    assert document["bad_hosts"] == ["node-3"]
    assert document["pairs"] == {"possible": 6, "good": 3, "bad": 3, "unknown": 0}
    pairs = [one for one in document["trials"] if len(one["hosts"]) == 2]
    assert all(one["gbps"] == 10.0 and one["latency_us"] == 5.0 for one in pairs)
    assert 'readiness_fleet_pairs{outcome="bad"} 3' in reports.openmetrics(fleet, "0")
    assert workbook.render(fleet, "0")


@pytest.mark.parametrize("columns", [50, 80, 200])
def test_no_line_is_wider_than_the_terminal(fleet: fleet_summary.Fleet, columns: int) -> None:
    assert max(map(len, reports.table(fleet, width=columns, verbose=True).splitlines())) <= columns


def test_a_database_without_trials_says_nothing_of_them(tmp_path: Path) -> None:
    made = fleets.host("node-1", 1, chips=1, count=5)
    opened = store.open_store(tmp_path / "old.sqlite", create=True)
    store.add(opened, [store.Entry("/node-1.json", "1", None, store.digest_of(made), made, True)])
    fleet = fleet_summary.read(opened, {})
    assert fleet.between is None
    assert "BETWEEN HOSTS" not in reports.table(fleet)
    assert reports.as_json(fleet, "0")["between_hosts"] is None
    opened.close()


def test_a_pair_without_an_answer_between_sound_hosts_is_listed(connection: sqlite3.Connection) -> None:
    trial_store.begin(connection, PLAN, [])
    run(connection, Cluster())
    connection.execute("UPDATE trial SET gbps = 1.0, busy = 1 WHERE hosts IN ('[\"node-1\", \"node-2\"]', '[\"node-2\", \"node-1\"]')")
    between = summary.read(connection)
    assert between is not None
    assert between.conclusion.unknown_hosts == ()
    assert (between.pairs_good, between.pairs_untried) == (5, 1)
    ((style, text),) = summary.sentences(between)
    assert style == "open"
    assert text.startswith("node-1 with node-2 is unknown: slow: 1 GB/s")
