"""Fastest product in each number format: a search over shapes, then a timing of the best one.

Formats are dtypes, and TF32 by its own name. Only workers import this: it imports torch.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from readiness.accelerators.base import Accelerator
from readiness.probes.parity import block_scaled
from readiness.probes.throughput import inputs, timing
from readiness.probes.throughput.format_names import BLOCKS, BYTES, WHOLE
from readiness.probes.throughput.timing import Timing

Tensor = torch.Tensor
#: Rows of the left matrix, columns of the right one, and terms of each sum.
Shape = tuple[int, int, int]
#: Units of matrices work on multiples of this; the first size that is tried.
_STEP, _FIRST = 16, 64
#: Times a dimension is changed by: wider and narrower, and off the powers of two.
_FACTORS = (2.0, 0.5, 1.5, 0.75)
#: Share of the budget that the search may take, and of it that one product may take.
_SEARCH, _LONGEST = 0.5, 0.1


@dataclass(frozen=True, slots=True)
class Best:
    """The fastest shape that was found, its timing, how many shapes were tried, and what was computed."""

    shape: Shape
    timing: Timing
    tried: int
    checksum: float

    @property
    def operations(self) -> float:
        """Operations of one product."""
        return 2.0 * math.prod(self.shape)


def measure(accelerator: Accelerator, name: str, *, budget_s: float, largest: int) -> Best:
    """Search the fastest shape of products in a format and time it. Raises what the device raises."""
    with _precision(name):

        def seconds_of(shape: Shape) -> float:
            work = _product(accelerator, name, shape)
            work()
            return min(timing.once(work, accelerator.synchronize) for _ in range(2))

        deadline = time.perf_counter() + _SEARCH * budget_s
        shape, tried = search(
            seconds_of, largest=largest, longest_s=_LONGEST * _SEARCH * budget_s,
            goes_on=lambda: time.perf_counter() < deadline, step=block_scaled.BLOCK if name == BLOCKS else _STEP,
        )  # fmt: skip
        rotated = _product(accelerator, name, shape)
        found = timing.measured(accelerator, rotated, budget_s=(1 - _SEARCH) * budget_s)
        return Best(shape, found, tried, rotated.checksum())


def search(
    seconds_of: Callable[[Shape], float], *, largest: int, longest_s: float, goes_on: Callable[[], bool], step: int = _STEP
) -> tuple[Shape, int]:
    """Return the shape with the highest rate, and how many were tried.

    Squares double until a product takes `longest_s` or `largest` is reached; from the best one each dimension is changed in
    turn as long as that helps and `goes_on` says so.
    """
    rates: dict[Shape, float] = {}

    def rate(shape: Shape) -> float:
        if shape not in rates:
            rates[shape] = math.prod(shape) / max(seconds_of(shape), 1e-9)
        return rates[shape]

    size = max(step, min(_FIRST, largest))
    while True:
        seconds = math.prod((size, size, size)) / rate((size, size, size))
        if 2 * size > largest or seconds > longest_s or not goes_on():
            break
        size *= 2
    better = True
    while better and goes_on():
        best = max(rates, key=lambda shape: rates[shape])
        for shape in _neighbours(best, largest, step):
            if not goes_on():
                break
            rate(shape)
        better = max(rates, key=lambda shape: rates[shape]) != best
    return max(rates, key=lambda shape: rates[shape]), len(rates)


def _neighbours(shape: Shape, largest: int, step: int) -> Iterator[Shape]:
    for position in range(3):
        for factor in _FACTORS:
            changed = list(shape)
            changed[position] = int(changed[position] * factor) // step * step
            if step <= changed[position] <= largest:
                yield changed[0], changed[1], changed[2]


def _product(accelerator: Accelerator, name: str, shape: Shape) -> inputs.Rotated:
    """Return a product of random matrices that takes turns among more of them than a cache holds."""
    rows, columns, terms = shape
    dtype = {"tfloat32": torch.float32, BLOCKS: torch.float8_e4m3fn}.get(name) or getattr(torch, name)
    size = dtype.itemsize * (rows * terms + terms * columns)
    calls = []
    for number in range(inputs.copies(accelerator, size)):
        left = inputs.drawn(accelerator, (rows, terms), dtype, "formats", number, "left")
        right = inputs.drawn(accelerator, (columns, terms), dtype, "formats", number, "right").t()
        calls.append(_call(accelerator, name, left, right if name in (*WHOLE, *BYTES, BLOCKS) else right.contiguous()))
    return inputs.Rotated(calls)


def _call(accelerator: Accelerator, name: str, left: Tensor, right: Tensor) -> Callable[[], Tensor]:
    if name in WHOLE:
        return lambda: torch._int_mm(left, right)
    if name == BLOCKS:
        rows, columns, blocks = left.shape[0], right.shape[1] // block_scaled.BLOCK, left.shape[1] // block_scaled.BLOCK
        a, b = (torch.rand(size, blocks, device=accelerator.device) + 0.5 for size in (rows, columns))
        return block_scaled.scaled_product(
            block_scaled.Scaled(left, a, square=False), block_scaled.Scaled(right.t(), b, square=True), torch.bfloat16
        )  # fmt: skip
    if name in BYTES:
        one = torch.ones((), device=accelerator.device)
        return lambda: torch._scaled_mm(left, right, one, one, out_dtype=torch.bfloat16)
    return lambda: left @ right


@contextlib.contextmanager
def _precision(name: str) -> Iterator[None]:
    """Compute products of float32 with all digits, or in TF32 where that is asked for."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if name == "tfloat32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
