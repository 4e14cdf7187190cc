"""Sample variants: further calls of an operator that break real devices.

They are tried in one dtype only, after the plain samples: other arguments, fewer elements, strides that must be kept,
writing in place. For what language models use also: single gradients, memory to write to, and values that are no
numbers. Where the CPU refuses such a call, nobody else need take it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import Any

import torch

from readiness.probes.operators import op_semantics
from readiness.probes.operators.known_defects import FEW, INTO_STRIDED_MEMORY
from readiness.probes.operators.op_entry import Entry
from readiness.probes.operators.samples import Incoming, Sample, leaves, map_leaves

#: So many samples with other arguments are tried, of core operators and of others.
_OTHERS = {True: 3, False: 1}
#: Gradients of every subset are asked for up to so many inputs, of single ones and of all but one beyond.
_ALL_SUBSETS = 3
_PLAIN = 1.0
#: Give float64 whatever they are given: in place there is no room for that, but in a reference in float64.
_GIVES_FLOAT64 = frozenset({"float_power"})
#: What starts the names of operators that work on images.
_ON_IMAGES = ("nn.functional.", "native_batch_norm", "_native_batch_norm", "_batch_norm", "max_pool2d", "native_group_norm",
              "_upsample", "grid_sampler_2d", "sigmoid", "tanh", "cat")
#: Samples of few elements lose more digits by chance (16 bits have none to lose); an argument ignored is far beyond this.
_LENIENCY = {False: 32.0, True: 4.0}
#: How large what cancels in a gradient was is told by those of the other inputs, which are not asked for here; with them it
#: was compared before.
_LENIENCY_ALONE = 4.0


def further(entry: Entry, dtype: torch.dtype, drawn: Sequence[Sample], tried: Sample) -> Iterator[Sample]:
    """Yield further calls of an operator of which `tried` was right."""
    leniency = _LENIENCY[dtype.itemsize < torch.float32.itemsize]
    usual = [tried]
    for _ in range(_OTHERS[entry.core]):
        if (other := _other_arguments(drawn, usual)) is None:
            break
        usual.append(other)
        yield replace(other, leniency=leniency)
    smallest = min(drawn, key=lambda sample: (not _elements(sample), _elements(sample)))
    if _elements(smallest) < _elements(tried) and smallest not in usual:
        # Of gradients too little would remain to be compared.
        yield without_gradients(replace(smallest, label=FEW))
    if entry.within(op_semantics.KEEPS_STRIDES):
        yield _turned(tried)
    if entry.within(op_semantics.PASSES_NAN):
        yield without_gradients(_without_numbers(tried))
    if entry.within(op_semantics.PASSES_NAN_BACKWARD):
        yield _without_numbers(tried)
    if (image := _channels_last(entry, drawn)) is not None:
        yield image
    if entry.core:
        yield from _circumstances(entry, tried, leniency)
    if (written := _in_place_on_a_view(entry, tried)) is not None:
        yield written


def _circumstances(entry: Entry, sample: Sample, leniency: float) -> Iterator[Sample]:
    yield from _subsets(sample)
    if any(tensor.requires_grad for tensor in sample.tensors()):
        yield replace(sample, label="with an expanded incoming gradient", incoming=Incoming.EXPANDED)
        yield replace(sample, label="with a strided incoming gradient", incoming=Incoming.STRIDED)
    if not entry.within(op_semantics.RANDOM | op_semantics.UNSPECIFIED):
        yield replace(sample, label="in deterministic mode", deterministic=True)
        if not entry.within(op_semantics.RETURNS_INDICES | op_semantics.SPREADS) and any(map(_expandable, sample.arguments)):
            # As few values as those samples have: of gradients too little would remain to be compared.
            yield without_gradients(replace(sample, label="on expanded inputs", through=_on_expanded, leniency=leniency))
    if entry.info.supports_out:
        yield without_gradients(replace(sample, label=INTO_STRIDED_MEMORY, through=into_strided_memory))


def _in_place_on_a_view(entry: Entry, sample: Sample) -> Sample | None:
    """Return the call of the operator that writes to its first argument, which is a view; None if there is no such one."""
    in_place = entry.info.inplace_variant
    if in_place is None or entry.name in _GIVES_FLOAT64 or entry.within(op_semantics.RANDOM):
        return None
    if not sample.holds_fractions and getattr(entry.info, "promotes_int_to_float", False):
        return None  # whole numbers hold no fractions: to be refused, which some builds do by ending the process

    def write(_: Callable[..., Any], given: Sample) -> Any:
        return _in_place(in_place, given)

    return without_gradients(replace(sample, label="in place on a view", through=write))


def without_gradients(sample: Sample) -> Sample:
    """Return the same call with tensors that require no gradient."""
    return _mapped(sample, torch.Tensor.detach)


def _other_arguments(drawn: Sequence[Sample], usual: Sequence[Sample]) -> Sample | None:
    """Return the sample whose arguments, tensors aside, differ most from the usual ones."""
    known = set().union(*(_peculiar(sample) for sample in usual))
    counted = [(len(_peculiar(sample) - known), sample) for sample in drawn if _elements(sample)]
    most, found = max(counted, key=lambda pair: pair[0], default=(0, None))
    return found if most else None


def _peculiar(sample: Sample) -> set[tuple[Any, str]]:
    given = [*enumerate(sample.arguments), *sample.keywords.items()]
    return {
        (place, "a tensor" if isinstance(value, torch.Tensor) else repr(value))
        for place, value in given
        if value is not None and not (place == 0 or _holds_tensors(value))
    } | {(place, "a tensor") for place, value in given if isinstance(value, torch.Tensor)}


def _holds_tensors(value: Any) -> bool:
    return any(isinstance(leaf, torch.Tensor) for leaf in leaves(value))


def _elements(sample: Sample) -> int:
    return sum(tensor.numel() for tensor in sample.tensors())


def _mapped(sample: Sample, change: Callable[[torch.Tensor], torch.Tensor]) -> Sample:
    memo: dict[int, torch.Tensor] = {}

    def once(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        if id(leaf) not in memo:
            memo[id(leaf)] = change(leaf)
        return memo[id(leaf)]

    return sample.having(map_leaves(once, sample.arguments), map_leaves(once, sample.keywords))


def _turned(sample: Sample) -> Sample:
    """Return a dense input with reversed dimensions, which shows if strides are preserved."""

    def turn(tensor: torch.Tensor) -> torch.Tensor:
        order = tuple(reversed(range(tensor.ndim)))
        turned = tensor.detach().permute(order).contiguous().permute(order)
        return turned.requires_grad_(tensor.requires_grad)

    return replace(_mapped(sample, turn), label="on a transposed input", keeps_strides=True)


def _subsets(sample: Sample) -> Iterator[Sample]:
    """Yield calls with gradients of only some inputs, as if the others were frozen."""
    inputs = [tensor for tensor in sample.tensors() if tensor.requires_grad]
    sizes = range(1, len(inputs)) if len(inputs) <= _ALL_SUBSETS else {1, len(inputs) - 1}
    for size in sizes:
        for chosen in combinations(range(len(inputs)), size):
            part = _mapped(sample, partial(_requiring, {id(inputs[position]) for position in chosen}))
            numbers = " and ".join(str(position) for position in chosen)
            label = f"where only tensor {numbers} of {len(inputs)} requires a gradient"
            yield replace(part, label=label, leniency=sample.leniency * _LENIENCY_ALONE)


def _requiring(wanted: set[int], tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().requires_grad_(id(tensor) in wanted)


def _channels_last(entry: Entry, drawn: Sequence[Sample]) -> Sample | None:
    """Return a sample on images with channels last in memory, as convolutions use them; None without one."""
    if not entry.base.startswith(_ON_IMAGES):
        return None
    images = [sample for sample in drawn if isinstance(sample.arguments[0], torch.Tensor) and sample.arguments[0].ndim == 4]
    if not images or not images[0].arguments[0].is_floating_point() or not images[0].arguments[0].numel():
        return None

    def lay(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.ndim != 4:
            return tensor
        return tensor.detach().contiguous(memory_format=torch.channels_last).requires_grad_(tensor.requires_grad)

    return replace(_mapped(images[0], lay), label="on a channels-last input")


def _without_numbers(sample: Sample) -> Sample:
    """Return inputs with NaN and both infinities among the values."""

    def insert_nonfinite(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point() or tensor.numel() < len(_NO_NUMBERS):
            return tensor
        spoilt = tensor.detach().clone(memory_format=torch.contiguous_format)
        flat = spoilt.view(-1)
        for position, value in enumerate(_NO_NUMBERS):
            flat[position * (flat.numel() // len(_NO_NUMBERS))] = value
        flat[-1] = _NO_NUMBERS[0]  # what vectors leave over has code of its own
        return spoilt.requires_grad_(tensor.requires_grad)

    return replace(_mapped(sample, insert_nonfinite), label="on NaN")


_NO_NUMBERS = (float("nan"), float("inf"), float("-inf"))


def _on_expanded(function: Callable[..., Any], given: Sample) -> Any:
    """Call it with the first of what each input consists of in place of all of it, by stride 0, as `expand` makes it."""
    return given.having(tuple(map(_expanded, given.arguments)), given.keywords).plain(function)


def _expandable(value: Any) -> bool:
    """True if an argument is a tensor, or a list of tensors, of values: of places two would be written at once."""
    if isinstance(value, list | tuple):
        return bool(value) and all(map(_expandable, value))
    if not isinstance(value, torch.Tensor) or not value.ndim:
        return False
    return value.is_floating_point() or value.is_complex() or value.dtype is torch.bool


def _expanded(value: Any) -> Any:
    if not _expandable(value):
        return value
    if isinstance(value, list | tuple):
        return type(value)(map(_expanded, value))
    return value[:1].expand(value.shape)


def into_strided_memory(function: Callable[..., Any], given: Sample) -> Any:
    """Write into views with a stride and an offset; the memory around them must stay."""
    plain = given.plain(function)
    if not all(isinstance(out, torch.Tensor) for out in leaves(plain)):
        raise NotImplementedError("the result is not a tensor")
    views, around = zip(*(_memory_like(out) for out in leaves(plain)), strict=True)
    out = views if isinstance(plain, tuple | list) else views[0]
    function(*given.arguments, **given.keywords, out=out)
    return [*views, *around]


def _in_place(function: Callable[..., Any], given: Sample) -> Any:
    """Write in place to a view with a stride and an offset; the memory around it must stay."""
    first, *rest = given.arguments
    view, around = _memory_like(first)
    view.copy_(first)
    function(view, *rest, **given.keywords)
    return [view, around]


def _memory_like(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a view of that shape on every other element, from the second on, and the elements between."""
    base = torch.full((tensor.numel() * 2 + 1,), _PLAIN, dtype=tensor.dtype, device=tensor.device)
    return base[1::2].view(tensor.shape), base[::2]
