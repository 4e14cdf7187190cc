"""Simulated device: its memory, temperature and active faults in this process.

One process has one chip. What it counts and how warm it is begins anew with each process; its fault counters and its
version stack stand in the facts that every process is handed.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from readiness.simulator import storage_views
from readiness.simulator.call import Call
from readiness.simulator.faults import kinds
from readiness.simulator.graphs import Capture
from readiness.simulator.injection import ActiveFault, FaultKind, Stage
from readiness.simulator.kernels import COUNTED_BYTES
from readiness.simulator.machine_file import Chip, Defect
from readiness.simulator.memory_ledger import MemoryLedger
from readiness.simulator.stale_memory import StaleMemory

#: A pause longer than this is no load: the chip cools as it had warmed.
_PAUSE_S = 0.5
#: Degrees Celsius at rest and at full load, and the time constant between them: 30 s of load make about 80 degrees.
_IDLE_C, _LOADED_C, _WARMING_S = 45.0, 85.0, 15.0


@dataclass(slots=True)
class Memory:
    """Memory of the chip in bytes: total, in use by this process, and leaked; `refusals` counts the allocations that failed.

    `kept` is what the driver still counts for processes that have ended, which a defect makes it do.
    """

    total: int
    ledger: MemoryLedger
    used: int = 0
    leaked: int = 0
    refusals: int = 0
    kept: int = 0

    @property
    def free(self) -> int:
        """Bytes that can still be allocated."""
        return max(self.total - self.used - self.leaked, 0)

    @property
    def free_of_all(self) -> int:
        """Bytes that no process holds: what a driver tells."""
        return max(self.free - self.kept - self.ledger.held_by_others(), 0)

    def take(self, size_bytes: int) -> None:
        """Count bytes as taken, or as given back where there are less than none."""
        self.used += size_bytes
        self.ledger.record(self.used)


@dataclass(slots=True)
class _Temperature:
    load_s: float = 0.0
    level: float = 0.0  # 0 at rest, 1 at full load
    last: float = field(default_factory=time.monotonic)

    def update(self) -> None:
        now = time.monotonic()
        pause = now - self.last
        self.last = now
        busy = pause < _PAUSE_S
        if busy:
            self.load_s += pause
        goal = 1.0 if busy else 0.0
        self.level += (goal - self.level) * (1 - 2.718281828 ** (-pause / _WARMING_S))


class SimulatedDevice:
    """Simulated device: runs calls, and injects the chip's faults into them. Implements `kernels.Chip`."""

    def __init__(self, chip: Chip, number: int, seed: int) -> None:
        self.chip = chip
        self.number = number
        self.memory = Memory(chip.memory_of(number), MemoryLedger(number))
        self.faults = self._active_faults(seed)
        self.pending: list[tuple[float, str]] = []  # errors that will surface: not before (monotonic), text
        self.lost = ""  # why this process can use the chip no more
        self.stale = StaleMemory()
        self.stream = 0  # the current one's number
        self.capture: Capture | None = None  # of the graph that is being captured
        self._faults_by_name: dict[str, tuple[list[ActiveFault], list[ActiveFault]]] = {}
        self._temperature = _Temperature()
        whens = [fault.defect.when for fault in self.faults]
        self._timed = any(when.after_s is not None or when.temperature is not None for when in whens) or any(
            defect.kind == "counter-under-load" for defect in chip.defects
        )
        self._works: list[Any] = []
        self._follows = any(when.exchanging is not None for when in whens)
        self._keeps_stale_memory = any(fault.kind.name == "stale-read" for fault in self.faults)

    def _active_faults(self, seed: int) -> list[ActiveFault]:
        known = kinds()
        return [
            ActiveFault(_within(_warm(defect) if kind.warm else defect, kind), kind, self.number, seed, position)
            for position, defect in enumerate(self.chip.defects)
            if (kind := known[defect.kind]).at is not Stage.NEVER
        ]

    @property
    def load_s(self) -> float:
        """Seconds of load in this process so far, without pauses."""
        return self._temperature.load_s

    @property
    def load(self) -> float:
        """Share of full load that the device has warmed up to: 0 at rest, 1 after minutes of load."""
        return self._temperature.level

    @property
    def exchanging(self) -> bool:
        """True while a collective of this process is under way."""
        self._forget_completed()
        return bool(self._works)

    def _forget_completed(self) -> None:
        """Forget collectives that have ended: what they hold is memory of the chip."""
        self._works = [work for work in self._works if not work.is_completed()]

    def follow(self, result: Any) -> None:
        """Remember a collective that has begun, where a defect asks whether one is under way."""
        if self._follows:
            self._forget_completed()
            work = result[-1] if isinstance(result, tuple) else result
            distributed: Any = torch._C._distributed_c10d
            self._works.append(distributed.Work.unbox(work))

    @property
    def temperature(self) -> float:
        """Temperature in degrees Celsius."""
        return _IDLE_C + (_LOADED_C - _IDLE_C) * self._temperature.level

    def raise_if_lost(self) -> None:
        """Raise RuntimeError once the device is lost to this process."""
        if self.lost:
            raise RuntimeError(self.lost)

    def faults_of(self, name: str) -> tuple[list[ActiveFault], list[ActiveFault]]:
        """Return the faults that match an operator: those that act before or around it, and those that act afterwards."""
        if name not in self._faults_by_name:
            own = [fault for fault in self.faults if fault.matches(name)]
            self._faults_by_name[name] = (
                [fault for fault in own if fault.kind.at in (Stage.BEFORE, Stage.AROUND)],
                [fault for fault in own if fault.kind.at in (Stage.AFTER, Stage.RAISED)],
            )
        return self._faults_by_name[name]

    def call(
        self, name: str, operator: Any, arguments: Sequence[Any], keywords: Mapping[str, Any], given: Sequence[Any]
    ) -> Any:
        """Run an operator on the host's tensors, and inject the faults that match it."""
        if self.capture is None:
            return self._call(name, operator, arguments, keywords, given)
        result = self._call(name, operator, arguments, keywords, given)
        self.capture.add(lambda before: self._call(name, operator, arguments, keywords, given, replaced=before), result)
        return result

    def _call(
        self, name: str, operator: Any, arguments: Sequence[Any], keywords: Mapping[str, Any], given: Sequence[Any],
        replaced: Any = None,
    ) -> Any:  # fmt: skip
        self.raise_if_lost()
        if self._timed:
            self._temperature.update()
        before, after = self.faults_of(name)
        if not (before or after or self._keeps_stale_memory):
            return operator(*arguments, **keywords)
        call = Call(name, list(arguments), dict(keywords), given, replaced=replaced)
        return self.perform(call, lambda: operator(*call.arguments, **call.keywords))

    def perform(self, call: Call, run: Callable[[], Any]) -> Any:
        """Run a call; inject faults before, around and after it."""
        before, after = self.faults_of(call.name)
        if self._keeps_stale_memory:
            self.stale.begin_call(call, self.stream)
        around = []
        for fault in before:
            if fault.acts_on(call, self):
                fault.inject(call, self)
                around += [fault] if fault.kind.at is Stage.AROUND else []
        # What a condition says of the inputs' values is asked before the call overwrites them.
        met = {fault.position: fault.meets(call) for fault in after if fault.reads_values}
        started = time.perf_counter()
        try:
            call.results = run()
        except Exception:
            self._act(Stage.RAISED, after, call, met)
            if call.silenced:
                return call.results
            raise
        call.seconds, call.ended = time.perf_counter() - started, True
        for fault in around:
            fault.inject(call, self)
        self._act(Stage.AFTER, after, call, met)
        if self._keeps_stale_memory:
            self.stale.end_call(call, self.stream)
        return call.results

    def _act(self, stage: Stage, faults: Sequence[ActiveFault], call: Call, met: Mapping[int, bool]) -> None:
        for fault in faults:
            if fault.kind.at is stage and fault.acts_on(call, self, met.get(fault.position)):
                fault.inject(call, self)

    def reported(self, name: str, figure: float) -> float:
        """Return a figure that the stack reports, as the chip's defects leave it."""
        if not any(self.faults_of(name)):
            return figure
        call = Call(name, [], {}, results=figure)
        found: float = self.perform(call, lambda: figure)
        return found

    def inject_without_tensors(self, name: str) -> None:
        """Inject the faults of an event without tensors, such as an allocation or a wait."""
        if any(self.faults_of(name)):
            self.perform(Call(name, [], {}), lambda: None)

    def allocate(self, size_bytes: int) -> None:
        """Raise torch.OutOfMemoryError if the device has too little free memory."""
        if size_bytes >= COUNTED_BYTES:
            self.inject_without_tensors("memory::allocate")
            if size_bytes > self.memory.free:
                self.memory.refusals += 1
                raise torch.OutOfMemoryError(
                    f"SIM out of memory. Tried to allocate {size_bytes / 2**20:.2f} MiB. Chip {self.number} has a total "
                    f"capacity of {self.memory.total / 2**30:.2f} GiB of which {self.memory.free / 2**20:.2f} MiB is free."
                )

    def to_chip(self, tensor: torch.Tensor) -> torch.Tensor:
        """Turn a new host tensor into a tensor of the device, and count its memory if it is large."""
        if tensor.layout is not torch.strided:
            raise NotImplementedError(f"the simulated device takes strided tensors, not {tensor.layout}")
        size = tensor.nbytes
        if size < COUNTED_BYTES:
            return storage_views.to_device(tensor)
        self.allocate(size)
        self.memory.take(size)
        # The memory lives as long as its storage does, whose Python object lives as long: no hook in C may run Python
        # code here, since memory is also given back while an exception is on its way.
        weakref.finalize(tensor.untyped_storage(), _free_memory, self.memory, size).atexit = False
        return storage_views.to_device(tensor)

    def copy(self, source: torch.Tensor, target: torch.Tensor, given: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Copy between host and device memory. `given` are the tensors as the caller has them (source, target)."""
        self.raise_if_lost()
        if self._timed:
            self._temperature.update()
        name = f"copy::{_DIRECTIONS[given[0].device.type == 'cpu', given[1].device.type == 'cpu']}"
        if self.capture is not None:
            if name != "copy::on_device":
                raise RuntimeError("operation not permitted while a graph is being captured: a copy from or to the host")
            self.capture.add(lambda _: self._copy(name, source, target, given), None)
        self._copy(name, source, target, given)

    def _copy(
        self, name: str, source: torch.Tensor, target: torch.Tensor, given: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        if name == "copy::to_host":
            self.raise_pending()
        if not (any(self.faults_of(name)) or self._keeps_stale_memory):
            target.copy_(source)
            return
        call = Call(name, [source, target], {}, given)

        def run() -> Any:
            return call.arguments[1].copy_(call.arguments[0])

        self.perform(call, run)

    def synchronize(self) -> None:
        """Wait for the device. Raises RuntimeError for a pending error, and if the device is lost."""
        self.raise_if_lost()
        self.stale.forget_all()
        self.raise_pending()

    def raise_pending(self) -> None:
        """Raise RuntimeError for the first pending error that is due."""
        now = time.monotonic()
        for index, (due, text) in enumerate(self.pending):
            if now >= due:
                del self.pending[index]
                raise RuntimeError(text)


#: By whether source and target are host memory.
_DIRECTIONS = {(True, False): "to_device", (False, True): "to_host", (False, False): "on_device", (True, True): "on_host"}


def _warm(defect: Defect) -> Defect:
    when = defect.when
    begins = (when.temperature, when.after_s, when.after_calls, when.every, when.probability)
    return defect if any(value is not None for value in begins) else replace(defect, when=replace(when, temperature=80.0))


def _within(defect: Defect, kind: FaultKind) -> Defect:
    """The defect with the condition of kinds that act in graphs only."""
    match kind.within:
        case "compiled":
            return replace(defect, when=replace(defect.when, compiled=True))
        case "replayed":
            return replace(defect, when=replace(defect.when, replayed=True))
    return defect


def _free_memory(memory: Memory, size: int) -> None:
    memory.take(-size)
