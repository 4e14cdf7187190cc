"""Calls whose results relate to those of other calls: independent rows, and sums of parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from readiness.probes.operators import op_semantics
from readiness.probes.operators.edge_inputs import EdgeSample, InputFactory
from readiness.probes.operators.samples import Sample
from readiness.probes.operators.seeded_selection import USUAL, Rotation

#: Rows and columns that no tile divides.
ROWS, WIDTH = 37, 19
#: Another order of summation, or another kernel for another number of rows.
_LENIENCY, _LENIENCY_NARROW = 4.0, 4.0


Combine = Callable[[Sequence[torch.Tensor]], torch.Tensor]


def _added_up(found: Sequence[torch.Tensor]) -> torch.Tensor:
    return found[0] + found[1]


@dataclass(frozen=True, slots=True)
class Case:
    """Call with its relations to other calls.

    `relation` "rows": the arguments at `positions` hold rows along their first dimension, as all results do. "parts": the
    result is what `combine` makes of the results of `parts`; `words` says it.
    """

    relation: str
    sample: Sample
    positions: frozenset[int] = frozenset()
    parts: tuple[Sample, ...] = ()
    combine: Combine = _added_up
    words: str = ""
    leniency: float = 1.0
    _drawn: dict[torch.Size, torch.Tensor] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.sample.arguments[min(self.positions)])

    @property
    def gradient_rows(self) -> list[bool]:
        """Return for each gradient if it has rows, in the order of the tensors that require one."""
        rowwise = {id(self.sample.arguments[position]) for position in self.positions}
        return [id(tensor) in rowwise for tensor in self.sample.tensors() if tensor.requires_grad]

    def taking(self, order: torch.Tensor) -> Sample:
        """Return the call of these rows only, in this order."""
        return self._changed(lambda rows: rows.detach()[order].requires_grad_(rows.requires_grad))

    def padded(self) -> Sample:
        """Return the call with three more rows of NaN or zeros at the end, and without gradients."""
        def longer(rows: torch.Tensor) -> torch.Tensor:
            more = torch.full((3, *rows.shape[1:]), math.nan if rows.is_floating_point() else 0, dtype=rows.dtype)
            return torch.cat([rows.detach(), more])

        return self._changed(longer)

    def cotangents(self, root: torch.Tensor, order: torch.Tensor | None = None) -> torch.Tensor:
        """Return incoming gradients that are the same for a row at every position."""
        shape = torch.Size((self.rows, *root.shape[1:]))
        if shape not in self._drawn:
            generator = torch.Generator().manual_seed(len(self._drawn) + 17)
            self._drawn[shape] = torch.randn(shape, generator=generator).to(root.dtype)
        drawn = self._drawn[shape]
        return drawn if order is None else drawn[order]

    def _changed(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Sample:
        given = tuple(
            change(argument) if position in self.positions else argument
            for position, argument in enumerate(self.sample.arguments)
        )
        return self.sample.having(given, self.sample.keywords)


def every_second(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return the tensor as every second row of a larger one on the device, with NaN or zeros between."""
    if not tensor.ndim:
        return tensor.clone().to(device)
    between = torch.full_like(tensor, math.nan if tensor.is_floating_point() else 0)
    return torch.stack([tensor, between], dim=1).reshape(-1, *tensor.shape[1:]).to(device)[::2]


#: Arguments, keywords, and the positions that hold rows.
Given = tuple[tuple[Any, ...], dict[str, Any], set[int]]


def _values(factory: InputFactory) -> Given:
    return (factory.numbers(ROWS, WIDTH),), {}, {0}


def _along(factory: InputFactory) -> Given:
    return (factory.numbers(ROWS, WIDTH), -1), {}, {0}


def _best(factory: InputFactory) -> Given:
    return (factory.numbers(ROWS, WIDTH), 3), {}, {0}


def _normed(factory: InputFactory) -> Given:
    return (factory.numbers(ROWS, WIDTH), (WIDTH,), factory.positive(WIDTH)), {"eps": 1e-5}, {0}


def _grouped(factory: InputFactory) -> Given:
    return (factory.numbers(ROWS, 6, 5), 3, factory.positive(6), factory.numbers(6)), {}, {0}


def _product(factory: InputFactory) -> Given:
    return (factory.numbers(ROWS, WIDTH), factory.numbers(WIDTH, 11)), {}, {0}


def _added(factory: InputFactory) -> Given:
    return (factory.numbers(11), factory.numbers(ROWS, WIDTH), factory.numbers(WIDTH, 11)), {}, {1}


def _linear(factory: InputFactory) -> Given:
    return (factory.numbers(ROWS, WIDTH), factory.numbers(11, WIDTH), factory.numbers(11)), {}, {0}


def _batched(factory: InputFactory) -> Given:
    return (factory.numbers(ROWS, 3, 7), factory.numbers(ROWS, 7, 5)), {}, {0, 1}


def _added_batches(factory: InputFactory) -> Given:
    return (factory.numbers(ROWS, 3, 5), factory.numbers(ROWS, 3, 7), factory.numbers(ROWS, 7, 5)), {}, {0, 1, 2}


def _looked_up(factory: InputFactory) -> Given:
    return (factory.numbers(23, 7), factory.indices(23, ROWS)), {}, {1}


def _selected(factory: InputFactory) -> Given:
    return (factory.numbers(23, 7), 0, factory.indices(23, ROWS)), {}, {2}


def _gathered(factory: InputFactory) -> Given:
    return (factory.numbers(ROWS, WIDTH), 1, factory.indices(WIDTH, ROWS, 5)), {}, {0, 2}


def _losses(factory: InputFactory) -> Given:
    return (factory.numbers(ROWS, WIDTH), factory.indices(WIDTH, ROWS)), {"reduction": "none"}, {0, 1}


def _attention(factory: InputFactory) -> Given:
    return tuple(factory.numbers(ROWS, 2, 5, 8) for _ in range(3)), {"is_causal": True}, {0, 1, 2}


def _convolved(factory: InputFactory) -> Given:
    return (factory.numbers(ROWS, 3, 7, 5), factory.numbers(4, 3, 3, 3), factory.numbers(4)), {"padding": 1}, {0}


def _pooled(factory: InputFactory) -> Given:
    return (factory.numbers(ROWS, 3, 7, 5), 2), {}, {0}


_ROWWISE: dict[Callable[[InputFactory], Given], tuple[str, ...]] = {
    _values: (
        "exp", "nn.functional.gelu", "nn.functional.relu", "nn.functional.silu", "sigmoid", "tanh", "abs",
        "neg", "square", "nn.functional.softplus", "clone",
    ),
    _along: (
        "softmax", "log_softmax", "logsumexp", "cumsum", "sum", "mean", "amax", "argmax", "sort", "max.reduction_with_dim",
        "nn.functional.softmin", "prod",
    ),
    _best: ("topk",),
    _normed: ("nn.functional.layer_norm", "nn.functional.rms_norm"),
    _grouped: ("nn.functional.group_norm",),
    _product: ("mm", "matmul"),
    _added: ("addmm",),
    _linear: ("nn.functional.linear",),
    _batched: ("bmm",),
    _added_batches: ("baddbmm",),
    _looked_up: ("nn.functional.embedding",),
    _selected: ("index_select",),
    _gathered: ("gather",),
    _losses: ("nn.functional.cross_entropy", "nn.functional.nll_loss"),
    _attention: ("attention.flash", "attention.math", "nn.functional.scaled_dot_product_attention"),
    _convolved: ("nn.functional.conv2d",),
    _pooled: ("nn.functional.avg_pool2d", "nn.functional.max_pool2d"),
}  # fmt: skip
_BY_NAME = {name: maker for maker, names in _ROWWISE.items() for name in names}


def of(
    name: str, dtype: torch.dtype, gradients: bool, seed: int, rotation: Rotation = USUAL
) -> Iterator[Case]:
    """Return the calls of this operator in this dtype, the same for the same seed."""
    if not dtype.is_floating_point and dtype is not torch.int64:
        return
    if name not in _BY_NAME and name not in _SUMS:
        return
    ties = dtype.itemsize < 4 or not dtype.is_floating_point
    torch.default_generator.manual_seed(seed)
    factory = InputFactory(dtype, gradients)
    narrow = dtype.is_floating_point and dtype.itemsize == 2
    if (maker := _BY_NAME.get(name)) is not None and not (ties and name in op_semantics.RETURNS_INDICES):
        arguments, keywords, positions = maker(factory)
        sample = Sample(arguments, keywords, EdgeSample())
        yield Case("rows", sample, frozenset(positions), leniency=_LENIENCY_NARROW if narrow else _LENIENCY)
    if name in _SUMS and dtype.is_floating_point:
        yield from _SUMS[name](InputFactory(dtype, False), rotation.sum_length)


def _part(sample: Sample, *arguments: Any) -> Sample:
    return sample.having(arguments, sample.keywords)


def _long_sum(combine: Combine, words: str, *further: Any) -> Callable[[InputFactory, int], Iterator[Case]]:
    def cases(factory: InputFactory, length: int) -> Iterator[Case]:
        values = factory.positive(length)
        sample = Sample((values, *further), {}, EdgeSample())
        cut = length // 3
        parts = (_part(sample, values[:cut], *further), _part(sample, values[cut:], *further))
        yield Case("parts", sample, parts=parts, combine=combine, words=words, leniency=_LENIENCY)

    return cases


def _mean(factory: InputFactory, length: int) -> Iterator[Case]:
    values = factory.positive(length)
    sample, cut = Sample((values,), {}, EdgeSample()), length // 3
    parts = (_part(sample, values[:cut]), _part(sample, values[cut:]))
    yield Case(
        "parts", sample, parts=parts, combine=lambda found: (found[0] * cut + found[1] * (length - cut)) / length,
        words="the mean of its parts", leniency=_LENIENCY,
    )  # fmt: skip


def _long_product(
    arguments: Callable[[torch.Tensor, torch.Tensor], tuple[Any, ...]], batch: bool = False
) -> Callable[[InputFactory, int], Iterator[Case]]:
    def cases(factory: InputFactory, length: int) -> Iterator[Case]:
        depth = min(length, 8_209)
        batches = [1] if batch else []
        left, right = factory.positive(*batches, 5, depth), factory.positive(*batches, depth, 3)
        sample, cut = Sample(arguments(left, right), {}, EdgeSample()), depth // 3
        parts = (
            _part(sample, *arguments(left[..., :cut], right[..., :cut, :])),
            _part(sample, *arguments(left[..., cut:], right[..., cut:, :])),
        )  # fmt: skip
        yield Case("parts", sample, parts=parts, words="the sum of its parts", leniency=_LENIENCY)

    return cases


_SUMS: dict[str, Callable[[InputFactory, int], Iterator[Case]]] = {
    "sum": _long_sum(_added_up, "the sum of its parts"),
    "mean": _mean,
    "amax": _long_sum(lambda found: torch.maximum(found[0], found[1]), "the larger of its parts"),
    "linalg.vector_norm": _long_sum(lambda found: (found[0] ** 2 + found[1] ** 2).sqrt(), "the norm of its parts"),
    "logsumexp": _long_sum(lambda found: torch.logaddexp(found[0], found[1]), "what its parts make", 0),
    "mm": _long_product(lambda left, right: (left, right)),
    "matmul": _long_product(lambda left, right: (left, right)),
    "bmm": _long_product(lambda left, right: (left, right), batch=True),
    "nn.functional.linear": _long_product(lambda left, right: (left, right.mT)),
}
