"""Which accelerators a run takes, and that nothing broken hides behind the CPU."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from readiness import accelerators
from readiness.accelerators.base import OutOfReachError
from readiness.datamodel import AcceleratorFacts
from readiness.engine import discovery
from readiness.engine.discovery import Discovery, select
from readiness.errors import BadFileError, InterruptedRunError, UsageError
from readiness.host import process_control
from readiness.isolation.worker_pool import WorkerPool
from tests.support.engine import children, without_torch


def facts(id: str, stack: str | None = None) -> AcceleratorFacts:
    kind, _, index = id.partition(":")
    return AcceleratorFacts(id, kind, int(index), stack or kind, None, None)


CPU = facts("cpu:0")
GPUS = (facts("cuda:0"), facts("cuda:1"))


def ids(found: Discovery, *specs: str) -> list[str]:
    return [item.id for item in select(found, specs)]


def test_all_accelerators_else_the_cpu() -> None:
    assert ids(Discovery((CPU,), {}, {})) == ["cpu:0"]
    assert ids(Discovery((*GPUS, CPU), {}, {})) == ["cuda:0", "cuda:1"]


def test_requested_devices_come_once_and_in_order() -> None:
    found = Discovery((*GPUS, CPU), {}, {})
    assert ids(found, "cuda") == ["cuda:0", "cuda:1"]
    assert ids(found, "cpu", "cuda:1", "cuda:1") == ["cpu:0", "cuda:1"]


@pytest.mark.parametrize("spec", ["cuda:7", "npu", "", "simulated", "cuda:", "CUDA"])
def test_what_is_not_there_names_what_is(spec: str) -> None:
    with pytest.raises(UsageError, match=r"(?s)no accelerator.*cuda:0, cuda:1, cpu:0"):
        ids(Discovery((*GPUS, CPU), {}, {}), spec)


def test_a_broken_stack_is_under_test_as_unusable() -> None:
    (broken,) = select(Discovery((CPU,), {}, {"cuda": "driver mismatch"}), ())
    assert (broken.id, broken.properties["unusable"]) == ("cuda:0", "driver mismatch")
    beside = select(Discovery((*GPUS, CPU), {}, {"rocm": "wedged"}), ())
    assert [item.id for item in beside] == ["cuda:0", "cuda:1", "cuda:2"]
    assert ids(Discovery((CPU,), {}, {"cuda": "driver mismatch"}), "cpu") == ["cpu:0"]


def test_a_device_that_torch_cannot_reach_does_not_become_a_good_word_for_the_cpu() -> None:
    (hidden,) = select(Discovery((CPU,), {}, {}, {"cuda": "torch was built for the CPU, though its driver is loaded"}), ())
    assert hidden.id == "cuda:0"
    assert "unusable" in hidden.properties
    # Beside an accelerator that works it is somebody's graphics chip.
    assert ids(Discovery((*GPUS, CPU), {}, {}, {"rocm": "not built for ROCM"})) == ["cuda:0", "cuda:1"]


CHIP = 'schema = "readiness.chip/1"\nname = "pair"\ntitle = "Two chips"\nchips = 2\n'
HEAVY = CHIP + '[[defect]]\nkind = "heavy"\n'


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A simulated machine of two chips, as `--device` asks for it."""
    monkeypatch.setattr("readiness.simulator.faults.kinds", lambda: {"heavy": None})
    (tmp_path / "pair.toml").write_text(HEAVY)
    return f"sim:{tmp_path}/pair.toml"


def test_a_simulated_machine_is_under_test_only_when_requested(pair: str) -> None:
    found = Discovery((*GPUS, CPU), {}, {"rocm": "wedged"}, {"xpu": "out of reach"})
    assert ids(found, pair) == ["sim:0", "sim:1"]
    assert ids(found, pair, pair) == ["sim:0", "sim:1"]
    assert ids(found, "cpu", pair, "cuda:1") == ["cpu:0", "sim:0", "sim:1", "cuda:1"]
    assert not any(id.startswith("sim") for id in ids(found))
    assert [item.properties["simulated"] for item in select(found, [pair])] == [True, True]
    assert {item.stack for item in select(found, [pair])} == {"sim"}


def test_the_same_machine_by_two_paths_is_one(pair: str, tmp_path: Path) -> None:
    (tmp_path / "copy.toml").write_text(HEAVY)
    assert ids(Discovery((CPU,), {}, {}), pair, f"sim:{tmp_path}/copy.toml") == ["sim:0", "sim:1"]


def test_two_simulated_machines_are_one_too_many(pair: str, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(CHIP.replace("pair", "other"))
    with pytest.raises(UsageError, match=r"two simulated machines \(pair and other\)") as caught:
        ids(Discovery((CPU,), {}, {}), pair, f"sim:{tmp_path}/other.toml")
    assert caught.value.place == "--device"


@pytest.mark.parametrize("spec", ["sim:0", "sim:12", "sim:", "sim"])
def test_a_number_names_no_simulated_machine(spec: str) -> None:
    with pytest.raises(UsageError, match=r"(?s)does not name.*sim:FILE.toml") as caught:
        ids(Discovery((CPU,), {}, {}), spec)
    assert caught.value.place == "--device"


def test_a_simulated_machine_that_is_none(pair: str, tmp_path: Path) -> None:
    for spec in ("sim:no-such-chip", "sim:x:0", "sim:..", "sim:\0"):
        with pytest.raises(UsageError, match="there is no simulated chip"):
            ids(Discovery((CPU,), {}, {}), spec)
    (tmp_path / "bad.toml").write_text(HEAVY.replace("heavy", "heavi"))
    with pytest.raises(BadFileError, match=r"(?s)bad.toml:6: .*did you mean heavy"):
        ids(Discovery((CPU,), {}, {}), f"sim:{tmp_path}/bad.toml")


def test_the_simulated_stack_is_known_and_never_looked_for() -> None:
    assert "sim" in accelerators.KNOWN
    assert "sim" not in accelerators.NAMES
    with pytest.raises(KeyError):
        accelerators.stack("simulated")


HANGING = """
import time
from readiness.accelerators.base import Stack

class Hanging(Stack):
    name = kind = "cuda"

    def discover(self):
        time.sleep(600)
        yield

STACK = Hanging()
"""


#: The same at its first look; at the next one there is a device.
HANGING_ONCE = """
import time
from pathlib import Path
from readiness.accelerators.base import Stack
from readiness.datamodel import AcceleratorFacts

class Hanging(Stack):
    name = kind = "cuda"

    def discover(self):
        marker = Path(__file__).with_name("looked")
        if not marker.exists():
            marker.touch()
            time.sleep(600)
        yield AcceleratorFacts("cuda:0", "cuda", 0, "cuda", None, None)

STACK = Hanging()
"""


def hang(monkeypatch: pytest.MonkeyPatch, folder: Path, stack: str = HANGING) -> None:
    """A stack whose devices cannot be listed, in every worker."""
    (folder / "cuda.py").write_text(stack)
    monkeypatch.setattr(accelerators, "NAMES", ("cuda", "cpu"))
    monkeypatch.setattr(accelerators.stack("cuda"), "absence", lambda: None)
    monkeypatch.setattr(process_control, "bootstrap", partial(bootstrap_with, folder, process_control.bootstrap))


def bootstrap_with(folder: Path, bootstrap: Callable[..., list[str]], *arguments: str) -> list[str]:
    """An interpreter in which the hanging stack stands before the real one."""
    command = bootstrap(*arguments)
    at = command.index("-c") + 1
    command[at] = command[at].replace(
        "from readiness", f"import readiness.accelerators as a; a.__path__.insert(0, {str(folder)!r}); from readiness", 1
    )
    return command


@pytest.mark.parametrize("whom", ["the worker", "the prepared process"])
def test_a_signal_that_happens_to_come_is_no_failure_of_a_stack(whom: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hang(monkeypatch, tmp_path, HANGING_ONCE)
    without_torch(monkeypatch)
    monkeypatch.setattr(accelerators, "NAMES", ("cuda",))
    killed: list[int] = []

    with WorkerPool() as pool:

        def kill_once() -> bool:
            if not killed and (tmp_path / "looked").exists():
                (worker,) = pool.workers.values()
                assert worker.pid is not None
                killed.append(pool._forkserver.pid if whom == "the prepared process" else worker.pid)
                os.kill(killed[0], signal.SIGKILL)
            return False

        found = discovery.discover(pool, stopped=kill_once)
    assert len(killed) == 1
    assert ([item.id for item in found.accelerators], found.failures) == (["cuda:0"], {})
    assert children() == []


def test_a_driver_that_does_not_answer_fails_in_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hang(monkeypatch, tmp_path)
    without_torch(monkeypatch)
    passed_s = [0.0]  # beside what has really passed
    monkeypatch.setattr(discovery, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + passed_s[0]))
    with WorkerPool() as pool:

        def let_time_pass() -> bool:
            if len(pool.workers) == 1:  # the CPU has answered, however busy the host is
                passed_s[0] = discovery.LIMIT_S
            return False

        found = discovery.discover(pool, stopped=let_time_pass)
    assert [item.id for item in found.accelerators] == ["cpu:0"]
    assert found.failures == {"cuda": "its devices could not be listed within 180 s"}
    (wedged,) = select(found, ())
    assert wedged.id == "cuda:0"
    assert children() == []


def test_an_interrupt_while_looking_ends_the_look(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hang(monkeypatch, tmp_path)
    without_torch(monkeypatch)
    with WorkerPool() as pool, pytest.raises(InterruptedRunError):
        discovery.discover(pool, stopped=lambda: True)
    assert children() == []


def test_one_stack_that_crashes_costs_itself_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerators, "NAMES", ("mps", "xpu", "cpu"))

    def out_of_reach() -> str | None:
        raise OutOfReachError("no way")

    monkeypatch.setattr(accelerators.stack("mps"), "absence", lambda: None)  # it will be looked at, and fail
    monkeypatch.setattr(accelerators.stack("xpu"), "absence", out_of_reach)
    without_torch(monkeypatch)
    with WorkerPool() as pool:
        found = discovery.discover(pool)
    assert [item.id for item in found.accelerators] == ["cpu:0"]
    assert set(found.failures) | set(found.absent) == {"mps"}
    assert found.out_of_reach == {"xpu": "no way"}
    assert discovery.host(found)["failed_stacks"]["xpu"] == "no way"
