"""Replay sizes: as in the model, or as large as memory and time allow."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from readiness.accelerators.base import Accelerator
from readiness.host import memory
from readiness.probes.model_operators import op_table
from readiness.tracing.workload_schema import Call, Record, Size, Spec, Workload

#: Lengths of the reduced model at which kernels with tiles break: none, one, and both sides of their edges.
EDGES = (0, 1, 7, 17, 63, 65, 127, 129)
#: Copies of a record's tensors that are there at once: on host and device, gradients, repeats.
_COPIES = 6
#: What drawing and moving cost on the host.
_HOST_BYTES_PER_S = 1.0e9
#: Multiplications and bytes a second that no device falls short of.
UNMEASURED = (1e9, 1e9)
#: What is shorter is mostly the start of a call.
_A_WHILE_S = 1e-3
#: A call is repeated so often, forward and backward.
_REPEATS = 4.0
_BYTES = {"float32": 4, "float64": 8, "int64": 8, "int32": 4, "complex64": 8, "complex128": 16, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class DeviceBudget:
    """Budget for one record: bytes, seconds, and the measured speed of the device."""

    bytes: float
    seconds: float
    multiplications_per_s: float
    bytes_per_s: float

    def affords(self, call: Call) -> bool:
        """True if a call of this size fits."""
        size = size_bytes(call)
        if size * _COPIES > self.bytes:
            return False
        return size / _HOST_BYTES_PER_S + _REPEATS * self.expected_s(call) <= self.seconds

    def expected_s(self, call: Call) -> float:
        """Return the expected seconds of one call."""
        return op_table.work(call) / self.multiplications_per_s + 2 * size_bytes(call) / self.bytes_per_s


def unmeasured(accelerator: Accelerator) -> DeviceBudget:
    """Return the budget of a device without measured speed: its memory, and a speed that every device exceeds."""
    return DeviceBudget(_free_bytes(accelerator), 1.0, *UNMEASURED)


def measure(accelerator: Accelerator) -> tuple[float, float]:
    """Measure the device's speed: multiplications and bytes a second, from products and copies. May raise, or crash.

    They grow until one takes a while: the start of a call is no measure of a fast device.
    """
    block = torch.randn(512, 512).bfloat16().to(accelerator.device)
    side, product_s = 512, 0.0
    for side in (512, 2048, 8192):
        matrix = block.repeat(side // 512, side // 512)
        product_s = _timed(accelerator, partial(torch.matmul, matrix, matrix))
        if product_s > _A_WHILE_S:
            break
    moved, copy_s = 0, 1.0
    for count in (2**22, 2**26, 2**28):
        if moved and 4 * count * _COPIES > _free_bytes(accelerator):
            break
        values = torch.zeros(count, device=accelerator.device)
        moved, copy_s = 2 * values.nbytes, _timed(accelerator, values.clone)
        if copy_s > _A_WHILE_S:
            break
    return float(side) ** 3 / product_s, moved / copy_s


def _free_bytes(accelerator: Accelerator) -> float:
    """Return the bytes that are free on the device and on the host at once."""
    host_bytes = _host_memory()
    memory = accelerator.memory()
    return min(memory[0] if memory is not None else host_bytes, host_bytes) / 2


def _timed(accelerator: Accelerator, work: object) -> float:
    assert callable(work)
    times = []
    for _ in range(3):
        accelerator.synchronize()
        start = time.perf_counter()
        work()
        accelerator.synchronize()
        times.append(time.perf_counter() - start)
    return max(min(times), 1e-7)


def _host_memory() -> float:
    return float(memory.available())


def size_bytes(call: Call) -> float:
    """Return the bytes of all tensors of a call."""
    return float(sum(math.prod(spec.shape) * _BYTES.get(spec.dtype, 1) for spec in call.specs()))


def bytes_moved(workload: Workload, records: Iterable[Record]) -> float:
    """Return the bytes of all tensors of these records at the model's own size."""
    calls = [record.call.at(workload.full) or record.call for record in records]
    return sum(map(size_bytes, calls))


def ladder(workload: Workload, record: Record) -> Iterator[tuple[Size, Call]]:
    """Yield a record at decreasing sizes: the model's own, shorter ones, and last the reduced model's."""
    length = workload.length
    sizes = [workload.full]
    while length > 1 and (length > 16 or workload.reduced_length is None):
        length = max(length // 4, 1)
        sizes.append(Size(length, reduced=False))
    if workload.reduced_length is not None:
        sizes.append(Size(workload.reduced_length, reduced=True, own=True))
    for size in sizes:
        if (call := record.call.at(size)) is not None:
            yield size, call


def smallest(workload: Workload, record: Record) -> tuple[Size, Call]:
    """Return a record at the size at which every element is compared with float64."""
    *_, last = ladder(workload, record)
    return last


def edges(workload: Workload, record: Record) -> Iterator[tuple[int, Call]]:
    """Yield the reduced model's record at lengths that break kernels, without duplicates."""
    reduced = workload.reduced_length is not None
    seen = {smallest(workload, record)[1]}
    for length in EDGES:
        call = record.call.at(Size(length, reduced=reduced))
        if call is not None and call not in seen:
            seen.add(call)
            yield length, call


def odd_sizes(call: Call) -> Iterator[Call]:
    """Yield the call with sizes that no tile divides; equal sizes stay equal. Some operators do not accept it."""
    for shift in (-3, 1):
        yield Call(call.op, _shifted(call.arguments, shift), _shifted(call.keywords, shift))


def _shifted(value: object, shift: int) -> Any:
    if isinstance(value, Spec):
        return Spec(value.dtype, tuple(size + shift if size > 8 else size for size in value.shape), None, value.grad)
    return tuple(_shifted(item, shift) for item in value) if isinstance(value, tuple) else value


def describe_size(workload: Workload, size: Size) -> str:
    """Return a text such as `4096 positions`, or `96 positions of the reduced model`."""
    return f"{size.length} {workload.unit}{' of the reduced model' if size.reduced else ''}"
