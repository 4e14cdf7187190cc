"""Rehearsals end to end: real workers, tiny chips, checks that take no time."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from readiness.datamodel import Evidence, Status
from readiness.errors import Exit
from readiness.rehearsal import Rehearsal
from readiness.rehearsal.detection_matrix import DefectResult, Detection
from readiness.rehearsal.document import to_json
from readiness.rehearsal.executor import Executor, Observer
from readiness.rehearsal.plan import HOST, Task
from tests.support.engine import children
from tests.support.rehearsal import chip_file, play, profile_file, use_checks

#: Two requirements on real checks, as `general` has them.
REAL = """
[[require]]
id = "stack"
check = "driver.stack"
measure = "inconsistencies"
at_most = 0
[[require]]
id = "subnormal"
check = "parity.special_values"
measure = "violations"
where = { dtype = "float32", kind = "subnormal" }
at_most = 0
level = "should"
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Rehearsal:
    """Three planted machines and a healthy one under checks that see, and one that is blind."""
    folder = tmp_path_factory.mktemp("rehearsal")
    chips = [
        chip_file(folder / "misfit.toml", 'kind = "version"\nset = { driver = "0.9.0" }'),
        chip_file(folder / "flushed.toml", 'kind = "flush-denormals"'),
        chip_file(folder / "counted.toml", 'kind = "counter"\nset = { uncorrected = 5 }\nwhen = { chip = 1 }', chips=3),
    ]
    wanted = profile_file(folder / "test.toml", ["acting.blind", "acting.sees", "acting.skips", "acting.together"], REAL)
    with pytest.MonkeyPatch.context() as patch:
        use_checks(patch)
        return play(wanted, chips, seeds=(7, 8))


def the(done: Rehearsal, name: str) -> DefectResult:
    (line,) = [line for line in done.result.defects if line.fault.name == name]
    return line


def test_real_defects_are_caught_by_real_checks_and_healthy_chips_are_not_blamed(done: Rehearsal) -> None:
    assert done.result.exit() is Exit.READY, (done.result.alarms, done.result.of(Detection.MISSED))
    assert (done.result.alarms, done.result.healthy_runs, done.result.host_fails) == ((), 2, ())
    assert dict(done.result.unknown) == {"acting.skips": 2}
    misfit = {catch.check: catch for catch in the(done, "misfit").catches}
    assert set(misfit) == {"driver.stack", "acting.sees"}
    assert misfit["driver.stack"].requirement == "stack"
    flushed = the(done, "flushed").catches
    assert [(catch.check, catch.requirement, catch.level) for catch in flushed] == [("parity.special_values", "subnormal", "should")]


def test_who_missed_and_who_could_not_tell_is_named(done: Rehearsal) -> None:
    misfit = the(done, "misfit")
    assert misfit.missed_by == ("acting.blind",)
    assert dict(misfit.unable) == {"acting.skips": "it has nothing to measure"}


def test_one_chip_of_three_and_the_group(done: Rehearsal) -> None:
    counted = {catch.check: catch for catch in the(done, "counted").catches}
    assert counted["acting.sees"].accelerators == ("sim:1",)
    assert counted["acting.together"].about == "3 chips"
    assert counted["acting.together"].accelerators == ("sim:0", "sim:1", "sim:2")


def test_the_rehearsal_can_be_rendered(done: Rehearsal) -> None:
    document = to_json(done)
    assert document["seconds"] > 0
    assert document["host"]["present"] == ["cpu:0"]
    assert document["rehearsed"] is True


def test_a_false_alarm_exits_1_and_a_hang_has_one_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_checks(monkeypatch)
    wanted = profile_file(tmp_path / "test.toml", ["acting.suspicious", "acting.hangs"])
    result = play(wanted, [chip_file(tmp_path / "stuck.toml", 'kind = "hang"')], timeout_s=8.0).result
    assert [(alarm.check, alarm.seed, alarm.about) for alarm in result.alarms] == [("acting.suspicious", 7, "a chip that looked at me")]
    assert result.exit() is Exit.NOT_READY
    (line,) = result.defects
    (catch,) = line.catches
    assert "not finished within 8 s" in catch.about
    assert catch.seconds >= 8.0
    assert not children()


class Stopper(Observer):
    """Stops the rehearsal with the signal that a terminal sends, once something has ended on a simulated chip."""

    def __init__(self) -> None:
        self.done: list[Task] = []
        self.sent = False

    def running(self, tasks: Sequence[tuple[Task, object]]) -> None:
        if not self.sent and any(task.fault_kind for task, _ in tasks) and self.done:
            self.sent = True
            os.kill(os.getpid(), signal.SIGINT)

    def finished(self, task: Task, evidence: Evidence) -> None:
        self.done.append(task)


def test_an_interrupt_keeps_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_checks(monkeypatch)
    wanted = profile_file(tmp_path / "test.toml", ["acting.hangs"])
    observer = Stopper()
    stopped = play(wanted, [chip_file(tmp_path / "stuck.toml", 'kind = "hang"')], observer)
    assert stopped.interrupted
    assert [line.detection for line in stopped.result.defects] == [Detection.UNFINISHED]
    assert HOST in {task.machine for task in observer.done}
    assert to_json(stopped)["interrupted"] is True
    assert not children()


def test_a_torch_that_is_too_old_is_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every simulated chip refuses to be; the host's own evidence is no rehearsal."""
    use_checks(monkeypatch)
    seen = Executor.run

    def without(executor: Executor) -> None:
        tasks = list(executor.waiting)
        executor.waiting = [task for task in tasks if task.machine == HOST]
        seen(executor)
        for task in tasks:
            refused = Evidence(task.job.check.id, Status.ERROR, reason="UnavailableError")
            executor.evidence.setdefault(task.key, refused)

    monkeypatch.setattr(Executor, "run", without)
    done = play(profile_file(tmp_path / "test.toml", ["acting.sees"]), [chip_file(tmp_path / "one.toml", 'kind = "version"\nset = { driver = "0.9.0" }')])
    assert done.result.exit() is Exit.UNDETERMINED


def test_limits(tmp_path: Path) -> None:
    from readiness.rehearsal.plan import plan_rehearsal
    from readiness.rehearsal.seeded_faults import selection
    from tests.support.rehearsal import host, made_check, made_request

    made = selection([str(chip_file(tmp_path / f"{kind}.toml", f'kind = "{kind}"')) for kind in ("hang", "nan")])
    tasks = plan_rehearsal(made_request([made_check("a.b", "hang", "nan", typical_s=9.0)], made), host()).tasks()
    executor = Executor(None, Observer(), [], [], 2)  # type: ignore[arg-type]
    limits = {task.fault_kind: executor.limit_s(task) for task in tasks}
    assert limits == {None: 60.0, "hang": 60.0, "nan": 60.0}
    few = plan_rehearsal(made_request([replace(made_check("a.b", "hang", "nan", typical_s=2.0), limit_s=300.0)], made), host()).tasks()
    assert {task.fault_kind: executor.limit_s(task) for task in few} == {None: 300.0, "hang": 104.0, "nan": 300.0}
    executor._usual_s["a.b"] = 25.0  # the healthy chip took that long: this machine is busy
    assert {task.fault_kind: executor.limit_s(task) for task in tasks} == {None: 60.0, "hang": 75.0, "nan": 75.0}
    executor.timeout_s = 5.0
    assert {executor.limit_s(task) for task in tasks} == {5.0}

