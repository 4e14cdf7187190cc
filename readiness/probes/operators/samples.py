"""Samples of one operator: drawn on the CPU by the database's generators, moved to a device, widened to float64."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import islice
from typing import Any

import numpy
import torch

from readiness.probes.operators import op_semantics
from readiness.probes.operators.op_entry import Entry

#: Of so many of the database's samples those with the most elements are used: the first ones are often scalars.
_LOOK_AT = 24
#: Larger samples take seconds and show nothing that these do not.
_MOST_ELEMENTS = 200_000
#: So often a reference is moved by a rounding where that matters: a single time a result may stand still by chance.
PERTURBATIONS = 4
#: The same of small samples, for results of few elements: two terms that cancel move alike in all four of one case in
#: sixteen, and then nothing shows of what each of them moved.
_PERTURBATIONS_OF_FEW, _SMALL = 16, 4_096

Convert = Callable[[torch.Tensor], torch.Tensor]
_NESTS = (tuple, list, dict)
_WIDE = {torch.complex64: torch.complex128, torch.complex32: torch.complex128}


class NoSampleError(Exception):
    """The database has no usable sample; the message has the reason."""


class Incoming(StrEnum):
    """Memory layout of incoming gradients."""

    DENSE = "dense"
    EXPANDED = "expanded"  # as after `.sum().backward()`
    STRIDED = "strided"


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Sample call of an operator: positional and keyword arguments, tensors on the CPU. `source` is the database's own.

    `hosted` are the positions of arguments that stay on the CPU whatever the device; `label` says in words what is
    special about it; `keeps_strides` that results must lie in memory as on the CPU; `through` calls the operator in
    another way than by plainly calling it; `leniency` widens what is allowed where sums are long; `incoming` is how incoming
    gradients lie in memory; `deterministic` asks for PyTorch's deterministic mode, `threads` for so many threads of the
    host.
    """

    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    source: Any
    hosted: frozenset[int] = frozenset()
    label: str = ""
    keeps_strides: bool = False
    leniency: float = 1.0
    incoming: Incoming = Incoming.DENSE
    deterministic: bool = False
    threads: int = 1
    through: Callable[[Callable[..., Any], Sample], Any] | None = None
    _tensors: list[torch.Tensor] = field(default_factory=list)

    def tensors(self) -> list[torch.Tensor]:
        """All tensors among the arguments, each once."""
        if not self._tensors:
            found = {id(leaf): leaf for leaf in leaves((self.arguments, self.keywords)) if _is_tensor(leaf)}
            self._tensors.extend(found.values())
        return self._tensors

    @property
    def on_cpu(self) -> bool:
        """True if it has tensors and all of them are on the CPU."""
        return bool(self.tensors()) and all(tensor.device.type == "cpu" for tensor in self.tensors())

    @property
    def holds_fractions(self) -> bool:
        """True if one of its tensors is of floating-point or complex numbers."""
        return any(tensor.is_floating_point() or tensor.is_complex() for tensor in self.tensors())

    def having(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Sample:
        """Return the same call with other arguments."""
        return replace(self, arguments=arguments, keywords=keywords, _tensors=[])

    def narrowed(self, before: torch.dtype, after: torch.dtype) -> Sample:
        """Return the same call in another dtype, for tensors and dtype arguments."""
        memo: dict[int, Any] = {}

        def change(leaf: Any) -> Any:
            if isinstance(leaf, torch.Tensor) and leaf.dtype is before:
                if id(leaf) not in memo:
                    memo[id(leaf)] = leaf.detach().to(after).requires_grad_(leaf.requires_grad)
                return memo[id(leaf)]
            return after if leaf is before else leaf

        return self.having(map_leaves(change, self.arguments), map_leaves(change, self.keywords))

    def converted(self, convert: Convert, device: torch.device, *, widen: bool = False) -> Sample:
        """Return the same call with every tensor replaced by a new leaf, and device arguments by `device`.

        A tensor that occurs twice stays one tensor. With `widen`, floating dtypes among the arguments become float64.
        """
        memo: dict[int, torch.Tensor] = {}

        def change(leaf: Any) -> Any:
            if isinstance(leaf, torch.Tensor):
                if id(leaf) not in memo:
                    memo[id(leaf)] = convert(leaf.detach()).detach().requires_grad_(leaf.requires_grad)
                return memo[id(leaf)]
            if isinstance(leaf, torch.device) or leaf == "cpu":
                return device
            return wide(leaf) if widen and isinstance(leaf, torch.dtype) else leaf

        keywords = {
            name: str(device) if name == "device" and isinstance(value, str) else map_leaves(change, value)
            for name, value in self.keywords.items()
        }
        arguments = tuple(
            argument if position in self.hosted else map_leaves(change, argument)
            for position, argument in enumerate(self.arguments)
        )
        return self.having(arguments, keywords)

    def call(self, function: Callable[..., Any]) -> Any:
        """Return the function's result on these arguments, called the way that the sample prescribes."""
        return self.plain(function) if self.through is None else self.through(function, self)

    def plain(self, function: Callable[..., Any]) -> Any:
        """Return the function's result on these arguments."""
        return function(*self.arguments, **self.keywords)


def draw(entry: Entry, dtype: torch.dtype, *, seed: int, gradients: bool) -> list[Sample]:
    """Return samples from this seed, the largest first. Raises NoSampleError if there is none, else the database's error."""
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    # Not `sample_inputs`: that draws the same values every time, and looks through the stack for a test it belongs to.
    offered = islice(entry.info.sample_inputs_func(entry.info, "cpu", dtype, gradients), _LOOK_AT)
    hosted = op_semantics.HOSTED.get(entry.base, frozenset())
    usable = [
        _of_no_wider(sample, dtype)
        for sample in (
            _without_dropout(entry, Sample((given.input, *given.args), dict(given.kwargs), given, hosted))
            for given in offered
        )
        if _usable(sample) and not (entry.base in op_semantics.COUNTS_IN_BINS and _is_on_an_edge(sample))
    ]
    if not usable:
        raise NoSampleError("the database has no dense sample without dropout for it in this dtype")
    return sorted(usable, key=_elements, reverse=True)


def _of_no_wider(sample: Sample, dtype: torch.dtype) -> Sample:
    """Replace float64 arguments (`dtype=`) by float32, unless float64 is under test: its absence is reported there."""
    if dtype in (torch.float64, torch.complex128):
        return sample
    narrower = {torch.float64: torch.float32, torch.complex128: torch.complex64}

    def change(leaf: Any) -> Any:
        return narrower.get(leaf, leaf) if isinstance(leaf, torch.dtype) else leaf

    return sample.having(map_leaves(change, sample.arguments), map_leaves(change, sample.keywords))


class SampleCache:
    """Draws the samples of an operator once for all floating dtypes; narrower ones get the same values, rounded."""

    def __init__(self) -> None:
        self._last: tuple[Entry, torch.dtype, bool, list[Sample]] | None = None

    def draw(self, entry: Entry, dtype: torch.dtype, *, seed: int, gradients: bool) -> list[Sample]:
        """Return samples as `draw` does."""
        if self._last is not None and dtype.is_floating_point and dtype.itemsize == 2:
            before, other, differentiated, drawn = self._last
            if before is entry and other is torch.float32 and (differentiated or not gradients):
                return [sample.narrowed(other, dtype) for sample in drawn]
        drawn = draw(entry, dtype, seed=seed, gradients=gradients)
        self._last = entry, dtype, gradients, drawn
        return drawn


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of references: float64 or complex128; integers stay."""
    return torch.float64 if dtype.is_floating_point else _WIDE.get(dtype, dtype)


def widened(tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy in `wide(tensor.dtype)`."""
    return tensor.to(wide(tensor.dtype), copy=True)


def perturbations(sample: Sample) -> int:
    """Return how often the reference of a sample is moved; beyond PERTURBATIONS for results of few elements alone."""
    elements = sum(tensor.numel() for tensor in sample.tensors())
    return _PERTURBATIONS_OF_FEW if elements <= _SMALL else PERTURBATIONS


def perturbed(roundoff: float, generator: torch.Generator) -> Convert:
    """Return a conversion that widens a tensor and moves every floating element by one rounding, up or down at random."""

    def convert(tensor: torch.Tensor) -> torch.Tensor:
        reference = widened(tensor)
        if not (reference.is_floating_point() or reference.is_complex()):
            return reference
        signs = torch.randint(0, 2, reference.shape, generator=generator).to(torch.float64) * 2 - 1
        return reference * (1 + roundoff * signs)

    return convert


def leaves(value: Any) -> Iterator[Any]:
    """Yield the leaves of nested tuples, lists and dictionaries, in order."""
    if not isinstance(value, _NESTS):
        yield value
        return
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, _NESTS):
            yield from leaves(item)
        else:  # as most are: none has a generator of its own
            yield item


def map_leaves(change: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to every leaf of a nest."""
    if isinstance(value, dict):
        return {key: map_leaves(change, item) for key, item in value.items()}
    if isinstance(value, list):
        return [map_leaves(change, item) for item in value]
    if isinstance(value, torch.Size):
        return value
    if isinstance(value, tuple):
        items = [map_leaves(change, item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return change(value)


def _is_tensor(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor)


def _elements(sample: Sample) -> int:
    count = sum(tensor.numel() for tensor in sample.tensors())
    return count if count <= _MOST_ELEMENTS else -count


def _usable(sample: Sample) -> bool:
    if any(tensor.layout != torch.strided for tensor in sample.tensors()):
        return False
    # `gels` is the one driver of least squares that every device has.
    if sample.keywords.get("driver", "gels") not in (None, "gels"):
        return False
    # Where an attention drops at random, no two devices drop the same.
    return not sample.keywords.get("dropout_p") or not sample.keywords.get("training", True)


def _is_on_an_edge(sample: Sample) -> bool:
    """True if a range of bins is made around one value, which lies on the edge between two of them: it falls to either."""
    values = sample.tensors()[0]
    bounded = sample.keywords.get("min", 0) != sample.keywords.get("max", 0)
    return not bounded and values.numel() > 0 and bool((values == values.reshape(-1)[0]).all())


def _without_dropout(entry: Entry, sample: Sample) -> Sample:
    """Disable the dropout that a sample passes to attention by position: the database has no other sample."""
    position = op_semantics.DROPS_AT_RANDOM.get(entry.name)
    if position is None or len(sample.arguments) <= position:
        return sample
    return sample.having((*sample.arguments[:position], 0.0, *sample.arguments[position + 1 :]), sample.keywords)
