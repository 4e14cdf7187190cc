"""Fault counters and throttling of a device, first idle and then under load. Only workers import this."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from readiness.accelerators.base import Accelerator
from readiness.accelerators.fault_counters import events, increases

#: Of a square matrix: large enough to keep a device busy, small enough for one of 256 MiB.
_SIZE = 1024
_SAMPLE_PERIOD_S = 0.2


@dataclass(slots=True)
class Span:
    """Observation of a period: increase of each counter, None if it could not be read at both ends.

    `throttled` are the samples by the reasons that were active; `samples` how many there were that could be read.
    """

    name: str
    seconds: float = 0.0
    rises: Mapping[str, int] | None = None
    throttled: dict[str, int] = field(default_factory=dict)
    samples: int = 0
    calls: int = 0


def idle(accelerator: Accelerator, seconds: float) -> Span:
    """Observe the device while it is idle."""
    return _watch(accelerator, "idle", seconds, None)


def load(accelerator: Accelerator, seconds: float) -> Span:
    """Observe the device while it multiplies matrices continuously. Raises the device's errors."""
    factor = torch.randn(_SIZE, _SIZE, generator=accelerator.generator("under_load")).to(accelerator.device) / _SIZE**0.5
    return _watch(accelerator, "load", seconds, factor)


def _watch(accelerator: Accelerator, name: str, seconds: float, factor: torch.Tensor | None) -> Span:
    span = Span(name)
    before, started = accelerator.counters(), time.monotonic()
    sampled = started
    product = factor
    while (now := time.monotonic()) - started < seconds:
        if factor is None or product is None:
            time.sleep(_SAMPLE_PERIOD_S)
        else:
            # Of unit variance again and again: the product neither vanishes nor overflows within a thousand calls.
            product = factor if span.calls % 16 == 0 else torch.mm(product, factor)
            accelerator.synchronize()
            span.calls += 1
        if now - sampled >= _SAMPLE_PERIOD_S:
            sampled = now
            _sample(accelerator, span)
    if not span.samples:  # this process was kept from running for most of the time
        _sample(accelerator, span)
    # The counters first: reading them may take a while in which nothing is done.
    span.seconds = time.monotonic() - started
    after = accelerator.counters()
    if before is not None and after is not None:
        span.rises = events(increases(before, after))
    return span


def _sample(accelerator: Accelerator, span: Span) -> None:
    reasons = accelerator.throttle_reasons()
    if reasons is None:
        return
    span.samples += 1
    for reason in reasons:
        span.throttled[reason] = span.throttled.get(reason, 0) + 1
