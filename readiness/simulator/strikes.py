"""Whether a defect acts on a call: its conditions, and what it is handed when it does."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch

from readiness.simulator import met
from readiness.simulator.chip import Condition, Defect, Value
from readiness.simulator.kinds import Kind

if TYPE_CHECKING:
    from readiness.simulator.silicon import Silicon


@dataclass(slots=True)
class Call:
    """One call of an operator, collective or copy.

    `arguments` and `keywords` are the host's view and may be changed before it runs; `given` are the device's own
    tensors, which alone know their layout. `group` is how many ranks a collective is between, `peer` the other one of a
    transfer. `results` are what it gave, as the host sees it, once it has `ended`.
    """

    name: str
    arguments: list[Any]
    keywords: dict[str, Any]
    given: Sequence[Any] = ()
    peer: int | None = None
    group: int | None = None
    results: Any = None
    seconds: float = 0.0
    ended: bool = False
    _tensors: list[torch.Tensor] | None = None

    @property
    def tensors(self) -> list[torch.Tensor]:
        """The tensors among the device's arguments."""
        if self._tensors is None:
            self._tensors = list(_tensors(self.given))
        return self._tensors

    @property
    def backward(self) -> bool:
        """Whether a gradient is being computed."""
        return torch._C._current_autograd_node() is not None

    def outputs(self) -> list[torch.Tensor]:
        """The tensors among the results."""
        return list(_tensors((self.results,)))

    @property
    def schema(self) -> Any:
        """What PyTorch knows of the operator's arguments and results; None for what is no operator (copies, waits)."""
        space, _, name = self.name.partition("::")
        packet, _, variant = name.partition(".")
        found = getattr(getattr(torch.ops, space, None), packet, None) if space in ("aten", "c10d") else None
        return getattr(getattr(found, variant or "default", None), "_schema", None)

    def argument(self, name: str) -> Any:
        """The argument of this name, its default where it was left out; None where the operator has none such."""
        return self._find(name, [*self.arguments, *self.keywords.values()])

    def given_as(self, name: str) -> Any:
        """The same as the device has it."""
        return self._find(name, self.given)

    def _find(self, name: str, values: Sequence[Any]) -> Any:
        positional = len(self.arguments)
        for position, argument in enumerate(self.schema.arguments if self.schema is not None else ()):
            if argument.name == name:
                if name in self.keywords:
                    return values[positional + list(self.keywords).index(name)]
                return values[position] if position < positional else argument.default_value
        return None


@dataclass(slots=True)
class Strike:
    """A defect about to act: the call, how severe, and on which chip."""

    call: Call
    severity: float
    settings: Mapping[str, Any]
    random: random.Random
    silicon: Silicon
    memory: dict[str, Any]

    def outputs(self) -> list[torch.Tensor]:
        """The results that the defect is about: all, or that whose number `set = { output = 1 }` gives, from 0 on."""
        chosen = self.settings.get("output")
        if chosen is None or not isinstance(self.call.results, list | tuple):
            return self.call.outputs()
        return list(_tensors(self.call.results[int(chosen) :][:1]))

    def floats(self) -> list[torch.Tensor]:
        """The floating-point results that can be changed in place: not empty, each element in memory of its own."""
        return [
            tensor
            for tensor in self.outputs()
            if (tensor.is_floating_point() or tensor.is_complex()) and tensor.numel() and 0 not in _real_strides(tensor)
        ]

    def integers(self) -> list[torch.Tensor]:
        """The same for whole numbers and truth values."""
        return [
            tensor
            for tensor in self.outputs()
            if not (tensor.is_floating_point() or tensor.is_complex())
            and tensor.numel()
            and 0 not in _real_strides(tensor)
        ]

    def generator(self) -> torch.Generator:
        """A generator that goes on from where this defect's last draw ended."""
        if "generator" not in self.memory:
            self.memory["generator"] = torch.Generator().manual_seed(self.random.getrandbits(32))
        found: torch.Generator = self.memory["generator"]
        return found


@dataclass(slots=True)
class Armed:
    """A defect in this process, on this chip: what it has counted, and its own stream of chance."""

    defect: Defect
    kind: Kind
    number: int
    seed: int
    calls: int = 0
    memory: dict[str, Any] = field(default_factory=dict)
    random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        text = f"{self.seed}/{self.number}/{self.defect!r}"
        self.random = random.Random(zlib.crc32(text.encode()))  # noqa: S311 - a simulation, no secret

    @property
    def severity(self) -> float:
        """As the chip says, or as the kind has it."""
        return self.kind.severity if self.defect.severity is None else self.defect.severity

    def matches(self, name: str) -> bool:
        """Whether it speaks of an operator of this name. `mm` in a file means `aten::mm`."""
        return any(fnmatchcase(name, glob) for glob in globs(self.defect, self.kind))

    def concerns(self, call: Call) -> bool:
        """Whether it can act on this chip at all, in a group of this size, and on a transfer with this peer."""
        if self.defect.when.chip and self.number not in self.defect.when.chip:
            return False
        under = self.defect.when.group_under
        if under is not None and (call.group is None or call.group >= under):
            return False
        peer = self.defect.set.get("peer")
        return peer is None or call.peer is None or call.peer == peer

    def strikes(self, call: Call, silicon: Silicon) -> bool:
        """Whether it acts on this call. Counts the calls that it could have acted on."""
        when = self.defect.when
        if not self.concerns(call):
            return False
        if self.defect.dtype and not _has_dtype(call, self.defect.dtype):
            return False
        if when.backward is not None and call.backward is not when.backward:
            return False
        if not _fits(call, when):
            return False
        if self.calls == 0:
            met.mark()
        self.calls += 1
        if when.after_s is not None and silicon.load_s < when.after_s:
            return False
        if when.temperature is not None and silicon.temperature < when.temperature:
            return False
        if when.after_calls is not None and self.calls < when.after_calls:
            return False
        if when.every is not None and self.calls % when.every:
            return False
        return when.probability is None or self.random.random() < when.probability

    def strike(self, call: Call, silicon: Silicon) -> None:
        """Do the harm."""
        self.kind.act(Strike(call, self.severity, self.defect.set, self.random, silicon, self.memory))


def globs(defect: Defect, kind: Kind) -> Iterator[str]:
    """The full names that a defect's `op` means."""
    for glob in defect.op:
        if glob == "*":
            yield from kind.domain
        else:
            yield glob if "::" in glob else f"aten::{glob}"


def _fits(call: Call, when: Condition) -> bool:
    """The conditions on the tensors: each is met when one of the tensors meets it; sizes are those of the largest."""
    tensors = list(_tensors([call.given_as(when.of)])) if when.of is not None else call.tensors or call.outputs()
    if when.of is not None and not tensors:
        return False
    if when.numel_over is not None and max((tensor.numel() for tensor in tensors), default=0) <= when.numel_over:
        return False
    if when.numel_under is not None and max((tensor.numel() for tensor in tensors), default=0) >= when.numel_under:
        return False
    if when.rows_over is not None and max((_rows(tensor) for tensor in tensors), default=0) <= when.rows_over:
        return False
    if when.noncontiguous is not None and when.noncontiguous is all(tensor.is_contiguous() for tensor in tensors):
        return False
    if when.offset is not None and when.offset is all(tensor.storage_offset() == 0 for tensor in tensors):
        return False
    if when.empty is not None and when.empty is all(tensor.numel() for tensor in tensors):
        return False
    if when.ndim and not any(tensor.ndim in when.ndim for tensor in tensors):
        return False
    if when.multiple_of is not None and not any(
        -tensor.ndim <= when.dimension < tensor.ndim and tensor.shape[when.dimension] % when.multiple_of == when.remainder
        for tensor in tensors
    ):
        return False
    if when.argument and not all(_argument_is(call, name, wanted) for name, wanted in when.argument.items()):
        return False
    if when.negative is None:
        return True
    return when.negative is any(
        bool((value < 0).any())
        for value in _tensors((*call.arguments, *call.keywords.values()))
        if value.numel() and not value.is_complex() and value.dtype != torch.bool
    )


def _rows(tensor: torch.Tensor) -> int:
    return tensor.numel() // tensor.shape[-1] if tensor.ndim and tensor.shape[-1] else 0


def _argument_is(call: Call, name: str, wanted: Value) -> bool:
    """Whether an argument is as a condition wants it; one that the operator does not have is not given."""
    value = call.argument(name)
    if isinstance(wanted, str):
        return str(value) == wanted
    if isinstance(wanted, bool):
        return _is_something(value) is wanted
    return isinstance(value, int | float) and value == wanted


def _is_something(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_is_something(item) for item in value)
    return isinstance(value, torch.Tensor) or (value is not None and value is not False and value != 0)


def _has_dtype(call: Call, names: Sequence[str]) -> bool:
    wanted = {f"torch.{name}" for name in names}
    found = {str(tensor.dtype) for tensor in call.tensors or call.outputs()}
    found |= {str(value) for value in (*call.arguments, *call.keywords.values()) if isinstance(value, torch.dtype)}
    return bool(wanted & found)


def _tensors(values: Sequence[Any]) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _real_strides(tensor: torch.Tensor) -> list[int]:
    return [stride for stride, extent in zip(tensor.stride(), tensor.shape, strict=True) if extent > 1]
