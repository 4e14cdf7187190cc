"""Runs on a cluster, by an engine of the tests' own: every node is accounted for, whatever becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from readiness.errors import UsageError
from readiness.fleet import coordinator
from readiness.fleet.coordinator import Folder, Node, NodeLostError, Result
from readiness.fleet.node_run import Event
from readiness.fleet.store import Expected

Script = Callable[[Mapping[str, bytes]], Iterator[list[Event] | None]]
SMOKE = ("--profile", "smoke")


class FakeTask:
    """Plays a script: each look at it gives the next events, None stands for a node that is gone."""

    def __init__(self, script: Iterator[list[Event] | None]) -> None:
        self.script = script
        self.cancelled = False

    def events(self) -> list[Event]:
        found = next(self.script, [])
        if found is None:
            raise NodeLostError("NodeDiedError")
        return found

    def cancel(self) -> None:
        self.cancelled = True


class FakeEngine:
    """Nodes by the second at which they join, with their scripts; its clock goes on with every sleep."""

    def __init__(self, nodes: Mapping[str, tuple[float, Script]]) -> None:
        self.of = nodes
        self.now = 0.0
        self.started: list[tuple[str, Mapping[str, bytes]]] = []
        self.tasks: dict[str, FakeTask] = {}

    def nodes(self) -> list[Node]:
        return [Node(f"id-{name}", name) for name, (joins, _) in self.of.items() if joins <= self.now]

    def start(self, node: Node, arguments: Sequence[str], kept: Mapping[str, bytes], limit_s: float) -> FakeTask:
        self.started.append((node.name, kept))
        self.tasks[node.name] = FakeTask(self.of[node.name][1](kept))
        return self.tasks[node.name]

    def close(self) -> None:
        """Nothing is open."""

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def sound(kept: Mapping[str, bytes]) -> Iterator[list[Event] | None]:
    yield []
    yield [("output", "one check"), ("journal", "journal.jsonl", 0, b'{"kind": 1}\n')]
    yield [("file", "host.json", b"summary"), ("file", "assessment.json", b"whole")]
    yield [("end", 0)]


def dying(kept: Mapping[str, bytes]) -> Iterator[list[Event] | None]:
    yield [("journal", "run.json", 0, b"{}"), ("journal", "journal.jsonl", 0, b"first\n")]
    yield None


def hanging(kept: Mapping[str, bytes]) -> Iterator[list[Event] | None]:
    yield [("output", "begins")]
    while True:
        yield []


def failing(kept: Mapping[str, bytes]) -> Iterator[list[Event] | None]:
    yield [("output", "readiness: there is no torch"), ("end", 2)]


def late(kept: Mapping[str, bytes]) -> Iterator[list[Event] | None]:
    yield [("limit", 60.0), ("file", "assessment.json", b"part"), ("end", 130)]


def ran(engine: FakeEngine, folder: Path, **further: object) -> dict[str, Result]:
    results = coordinator.run(
        engine, Folder(folder, SMOKE), SMOKE, limit_s=60.0, clock=engine.clock, sleep=engine.sleep, **further,  # type: ignore[arg-type]
    )  # fmt: skip
    assert [result.host for result in results] == sorted(result.host for result in results)
    return {result.host: result for result in results}


def test_every_node_is_accounted_for(tmp_path: Path) -> None:
    engine = FakeEngine({
        "sound": (0, sound), "dying": (0, dying), "hanging": (0, hanging), "failing": (0, failing), "late": (0, late),
    })  # fmt: skip
    told: list[tuple[str, str]] = []
    results = ran(engine, tmp_path, on_event=lambda host, text: told.append((host, text)), expected=["sound", "absent"])
    assert {host: result.state for host, result in results.items()} == {
        "sound": "done", "dying": "failed", "hanging": "failed", "failing": "failed", "late": "done", "absent": "failed",
    }  # fmt: skip
    assert results["dying"].reason == "the node was lost: NodeDiedError"
    assert "nothing was heard" in results["hanging"].reason
    assert engine.tasks["hanging"].cancelled
    assert 60 < engine.now < 60 + coordinator.GRACE_S + 30
    assert results["failing"].reason == "readiness ended with 2 and wrote no assessment: readiness: there is no torch"
    assert results["late"].reason == "it was stopped at its time limit"
    assert results["absent"].reason == "it never joined the cluster"
    assert (tmp_path / "hosts" / "sound.json").read_bytes() == b"whole"
    assert ("sound", "one check") in told


def test_a_node_that_joins_while_others_work_is_asked_too(tmp_path: Path) -> None:
    engine = FakeEngine({"first": (0, hanging), "second": (20, sound)})
    assert ran(engine, tmp_path)["second"].state == "done"


def test_who_joins_after_the_others_have_ended_is_waited_for_as_long_as_asked(tmp_path: Path) -> None:
    nodes: dict[str, tuple[float, Script]] = {"first": (0, sound), "second": (40, sound)}
    assert ran(FakeEngine(nodes), tmp_path / "a").keys() == {"first"}
    assert ran(FakeEngine(nodes), tmp_path / "b", wait_s=60.0).keys() == {"first", "second"}
    engine = FakeEngine(nodes)
    assert ran(engine, tmp_path / "c", wait_s=60.0, expected=["first", "second"])["second"].state == "done"


def test_only_what_is_missing_runs_again_and_goes_on_with_its_journal(tmp_path: Path) -> None:
    first = FakeEngine({"sound": (0, sound), "dying": (0, dying)})
    assert ran(first, tmp_path)["dying"].state == "failed"
    again = FakeEngine({"sound": (0, sound), "dying": (0, sound)})
    assert {result.state for result in ran(again, tmp_path).values()} == {"done"}
    assert again.started == [("dying", {"run.json": b"{}", "journal.jsonl": b"first\n"})]


def test_a_folder_of_another_question_is_refused(tmp_path: Path) -> None:
    Folder(tmp_path, SMOKE)
    Folder(tmp_path, SMOKE)
    with pytest.raises(UsageError, match="--profile smoke"):
        Folder(tmp_path, ("--profile", "general"))
    (tmp_path / "fleet-run.json").write_text("[]")
    with pytest.raises(UsageError, match="not a fleet's run"):
        Folder(tmp_path, SMOKE)


def test_a_journal_that_is_written_anew_stands_as_it_is_now(tmp_path: Path) -> None:
    folder = Folder(tmp_path, SMOKE)
    for offset, content in ((0, b"first line\n"), (11, b"second\n"), (0, b"anew\n")):
        folder.add_to_journal("node", "../journal.jsonl", offset, content)
    assert folder.journal("node") == {"journal.jsonl": b"anew\n"}
    assert sorted(file.name for file in tmp_path.rglob("*") if file.is_file()) == ["fleet-run.json", "journal.jsonl"]


def test_the_list_of_hosts_tells_a_merge_who_failed_and_why(tmp_path: Path) -> None:
    folder = Folder(tmp_path, SMOKE)
    folder.expect(
        [Result("b", "failed", "the node was lost:\nNodeDiedError"), Result("a", "done")], [Expected("c", "drained", "a fan")]
    )
    assert (tmp_path / "expected.txt").read_text() == "a expected\nb failed the node was lost: NodeDiedError\nc drained a fan\n"
