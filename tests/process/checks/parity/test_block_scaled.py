"""parity.block_scaled on a healthy CPU, on a simulated chip, on planted defects, and where nothing can be told."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from readiness.datamodel import Evidence, Status
from readiness.probes.parity import block_scaled
from tests.support import cpu, run_check, value, values
from tests.support.parity import Change, Defect, Tensor, refuse, spoil
from tests.support.simulator import chip, inside

FP8 = torch.float8_e4m3fn
#: As profile deepseek-v3 asks.
LIMITS = {"promoted_mm": 1e-3, "block_scaled_mm": 1e-3, "dequantised_mm": 1e-2, "cast": 0.0, "move": 0.0}


def broken(evidence: Evidence) -> set[str]:
    """Operators whose error is over the limit."""
    assert evidence.status is Status.MEASURED, evidence.reason
    return {
        item.labels["op"] for item in evidence.measurements
        if item.name == "relative_error" and not item.value <= LIMITS[item.labels["op"]]
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_a_healthy_cpu_keeps_the_limits(seed: int, dtype: str) -> None:
    evidence = run_check("parity.block_scaled", cpu(seed), dtypes=(dtype,))
    assert broken(evidence) == set()
    for op in ("promoted_mm", "dequantised_mm", "cast", "move"):
        assert value(evidence, "supported", op=op, dtype=dtype) == 1
    assert value(evidence, "bound_ratio", op="cast") == 0
    assert value(evidence, "bound_ratio", op="promoted_mm") < 0.5


def test_what_is_not_there_has_no_error() -> None:
    """The CPU of torch 2.13 takes no scales by block: that is told, and nothing else of it."""
    evidence = run_check("parity.block_scaled")
    supported = value(evidence, "supported", op="block_scaled_mm")
    assert len(values(evidence, "relative_error", op="block_scaled_mm")) == (1 if supported else 0)
    refused = {row["refused"] for row in evidence.rows if "refused" in row}
    assert bool(refused) == (supported < 1)


def narrow(bits: int) -> Change:
    """A unit whose accumulator keeps so many bits and cuts the rest, 32 terms at a time."""

    def change(function: Any, a: Tensor, b: Tensor, *rest: Any, **kwargs: Any) -> Tensor:
        total = torch.zeros(a.shape[0], b.shape[1])
        for start in range(0, a.shape[1], 32):
            total += a[:, start : start + 32].float() @ b[start : start + 32].float()
            mantissa, exponent = torch.frexp(total)
            total = torch.ldexp((mantissa * 2**bits).trunc() / 2**bits, exponent)
        return total

    return change


@pytest.mark.parametrize(("bits", "seen"), [(7, True), (9, True), (14, False), (24, False)])
def test_an_accumulator_that_is_too_narrow(bits: int, seen: bool) -> None:
    """Fourteen bits do when the sums leave the unit every 128 terms; bfloat16's eight never."""
    with Defect(["scaled_mm"], narrow(bits)):
        evidence = run_check("parity.block_scaled")
    assert broken(evidence) == ({"promoted_mm"} if seen else set())


def test_one_wrong_element() -> None:
    def off(out: Tensor) -> Tensor:
        out[0, 0] += 10 * out.abs().max()
        return out

    with Defect(["scaled_mm"], spoil(off)):
        assert "promoted_mm" in broken(run_check("parity.block_scaled"))


@pytest.fixture
def without_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products take nearly all of the check's time, and tell nothing of what is only converted or moved."""
    monkeypatch.setattr(block_scaled, "cases", lambda *_: iter(()))


def to_zero(values: Tensor) -> Tensor:
    """Rounded down instead of to the nearest."""
    nearest = values.to(FP8)
    return (nearest.view(torch.uint8) - (nearest.float().abs() > values.abs()).to(torch.uint8)).view(FP8)


@pytest.mark.usefixtures("without_products")
@pytest.mark.parametrize(
    "wrong",
    [
        to_zero,
        lambda values: values.masked_fill(values.abs() < 2.0**-6, 0.0).to(FP8),
        lambda values: (values * 1.07).to(FP8),
        lambda values: values.abs().to(FP8),
    ],
    ids=["rounds down", "flushes small ones", "scales", "loses signs"],
)
def test_a_wrong_conversion(wrong: Any) -> None:
    def change(function: Any, values: Tensor, *rest: Any, **kwargs: Any) -> Any:
        floating = isinstance(values, Tensor) and values.dtype in (torch.float32, torch.bfloat16)
        if floating and rest == (FP8,) and values.ndim == 1:  # on the device; yardsticks are made of the same values
            seen.append(1)
            if len(seen) % 2 == 0:
                return wrong(values)
        return function(values, *rest, **kwargs)

    seen: list[int] = []
    with Defect(["to"], change):
        evidence = run_check("parity.block_scaled")
    assert "cast" in broken(evidence)


@pytest.mark.usefixtures("without_products")
@pytest.mark.parametrize("name", ["clone", "cat", "index_select", "contiguous", "copy"])
def test_what_moves_values_wrongly(name: str) -> None:
    def change(function: Any, *args: Any, **kwargs: Any) -> Any:
        out = function(*args, **kwargs)
        if isinstance(out, Tensor) and out.dtype == FP8 and out.numel() > 1000:
            out.view(torch.uint8).view(-1)[-5] ^= 64
        return out

    with Defect([name], change):
        assert "move" in broken(run_check("parity.block_scaled"))


@pytest.mark.usefixtures("without_products")
def test_a_move_that_is_missing() -> None:
    def change(function: Any, *args: Any, **kwargs: Any) -> Any:
        if args[0].dtype == FP8:
            raise NotImplementedError("index_select not implemented for Float8_e4m3fn")
        return function(*args, **kwargs)

    with Defect(["index_select"], change):
        evidence = run_check("parity.block_scaled")
    assert value(evidence, "supported", op="move") == pytest.approx(8 / 9)
    assert broken(evidence) == set()


def test_a_missing_dtype_is_a_measurement() -> None:
    with Defect(["scaled_mm"], refuse(FP8)):
        evidence = run_check("parity.block_scaled")
    assert value(evidence, "supported", op="promoted_mm") == 0
    assert values(evidence, "relative_error", op="promoted_mm") == []


@pytest.mark.parametrize("op", ["the call with scales", "the plain call"])
def test_an_error_that_is_markedmething_else_ends_the_check(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Tensor:
        raise RuntimeError("an illegal memory access was encountered")

    if op == "the plain call":
        monkeypatch.setattr(torch, "_scaled_mm", fails)
    else:
        monkeypatch.setattr(functional, "scaled_mm", fails, raising=False)
        if not hasattr(functional, "ScalingType"):
            pytest.skip("this torch has no scales by block")
    evidence = run_check("parity.block_scaled")
    assert evidence.status is Status.ERROR
    assert "illegal memory access" in (evidence.reason or "")


def test_a_stack_with_scales_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes the second factor's scales column by column only, as cuBLAS does the first's."""

    def scaled_mm(a: Tensor, b: Tensor, first: Tensor, how: Any, second: Tensor, how_too: Any, output_dtype: Any) -> Tensor:
        if first.shape[0] > 1 and first.stride(0) != 1:
            raise ValueError("scale_a must be outer-dim-major")
        factors = []
        for values_, scales in ((a, first), (b.t(), second)):
            rows = scales.repeat_interleave(128, 0) if scales.shape[0] * 128 == values_.shape[0] else scales
            factors.append(values_.float() * rows.repeat_interleave(128, 1))
        return (factors[0] @ factors[1].t()).to(output_dtype)

    monkeypatch.setattr(functional, "scaled_mm", scaled_mm, raising=False)
    if not hasattr(functional, "ScalingType"):
        pytest.skip("this torch has no scales by block")
    evidence = run_check("parity.block_scaled")
    assert value(evidence, "supported", op="block_scaled_mm") == 1
    assert broken(evidence) == set()


def test_blocks_of_different_sizes_keep_their_scales() -> None:
    generator = torch.Generator().manual_seed(1)
    drawn = block_scaled._drawn(256, 512, generator)
    for scaled in (block_scaled._by_row(drawn, FP8), block_scaled._by_block(drawn, FP8)):
        wide = scaled.wide()
        worst = (wide - drawn).abs() / scaled.by_row().repeat_interleave(128, 1) / 448
        assert float(worst.max()) <= 2.0**-4  # half a step of three bits at the top of a block


def test_values_and_scales_lie_as_matrix_units_take_them() -> None:
    """Seen on an H100 (torch 2.11, CUDA 13.0): rows dense, and of square blocks a column of scales for each row of blocks."""
    generator = torch.Generator().manual_seed(3)
    upstream = torch.randn(256, 384, generator=generator)
    for factor in (block_scaled._by_row(upstream.t(), FP8), block_scaled._by_block(upstream.t(), FP8)):
        assert factor.values.is_contiguous()
        assert factor.values.shape == (384, 256)
    layouts = {(tuple(scales.shape), scales.stride()) for scales in block_scaled._layouts(block_scaled._by_block(upstream, FP8))}
    assert ((4, 2), (1, 4)) in layouts
    layouts = {(tuple(scales.shape), scales.stride()) for scales in block_scaled._layouts(block_scaled._by_row(upstream, FP8))}
    assert ((256, 3), (1, 256)) in layouts


def test_a_healthy_simulated_chip() -> None:
    def look() -> list[float]:
        from readiness import accelerators
        from readiness.accelerators import sim
        from readiness.accelerators.base import Accelerator

        found = run_check("parity.block_scaled", Accelerator(sim.facts(chip())[0], accelerators.stack("sim"), seed=3))
        assert broken(found) == set()
        return values(found, "supported")

    assert inside(chip(), look) == values(run_check("parity.block_scaled", cpu(3)), "supported")
