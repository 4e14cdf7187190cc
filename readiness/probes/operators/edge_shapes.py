"""Sizes on which real devices break, for the operators that language models use.

No elements, one more than a multiple of the edges at which kernels cut their work (8, 16, 64, 128), more rows than 16
bits count, sums of thousands of products, and the lengths of attention that have broken kernels. Each is a call of the
database's own operator, beside the database's own samples, which are small and round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from readiness.probes.operators.samples import Sample

#: One over a multiple of 128, and so of 64, 16 and 8; and one under one of 16.
EDGE, BELOW = 129, 15
#: More than 32,768, 57,344 and 65,536.
ROWS = 65_537
#: Products in one sum: a multiple of nothing, and enough for a narrow accumulator to show.
DEEP = 4_099
#: So many times more is forgiven where thousands are added up, which gradients of many rows are: it grows with the root.
_LENIENCY = 4.0
#: The same of many rows in 16 bits, in which the CPU keeps such sums: up to 2.1 times what four times would forgive
#: (gradients of layer_norm, 3 of 8 seeds).
_LENIENCY_NARROW = 16.0


@dataclass(frozen=True, slots=True)
class EdgeSample:
    """As a sample of the database's own: all of its results are comparable."""

    def output_process_fn_grad(self, result: Any) -> Any:
        """The result itself."""
        return result


@dataclass(frozen=True, slots=True)
class InputFactory:
    """Makes the inputs of one operator in one dtype."""

    dtype: torch.dtype
    gradients: bool

    def numbers(self, *shape: int) -> torch.Tensor:
        """Standard normal values, or whole numbers from -9 to 9, or truth values."""
        if self.dtype.is_floating_point:
            return torch.randn(shape).to(self.dtype).requires_grad_(self.gradients)
        if self.dtype is torch.bool:
            return torch.randint(0, 2, shape).to(torch.bool)
        return torch.randint(-9, 10, shape).to(self.dtype)

    def positive(self, *shape: int) -> torch.Tensor:
        """From a half to one and a half; whole numbers from 1 to 9."""
        if self.dtype.is_floating_point:
            return (torch.rand(shape) + 0.5).to(self.dtype).requires_grad_(self.gradients)
        return torch.randint(1, 10, shape).to(self.dtype)

    def indices(self, count: int, *shape: int) -> torch.Tensor:
        """Indices below `count`."""
        return torch.randint(0, count, shape)


#: Positional arguments, and keyword arguments as a dictionary at their end.
Calls = Iterator[tuple[str, tuple[Any, ...]]]
EMPTY, TAIL, MANY, LONG = "on no elements", "on sizes one over a tile", f"on {ROWS} rows", f"on sums of {DEEP} products"


def _elementwise(factory: InputFactory) -> Calls:
    yield EMPTY, (factory.positive(0, 3),)
    yield TAIL, (factory.positive(9, EDGE),)


def _pairwise(factory: InputFactory) -> Calls:
    yield EMPTY, (factory.positive(0, 3), factory.positive(3))
    yield TAIL, (factory.positive(9, EDGE), factory.positive(9, 1))


def _triple(factory: InputFactory) -> Calls:
    yield EMPTY, (factory.numbers(0, 3), factory.positive(0, 3), factory.positive(3))
    yield TAIL, (factory.numbers(9, EDGE), factory.positive(9, EDGE), factory.positive(EDGE))


def _along(factory: InputFactory) -> Calls:
    yield TAIL, (factory.numbers(9, EDGE), -1)
    yield TAIL, (factory.numbers(BELOW, 17), 0)
    yield MANY, (factory.numbers(ROWS, 3), 0)


def _reduction(factory: InputFactory) -> Calls:
    yield EMPTY, (factory.numbers(0, 3), 0)
    yield from _along(factory)


def _extreme(factory: InputFactory) -> Calls:
    yield EMPTY, (factory.numbers(0, 3), 1)
    yield from _along(factory)


def _topk(factory: InputFactory) -> Calls:
    yield TAIL, (factory.numbers(9, EDGE), 3)


def _product(factory: InputFactory) -> Calls:
    yield EMPTY, (factory.numbers(0, 5), factory.numbers(5, 3))
    yield "on sums of zero products", (factory.numbers(3, 0), factory.numbers(0, 4))
    yield TAIL, (factory.numbers(EDGE, 65), factory.numbers(65, 17))
    yield MANY, (factory.numbers(ROWS, 3), factory.numbers(3, 2))
    yield LONG, (factory.numbers(5, DEEP), factory.numbers(DEEP, 3))


def _batched(factory: InputFactory) -> Calls:
    yield EMPTY, (factory.numbers(0, 2, 5), factory.numbers(0, 5, 3))
    yield TAIL, (factory.numbers(3, 17, 65), factory.numbers(3, 65, 9))
    yield LONG, (factory.numbers(2, 3, DEEP), factory.numbers(2, DEEP, 3))


def _added_product(factory: InputFactory) -> Calls:
    yield EMPTY, (factory.numbers(3), factory.numbers(0, 5), factory.numbers(5, 3))
    yield TAIL, (factory.numbers(17), factory.numbers(EDGE, 65), factory.numbers(65, 17))
    yield LONG, (factory.numbers(3), factory.numbers(5, DEEP), factory.numbers(DEEP, 3))


def _linear(factory: InputFactory) -> Calls:
    yield EMPTY, (factory.numbers(0, 5), factory.numbers(3, 5), factory.numbers(3))
    yield TAIL, (factory.numbers(3, 17, 65), factory.numbers(EDGE, 65), factory.numbers(EDGE))
    yield MANY, (factory.numbers(ROWS, 3), factory.numbers(2, 3), factory.numbers(2))
    yield LONG, (factory.numbers(5, DEEP), factory.numbers(3, DEEP), factory.numbers(3))


def _normed(factory: InputFactory) -> Calls:
    # What is added before dividing is told: left to itself it is another in every dtype.
    for label, rows, width in ((EMPTY, 0, 8), (TAIL, 9, EDGE), (MANY, ROWS, 4)):
        yield label, (factory.numbers(rows, width), (width,), factory.positive(width), {"eps": 1e-5})


def _attention(factory: InputFactory) -> Calls:
    for queries, keys, options in (
        (1, 69, {}), (69, 69, {"is_causal": True}), (192, 192, {"is_causal": True}), (192, 192, {"attn_mask": True}),
        (127, EDGE, {"attn_mask": True}),
    ):  # fmt: skip
        given: dict[str, Any] = dict(options)
        if "attn_mask" in given:
            mask = torch.rand(queries, keys) > 0.3
            mask[:, 0] = True  # a row that may look at nothing has no defined result
            given["attn_mask"] = mask
        suffix = "".join(f", {name}" for name in options)
        inputs = (factory.numbers(1, 2, length, 8) for length in (queries, keys, keys))
        yield f"on {queries} queries of {keys} keys{suffix}", (*inputs, given)
    yield "with values wider than keys", tuple(factory.numbers(1, 2, 17, width) for width in (8, 8, 16))
    yield "with grouped queries", (*(factory.numbers(1, heads, 17, 8) for heads in (4, 2, 2)), {"enable_gqa": True})


def _embedding(factory: InputFactory) -> Calls:
    yield "at no places", (factory.numbers(7, 5), torch.zeros(0, dtype=torch.int64))
    yield MANY, (factory.numbers(7, 3), factory.indices(7, ROWS))


def _index_add(factory: InputFactory) -> Calls:
    yield "at no places", (factory.numbers(5, 3), 0, torch.zeros(0, dtype=torch.int64), factory.numbers(0, 3))
    yield TAIL, (factory.numbers(EDGE, 17), 0, torch.randperm(EDGE)[:65], factory.numbers(65, 17))


def _selected(factory: InputFactory) -> Calls:
    yield "at no places", (factory.numbers(5, 3), 0, torch.zeros(0, dtype=torch.int64))
    yield TAIL, (factory.numbers(EDGE, 17), 0, factory.indices(EDGE, 65))


def _loss(factory: InputFactory) -> Calls:
    yield TAIL, (factory.numbers(EDGE, 65), factory.indices(65, EDGE))


def _convolved(factory: InputFactory) -> Calls:
    yield (
        "of 32 channels",
        (factory.numbers(2, 32, 6, 5), factory.numbers(32, 32, 3, 3), factory.numbers(32), {"padding": 1}),
    )


def _padded_by_nothing(mode: str) -> Callable[[InputFactory], Calls]:
    def calls(factory: InputFactory) -> Calls:
        yield "by nothing", (factory.numbers(1, 2, 5, 4), (0, 0, 0, 0), {"mode": mode})

    return calls


_MAKERS: dict[Callable[[InputFactory], Calls], tuple[str, ...]] = {
    _elementwise: (
        "abs", "cos", "exp", "isfinite", "isnan", "log", "logical_not", "neg", "nn.functional.gelu", "nn.functional.relu",
        "nn.functional.silu", "nn.functional.softplus", "reciprocal", "rsqrt", "sigmoid", "sin", "sqrt", "square", "tanh",
        "clone", "zeros_like", "ones_like", "sum", "prod", "all", "any", "nonzero",
    ),
    _pairwise: ("add", "sub", "mul", "div.no_rounding_mode", "maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge"),
    _triple: ("addcmul", "addcdiv"),
    _reduction: ("cumsum", "mean", "softmax", "log_softmax", "logsumexp"),
    _extreme: ("amax", "argmax", "sort", "max.reduction_with_dim"),
    _topk: ("topk",),
    _product: ("mm", "matmul"),
    _batched: ("bmm",),
    _added_product: ("addmm",),
    _linear: ("nn.functional.linear",),
    _normed: ("nn.functional.layer_norm", "nn.functional.rms_norm"),
    _attention: (
        "attention.cudnn", "attention.efficient", "attention.flash", "attention.math",
        "nn.functional.scaled_dot_product_attention",
    ),
    _embedding: ("nn.functional.embedding",),
    _index_add: ("index_add", "index_copy"),
    _selected: ("index_select",),
    _loss: ("nn.functional.cross_entropy",),
    _convolved: ("nn.functional.conv2d",),
    _padded_by_nothing("reflect"): ("nn.functional.pad.reflect",),
    _padded_by_nothing("replicate"): ("nn.functional.pad.replicate",),
}  # fmt: skip
_BY_NAME = {name: maker for maker, names in _MAKERS.items() for name in names}


def has(name: str) -> bool:
    """Whether the table has calls of this operator."""
    return name in _BY_NAME


def of(name: str, dtype: torch.dtype, *, gradients: bool) -> Iterator[Sample]:
    """The calls of this operator in these sizes, none where the table has none. They draw from PyTorch's own generator."""
    maker = _BY_NAME.get(name)
    for label, given in maker(InputFactory(dtype, gradients)) if maker is not None else ():
        *arguments, last = given
        named = isinstance(last, dict)
        leniency = _LENIENCY if label in (MANY, LONG) else 1.0
        if label == MANY and dtype.is_floating_point and dtype.itemsize == 2:
            leniency = _LENIENCY_NARROW
        yield Sample(
            tuple(arguments if named else given), last if named else {}, EdgeSample(), label=label, leniency=leniency
        )
