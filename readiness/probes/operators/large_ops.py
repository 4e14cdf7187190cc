"""Operators of models on tensors of more than 2^31 elements: a batch's logits, a layer's experts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional

from readiness.accelerators.base import Accelerator
from readiness.numerics.unsupported import describe, is_out_of_memory
from readiness.probes.operators import large_tensors
from readiness.probes.operators.large_tensors import COLUMNS, ROWS, SQUARE, Wrong

Tensor = torch.Tensor
#: So many roundings of its dtype may an honest element be off; an element from another place is off by thousands.
_ROUNDINGS = 8
#: What allocators keep for themselves.
_MEMORY_FACTOR = 1.15


@dataclass(frozen=True, slots=True)
class Large:
    """Operator at a large size. `run` gets the block on the device, the rows, and the block in float64 on the host.

    `tensors` is how many tensors of the whole size it needs at once, in units of the dtype's.
    """

    name: str
    tensors: float
    run: Callable[[Tensor, int, Tensor], Wrong]
    dtype: torch.dtype = torch.bfloat16


@dataclass(frozen=True, slots=True)
class Found:
    """Result of one operator: `wrong`, or why it is missing (`refused`), or why it was not tried (`untried`)."""

    name: str
    dtype: str
    elements: int
    seconds: float = 0.0
    wrong: Wrong | None = None
    refused: str = ""
    untried: str = ""


def try_operators(
    accelerator: Accelerator, elements: int, *, budget_s: float, only: tuple[str, ...] = ()
) -> Iterator[Found]:
    """Try each operator once, while memory and time allow. Raises ValueError for an unknown operator in `only`."""
    if unknown := set(only) - {case.name for case in CASES}:
        raise ValueError(f"there is no large operator {min(unknown)!r}: {', '.join(case.name for case in CASES)}")
    deadline, lost = time.monotonic() + budget_s, ""
    rows = large_tensors.rows_for(elements)
    for case in CASES:
        if only and case.name not in only:
            continue
        dtype = str(case.dtype).removeprefix("torch.")
        result = Found(case.name, dtype, rows * COLUMNS)
        if lost:  # it would say the same of every other operator
            yield replace(result, untried=f"the device was lost in {lost}")
            continue
        needed = int(case.tensors * rows * COLUMNS * case.dtype.itemsize * _MEMORY_FACTOR)
        memory = accelerator.memory()
        if time.monotonic() > deadline:
            yield replace(result, untried="no time was left")
        elif memory is None or memory[0] < needed:
            free = "unknown" if memory is None else f"{memory[0] / 2**30:.3g} GiB"
            yield replace(result, untried=f"it takes {needed / 2**30:.3g} GiB, free are {free}")
        else:
            found = _tried(accelerator, case, rows, result)
            if found.refused and not accelerator.is_usable():
                lost = case.name
                found = replace(found, refused=f"it left the device unusable: {found.refused}")
            yield found
        if not lost:
            accelerator.release()


def _tried(accelerator: Accelerator, case: Large, rows: int, result: Found) -> Found:
    host = _block(accelerator, case)
    started = time.monotonic()
    try:
        wrong = case.run(host.to(accelerator.device), rows, host.double() if case.dtype.is_floating_point else host)
        accelerator.synchronize()
    except Exception as problem:  # noqa: BLE001 - whatever it raises is what became of it
        detail = describe(problem)
        if is_out_of_memory(problem):  # an illegal access to memory is what large tensors are tried for
            return replace(result, untried=f"not enough memory: {detail}")
        return replace(result, refused=detail, seconds=time.monotonic() - started)
    return replace(result, wrong=wrong, seconds=time.monotonic() - started)


def _block(accelerator: Accelerator, case: Large) -> Tensor:
    generator = accelerator.generator("large", case.name)
    if case.dtype.is_floating_point:
        return torch.randn(ROWS, COLUMNS, generator=generator).to(case.dtype)
    return torch.randint(1, 100, (ROWS, COLUMNS), generator=generator).to(case.dtype)


def _elementwise(function: Callable[[Tensor], Tensor], *, exact: bool = False) -> Callable[[Tensor, int, Tensor], Wrong]:
    def run(block: Tensor, rows: int, host: Tensor) -> Wrong:
        out = function(large_tensors.repeated(block, rows))
        expected = function(host).to(out.dtype).to(block.device)
        return large_tensors.against(out, expected, 0.0 if exact else _tolerance(out.dtype))

    return run


def _tolerance(dtype: torch.dtype) -> float:
    return _ROUNDINGS * torch.finfo(dtype).eps / 2


def _cat(block: Tensor, rows: int, host: Tensor) -> Wrong:  # noqa: ARG001
    first = rows // ROWS // 2 * ROWS
    parts = [large_tensors.repeated(block, first), large_tensors.repeated(block, rows - first)]
    return large_tensors.against(torch.cat(parts), block)


def _transpose(block: Tensor, rows: int, host: Tensor) -> Wrong:  # noqa: ARG001
    turned = large_tensors.repeated(block, rows).t().contiguous()
    for row in range(COLUMNS):  # each repeats one of the block's columns
        wrong = large_tensors.against(turned[row], block[:, row].contiguous())
        if wrong.count:
            return Wrong(wrong.count, row * rows + wrong.index, wrong.found, wrong.expected)
    return Wrong()


def _far_rows(rows: int, device: torch.device) -> Tensor:
    """Return the rows at both ends, and around elements whose index passes a power of two."""
    marks = [2**power // COLUMNS + step for power in (30, 31, 32, 33) for step in (-1, 0, 1)]
    chosen = sorted({0, 1, rows // 2, rows - 2, rows - 1, *(mark for mark in marks if 0 <= mark < rows)})
    return torch.tensor(chosen, device=device)


def _index_select(block: Tensor, rows: int, host: Tensor) -> Wrong:  # noqa: ARG001
    chosen = _far_rows(rows, block.device)
    out = large_tensors.repeated(block, rows).index_select(0, chosen)
    return large_tensors.against(out, block[chosen % ROWS])


def _embedding(block: Tensor, rows: int, host: Tensor) -> Wrong:  # noqa: ARG001
    chosen = _far_rows(rows, block.device)
    return large_tensors.against(functional.embedding(chosen, large_tensors.repeated(block, rows)), block[chosen % ROWS])


def _index_copy(block: Tensor, rows: int, host: Tensor) -> Wrong:  # noqa: ARG001
    """Copy rows; then restore them by plain copies, and check that nothing else has changed."""
    chosen = _far_rows(rows, block.device)
    whole = large_tensors.repeated(block, rows)
    written = -block[(chosen + 1) % ROWS]
    whole.index_copy_(0, chosen, written)
    for position, row in enumerate(chosen.tolist()):
        if (wrong := large_tensors.against(whole[row : row + 1], written[position : position + 1])).count:
            return Wrong(wrong.count, row * COLUMNS + wrong.index, wrong.found, wrong.expected)
        whole[row].copy_(block[row % ROWS])
    return large_tensors.against(whole, block)


def _masked_fill(block: Tensor, rows: int, host: Tensor) -> Wrong:  # noqa: ARG001
    mask = block > 0
    out = large_tensors.repeated(block, rows).masked_fill_(large_tensors.repeated(mask, rows), 3.0)
    return large_tensors.against(out, torch.where(mask, torch.tensor(3.0, dtype=block.dtype, device=block.device), block))


def _sum_of_rows(block: Tensor, rows: int, host: Tensor) -> Wrong:
    out = large_tensors.repeated(block, rows).sum(-1, dtype=torch.float32)
    return large_tensors.against(out, host.sum(-1).float().to(block.device), 1e-4)


def _sum_of_columns(block: Tensor, rows: int, host: Tensor) -> Wrong:
    out = large_tensors.repeated(block, rows).sum(0, dtype=torch.float32)[None]
    expected = (host.sum(0) * (rows // ROWS)).float().to(block.device)[None]
    return large_tensors.against(out, expected, 1e-2)


def _count(block: Tensor, rows: int, host: Tensor) -> Wrong:
    expected = int((host > 50).sum()) * (rows // ROWS)
    return _scalar(int((large_tensors.repeated(block, rows) > 50).sum()), expected)


def _argmax(block: Tensor, rows: int, host: Tensor) -> Wrong:  # noqa: ARG001
    whole = large_tensors.repeated(block, rows)
    place = rows * COLUMNS - 3
    whole[rows - 1, COLUMNS - 3] = 120
    return _scalar(int(whole.view(-1).argmax()), place)


def _scalar(found: int, expected: int) -> Wrong:
    return Wrong() if found == expected else Wrong(1, 0, found, expected)


def _large_product(block: Tensor, rows: int, host: Tensor) -> Wrong:
    """Compute a product with a large result, of 16 terms each."""
    right = host[16:32] / 4
    expected = (host[:, :16] @ right).to(block.dtype).to(block.device)
    out = large_tensors.repeated(block[:, :16].contiguous(), rows) @ right.to(block.dtype).to(block.device)
    return large_tensors.against(out, expected, _tolerance(block.dtype))


def _large_weight(block: Tensor, rows: int, host: Tensor) -> Wrong:
    """Compute a product with a large factor: each output repeats with the rows of the weight."""
    expected = (host[:8] @ host.t()).t().to(block.dtype).contiguous().to(block.device)
    out = functional.linear(block[:8], large_tensors.repeated(block, rows)).t().contiguous()
    return large_tensors.against(out, expected, _tolerance(block.dtype))


def _softmax(block: Tensor, rows: int, host: Tensor) -> Wrong:
    """Compute a softmax and its gradient, with the input as cotangent."""
    whole, wide = large_tensors.repeated(block, rows).requires_grad_(), host.clone().requires_grad_()
    return _both([whole], whole.softmax(-1), [wide], wide.softmax(-1), whole.detach(), host)


def _both(
    inputs: list[Tensor], out: Tensor, wide: list[Tensor], expected: Tensor, cotangent: Tensor, wide_cotangent: Tensor
) -> Wrong:
    """Compute the result and the gradients of the inputs; the reference is of one block, in float64."""
    wrong = large_tensors.against(out.detach(), expected.detach().to(out.dtype).to(out.device), _tolerance(out.dtype))
    if wrong.count:
        return wrong
    gradients = torch.autograd.grad(out, inputs, cotangent)
    for gradient, right in zip(gradients, torch.autograd.grad(expected, wide, wide_cotangent), strict=True):
        # It is made of the rounded result: some roundings more.
        wrong = large_tensors.against(gradient, right.to(out.dtype).to(out.device), 4 * _tolerance(out.dtype))
        if wrong.count:
            return wrong
    return Wrong()


def _bmm(block: Tensor, rows: int, host: Tensor) -> Wrong:
    """Multiply a small matrix for each row by two vectors; the gradient of the matrices is large."""
    left = large_tensors.repeated(block[:, :SQUARE].contiguous(), rows).view(rows, 64, 64).requires_grad_()
    right = large_tensors.repeated((block[:, :128] / 8).view(ROWS, 64, 2), rows).requires_grad_()
    wide = host[:, :SQUARE].reshape(ROWS, 64, 64).requires_grad_()
    wide_right = (host[:, :128] / 8).view(ROWS, 64, 2).requires_grad_()
    out, expected = left.bmm(right), wide.bmm(wide_right)
    return _both([left, right], out, [wide, wide_right], expected, torch.ones_like(out), torch.ones_like(expected))


def _cumsum(block: Tensor, rows: int, host: Tensor) -> Wrong:
    """Sum integers so small that every sum is exact."""
    small = block % 7 + 1
    out = large_tensors.repeated(small, rows).cumsum(-1, dtype=torch.int16)
    return large_tensors.against(out, (host % 7 + 1).cumsum(-1).to(torch.int16).to(block.device))


def _max_pool(block: Tensor, rows: int, host: Tensor) -> Wrong:
    pooled = functional.max_pool2d(large_tensors.repeated(block[:, :SQUARE].contiguous(), rows).view(rows, 1, 64, 64), 2)
    expected = functional.max_pool2d(host[:, :SQUARE].reshape(ROWS, 1, 64, 64), 2).to(block.dtype)
    return large_tensors.against(pooled, expected.to(block.device))


def _upsample(block: Tensor, rows: int, host: Tensor) -> Wrong:
    small = large_tensors.repeated(block[:, : SQUARE // 4].contiguous(), rows).view(rows, 1, 32, 32)
    expected = functional.interpolate(host[:, : SQUARE // 4].reshape(ROWS, 1, 32, 32), scale_factor=2).to(block.dtype)
    return large_tensors.against(functional.interpolate(small, scale_factor=2), expected.to(block.device))


def _cross_entropy(block: Tensor, rows: int, host: Tensor) -> Wrong:
    """Compute the loss of each row, and its gradient for all logits."""
    targets = torch.arange(ROWS) * 13 % COLUMNS
    logits = large_tensors.repeated(block, rows).requires_grad_()
    losses = functional.cross_entropy(logits, large_tensors.repeated(targets.to(block.device), rows), reduction="none")
    wide = host.clone().requires_grad_()
    expected = functional.cross_entropy(wide, targets, reduction="none")
    return _both([logits], losses, [wide], expected, torch.ones_like(losses), torch.ones_like(expected))


def _uniform(block: Tensor, rows: int, host: Tensor) -> Wrong:  # noqa: ARG001
    """Check random numbers for repetition after 2^31 or 2^32 of them, and for positions that were never drawn."""
    whole = torch.full((rows, COLUMNS), 7.0, dtype=block.dtype, device=block.device).uniform_().view(-1)
    first, size = whole[:4096], whole.numel()
    for place in (2**30, 2**31, 2**32, size - 4096):
        other = whole[place : place + 4096]
        if len(other) == len(first) and (bool((other == first).all()) or bool((other > 1).any())):
            return Wrong(4096, place, float(other[0]), math.nan)
    return Wrong()


CASES = (
    Large("copy", 2, _elementwise(torch.clone, exact=True)),
    Large("neg", 2, _elementwise(torch.neg, exact=True)),
    Large("mul", 2, _elementwise(lambda x: x * 1.5)),
    Large("silu", 2, _elementwise(functional.silu)),
    Large("softmax", 3, _softmax),
    Large("layer_norm", 2, _elementwise(lambda x: functional.layer_norm(x, (COLUMNS,)))),
    Large("cat", 2, _cat),
    Large("transpose", 2, _transpose),
    Large("index_select", 1, _index_select),
    Large("embedding", 1, _embedding),
    Large("index_copy_", 1, _index_copy),
    Large("masked_fill_", 1.5, _masked_fill),
    Large("sum.rows", 1, _sum_of_rows),
    Large("sum.columns", 1, _sum_of_columns),
    Large("count", 2, _count, torch.int8),
    Large("argmax", 1, _argmax, torch.int8),
    Large("cumsum", 2, _cumsum, torch.int16),
    Large("mm", 1.1, _large_product),
    Large("bmm", 2.2, _bmm),
    Large("linear", 1.1, _large_weight),
    Large("cross_entropy", 4, _cross_entropy),
    Large("uniform_", 1, _uniform),
    Large("max_pool2d", 2.3, _max_pool),
    Large("upsample_nearest2d", 1.3, _upsample),
    # 2^31 elements in rows of so odd a width are more than 2^23 rows, which norms have mistaken for fewer.
    Large("layer_norm.rows", 2, _elementwise(lambda x: functional.layer_norm(x.view(-1, ROWS), (ROWS,)).view(x.shape))),
)


def row(found: Found) -> dict[str, Any]:
    """Return a row of detail."""
    detail = found.refused or found.untried or (str(found.wrong) if found.wrong is not None and found.wrong.count else "")
    outcome = "missing" if found.refused else "not tried" if found.untried else "wrong" if detail else "right"
    return {
        "operator": found.name, "dtype": found.dtype, "elements": found.elements, "outcome": outcome, "detail": detail,
        "seconds": round(found.seconds, 3),
    }  # fmt: skip
