"""Copies between host and device in every layout, compared byte for byte. Only workers import this: it imports torch.

References are made on the host by indexed assignment, which is another path than the copies under test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch

from readiness.accelerators.base import Accelerator

View = Callable[[torch.Tensor], torch.Tensor]

#: Views of a matrix of at least 16 x 16. An expanded one can be read, never written.
LAYOUTS: Mapping[str, View] = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.t(),
    "strided": lambda x: x[::2, 1::3],
    "offset": lambda x: x[3:, 5:],
    "flat offset": lambda x: x.reshape(-1)[7:-2],
    "one element": lambda x: x[2, 3],
    "empty": lambda x: x[:0],
    "expanded": lambda x: x[4:5].expand(6, -1),
}

#: Views of two matrices that have one shape and other memory on each side, or equal strides with gaps; both are read and
#: written with strides. Drivers copy equal strides as one block, and take the other side's layout for their own.
BOTH_SIDES: Mapping[str, tuple[View, View]] = {
    "equal gaps": (lambda x: x[::2, ::3], lambda x: x[::2, ::3]),
    "rows with gaps": (lambda x: x[::3], lambda x: x[::3]),
    "equal transposed gaps": (lambda x: x[::2, ::3].t(), lambda x: x[::2, ::3].t()),
    "gaps to other gaps": (lambda x: x[1::2, ::2], lambda x: x[: x.shape[0] // 2, 1 : 1 + (x.shape[1] + 1) // 2]),
    "gaps to dense": (lambda x: x[::2, ::3], lambda x: _dense(x, -(-x.shape[0] // 2), -(-x.shape[1] // 3))),
    "dense to gaps": (lambda x: _dense(x, -(-x.shape[0] // 2), -(-x.shape[1] // 3)), lambda x: x[::2, ::3]),
    "rows to columns": (lambda x: x[:16, :16], lambda x: x[:16, :16].t()),
    "one row repeated": (lambda x: x[4:5].expand(6, -1), lambda x: x[6:12]),
}
#: Copies that change the dtype on their way, as weights and batches are loaded and results read back.
CONVERSIONS = (
    ("float32", "bfloat16"), ("bfloat16", "float32"), ("float32", "float16"), ("float16", "float32"), ("float64", "float32"),
    ("int64", "int32"), ("int32", "int64"), ("uint8", "float32"), ("int64", "bfloat16"), ("float32", "int32"),
    ("bool", "float32"),
)  # fmt: skip
#: Layouts in which they are tried.
CONVERTED = ("contiguous", "transposed", "strided", "offset")
#: Whole numbers below this are the same in every dtype of `CONVERSIONS`.
_SMALL = 127
#: Layouts in which the source of a copy that does not block is overwritten right after it was asked for.
OVERWRITTEN = ("contiguous", "transposed", "strided")


def _dense(x: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    return x.reshape(-1)[: rows * columns].view(rows, columns)


@dataclass(frozen=True, slots=True)
class CopyResult:
    """Result of a copy: its description, wrong bytes (infinite for a wrong shape or dtype), or the refusal."""

    dtype: str
    layout: str
    direction: str
    wrong: float = 0.0
    refusal: str | None = None


def draw(dtype: torch.dtype, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Return random values of a dtype on the host: normal for floating-point types, else over the whole range."""
    if dtype == torch.bool:
        return torch.rand(shape, generator=generator) < 0.5
    if dtype.is_complex or dtype.is_floating_point:
        wide = torch.complex64 if dtype.is_complex else torch.float32
        return torch.randn(shape, generator=generator, dtype=wide).to(dtype)
    info = torch.iinfo(dtype)
    return torch.randint(info.min, info.max, shape, generator=generator, dtype=dtype)


def draw_convertible(dtype: torch.dtype, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Return random values whose conversion is defined on every device.

    Floating-point values of between 2^-8 and 2^9, which are to be rounded to nearest, ties to even, or, to whole numbers,
    cut off; whole numbers that the other dtype holds.
    """
    if dtype == torch.bool:
        return draw(dtype, shape, generator)
    if not dtype.is_floating_point:
        least = 0 if dtype == torch.uint8 else -_SMALL
        return torch.randint(least, _SMALL + 1, shape, generator=generator).to(dtype)
    signs = torch.randint(0, 2, shape, generator=generator) * 2 - 1
    drawn = (1 + torch.rand(shape, generator=generator)) * signs
    powers = torch.randint(-8, 9, shape, generator=generator)
    return (drawn * torch.exp2(powers.float())).to(dtype)


def wrong_bytes(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Return the number of different bytes of two host tensors; infinite if shape or dtype differ."""
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return math.inf
    first, second = (tensor.contiguous().reshape(-1) for tensor in (found, wanted))
    if torch.equal(_words(first), _words(second)):
        return 0.0
    return float((first.view(torch.uint8) != second.view(torch.uint8)).sum())


def _words(flat: torch.Tensor) -> torch.Tensor:
    """Return the bits of a dense tensor as whole numbers, as wide as its bytes allow: few are compared quickly."""
    starts, size_bytes = flat.storage_offset() * flat.itemsize, flat.numel() * flat.itemsize
    return flat.view(next(kind for kind in _WHOLE if not (starts % kind.itemsize or size_bytes % kind.itemsize)))


_WHOLE = (torch.int64, torch.int32, torch.int16, torch.uint8)


def pinning(accelerator: Accelerator) -> str | None:
    """Return why the host cannot pin memory for this device, or None."""
    if accelerator.device.type == "cpu":
        return "the device uses the host's memory"
    try:
        pinned = torch.empty(16, dtype=torch.uint8).pin_memory()
    except (RuntimeError, NotImplementedError) as problem:
        return f"{type(problem).__name__}: {problem}"
    return None if pinned.is_pinned() else "pin_memory() returned memory that is not pinned"


def copies(
    accelerator: Accelerator, dtypes: tuple[str, ...], shape: tuple[int, int], *, pinned: bool
) -> Iterator[CopyResult]:
    """Copy every dtype in every layout to the device, back, and within it; and one larger block both ways."""
    for name in dtypes:
        dtype = getattr(torch, name, None)
        if dtype is None:
            yield CopyResult(name, "all", "all", refusal="torch has no such dtype")
            continue
        generator = accelerator.generator("copies", name, pinned)
        first, second = draw(dtype, shape, generator), draw(dtype, shape, generator)
        for layout, view in LAYOUTS.items():
            for direction, copy in (("to device", _in), ("to host", _out), ("on device", _within)):
                if layout == "expanded" and direction != "to host":
                    continue
                yield _tried(name, layout, direction, partial(copy, accelerator, first, second, view, pinned))
        for layout, (read, write) in BOTH_SIDES.items():
            for direction, places in _DIRECTIONS.items():
                copied = partial(_views, accelerator, first, second, read, write, places, pinned)
                yield _tried(name, layout, direction, copied)
        for layout in OVERWRITTEN:
            for direction, places in _DIRECTIONS.items():
                if direction == "to device" and pinned:
                    continue  # who changes pinned memory while it is read has made the mistake
                what = f"{direction}, source overwritten"
                copied = partial(_overwritten, accelerator, first, second, LAYOUTS[layout], places, pinned)
                yield _tried(name, layout, what, copied)
    yield from _conversions(accelerator, dtypes, shape, pinned)


def _conversions(
    accelerator: Accelerator, dtypes: tuple[str, ...], shape: tuple[int, int], pinned: bool
) -> Iterator[CopyResult]:
    """Convert on the way to the device and back: into memory that is there, in every layout, and into new memory."""
    for names in CONVERSIONS:
        if not set(names) <= set(dtypes):
            continue
        before, after = (getattr(torch, name) for name in names)
        generator = accelerator.generator("conversions", *names, pinned)
        first, second = (draw_convertible(dtype, shape, generator) for dtype in (before, after))
        what = " to ".join(names)
        for direction in ("to device", "to host"):
            places = _DIRECTIONS[direction]
            for layout in CONVERTED:
                view = LAYOUTS[layout]
                copied = partial(_views, accelerator, first, second, view, view, places, pinned)
                yield _tried(what, layout, direction, copied)
                copied = partial(_into_new_memory, accelerator, first, after, view, places, pinned)
                yield _tried(what, layout, f"{direction}, new memory", copied)
            if direction == "to host" or not pinned:
                copied = partial(_overwritten, accelerator, first, second, LAYOUTS["contiguous"], places, pinned)
                yield _tried(what, "contiguous", f"{direction}, source overwritten", copied)


#: Whether source and target lie on the device.
_DIRECTIONS = {"to device": (False, True), "to host": (True, False), "on device": (True, True)}


def _tried(dtype: str, layout: str, direction: str, copy: Callable[[], float]) -> CopyResult:
    try:
        return CopyResult(dtype, layout, direction, copy())
    except (RuntimeError, NotImplementedError, TypeError) as problem:
        return CopyResult(dtype, layout, direction, refusal=f"{type(problem).__name__}: {problem}")


def _host(tensor: torch.Tensor, pinned: bool) -> torch.Tensor:
    return tensor.pin_memory() if pinned else tensor.clone()


def _in_new_memory(accelerator: Accelerator, tensor: torch.Tensor) -> torch.Tensor:
    """Return the values in new memory of the device: `.to` would return the CPU's own tensor."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=accelerator.device).copy_(tensor)


def _read(accelerator: Accelerator, tensor: torch.Tensor) -> torch.Tensor:
    accelerator.synchronize()
    return torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor)


def _in(accelerator: Accelerator, first: torch.Tensor, second: torch.Tensor, view: View, pinned: bool) -> float:
    """Copy into a view of memory that holds other values: those around the view must stay."""
    wanted = second.clone()
    view(wanted)[...] = view(first)
    source = _host(first, pinned)
    target = _in_new_memory(accelerator, second)
    view(target).copy_(view(source), non_blocking=True)
    return wrong_bytes(_read(accelerator, target), wanted)


def _out(accelerator: Accelerator, first: torch.Tensor, second: torch.Tensor, view: View, pinned: bool) -> float:
    """Copy from a view into host memory that holds other values; what is copied must stay as it was."""
    source = _in_new_memory(accelerator, first)
    wanted = view(first)
    stale = view(second).contiguous()
    target = _host(stale, pinned)
    target.copy_(view(source), non_blocking=True)
    accelerator.synchronize()
    return wrong_bytes(target, wanted) + wrong_bytes(_read(accelerator, source), first)


def _placed(accelerator: Accelerator, tensor: torch.Tensor, on_device: bool, pinned: bool) -> torch.Tensor:
    return _in_new_memory(accelerator, tensor) if on_device else _host(tensor, pinned)


def _views(
    accelerator: Accelerator,
    first: torch.Tensor,
    second: torch.Tensor,
    read: View,
    write: View,
    places: tuple[bool, bool],
    pinned: bool,
) -> float:
    """From one view into another, of memory that holds other values; those around it, and what is copied, must stay."""
    wanted = second.clone()
    write(wanted)[...] = read(first)
    source, target = (_placed(accelerator, one, place, pinned) for one, place in zip((first, second), places, strict=True))
    write(target).copy_(read(source), non_blocking=True)
    return wrong_bytes(_read(accelerator, target), wanted) + wrong_bytes(_read(accelerator, source), first)


def _into_new_memory(
    accelerator: Accelerator, first: torch.Tensor, dtype: torch.dtype, view: View, places: tuple[bool, bool], pinned: bool
) -> float:
    """Move and convert by one call that does not block, as `module.to(device, dtype)` does; the source must stay."""
    source = _placed(accelerator, first, places[0], pinned)
    device = accelerator.device if places[1] else torch.device("cpu")
    found = view(source).to(device=device, dtype=dtype, non_blocking=True)
    accelerator.synchronize()
    wanted = torch.empty(found.shape, dtype=dtype)
    wanted[...] = view(first)
    return wrong_bytes(_read(accelerator, found), wanted) + wrong_bytes(_read(accelerator, source), first)


def _overwritten(
    accelerator: Accelerator, first: torch.Tensor, second: torch.Tensor, view: View, places: tuple[bool, bool], pinned: bool
) -> float:
    """A copy that does not block, and at once another value in its source: what was there when it was asked for arrives."""
    wanted = second.clone()
    view(wanted)[...] = view(first)
    source, target = (_placed(accelerator, one, place, pinned) for one, place in zip((first, second), places, strict=True))
    accelerator.synchronize()
    view(target).copy_(view(source), non_blocking=True)
    source.zero_()
    return wrong_bytes(_read(accelerator, target), wanted)


def _within(accelerator: Accelerator, first: torch.Tensor, second: torch.Tensor, view: View, pinned: bool) -> float:  # noqa: ARG001
    """Copy from one view to another on the device, which reads and writes with strides; what is copied must stay."""
    wanted = second.clone()
    view(wanted)[...] = view(first)
    source, target = _in_new_memory(accelerator, first), _in_new_memory(accelerator, second)
    view(target).copy_(view(source))
    return wrong_bytes(_read(accelerator, target), wanted) + wrong_bytes(_read(accelerator, source), first)
