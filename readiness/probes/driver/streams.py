"""Streams of a device: events and waits must keep the order of work. Only workers import this."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from readiness.accelerators.base import Accelerator


@dataclass(frozen=True, slots=True)
class Attempt:
    """Arrangement of streams: the order to keep, and whether it was kept; `refusal` if the device does not support it."""

    kind: str
    promise: str
    kept: bool
    refusal: str | None = None


def missing(accelerator: Accelerator) -> str | None:
    """Return why streams cannot be tested on this device, or None."""
    if not accelerator.stack.asynchronous:
        return "this device has no streams: it runs everything in order"
    module = accelerator.stack.module()
    absent = [name for name in ("Stream", "Event", "stream") if not hasattr(module, name)]
    return f"torch has no {' and no '.join(absent)} for this device" if absent else None


def attempts(accelerator: Accelerator, rounds: int, numbers: int, work: int) -> Iterator[Attempt]:
    """Run every arrangement in every round. Values are small integers, so that the expected result is exact."""
    module = accelerator.stack.module()
    if hasattr(module, "set_device"):
        module.set_device(accelerator.device)
    for turn in range(rounds):
        drawn = torch.randint(1, 1000, (numbers,), generator=accelerator.generator("streams", turn)).float()
        for kind, promise, arrange in (
            ("order", "a stream waits for another's event", _event),
            ("order", "streams wait for each other", _wait),
            ("synchronize", "a synchronised device has ended all work", _ended),
            ("synchronize", "a non-blocking copy has arrived after synchronising", _arrived),
        ):
            try:
                yield Attempt(kind, promise, arrange(accelerator, module, drawn, work))
            except (RuntimeError, NotImplementedError, AttributeError, TypeError) as problem:
                yield Attempt(kind, promise, False, f"{type(problem).__name__}: {problem}")
    accelerator.synchronize()


def _labour(x: torch.Tensor, work: int) -> torch.Tensor:
    for _ in range(work):
        x = x + 1
    return x


def _event(accelerator: Accelerator, module: Any, drawn: torch.Tensor, work: int) -> bool:
    x = drawn.to(accelerator.device)
    accelerator.synchronize()
    producer, consumer, done = module.Stream(), module.Stream(), module.Event()
    with module.stream(producer):
        y = _labour(x, work)
        done.record(producer)
    with module.stream(consumer):
        consumer.wait_event(done)
        z = y * 2
    consumer.synchronize()
    return torch.equal(z.cpu(), (drawn + work) * 2)


def _wait(accelerator: Accelerator, module: Any, drawn: torch.Tensor, work: int) -> bool:
    side, main = module.Stream(), module.current_stream()
    x = _labour(drawn.to(accelerator.device), work)
    side.wait_stream(main)
    with module.stream(side):
        y = _labour(x * 2, work)
    main.wait_stream(side)
    z = y * 3
    return torch.equal(z.cpu(), ((drawn + work) * 2 + work) * 3)


def _ended(accelerator: Accelerator, module: Any, drawn: torch.Tensor, work: int) -> bool:
    x = drawn.to(accelerator.device)
    accelerator.synchronize()
    side, done = module.Stream(), module.Event()
    with module.stream(side):
        y = _labour(x, work)
        done.record(side)
    accelerator.synchronize()
    ended = bool(done.query()) and bool(side.query())
    return ended and torch.equal(y.cpu(), drawn + work)


def _arrived(accelerator: Accelerator, module: Any, drawn: torch.Tensor, work: int) -> bool:  # noqa: ARG001
    target = torch.full_like(drawn, -1.0)
    with contextlib.suppress(RuntimeError, NotImplementedError):  # then the copy may block, and must arrive as well
        target = target.pin_memory()
    y = _labour(drawn.to(accelerator.device), work)
    target.copy_(y, non_blocking=True)
    accelerator.synchronize()
    return torch.equal(target, drawn + work)
