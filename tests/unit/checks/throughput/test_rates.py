"""Rates of products, attention, formats, convolutions, memory, launches and the allocator: no figure is compared with a clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from readiness import check_registry
from readiness.accelerators.rated_figures import Rated
from readiness.datamodel import Status, Use
from readiness.engine import plan
from readiness.errors import UsageError
from readiness.probes.throughput import (
    allocator,
    convolutions,
    format_names,
    formats,
    inputs,
    memory_operations,
    products,
    timing,
)
from readiness.probes.throughput.rate_baselines import Beside
from readiness.probes.throughput.timing import Timing
from readiness.profile import loader
from readiness.tracing import workload_schema
from readiness.tracing.workload_schema import Call, Spec
from tests.support import build, cpu, run_check, value, values


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that keeps nobody waiting, and a clock by which every call takes two milliseconds, its best one."""
    monkeypatch.setattr(timing, "waited_s", lambda: 0.0)

    def in_turns(_: Any, calls: Sequence[Callable[[], object]], **__: Any) -> list[Timing]:
        for call in calls:
            call()
        return [Timing((0.001, 0.002, 0.002, 0.003), 0.0) for _ in calls]

    monkeypatch.setattr(timing, "in_turns", in_turns)


def rated_as(monkeypatch: pytest.MonkeyPatch, **figures: Any) -> None:
    monkeypatch.setattr("readiness.accelerators.base.Accelerator.rated", lambda self: Rated("a test", "2026-11-30", **figures))


# ------------------------------------------------------------------------------------------------------------------ inputs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.int8])
def test_inputs_are_random_and_the_seeds(dtype: torch.dtype) -> None:
    first = inputs.drawn(cpu(1), (32, 16), dtype, "a")
    assert first.shape == (32, 16)
    assert first.dtype == dtype
    assert len(set(first.float().flatten().tolist())) > 20
    assert torch.equal(first.float(), inputs.drawn(cpu(1), (32, 16), dtype, "a").float())
    assert not torch.equal(first.float(), inputs.drawn(cpu(1), (32, 16), dtype, "b").float())


def test_large_inputs_repeat_what_was_drawn_and_no_row_is_like_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_DRAWN", 101)
    found = inputs.drawn(cpu(), (64, 32), torch.float32)
    assert found.shape == (64, 32)
    assert len({tuple(row.tolist()) for row in found}) == 64


def test_inputs_lie_as_asked() -> None:
    found = inputs.drawn(cpu(), (8, 4), torch.float32, stride=(1, 8))
    assert found.stride() == (1, 8)
    assert inputs.drawn(cpu(), (0, 4), torch.float32).shape == (0, 4)


def test_sets_take_turns_beyond_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "cache_bytes", lambda _: 1000)
    assert [inputs.copies(cpu(), size) for size in (1, 500, 1000, 10**6)] == [16, 5, 3, 2]
    seen: list[int] = []

    def call(number: int) -> torch.Tensor:
        seen.append(number)
        return torch.full((2,), float(-number))

    rotated = inputs.Rotated([partial(call, number) for number in range(3)])
    for _ in range(5):
        rotated()
    assert seen == [0, 1, 2, 0, 1]
    assert rotated.checksum() == 1.0


def test_the_largest_cache_counts(tmp_path: Path) -> None:
    for number, size in enumerate(("32K", "1024K", "32M")):
        (tmp_path / f"index{number}").mkdir()
        (tmp_path / f"index{number}" / "size").write_text(f"{size}\n")
    assert inputs._host_cache_bytes(tmp_path) == 2**25
    assert inputs._host_cache_bytes(tmp_path / "none") == inputs._CACHE_BYTES


# ---------------------------------------------------------------------------------------------------------------- products


def test_operations_of_each_kind_of_product() -> None:
    query, key = Spec("bfloat16", (1, 4, 8, 16)), Spec("bfloat16", (1, 4, 8, 16))
    attention = Call("aten::scaled_dot_product_attention", (query, key, key), (("is_causal", True),))
    scores = 4 * 8 * 8
    assert products.operations(attention) == 2 * scores * 32 / 2
    assert products.operations(attention, backward=True) == 2.5 * 2 * scores * 32 / 2
    assert products.operations(Call(attention.op, attention.arguments, ())) == 2 * scores * 32
    assert products.operations(Call("aten::mm", (Spec("float32", (3, 5)), Spec("float32", (5, 7))), ())) == 2 * 3 * 5 * 7
    forward, backward = list(convolutions.calls(("float32",), 2, narrow=True))[2:4]
    multiplications = 2 * 32 * 14 * 14 * 32 * 3 * 3
    assert forward.operations == 2 * multiplications
    assert backward.operations == 4 * multiplications


def test_experts_that_no_row_reaches_are_not_read() -> None:
    one = Call("aten::_grouped_mm", (Spec("bfloat16", (2, 8)), Spec("bfloat16", (4, 8, 16)), Spec("int32", (4,))), ())
    assert products.moved(one) == 2 * 8 * 2 + 2 * 8 * 16 * 2 + 4 * 4


@pytest.mark.parametrize("name", ["qwen3-8b", "deepseek-v3", "vit-large", "qwen3-235b-a22b"])
def test_every_product_of_a_workload_is_timed(name: str, quiet: None) -> None:
    evidence = run_check("throughput.products", cpu(0), workload=name)
    assert evidence.status is Status.MEASURED, evidence.reason
    assert values(evidence, "timed_share")
    assert set(values(evidence, "timed_share")) == {1.0}
    loaded = workload_schema.load(workload_schema.find(name))
    chosen = products.of_workload(cpu(0), loaded, ("matrices", "experts", "convolution"))
    for stage, kind in {(product.stage, product.kind) for product in chosen}:
        mine = [one for one in chosen if (one.stage, one.kind, one.dtype) == (stage, kind, "bfloat16")]
        if not mine:
            continue
        here = {"phase": stage, "kind": kind, "dtype": "bfloat16"}
        operations, calls = sum(one.calls * one.operations for one in mine), sum(one.calls for one in mine)
        assert value(evidence, "tflops", **here) == pytest.approx(operations / (0.002 * calls) / 1e12)
        assert value(evidence, "best_tflops", **here) == pytest.approx(2 * value(evidence, "tflops", **here))
    checksums = [row["checksum"] for row in evidence.rows if "checksum" in row]
    assert len(checksums) == len(chosen)
    assert all(math.isfinite(checksum) for checksum in checksums)


@pytest.mark.parametrize("name", ["qwen3-8b", "deepseek-v3"])
def test_attention_is_timed_forward_and_backward_and_for_one_token(name: str, quiet: None) -> None:
    evidence = run_check("throughput.attention", cpu(0), workload=name)
    assert {item.labels["phase"] for item in evidence.measurements} == {"forward", "backward", "prefill", "decode"}
    assert value(evidence, "tflops", phase="backward") == pytest.approx(2.5 * value(evidence, "tflops", phase="forward"))


def test_rates_are_held_against_ratings_and_single_tokens_against_memory(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    rated_as(monkeypatch, tflops={"bfloat16": 1e-3}, memory_gbps=2.0)
    evidence = run_check("throughput.products", cpu(0), workload="qwen3-8b")
    share = value(evidence, "share_of_rated", phase="prefill")
    assert share == pytest.approx(value(evidence, "tflops", phase="prefill") / 1e-3)
    assert values(evidence, "share_of_rated", phase="decode") == []
    assert value(evidence, "share_of_bandwidth", phase="decode") == pytest.approx(value(evidence, "gbps", phase="decode") / 2)
    assert values(evidence, "share_of_bandwidth", phase="prefill") == []


def test_a_busy_host_makes_rates_unknown_and_not_the_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "measured", lambda _, work, **__: (work(), Timing((0.001,), 0.5))[1])
    evidence = run_check("throughput.products", cpu(0), workload="qwen3-8b")
    assert values(evidence, "tflops") == []
    assert set(values(evidence, "timed_share")) == {1.0}
    assert any("busy" in str(row.get("tflops")) for row in evidence.rows)


def test_rates_of_rounds_are_those_of_the_whole_pass() -> None:
    call = Call("aten::mm", (Spec("float32", (2, 4)), Spec("float32", (4, 2))), ())
    one, other = (products.Product("prefill", "matrices", "float32", call, calls, 8.0, 1.0) for calls in (1, 3))
    found = products.Sum([
        products.Timed(one, Timing((1.0, 2.0, 4.0), rounds=(1, 1, 1))),
        products.Timed(other, Timing((1.0, 1.0, 2.0, 3.0, 9.0), rounds=(2, 1, 2))),
        products.Timed(other, refusal="no"),
    ])
    assert found.round_rates(lambda product: product.operations) == [32 / 4, 32 / 8, 32 / 22]


def test_a_product_that_is_refused_lowers_the_share(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = products.work_of

    def refuse(accelerator: Any, product: Any, *rest: Any) -> Any:
        if product.stage == "decode" and product.calls > 1:
            raise NotImplementedError("no such kernel")
        return honest(accelerator, product, *rest)

    monkeypatch.setattr(products, "work_of", refuse)
    evidence = run_check("throughput.products", cpu(0), workload="qwen3-8b")
    assert 0 < value(evidence, "timed_share", phase="decode") < 1
    assert value(evidence, "timed_share", phase="prefill") == 1
    about = next(item.about for item in evidence.measurements if item.labels.get("phase") == "decode")
    assert "no such kernel" in str(about)


def test_what_does_not_fit_is_said(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "fits", lambda *_: False)
    evidence = run_check("throughput.attention", cpu(0), workload="qwen3-8b")
    assert set(values(evidence, "timed_share")) == {0.0}
    assert "does not fit" in evidence.rows[0]["refused"]


def test_beside_the_host_all_calls_count() -> None:
    call = Call("aten::mm", (Spec("float32", (2, 2)), Spec("float32", (2, 2))), ())
    product = products.Product("prefill", "matrices", "float32", call, 3, 16.0, 32.0)
    timed = [
        products.Timed(product, Timing((1.0,)), beside=Beside(2.0, 1.0, 0.0)),
        products.Timed(product, Timing((1.0,)), beside=Beside(1.0, 1.0, 0.05)),
    ]
    beside = products.Sum(timed).beside
    assert beside is not None
    assert beside.share == pytest.approx(2 / 3)
    assert beside.waited == 0.05


@pytest.mark.parametrize("check", ["throughput.products", "throughput.attention"])
def test_without_a_workload_there_is_nothing_to_time(check: str) -> None:
    assert run_check(check, cpu(0)).status is Status.SKIPPED
    vet = check_registry.shipped()[check].vet
    assert vet is not None
    with pytest.raises(UsageError, match="no workload"):
        vet({"workload": "no-such"})


# ----------------------------------------------------------------------------------------------------------------- formats


def test_the_search_finds_the_shape_at_which_a_device_is_fastest() -> None:
    def seconds(shape: formats.Shape) -> float:
        """A unit that likes 512 rows, 1024 columns and as many terms as there are."""
        penalty = abs(math.log2(shape[0] / 512)) + abs(math.log2(shape[1] / 1024)) - math.log2(shape[2])
        return math.prod(shape) * 2**penalty * 1e-12

    best, tried = formats.search(seconds, largest=4096, longest_s=1.0, goes_on=lambda: True)
    assert best == (512, 1024, 4096)
    assert tried < 80


def test_a_search_without_time_keeps_what_it_has() -> None:
    left = iter([True, True, False, False, False])
    best, tried = formats.search(lambda shape: 1e-3, largest=4096, longest_s=1.0, goes_on=lambda: next(left))
    assert (best, tried) == ((256, 256, 256), 3)
    assert formats.search(lambda shape: 5.0, largest=4096, longest_s=1.0, goes_on=lambda: False) == ((64, 64, 64), 1)


def test_every_format_of_the_host_is_timed(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "search", lambda seconds_of, **_: (seconds_of((64, 64, 64)), ((64, 64, 64), 1))[1])
    rated_as(monkeypatch, tflops={"int8": 1e-6})
    evidence = run_check("throughput.formats", cpu(0), budget_s=0.01)
    for name in ("float64", "float32", "float16", "bfloat16", "int8"):
        assert value(evidence, "supported", dtype=name) == 1
        assert value(evidence, "tflops", dtype=name) == pytest.approx(2 * 64**3 / 0.002 / 1e12)
    assert values(evidence, "supported", dtype="tfloat32") == []
    assert value(evidence, "share_of_rated", dtype="int8") == pytest.approx(2 * 64**3 / 0.002 / 1e6)
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(
    ("problem", "supported"), [(NotImplementedError("no int8"), [0.0]), (RuntimeError("CUDA out of memory"), []), (RuntimeError("failed"), [0.0])]
)
def test_a_format_that_is_refused_has_no_rate(problem: Exception, supported: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise problem

    monkeypatch.setattr(torch, "_int_mm", refuse)
    evidence = run_check("throughput.formats", cpu(0), formats=("int8", "float32"), budget_s=0.01, host_largest=64)
    assert values(evidence, "supported", dtype="int8") == supported
    assert values(evidence, "tflops", dtype="int8") == []
    assert value(evidence, "supported", dtype="float32") == 1


def test_convolutions_are_timed_both_ways(quiet: None) -> None:
    evidence = run_check("throughput.convolution", cpu(0))
    for dtype in ("float32", "bfloat16"):
        assert value(evidence, "timed_share", phase="backward", dtype=dtype) == 1
        assert value(evidence, "tflops", phase="forward", dtype=dtype) > 0


# ------------------------------------------------------------------------------------------------------------------ memory


def test_operations_on_memory_compute_what_they_are_timed_for(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    rated_as(monkeypatch, memory_gbps=1.0)
    evidence = run_check("throughput.stream", cpu(0), host_mib=4)
    assert value(evidence, "wrong_values") == 0
    assert value(evidence, "gbps", op="copy") == pytest.approx(2 * 4 * 2**20 / 0.002 / 1e9)
    assert value(evidence, "share_of_copy", op="triad") == pytest.approx(1.5)
    assert value(evidence, "share_of_rated", op="triad") == value(evidence, "gbps", op="triad")
    assert {item.labels["op"] for item in evidence.measurements if item.name == "gbps"} == {
        "copy", "scale", "add", "triad", "write", "read", "gather"
    }  # fmt: skip


def test_blocks_that_move_compute_the_same_elsewhere() -> None:
    blocks = memory_operations.Blocks.drawn(cpu(0), 2**14)
    chosen, before = list(memory_operations.operations(blocks)), {blocks.a.data_ptr(), blocks.b.data_ptr(), blocks.out.data_ptr()}
    blocks.move()
    assert {blocks.a.data_ptr(), blocks.b.data_ptr(), blocks.out.data_ptr()} != before
    for operation in chosen:
        blocks.out.zero_()
        blocks.total.zero_()
        assert operation.wrong() > 0
        operation.call()
        assert operation.wrong() == 0, operation.name
    copy = memory_operations.BlockCopy.drawn(cpu(0), 2**14)
    copy.target.zero_()
    copy.move()
    assert copy.wrong_bytes() > 0
    copy.copy()
    assert copy.wrong_bytes() == 0


def test_an_operation_that_is_not_done_is_wrong(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "add", lambda *_, **__: None)
    assert value(run_check("throughput.stream", cpu(0), host_mib=1), "wrong_values") > 0


def test_a_busy_host_leaves_what_was_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "in_turns", lambda _, calls, **__: [(call(), Timing((0.001,), math.nan))[1] for call in calls])
    evidence = run_check("throughput.stream", cpu(0), host_mib=1)
    assert values(evidence, "gbps") == []
    assert value(evidence, "wrong_values") == 0


def test_kernels_are_counted_and_one_that_did_not_run_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "waited_s", lambda: 0.0)
    evidence = run_check("throughput.launch", cpu(0), budget_s=0.01)
    assert value(evidence, "lost_calls") == 0
    assert value(evidence, "round_trip_us", quantile="p50") <= value(evidence, "round_trip_us", quantile="p99")
    honest, calls = torch.Tensor.add_, iter(range(10**9))
    monkeypatch.setattr(torch.Tensor, "add_", lambda self, other: self if next(calls) == 50 else honest(self, other))
    assert value(run_check("throughput.launch", cpu(0), budget_s=0.01), "lost_calls") == 1


class Memory:
    """A device's memory from which a stack takes segments of so many bytes, and gives back those of which nothing is held."""

    def __init__(self, size: int, segment: int) -> None:
        self.size, self.segment = size, segment
        self.segments: list[list[int]] = []
        self.filled: list[int] = []

    def empty(self, size: int, **_: Any) -> Any:
        place = next((at for at, used in enumerate(self.filled) if used + size <= self.segment), None)
        if place is None:
            if self.free() < max(size, self.segment):
                raise torch.OutOfMemoryError("no room")
            place = len(self.segments)
            self.segments.append([])
            self.filled.append(0)
        self.segments[place].append(size)
        self.filled[place] += size
        return Block(self, place, size)

    def free(self) -> int:
        return self.size - sum(max(self.segment, *held) for held in self.segments if held)


class Block:
    def __init__(self, memory: Memory, place: int, size: int) -> None:
        self.memory, self.place, self.size = memory, place, size

    def numel(self) -> int:
        return self.size

    def __del__(self) -> None:
        self.memory.segments[self.place].remove(self.size)


def holder(memory: Memory) -> Any:
    """An accelerator with this memory."""
    return SimpleNamespace(device="fake", generator=cpu().generator, release=lambda: None, memory=lambda: (memory.free(), memory.size))


@pytest.mark.parametrize(("segment", "least", "most"), [(1, 1.0, 1.0), (2**26, 0.05, 0.95)])
def test_what_shares_a_segment_with_what_is_held_does_not_come_back(
    segment: int, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(2**30, segment)
    monkeypatch.setattr(allocator, "torch", SimpleNamespace(empty=memory.empty, uint8=torch.uint8, rand=torch.rand))
    found = allocator.fragments(holder(memory), 2**28)
    assert found is not None
    assert found.blocks > 4
    assert least <= found.share <= most
    assert memory.free() == 2**30, "all was given back"
    assert allocator.capacity(holder(memory), 2**29) == 2**29
    assert allocator.capacity(holder(memory), 2**31) == pytest.approx(2**30, rel=0.1), "more than there is cannot be had"
    assert memory.free() == 2**30


def test_a_stack_that_reports_no_memory_has_no_fragments(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(2**30, 1)
    monkeypatch.setattr(allocator, "torch", SimpleNamespace(empty=memory.empty, uint8=torch.uint8, rand=torch.rand))
    silent = holder(memory)
    silent.memory = lambda: None
    assert allocator.fragments(silent, 2**24) is None


def test_other_errors_of_an_allocator_pass_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("device lost")

    monkeypatch.setattr(allocator, "torch", SimpleNamespace(empty=fail, uint8=torch.uint8, rand=torch.rand))
    with pytest.raises(RuntimeError, match="lost"):
        allocator.capacity(cpu(), 2**28)


def test_on_the_host_requests_alone_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "waited_s", lambda: 0.0)
    evidence = run_check("throughput.allocator", cpu(0), mib=1, budget_s=0.01)
    assert {item.labels["source"] for item in evidence.measurements} == {"device", "kept"}
    assert {item.name for item in evidence.measurements} == {"request_us"}
    monkeypatch.setattr(timing, "waited_s", lambda: math.nan)
    assert run_check("throughput.allocator", cpu(0), mib=1, budget_s=0.01).status is Status.SKIPPED


def test_scales_of_blocks_have_a_format_of_their_own_and_sizes_that_blocks_divide(monkeypatch: pytest.MonkeyPatch) -> None:
    best, _ = formats.search(lambda shape: math.prod(shape) / sum(shape), largest=1024, longest_s=1e9, goes_on=lambda: True, step=128)
    assert all(size % 128 == 0 for size in best)
    seen: list[tuple[int, ...]] = []

    def scaled_mm(left: torch.Tensor, right: torch.Tensor, first: torch.Tensor, _: Any, second: torch.Tensor, *__: Any, **how: Any) -> Any:
        seen.append((*left.shape, *right.shape, *first.shape, *second.shape))
        return (left.float() @ right.float()).to(how["output_dtype"])

    monkeypatch.setattr(torch.nn.functional, "scaled_mm", scaled_mm, raising=False)
    rotated = formats._product(cpu(0), format_names.BLOCKS, (256, 128, 384))
    rotated()
    assert (256, 384, 384, 128, 256, 3, 1, 3) in seen
    assert rotated.checksum() > 0
    assert format_names.rated_as(format_names.BLOCKS) == "float8_e4m3fn"


def test_a_format_that_is_none_is_refused_before_the_run() -> None:
    vet = check_registry.shipped()["throughput.formats"].vet
    assert vet is not None
    vet({"formats": ["tfloat32", "float8_block_scaled"]})
    with pytest.raises(UsageError, match="float9"):
        vet({"formats": ["float9"]})


def test_general_times_nothing_on_the_cpu_which_nobody_has_rated() -> None:
    checks = check_registry.shipped()
    profile = loader.load("general", checks)
    for stack, some in (("cpu", False), ("cuda", True)):
        jobs = plan.plan(profile, list(Use), [build.facts(stack=stack, id=f"{stack}:0", kind=stack)], checks)
        assert any(job.check.family == "throughput" for job in jobs) is some
