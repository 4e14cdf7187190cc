"""The namespace `torch.sim`, as PyTorch and checks expect it of a device. Streams run in order; events are kept."""

from __future__ import annotations

import contextlib
import itertools
import time
import types
from collections.abc import Iterator
from typing import Any

import torch

from readiness.simulator import graphs
from readiness.simulator.device import SimulatedDevice

_numbers = itertools.count(1)


class Event:
    """Event of a stream. The device works in order, so all earlier work is done when it is recorded."""

    def __init__(self, enable_timing: bool = False, *_: Any, **__: Any) -> None:
        self.recorded = False
        self._times = enable_timing
        self._at = 0.0

    def record(self, stream: Stream | None = None) -> None:
        """Record the event."""
        self.recorded = True
        self._at = time.perf_counter()

    def elapsed_time(self, end: Event) -> float:
        """Return the milliseconds from this event to another. Raises RuntimeError unless both were recorded with timing."""
        if not (self._times and end._times and self.recorded and end.recorded):
            raise RuntimeError("both events must be recorded, and made with enable_timing=True")
        return _device().reported("event::elapsed_time", 1e3 * (end._at - self._at))

    def query(self) -> bool:
        """True if all work before the event is done."""
        return True

    def wait(self, stream: Stream | None = None) -> None:
        """Make a stream wait for the event."""
        (stream or _current()).wait_event(self)

    def synchronize(self) -> None:
        """Make the host wait for the event."""
        _device().raise_pending()


class Stream:
    """Stream of the device."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.number = next(_numbers)

    @property
    def device(self) -> torch.device:
        """Device of the stream."""
        return torch.device("sim", 0)

    def wait_event(self, event: Event) -> None:
        """Make later work on this stream wait for an event."""
        _device().inject_without_tensors("stream::wait")

    def wait_stream(self, stream: Stream) -> None:
        """Make later work on this stream wait for all work on another."""
        _device().inject_without_tensors("stream::wait")

    def record_event(self, event: Event | None = None) -> Event:
        """Record an event on this stream."""
        event = event or Event()
        event.record(self)
        return event

    def query(self) -> bool:
        """True if all work on the stream is done."""
        return True

    def synchronize(self) -> None:
        """Make the host wait for the stream."""
        _device().raise_pending()

    def __enter__(self) -> Stream:
        self._before = _swap(self)
        return self

    def __exit__(self, *_: object) -> None:
        _swap(self._before)


_default = Stream()
_default.number = 0
_streams = [_default]
_devices: list[SimulatedDevice] = []


def _device() -> SimulatedDevice:
    return _devices[0]


def _current() -> Stream:
    return _streams[0]


def _swap(stream: Stream) -> Stream:
    before, _streams[0] = _streams[0], stream
    _device().stream = stream.number
    return before


@contextlib.contextmanager
def _stream(stream: Stream | None) -> Iterator[None]:
    if stream is None:
        yield
        return
    before = _swap(stream)
    try:
        yield
    finally:
        _swap(before)


def _synchronize(device: Any = None) -> None:
    _device().inject_without_tensors("stream::synchronize")
    _device().synchronize()


def _memory(device: Any = None) -> tuple[int, int]:
    device = _device()
    device.inject_without_tensors("memory::info")
    memory = device.memory
    used = device.reported("memory::reported", memory.total - memory.free_of_all)
    return max(memory.total - int(used), 0), memory.total


def _allocated(device: Any = None) -> int:
    return int(_device().reported("memory::allocated", _device().memory.used))


def use(device: SimulatedDevice) -> None:
    """Make this chip the one that the namespace refers to."""
    _devices[:] = [device]
    _swap(_default)


def make() -> types.ModuleType:
    """Return the namespace, for registration as `torch.sim`."""
    module = types.ModuleType("torch.sim")
    contents: dict[str, Any] = {
        "Stream": Stream,
        "Event": Event,
        "stream": _stream,
        "current_stream": lambda device=None: _current(),
        "default_stream": lambda device=None: _default,
        "set_stream": _swap,
        "synchronize": _synchronize,
        "mem_get_info": _memory,
        "memory_allocated": _allocated,
        "memory_reserved": _allocated,
        "empty_cache": _nothing,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "init": _nothing,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": _nothing,
        "device": _Device,
        "get_device_name": lambda device=None: f"simulated {_device().chip.name}",
        "get_device_capability": lambda device=None: None,
        "get_amp_supported_dtype": lambda: [torch.bfloat16, torch.float16],
        "is_bf16_supported": lambda *_: True,
        # The device draws its random numbers on the host: the host's generator is its own.
        "get_rng_state": lambda device=None: torch.get_rng_state(),
        "set_rng_state": lambda state, device=None: torch.set_rng_state(state),
        "get_rng_state_all": lambda: [torch.get_rng_state()],
        "set_rng_state_all": lambda states: torch.set_rng_state(states[0]),
        "manual_seed": torch.default_generator.manual_seed,
        "manual_seed_all": _seed,  # torch.manual_seed has seeded the host's generator already
        "seed_all": _nothing,
        "initial_seed": torch.initial_seed,
        "_is_in_bad_fork": lambda: False,
        "_lazy_init": _nothing,
    }
    contents |= graphs.graph_contexts(_device)
    for name, value in contents.items():
        setattr(module, name, value)
    return module


def _seed(*_: Any) -> None:
    """Do nothing, but raise if the device is lost."""
    _device().raise_if_lost()


def _nothing(*_: Any, **__: Any) -> None:
    """Do nothing."""


class _Device(contextlib.AbstractContextManager["_Device"]):
    """Context manager `torch.sim.device(0)`. There is one device."""

    def __init__(self, device: Any = None) -> None:
        self.idx = 0

    def __exit__(self, *_: object) -> None:
        return None

