"""Fault injection: kinds of faults, the conditions under which a fault acts on a call, and its arguments.

Torch is imported where it is used: the command line reads the table of kinds.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Protocol

from readiness.simulator import fault_counts
from readiness.simulator.machine_file import Defect

if TYPE_CHECKING:
    import torch

    from readiness.simulator.call import Call
    from readiness.simulator.memory_ledger import MemoryLedger
    from readiness.simulator.stale_memory import StaleMemory


class Stage(StrEnum):
    """Stage of a call at which a kind of defect acts; `never` is for those that act elsewhere (version stack, counters).

    `around` is called twice, before the call and once it has ended (`Call.ended`); `raised` where the call raises.
    """

    BEFORE = "before"
    AFTER = "after"
    RAISED = "raised"
    AROUND = "around"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class FaultKind:
    """A kind of defect.

    `severity` is what it has where a chip file gives none, in `unit`. A `warm` kind waits for the chip to be warm where
    the file names no other beginning. `within` is the condition on graphs without which a kind does not act: `compiled` or
    `replayed`. `act` returns False for a call that it had nothing to harm in.
    """

    name: str
    at: Stage
    domain: tuple[str, ...]
    severity: float
    unit: str
    act: Callable[[Injection], bool | None]
    warm: bool = False
    within: str = ""

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (self.act.__doc__ or "").strip().partition("\n")[0]


class Memory(Protocol):
    """Protocol of a device's memory, as far as a fault may read and change it."""

    leaked: int
    refusals: int
    kept: int
    ledger: MemoryLedger


class Device(Protocol):
    """Protocol of a device, as far as a fault may read and change it."""

    number: int
    pending: list[tuple[float, str]]
    lost: str
    stale: StaleMemory

    @property
    def memory(self) -> Memory:
        """Memory of the device."""

    @property
    def load_s(self) -> float:
        """Seconds of load in this process so far."""

    @property
    def exchanging(self) -> bool:
        """True while a collective of this process is under way."""

    @property
    def temperature(self) -> float:
        """Temperature in degrees Celsius."""


@dataclass(slots=True)
class Injection:
    """Fault about to act: its call, severity and device. `memory` is its state, kept between calls."""

    call: Call
    severity: float
    settings: Mapping[str, Any]
    random: random.Random
    device: Device
    memory: dict[str, Any]

    def outputs(self) -> list[torch.Tensor]:
        """Return the results that the defect changes: all, or the one that `set = { output = 1 }` numbers, from 0 on."""
        chosen = self.settings.get("output")
        if chosen is None or not isinstance(self.call.results, list | tuple):
            return self.call.outputs()
        from readiness.simulator.call import tensors_in

        return list(tensors_in(self.call.results[int(chosen) :][:1]))

    def floats(self) -> list[torch.Tensor]:
        """Return the floating-point results that can be changed in place: not empty, and without overlapping elements."""
        return [
            tensor
            for tensor in self.outputs()
            if (tensor.is_floating_point() or tensor.is_complex()) and tensor.numel() and 0 not in _real_strides(tensor)
        ]

    def integers(self) -> list[torch.Tensor]:
        """Return the results of integers and booleans that can be changed in place."""
        return [
            tensor
            for tensor in self.outputs()
            if not (tensor.is_floating_point() or tensor.is_complex())
            and tensor.numel()
            and 0 not in _real_strides(tensor)
        ]

    def generator(self) -> torch.Generator:
        """Return a random generator that continues this defect's earlier draws."""
        import torch

        if "generator" not in self.memory:
            self.memory["generator"] = torch.Generator().manual_seed(self.random.getrandbits(32))
        found: torch.Generator = self.memory["generator"]
        return found


@dataclass(slots=True)
class ActiveFault:
    """Active fault: a defect on this chip in this process, with its counts and its random stream.

    `number` is the chip's, `position` the defect's in the chip's file.
    """

    defect: Defect
    kind: FaultKind
    number: int
    seed: int
    position: int = 0
    calls: int = 0
    memory: dict[str, Any] = field(default_factory=dict)
    random: random.Random = field(init=False)
    meets: Callable[[Call], bool] = field(init=False)
    reads_values: bool = field(init=False)
    _seen: set[Any] = field(default_factory=set)

    def __post_init__(self) -> None:
        from readiness.simulator import conditions

        self.meets = conditions.compiled(self.defect.when)
        self.reads_values = conditions.reads_values(self.defect.when)
        text = f"{self.seed}/{self.number}/{self.defect!r}"
        self.random = random.Random(zlib.crc32(text.encode()))  # noqa: S311 - a simulation, no secret

    @property
    def severity(self) -> float:
        """Severity from the chip file, or the default of the kind."""
        return self.kind.severity if self.defect.severity is None else self.defect.severity

    def matches(self, name: str) -> bool:
        """True if the defect matches this operator. `mm` in a file means `aten::mm`."""
        return any(fnmatchcase(name, glob) for glob in globs(self.defect, self.kind))

    def concerns(self, call: Call) -> bool:
        """True if the defect can act on this chip, in a group of this size, and on a transfer with this peer."""
        if self.defect.when.chip and self.number not in self.defect.when.chip:
            return False
        if self.defect.when.rank and call.rank not in self.defect.when.rank:
            return False
        under = self.defect.when.group_under
        if under is not None and (call.group is None or call.group >= under):
            return False
        peer = self.defect.set.get("peer")
        return peer is None or call.peer is None or call.peer == peer

    def acts_on(self, call: Call, device: Device, met: bool | None = None) -> bool:
        """True if the defect acts on this call. Counts the calls that it could have acted on.

        `met` is what was found of its conditions before the call, which may have overwritten what they are about.
        """
        when = self.defect.when
        if not self.concerns(call):
            return False
        if self.defect.dtype and not call.has_dtype(self.defect.dtype):
            return False
        if not (self.meets(call) if met is None else met) or not self._is_unseen(call):
            return False
        if self.calls == 0:
            fault_counts.mark()
        self.calls += 1
        if when.after_s is not None and device.load_s < when.after_s:
            return False
        if when.temperature is not None and device.temperature < when.temperature:
            return False
        if when.exchanging is not None and device.exchanging is not when.exchanging:
            return False
        if when.after_calls is not None and self.calls < when.after_calls:
            return False
        if when.every is not None and self.calls % when.every:
            return False
        return when.probability is None or self.random.random() < when.probability

    def _is_unseen(self, call: Call) -> bool:
        """Whether a call has what its condition says that no other before had; remembers it. True where there is none."""
        if self.defect.when.unseen is None:
            return True
        from readiness.simulator import conditions

        key = conditions.seen_key(call, self.defect.when.unseen)
        if key is None or key in self._seen:
            return False
        self._seen.add(key)
        return True

    def inject(self, call: Call, device: Device) -> None:
        """Inject the fault into a call, and count it first, since the call may not return."""
        if not call.ended or self.kind.at is not Stage.AROUND:
            fault_counts.add(self.position, 1)
        if self.kind.act(Injection(call, self.severity, self.defect.set, self.random, device, self.memory)) is False:
            fault_counts.add(self.position, -1)


def globs(defect: Defect, kind: FaultKind) -> Iterator[str]:
    """Return the full operator names that a defect's `op` stands for."""
    for glob in defect.op:
        if glob == "*":
            yield from kind.domain
        else:
            yield glob if "::" in glob else f"aten::{glob}"


def _real_strides(tensor: torch.Tensor) -> list[int]:
    return [stride for stride, extent in zip(tensor.stride(), tensor.shape, strict=True) if extent > 1]
