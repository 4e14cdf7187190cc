"""Inputs of timed calls: random, on the device, more than its caches hold. Only workers import this: it imports torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch

from readiness.accelerators.base import Accelerator
from readiness.host import memory as host_memory

Tensor = torch.Tensor
#: So many numbers are drawn, a prime; larger tensors repeat them, which is as hard to compute with and quick to make.
_DRAWN = 1_048_583
#: Where neither stack nor kernel names the last cache: more than any that is known.
_CACHE_BYTES = 2**28
_MOST_COPIES = 16
#: Share of the free memory that one test may take.
_SHARE = 0.25
_DTYPES_OF_BYTES = (torch.float8_e4m3fn, torch.float8_e5m2)


def drawn(
    accelerator: Accelerator, shape: Sequence[int], dtype: torch.dtype, *labels: object,
    stride: Sequence[int] | None = None, device: torch.device | None = None,
) -> Tensor:  # fmt: skip
    """Return a random tensor on the device, or on another: normal numbers, of integers all values.

    Drawn from the run's seed on the host, as far as they are drawn; what goes on is a repetition of that. `stride` is how
    it lies in memory.
    """
    count = math.prod(shape) if stride is None else 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if 0 in shape:
        count = 0
    generator = accelerator.generator("throughput", *labels, *shape)
    some = min(max(count, 1), _DRAWN)
    if dtype.is_floating_point:
        numbers = torch.randn(some, generator=generator)
        numbers = numbers if dtype.itemsize == 1 else numbers.to(dtype)
    else:
        limits = torch.iinfo(dtype)
        numbers = torch.randint(limits.min, limits.max, (some,), generator=generator, dtype=dtype)
    if dtype in _DTYPES_OF_BYTES:  # devices can move bytes that cannot repeat 8-bit floats
        numbers = numbers.to(dtype).view(torch.uint8)
    flat = numbers.to(device or accelerator.device)
    flat = flat.repeat(-(-max(count, 1) // some))[:count] if count > some else flat[:count]
    flat = flat.view(dtype) if dtype in _DTYPES_OF_BYTES else flat
    return flat.view(*shape) if stride is None else flat.as_strided(tuple(shape), tuple(stride))


def fits(accelerator: Accelerator, size_bytes: float) -> bool:
    """True if so many bytes are a small enough part of the device's free memory, and of the host's."""
    return size_bytes <= _SHARE * _free_bytes(accelerator)


def _free_bytes(accelerator: Accelerator) -> float:
    reading = accelerator.memory()
    shared = accelerator.device.type == "cpu" or accelerator.stack.host_backed
    limits = [*([] if reading is None else [reading[0]]), *([host_memory.available()] if shared or reading is None else [])]
    return float(min(limits))


def cache_bytes(accelerator: Accelerator) -> int:
    """Return the size of the device's last cache; a size beyond any known one where nobody names it."""
    if accelerator.device.type == "cpu" or accelerator.stack.host_backed:
        return _host_cache_bytes()
    describe = getattr(accelerator.stack.module(), "get_device_properties", None)
    try:
        properties = None if describe is None else describe(accelerator.device)
    except (RuntimeError, TypeError, NotImplementedError):
        properties = None
    return int(getattr(properties, "L2_cache_size", 0) or getattr(properties, "last_level_cache_size", 0) or _CACHE_BYTES)


@cache
def _host_cache_bytes(root: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int:
    sizes = []
    for file in root.glob("index*/size"):
        text = file.read_text(encoding="ascii").strip()
        sizes.append(int(text[:-1]) * {"K": 2**10, "M": 2**20}.get(text[-1], 0) if text[:-1].isdecimal() else 0)
    return max(sizes, default=0) or _CACHE_BYTES


def copies(accelerator: Accelerator, size_bytes: float) -> int:
    """Return of how many sets of inputs, each of so many bytes, calls should take turns so that no cache holds the next."""
    wanted = math.ceil(2 * cache_bytes(accelerator) / max(size_bytes, 1)) + 1
    afforded = int(_SHARE * _free_bytes(accelerator) / max(size_bytes, 1))
    return max(1, min(wanted, afforded, _MOST_COPIES))


class Rotated:
    """Call that takes turns among several sets of inputs. The results are kept until the next, and consumed in the end."""

    def __init__(self, calls: Sequence[Callable[[], Tensor]]) -> None:
        self._calls = tuple(calls)
        self._number = 0
        self.result: Tensor | None = None

    def __call__(self) -> None:
        """Make the next call."""
        self.result = self._calls[self._number % len(self._calls)]()
        self._number += 1

    def checksum(self) -> float:
        """Return the mean magnitude of the last result: reading it makes the work necessary."""
        return math.nan if self.result is None or not self.result.numel() else float(self.result.float().abs().mean())
