"""Graphs of the simulated device: those that its compiler makes, and those that are captured once and replayed.

Both run the operators that they consist of, each by the kernel that it has call by call; what is theirs alone are the
defects of kinds that act in them only.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from readiness.simulator.call import tensors_in

#: Threads compute gradients, and each says for itself what it runs.
_running = threading.local()


def is_compiled() -> bool:
    """True while this thread runs a graph that the device's compiler has made."""
    return getattr(_running, "compiled", False)


def compile_graph(module: Any, inputs: Sequence[Any]) -> Callable[..., Any]:
    """The device's compiler, as torch.compile calls one: forward and backward pass are traced, and run as a whole each."""
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch.aot_autograd import make_boxed_func  # type: ignore[attr-defined]

    def lower(graph: Any, _: Sequence[Any]) -> Any:
        def run(*arguments: Any) -> Any:
            before = is_compiled()
            _running.compiled = True
            try:
                return graph(*arguments)
            finally:
                _running.compiled = before

        return make_boxed_func(run)

    compiled: Callable[..., Any] = aot_autograd(fw_compiler=lower)(module, inputs)
    return compiled


@dataclass(slots=True)
class _Record:
    """A call that was captured: what to run, and the memory that its results lie in."""

    perform: Callable[[Any], Any]
    results: Any


@dataclass(slots=True)
class Capture:
    """Calls on a device, in their order, that are captured to be run again over the same memory."""

    records: list[_Record] = field(default_factory=list)

    def add(self, perform: Callable[[Any], Any], results: Any) -> None:
        """Add a call. `perform` runs it again; it is given what the results were before."""
        self.records.append(_Record(perform, results))

    def replay(self) -> None:
        """Run all calls again. Results are written to where those of the captured calls lie."""
        for record in self.records:
            found = record.perform(record.results)
            for new, old in zip(tensors_in([found]), tensors_in([record.results]), strict=True):
                if new is not old and new.data_ptr() != old.data_ptr():
                    old.copy_(new)


class Graph:
    """`torch.sim.SIMGraph`: a captured graph, as PyTorch's other devices have it."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.capture = Capture()

    def replay(self) -> None:
        """Run what was captured again, with what lies in its inputs now."""
        self.capture.replay()

    def reset(self) -> None:
        """Forget what was captured."""
        self.capture = Capture()


def graph_contexts(device: Callable[[], Any]) -> Mapping[str, Any]:
    """Return what the device's namespace has of graphs. `device` gives the device of this process."""

    @contextlib.contextmanager
    def graph(made: Graph, *_: Any, **__: Any) -> Iterator[None]:
        """Capture what is called within. Unlike other devices, this one runs it as well."""
        current = device()
        if current.capture is not None:
            raise RuntimeError("a graph is being captured already")
        current.capture = made.capture
        try:
            yield
        finally:
            current.capture = None

    return {"SIMGraph": Graph, "graph": graph, "is_current_stream_capturing": lambda: device().capture is not None}
