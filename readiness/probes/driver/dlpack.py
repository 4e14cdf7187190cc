"""Exchange of tensors by DLPack, as libraries of kernels do it. Only workers import this."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.utils.dlpack

from readiness.accelerators.base import Accelerator
from readiness.numerics import name_of
from readiness.numerics.unsupported import is_unsupported

Tensor = torch.Tensor
_ROWS, _COLUMNS = 6, 10

LAYOUTS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.t(),
    "from the middle": lambda x: x[2:, 3:],
    "every other column": lambda x: x[:, ::2],
    "one element": lambda x: x[1:2, 1:2],
}


@dataclass(frozen=True, slots=True)
class ExchangeResult:
    """Result of one exchange: what is wrong with it, or why it was refused."""

    dtype: str
    layout: str
    problems: Sequence[str] = ()
    refusal: str | None = None


def exchanges(accelerator: Accelerator, dtypes: Sequence[torch.dtype]) -> Iterator[ExchangeResult]:
    """Export and import a tensor of every dtype and layout, and compare what arrives."""
    draw = accelerator.generator("dlpack")
    for dtype in dtypes:
        drawn = torch.randint(1, 100, (_ROWS, _COLUMNS), generator=draw).to(dtype)
        for layout, view in LAYOUTS.items():
            try:
                given = view(drawn.to(accelerator.device))
                taken = torch.utils.dlpack.from_dlpack(given)
                accelerator.synchronize()
                problems = list(_differences(given, taken, view(drawn), accelerator))
            except Exception as problem:
                if not (is_unsupported(problem) or isinstance(problem, BufferError | ValueError | TypeError)):
                    raise
                yield ExchangeResult(name_of(dtype), layout, refusal=f"{type(problem).__name__}: {problem}"[:200])
                continue
            yield ExchangeResult(name_of(dtype), layout, problems)


def _differences(given: Tensor, taken: Tensor, wanted: Tensor, accelerator: Accelerator) -> Iterator[str]:
    if taken.device.type != given.device.type:
        yield f"it arrived on {taken.device}"
    if taken.dtype != given.dtype:
        yield f"it arrived as {name_of(taken.dtype)}"
    if taken.shape != given.shape:
        yield f"its shape is {tuple(taken.shape)}, not {tuple(given.shape)}"
        return
    if not torch.equal(taken.cpu().to(wanted.dtype), wanted):
        yield "its values differ"
    taken.fill_(0)  # none of the values that were there
    accelerator.synchronize()
    if not bool((given.cpu() == 0).all()):
        yield "it is a copy: what is written to one is not seen in the other"
