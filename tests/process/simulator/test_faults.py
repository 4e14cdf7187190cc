"""Every kind of defect does what its docstring says, there and nowhere else."""

from __future__ import annotations

import io
import math
import os
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from readiness.simulator.call import tensors_in
from readiness.simulator.faults import kinds
from readiness.simulator.injection import Stage
from tests.support.simulator import DiedError, chip, defect, inside


def _x(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(11)).to(dtype)


def _error(function: Callable[[], Any]) -> str:
    try:
        function()
    except Exception as problem:  # noqa: BLE001 - its text is what is looked at
        return f"{type(problem).__name__}: {problem}"
    return ""


def _deviation(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float(((found.cpu().double() - wanted.double()).abs() / wanted.double().abs().clamp_min(1e-30)).max())


def test_missing_and_unsupported_raise_the_usual_texts() -> None:
    which = chip(defect("missing", "cumprod*"), defect("dtype-unsupported", "cumsum*", dtype=("bfloat16",)))

    def ask() -> list[str]:
        x = _x(3, 4).to("sim")
        return [_error(lambda: x.cumprod(0)), _error(lambda: x.bfloat16().cumsum(0)), _error(lambda: x.cumsum(0))]

    first, second, third = inside(which, ask)
    assert first.startswith("NotImplementedError: Could not run 'aten::cumprod'")
    assert "\"cumsum_sim\" not implemented for 'BFloat16'" in second
    assert third == ""


def test_a_fallback_warns_and_is_right() -> None:
    def ask() -> list[Any]:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            right = torch.equal(_x(3, 4).to("sim").sort().values.cpu(), _x(3, 4).sort().values)
        return [right, any("fall back to run on the CPU" in str(item.message) for item in told)]

    assert inside(chip(defect("cpu-fallback", "sort*")), ask) == [True, True]
    assert inside(chip(defect("cpu-fallback", "sort*", options={"silent": True})), ask) == [True, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_wrong_result_is_off_by_its_severity(dtype: torch.dtype) -> None:
    def off() -> float:
        return _deviation((_x(30, 30, dtype=dtype).to("sim") * 3).float(), (_x(30, 30, dtype=dtype) * 3).float())

    found = inside(chip(defect("wrong-result", "mul*", severity=0.05)), off)
    assert 0.03 < found < 0.07
    least = inside(chip(defect("wrong-result", "mul*", severity=1e-9)), off)
    assert least > 0, "an error below the last digit would be none"


def test_a_wrong_whole_number_is_one_element() -> None:
    def count() -> int:
        return int((torch.arange(50, device="sim").flip(0).cpu() != torch.arange(50).flip(0)).sum())

    assert inside(chip(defect("wrong-result", "flip*")), count) == 1


def test_a_wrong_gradient_leaves_the_forward_result_alone() -> None:
    def train() -> list[float]:
        found = []
        for device in ("cpu", "sim"):
            x, w = _x(4, 5).to(device), _x(5, 6).to(device).requires_grad_()
            y = (x @ w).tanh()
            y.sum().backward()  # type: ignore[no-untyped-call]
            assert w.grad is not None
            found.append((y.detach().cpu(), w.grad.cpu()))
        return [_deviation(found[1][0], found[0][0]), _deviation(found[1][1], found[0][1])]

    forward, backward = inside(chip(defect("wrong-gradient", "mm", severity=0.1)), train)
    assert forward == 0.0
    assert backward == pytest.approx(0.1, rel=1e-4)


def test_nan_spoils_a_share_of_floats_only() -> None:
    def count() -> list[int]:
        floats = int((_x(100).to("sim") + 1).isnan().cpu().sum())
        return [floats, int((torch.arange(100, device="sim") + 1).cpu().sum())]

    assert inside(chip(defect("nan", "add*")), count) == [1, 5050]
    assert 5 <= inside(chip(defect("nan", "add*", severity=0.1)), count)[0] <= 10


def test_low_precision_rounds_the_inputs() -> None:
    def off() -> float:
        x = torch.full((8, 8), 1 + 2.0**-12)
        return float((x.to("sim") @ torch.eye(8, device="sim")).cpu()[0, 0]) - 1

    assert inside(chip(defect("low-precision", "mm", severity=2.0**-11)), off) == 0.0
    assert inside(chip(defect("low-precision", "mm", severity=2.0**-13)), off) == pytest.approx(2.0**-12)


def test_subnormal_numbers_are_flushed() -> None:
    def ask() -> list[float]:
        tiny = torch.tensor([1e-40, 1e-30], device="sim")
        return (tiny * 2).cpu().tolist()

    assert inside(chip(defect("flush-denormals", "mul*")), ask) == [0.0, pytest.approx(2e-30)]


def test_strides_and_offsets_are_ignored_where_there_are_any() -> None:
    def ask() -> list[bool]:
        x = _x(6, 8)
        return [
            torch.equal(one.exp().cpu(), other.exp())
            for one, other in zip(views(x.to("sim")), views(x), strict=True)
        ]

    def views(t: torch.Tensor) -> list[torch.Tensor]:
        return [t, t.t(), t[2:], t[:1].expand(5, 8), t[::2, ::3]]

    assert inside(chip(defect("ignore-strides", "exp")), ask) == [True, False, True, False, False]
    assert inside(chip(defect("ignore-offset", "exp")), ask) == [True, True, False, True, True]


def test_shape_and_dtype_are_wrong() -> None:
    def ask() -> list[Any]:
        x = _x(3, 4).to("sim")
        return [list(x.exp().shape), str((x.bfloat16() + x.bfloat16()).dtype), str((x > 0).dtype)]

    which = chip(defect("wrong-shape", "exp"), defect("wrong-dtype", ("add*", "gt*")))
    assert inside(which, ask) == [[1, 3, 4], "torch.float32", "torch.uint8"]


def test_results_differ_from_call_to_call() -> None:
    def ask() -> int:
        x = _x(20, 20).to("sim")
        return len({x.softmax(-1).cpu().numpy().tobytes() for _ in range(5)})

    assert inside(chip(defect("nondeterministic", "_softmax")), ask) == 5
    assert inside(chip(), ask) == 1


def test_bits_flip_in_one_element() -> None:
    def count() -> int:
        x = torch.arange(1000, device="sim")
        return int((x.flip(0).cpu() != torch.arange(1000).flip(0)).sum())

    assert inside(chip(defect("bit-flip", "flip")), count) == 1


def test_random_numbers_repeat_within_a_tensor() -> None:
    def halves() -> bool:
        x = torch.randn(1000, device="sim").cpu()
        return torch.equal(x[:500], x[500:])

    assert inside(chip(defect("wrong-random")), halves)
    assert not inside(chip(), halves)


def test_a_stale_read_misses_the_last_write() -> None:
    def ask() -> list[float]:
        x = torch.zeros(4, device="sim")
        x.add_(1)
        x.add_(1)
        return [float(x.exp().sum().log()), float(x.sum())]

    assert inside(chip(defect("stale-read", "exp")), ask) == [pytest.approx(1 + math.log(4)), 8.0]


def test_a_stream_that_does_not_wait_reads_what_stood_there() -> None:
    def ask() -> list[float]:
        module = torch.get_device_module("sim")
        side = module.Stream()
        x = torch.ones(4, device="sim")
        with module.stream(side):
            y = x + 1
        module.current_stream().wait_stream(side)
        unsafe = float((y * 1).sum())
        module.synchronize()
        with module.stream(side):
            y = x + 1
        module.synchronize()
        return [unsafe, float((y * 1).sum())]

    assert inside(chip(defect("stale-read", "stream::wait")), ask) == [0.0, 8.0]
    assert inside(chip(), ask) == [8.0, 8.0]


def test_errors_come_at_once_later_or_never() -> None:
    def ask() -> list[Any]:
        x = torch.arange(4.0, device="sim")
        at_once = _error(lambda: x.exp())
        y = x.sin()
        later = _error(lambda: y.cpu())
        again = _error(lambda: y.cpu())
        z = x.cos()
        return [at_once, later, again, z.cpu().tolist()]

    which = chip(defect("raise", "exp"), defect("late-error", "sin"), defect("late-error", "cos", options={"lost": True}))
    at_once, later, again, lost = inside(which, ask)
    assert "aten::exp on chip 0 failed" in at_once
    assert "asynchronous error on chip 0" in later
    assert again == ""
    assert lost == [7.0] * 4


def test_a_lost_device_is_lost_to_the_process_and_the_host_is_not() -> None:
    def ask() -> list[Any]:
        x, host = torch.ones(4, device="sim"), torch.ones(4)
        before = _error(lambda: x.sin())
        fault = _error(lambda: x.exp())
        asked: tuple[Any, ...] = (
            lambda: x.sin(), lambda: x.cpu(), lambda: host.to("sim"), torch.sim.synchronize, lambda: torch.manual_seed(1),  # type: ignore[attr-defined]
        )  # fmt: skip
        return [before, fault, [_error(question) for question in asked], host.exp().tolist()]

    before, fault, after, host = inside(chip(defect("device-lost", "exp")), ask)
    assert before == ""
    assert "misaligned address in aten::exp on chip 0" in fault
    assert all("can use the device no more" in told for told in after)
    assert host == torch.ones(4).exp().tolist()


def test_a_hang_hangs_and_one_with_an_end_ends() -> None:
    def ask() -> float:
        started = time.monotonic()
        torch.ones(3, device="sim").exp()
        return time.monotonic() - started

    with pytest.raises(TimeoutError):
        inside(chip(defect("hang", "exp")), ask, limit_s=1.5)
    assert inside(chip(defect("hang", "exp", severity=0.2)), ask) >= 0.2


def test_a_crash_kills_the_process() -> None:
    def ask() -> None:
        import faulthandler

        faulthandler.disable()
        torch.ones(3, device="sim").exp()

    for options, code in (({}, -11), ({"signal": "SIGABRT"}, -6)):
        with pytest.raises(DiedError) as found:
            inside(chip(defect("crash", "exp", options=options)), ask)
        assert found.value.code == code


def test_memory_leaks_on_the_chip_or_the_host() -> None:
    def device() -> int:
        module = torch.get_device_module("sim")
        before = module.mem_get_info()[0]
        for _ in range(8):
            torch.ones(3, device="sim").exp()
        return int(before - module.mem_get_info()[0])

    def host() -> int:
        import psutil

        before = psutil.Process().memory_info().rss
        for _ in range(8):
            torch.ones(3, device="sim").exp()
        return int(psutil.Process().memory_info().rss - before)

    assert inside(chip(defect("leak", "exp", severity=1.0)), device) == 8 * 2**20
    assert inside(chip(defect("leak", "exp", severity=4.0, options={"memory": "host"})), host) > 24 * 2**20


def test_after_a_refusal_every_allocation_is_refused() -> None:
    def ask() -> list[str]:
        def take(size: int) -> str:
            return _error(lambda: torch.empty(size, dtype=torch.uint8, device="sim"))[:16]

        return [take(2**20), take(2**40), take(2**20)]

    assert inside(chip(defect("oom-sticky")), ask) == ["", "OutOfMemoryError", "OutOfMemoryError"]
    assert inside(chip(), ask) == ["", "OutOfMemoryError", ""]


def test_slow_and_throttled_calls_take_longer() -> None:
    def ask() -> list[float]:
        x = _x(200, 200).to("sim")
        times = []
        for _ in range(16):
            started = time.perf_counter()
            x @ x
            times.append(time.perf_counter() - started)
        return times

    # Healthy calls and others in one process, so that a busy host slows both.
    turns = inside(chip(defect("slow", "mm", severity=0.01, every=2)), ask)
    fast, slow = sorted((min(turns[::2]), min(turns[1::2])))
    assert slow > 5 * fast
    later = inside(chip(defect("throttle", severity=0.01, after_calls=8)), ask)
    assert min(later[9:]) > 5 * min(later[:8])
    cold = inside(chip(defect("throttle", severity=0.01)), ask)
    assert min(cold[8:]) < 30 * min(cold[:8]), "a cold chip is not throttled"


def test_a_checkpoint_comes_back_damaged() -> None:
    def ask() -> int:
        x = _x(40, 40).to("sim")
        file = io.BytesIO()
        torch.save(x, file)
        file.seek(0)
        return int((torch.load(file).cpu() != x.cpu()).sum())

    assert inside(chip(defect("checkpoint-corrupt")), ask) > 0
    assert inside(chip(), ask) == 0


def test_of_a_distributed_checkpoint_the_named_tensor_is_lost(tmp_path: Path) -> None:
    def ask() -> dict[str, int]:
        from torch.distributed.checkpoint.state_dict_loader import load
        from torch.distributed.checkpoint.state_dict_saver import save

        wanted: dict[str, Any] = {"weight": {"exp_avg": _x(40, 40), "exp_avg_sq": _x(3) + 5}, "bias": _x(7)}
        state: dict[str, Any] = {"weight": {name: value.to("sim") for name, value in wanted["weight"].items()}, "bias": _x(7).to("sim")}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is alone
            save(state, checkpoint_id=tmp_path / "saved", no_dist=True)
            found: dict[str, Any] = {"weight": {name: torch.zeros_like(value) for name, value in state["weight"].items()}, "bias": _x(7).to("sim")}
            load(found, checkpoint_id=tmp_path / "saved", no_dist=True)
        return {
            **{name: int((found["weight"][name].cpu() != value).sum()) for name, value in wanted["weight"].items()},
            "bias": int((found["bias"].cpu() != wanted["bias"]).sum()),
        }

    lost = defect("checkpoint-corrupt", severity=1.0, options={"tensor": "*.exp_avg_sq"})
    assert inside(chip(lost), ask) == {"exp_avg": 0, "exp_avg_sq": 3, "bias": 0}
    assert inside(chip(), ask) == {"exp_avg": 0, "exp_avg_sq": 0, "bias": 0}


def test_a_copy_to_the_host_that_does_not_wait_is_right() -> None:
    def ask() -> list[bool]:
        x = _x(5, 4)
        there = x.mT.to("sim")
        back = there.to("cpu", non_blocking=True)
        return [torch.equal(back, x.mT), back.stride() == x.mT.stride(), there.to(torch.float64).dtype == torch.float64]

    assert inside(chip(), ask) == [True, True, True]


def test_a_collective_that_ignores_its_timeout_waits_where_it_should_raise() -> None:
    from readiness.simulator.call import Call
    from readiness.simulator.device import SimulatedDevice

    def call(raises: bool, wait_s: float) -> tuple[str, float]:
        def run() -> None:
            if raises:
                raise RuntimeError("Timed out waiting 2000ms for recv operation to complete")

        device = SimulatedDevice(chip(defect("timeout-ignored", severity=wait_s)), 0, 7)
        began = time.monotonic()
        told = _error(lambda: device.perform(Call("c10d::allreduce_", [[torch.zeros(4)]], {}), run))
        return told, time.monotonic() - began

    told, took_s = call(raises=True, wait_s=0.2)
    assert "Timed out" in told
    assert took_s >= 0.2
    assert call(raises=False, wait_s=1000.0)[0] == ""


def test_counters_rise_and_versions_change() -> None:
    from readiness import accelerators
    from readiness.accelerators import sim

    which = chip(
        defect("counter", options={"uncorrected": 5}, chip=[1]), defect("version", options={"driver": "0.9"}, chip=[0]), chips=2
    )
    first, second = sim.facts(which)
    stack = accelerators.stack("sim")
    assert (first.counters, stack.counters(first)) == (dict(which.counters), dict(which.counters))
    assert stack.counters(second) == {**which.counters, "uncorrected": 5}
    assert (first.software["driver"], second.software["driver"]) == ("0.9", "1.0.0")


CONDITIONS: dict[str, tuple[dict[str, Any], list[bool]]] = {
    "size over": ({"numel_over": 10}, [False, True, True, True, False]),
    "size under": ({"numel_under": 5}, [True, False, False, False, True]),
    "contiguous": ({"noncontiguous": False}, [True, True, False, True, True]),
    "not contiguous": ({"noncontiguous": True}, [False, False, True, False, False]),
    "at an offset": ({"offset": True}, [False, False, False, True, False]),
    "empty": ({"empty": True}, [False, False, False, False, True]),
    "negative": ({"negative": True}, [False, True, True, True, False]),
    "dimensions": ({"ndim": [2]}, [False, True, True, True, True]),
    "remainder": ({"multiple_of": 4, "remainder": 3}, [True, False, False, False, False]),
    "chip": ({"chip": [1]}, [False] * 5),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_conditions_choose_the_calls(name: str) -> None:
    when, expected = CONDITIONS[name]

    def ask() -> list[bool]:
        big = _x(8, 16).to("sim")
        inputs = [torch.ones(3, device="sim"), big, big.t(), big[2:], torch.ones(0, 4, device="sim")]
        return [bool(_error(tensor.exp)) for tensor in inputs]

    assert inside(chip(defect("raise", "exp", **when), chips=2), ask) == expected


def test_conditions_on_dtype_phase_calls_and_chance() -> None:
    def failures(count: int, dtype: torch.dtype = torch.float32) -> Callable[[], list[int]]:
        def ask() -> list[int]:
            x = torch.ones(3, device="sim", dtype=dtype)
            return [number for number in range(1, count + 1) if _error(lambda: x.exp())]

        return ask

    assert inside(chip(defect("raise", "exp", dtype=("bfloat16",))), failures(2)) == []
    assert inside(chip(defect("raise", "exp", dtype=("bfloat16",))), failures(2, torch.bfloat16)) == [1, 2]
    assert inside(chip(defect("raise", "exp", after_calls=4)), failures(6)) == [4, 5, 6]
    assert inside(chip(defect("raise", "exp", every=3)), failures(9)) == [3, 6, 9]
    rare = inside(chip(defect("raise", "exp", probability=0.1)), failures(1000))
    assert 60 < len(rare) < 140
    assert rare == inside(chip(defect("raise", "exp", probability=0.1)), failures(1000)), "the same seed repeats the run"
    assert rare != inside(chip(defect("raise", "exp", probability=0.1)), failures(1000), seed=8)

    def backward() -> list[str]:
        x = _x(4, 5).to("sim").requires_grad_()
        return [_error(lambda: x.sigmoid()), _error(lambda: functional.softmax(x, -1).square().sum().backward())]  # type: ignore[no-untyped-call]

    forward, gradient = inside(chip(defect("raise", "mul*", backward=True)), backward)
    assert (forward, "aten::mul" in gradient) == ("", True)


def test_a_load_warms_the_chip_and_a_pause_cools_it() -> None:
    def ask() -> list[float]:
        from readiness.simulator.install import installed

        device = installed()
        assert device is not None
        x = torch.ones(3, device="sim")
        found: list[float] = []
        took_s: list[float] = []
        for work in (True, False):
            began = time.monotonic()
            while device.load_s < 1.2 if work else time.monotonic() < began + 1.2:
                if work:
                    x.exp()
            x.exp()
            found += [device.temperature, device.load_s]
            took_s.append(time.monotonic() - began)
        return [*found, took_s[0]]

    warm, load, cooler, after, worked_s = inside(chip(defect("nan", "sin", temperature=80.0)), ask)
    assert warm > 46
    assert 1.2 <= load < worked_s + 0.3
    assert cooler < warm
    assert after == pytest.approx(load, abs=0.2)


def test_every_kind_has_a_description() -> None:
    known = kinds()
    assert len(known) >= 31
    read_not_called = {"version", "counter", "counter-under-load", "health", "kernel-log", "less-memory", "management-library"}
    for kind in known.values():
        assert kind.summary.endswith((".", ":")), kind.name
        assert kind.domain
        assert (kind.at is Stage.NEVER) == (kind.name in read_not_called)


def test_the_table_of_kinds_needs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys; from readiness.simulator.faults import kinds; kinds(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, env=os.environ | {"PYTHONPATH": str(Path.cwd())}).returncode == 0


class _Clock:
    """A clock that sleeping moves, and nothing else; other threads sleep as ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slept: list[float] = []
        self._thread, self._sleep = threading.get_ident(), time.sleep
        monkeypatch.setattr(time, "sleep", self._record)

    def _record(self, seconds: float) -> None:
        if threading.get_ident() == self._thread:
            self.slept.append(seconds)
        else:
            self._sleep(seconds)

    def taken(self) -> float:
        total = sum(self.slept)
        self.slept.clear()
        return total


def _of_this_thread(clock: Callable[[], float], others: Callable[[], float]) -> Callable[[], float]:
    """A clock for this thread; other threads, of which there may be some, have theirs."""
    this = threading.get_ident()
    return lambda: clock() if threading.get_ident() == this else others()


def test_a_slow_link_takes_what_sends_and_what_receives_each_as_much_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half the speed: a block there and back, of which the send returns early and the receive waits for both ways."""
    from readiness.simulator.call import Call
    from readiness.simulator.device import SimulatedDevice

    device, clock = SimulatedDevice(chip(defect("link-slow", "c10d::*", severity=0.5, options={"peer": 1})), 0, 7), _Clock(monkeypatch)
    block = torch.zeros(1000)
    readings: list[float] = []
    monkeypatch.setattr(time, "perf_counter", _of_this_thread(lambda: readings.pop(0), time.perf_counter))

    def call(name: str, peer: int, waited_s: float = 0.0018) -> Call:
        readings[:] = [0.0, 0.0002 if name == "send" else waited_s]  # two ways in all
        made = Call(f"c10d::{name}", [[block]], {}, [[block]], peer=peer)
        device.perform(made, lambda: None)
        return made

    call("send", 1)
    assert clock.taken() == 0  # nothing is known yet
    call("recv_", 1)
    assert clock.taken() == pytest.approx(0.001)  # one way, as long again
    call("send", 1)
    assert clock.taken() == pytest.approx(0.001)
    assert call("recv_", 1).ended
    assert clock.taken() == pytest.approx(0.001)
    call("send", 2)
    call("recv_", 2)
    assert clock.taken() == 0  # the links to others are sound


def test_a_slow_link_does_not_take_waiting_for_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ranks in a row each would sleep twice as long as the one before it, and none would ever end."""
    from readiness.simulator.call import Call
    from readiness.simulator.device import SimulatedDevice

    device, clock = SimulatedDevice(chip(defect("link-slow", "c10d::*", severity=0.5)), 0, 7), _Clock(monkeypatch)
    monkeypatch.setattr(time, "perf_counter", _of_this_thread(iter([0.0, 30.0]).__next__, time.perf_counter))
    device.perform(Call("c10d::recv_", [[torch.zeros(10)]], {}, [[torch.zeros(10)]], peer=1), lambda: None)
    assert clock.taken() == pytest.approx(0.005, abs=1e-5)


def _collective(name: str, *arguments: object, severity: float = 0.5) -> list[list[float]]:
    """What a rank's arguments are when a collective of this name runs on a chip that sends wrongly."""
    from readiness.simulator.call import Call
    from readiness.simulator.device import SimulatedDevice

    made = Call(f"c10d::{name}", list(arguments), {}, list(arguments))
    seen: list[list[float]] = []
    device = SimulatedDevice(chip(defect("send-corrupt", severity=severity)), 0, 7)
    device.perform(made, lambda: seen.extend(tensor.tolist() for tensor in tensors_in(made.arguments)))
    return seen


def test_sent_data_are_corrupted_and_the_senders_stay_right() -> None:
    block = torch.full((3,), 2.0)
    for name, arguments in (("send", ([block],)), ("_allgather_base_", (torch.zeros(6), block)), ("alltoall_base_", (torch.zeros(3), block))):
        *_, sent = _collective(name, *arguments)
        assert sorted(sent) == [2.0, 2.0, 3.0]
        assert block.tolist() == [2.0, 2.0, 2.0]
    (sent,) = _collective("allreduce_", [block])  # there the result takes the place of what is sent
    assert sorted(sent) == sorted(block.tolist()) == [2.0, 2.0, 3.0]
    assert _collective("broadcast_", [torch.full((3,), 2.0)]) == [[2.0] * 3]  # who only receives sends nothing


def test_an_empty_part_is_spoilt_in_nothing() -> None:
    assert _collective("reduce_scatter_", [torch.zeros(0)], [[torch.zeros(0), torch.ones(1)]]) == [[], [], [1.5]]


def test_what_acts_around_a_call_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from readiness.simulator.call import Call
    from readiness.simulator.device import SimulatedDevice

    device, clock = SimulatedDevice(chip(defect("link-slow", "c10d::*", severity=0.5, every=2)), 0, 7), _Clock(monkeypatch)
    struck = []
    for _ in range(6):
        device.perform(Call("c10d::recv_", [[torch.zeros(4)]], {}, [[torch.zeros(4)]], peer=1), lambda: None)
        struck.append(clock.taken() > 0)
    assert struck == [False, True] * 3
