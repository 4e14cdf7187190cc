"""A stack over the CPU whose every answer can be replaced: what a test needs of a device that is not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch

from readiness.accelerators.base import Accelerator, Stack
from readiness.datamodel import AcceleratorFacts
from tests.support import cpu


class FakeStack(Stack):
    """An asynchronous device by its own word; everything happens on the CPU, at once."""

    name = "fake"
    kind = "cpu"

    def __init__(
        self,
        *,
        module: Any = None,
        memory: tuple[int, int] | None = (2**30, 2**31),
        counters: Mapping[str, int] | None = None,
    ) -> None:
        self._module = module if module is not None else streams()
        self._memory = memory
        self._counters = counters

    def discover(self) -> Iterator[AcceleratorFacts]:
        yield cpu().facts

    def module(self) -> Any:
        return self._module

    def counters(self, facts: AcceleratorFacts) -> Mapping[str, int] | None:
        return self._counters

    def memory(self, device: torch.device) -> tuple[int, int] | None:
        return self._memory


def fake(stack: Stack | None = None, **facts: Any) -> Accelerator:
    """An accelerator on the fake stack, with these facts changed."""
    return Accelerator(replace(cpu().facts, **facts), stack or FakeStack(), seed=7)


class FakeStream:
    """A stream in whose order everything has already happened."""

    def wait_event(self, event: object) -> None: ...
    def wait_stream(self, stream: object) -> None: ...
    def synchronize(self) -> None: ...
    def query(self) -> bool:
        return True

    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


class FakeEvent:
    """An event that has passed as soon as it is recorded."""

    def record(self, stream: object) -> None: ...
    def query(self) -> bool:
        return True


def streams(**replaced: Any) -> SimpleNamespace:
    """A device's namespace in torch, as far as streams go."""
    found = {"Stream": FakeStream, "Event": FakeEvent, "stream": lambda stream: stream, "current_stream": FakeStream}
    return SimpleNamespace(**{**found, **replaced})
