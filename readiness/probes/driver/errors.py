"""Calls that must fail on the device: is the caller told? And results that must be written. Only workers import this.

An error of a kernel may leave a process without its device, so each case runs in a process of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from readiness.accelerators.base import Accelerator
from readiness.host import disk
from readiness.numerics.unsupported import is_unsupported
from readiness.probes.driver import child_process

Tensor = torch.Tensor
_JOB = "readiness.probes.driver.errors:fail"
#: More than the 65,535 blocks that a grid of most devices has in its second and third dimension.
_MANY = 65_537


@dataclass(frozen=True, slots=True)
class ProvokedError:
    """Result of a call that must fail: `raised` (an exception), `ended` (the process), `silent`, or `refused` before it
    could fail; and in which words.
    """

    case: str
    how: str
    words: str


def _gather(x: Tensor, index: Tensor) -> Tensor:
    return torch.gather(x, 0, index[None].expand(1, x.shape[1]))


def _scatter(x: Tensor, index: Tensor) -> Tensor:
    return x.scatter(0, index[None].expand(1, x.shape[1]), 1.0)


#: What is called with a float32 matrix and one index that lies outside of it.
CASES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gather": _gather,
    "index_select": lambda x, index: x.index_select(0, index[:1]),
    "embedding": lambda x, index: functional.embedding(index[:1], x),
    "scatter": _scatter,
    "cross_entropy": lambda x, index: functional.cross_entropy(x[:1], index[:1]),
    "assertion": lambda x, _: _asserted(x),
}


def _asserted(x: Tensor) -> Tensor:
    torch._assert_async((x > 0).all() & (x < 0).all())
    return x


def fail(accelerator: Accelerator, settings: Mapping[str, Any], say: child_process.Say) -> None:
    """Make one call that must fail, and answer with what came of it; runs in the child."""
    try:
        accelerator.enter()
        x = torch.ones(64, 32, device=accelerator.device)
        index = torch.full((32,), 1_000_003, dtype=torch.int64).to(accelerator.device)
        accelerator.synchronize()
    except Exception as problem:  # noqa: BLE001 - the device did not come so far
        say({"how": "refused", "words": disk.describe(problem, f"{type(problem).__name__}: {problem}")})
        return
    try:
        CASES[str(settings["case"])](x, index).cpu()
        accelerator.synchronize()
    except Exception as problem:  # noqa: BLE001 - which kind it is says whether it was the call itself
        how = "refused" if is_unsupported(problem) else "raised"
        say({"how": how, "words": f"{type(problem).__name__}: {problem}".splitlines()[0][:200]})
        return
    say({"how": "silent", "words": "a result came back and no error"})


def try_provoked(accelerator: Accelerator, limit_s: float) -> Iterator[ProvokedError]:
    """Run each case in a process of its own."""
    for case in CASES:
        deadline = time.monotonic() + limit_s
        child = child_process.start(accelerator, _JOB, {"case": case})
        try:
            answer = child.answer(deadline)
        finally:
            child.close()
        status = child.wait(deadline if answer is None else time.monotonic() + limit_s)
        if status is None:
            held = child.kill()
            yield ProvokedError(case, "ended", f"the process hung{'' if held is None else f', and {held}'}")
        elif answer is None:
            yield ProvokedError(case, "ended", f"the process {child_process.ending(status)}")
        else:
            disk.raise_if_full(answer["words"])
            yield ProvokedError(case, answer["how"], answer["words"])


# ---------------------------------------------------------------------------------- results that must have been written


@dataclass(frozen=True, slots=True)
class WriteResult:
    """Result of a call into poisoned memory: elements that are still poisoned or wrong; why the device refused it."""

    case: str
    wrong: int
    refusal: str | None = None


def try_writes(accelerator: Accelerator) -> Iterator[WriteResult]:
    """Call operators with more rows or batches than a launch has blocks, into memory that holds NaN, and compare exactly."""
    draw = accelerator.generator("errors", "written")
    small = torch.randint(-4, 5, (_MANY, 2, 2), generator=draw).float()
    rows = torch.randint(-8, 9, (_MANY, 4), generator=draw).float()
    index = torch.randint(4, (_MANY, 4), generator=draw)
    cases: tuple[tuple[str, Callable[..., Tensor], tuple[Tensor, ...]], ...] = (
        ("bmm of 65537 batches", torch.bmm, (small, small)),
        ("sum of 65537 rows", lambda x, out: torch.sum(x, 1, out=out), (rows,)),
        ("cumsum of 65537 rows", lambda x, out: torch.cumsum(x, 1, out=out), (rows,)),
        ("gather of 65537 rows", lambda x, at, out: torch.gather(x, 1, at, out=out), (rows, index)),
        ("add across the rows", lambda x, out: torch.add(x, x.flip(0), out=out), (rows,)),
    )
    for name, call, given in cases:
        shape = call(*given, out=torch.empty(0))
        try:
            there = [tensor.to(accelerator.device) for tensor in given]
            out = torch.full(shape.shape, math.nan, device=accelerator.device)
            call(*there, out=out)
            found = out.cpu()
            accelerator.synchronize()
        except Exception as problem:
            if not is_unsupported(problem):
                raise
            yield WriteResult(name, 0, f"{type(problem).__name__}: {problem}".splitlines()[0][:200])
            continue
        yield WriteResult(name, int((found != shape).sum()))
