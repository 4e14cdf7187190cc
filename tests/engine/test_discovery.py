"""Which accelerators a run takes, and that nothing broken hides behind the CPU."""

from __future__ import annotations

import pytest

from readiness import accelerators, discovery
from readiness.accelerators.base import OutOfReachError
from readiness.discovery import Discovery, select
from readiness.errors import UsageError
from readiness.model import AcceleratorFacts
from readiness.processes import Pool


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


def test_what_is_asked_for_once_and_in_order() -> None:
    found = Discovery((*GPUS, CPU), {}, {})
    assert ids(found, "cuda") == ["cuda:0", "cuda:1"]
    assert ids(found, "cpu", "cuda:1", "cuda:1") == ["cpu:0", "cuda:1"]


@pytest.mark.parametrize("spec", ["cuda:7", "npu", "", "sim:example", "cuda:", "CUDA"])
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


def test_one_stack_that_crashes_costs_itself_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerators, "NAMES", ("mps", "xpu", "cpu"))

    def out_of_reach() -> str | None:
        raise OutOfReachError("no way")

    monkeypatch.setattr(accelerators.stack("mps"), "absence", lambda: None)  # it will be looked at, and fail
    monkeypatch.setattr(accelerators.stack("xpu"), "absence", out_of_reach)
    with Pool() as pool:
        found = discovery.discover(pool)
    assert [item.id for item in found.accelerators] == ["cpu:0"]
    assert set(found.failures) | set(found.absent) == {"mps"}
    assert found.out_of_reach == {"xpu": "no way"}
    assert discovery.host(found)["failed_stacks"]["xpu"] == "no way"
