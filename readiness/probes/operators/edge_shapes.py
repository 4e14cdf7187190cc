"""Edge shapes: sizes that break real devices, for the operators that language models use.

No elements, one more than a multiple of the edges at which kernels cut their work (8, 16, 64, 128), more rows than 16
bits count, sums of thousands of products, and the lengths of attention that have broken kernels. Each is a call of the
database's own operator, beside the database's own samples, which are small and round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from readiness.probes.operators import edge_arguments
from readiness.probes.operators.edge_inputs import BELOW, EDGE, MANY, MIDDLE, ROWS, WIDTHS, Calls, EdgeSample, InputFactory
from readiness.probes.operators.known_defects import CONTRIBUTIONS, ONE_FEATURE
from readiness.probes.operators.samples import Incoming, Sample
from readiness.probes.operators.seeded_selection import USUAL, Rotation

#: Products in one sum: a multiple of nothing, and enough for a narrow accumulator to show.
DEEP = 4_099
#: So many times more is forgiven where thousands are added up, which gradients of many rows are: it grows with the root.
_LENIENCY = 4.0
#: The same of many rows in 16 bits, in which the CPU keeps such sums: up to 2.1 times what four times would forgive
#: (gradients of layer_norm, 3 of 8 seeds).
_LENIENCY_NARROW = 16.0


EXTREME = "on extreme whole numbers"
BEYOND_HALF = "on values whose sum leaves float16"
SCALAR, TIES = "with a single number of another dtype", "on equal values in a stable order"
EMPTY, TAIL, LONG = "on no elements", "on sizes one over a tile", f"on sums of {DEEP} products"


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


# ------------------------------------------------------------------------------- further calls of the same operators


def _unary_extremes(factory: InputFactory) -> Calls:
    if _whole(factory):
        yield EXTREME, (factory.extremes(9, EDGE),)


def _binary_extremes(factory: InputFactory) -> Calls:
    if _whole(factory):
        yield EXTREME, (factory.extremes(9, EDGE), factory.extremes(9, EDGE))


def _divided_extremes(factory: InputFactory) -> Calls:
    if _whole(factory):  # not the least by -1, which overflows
        yield EXTREME, (factory.extremes(9, EDGE), factory.positive(9, EDGE))


def _extremes_along(factory: InputFactory) -> Calls:
    if _whole(factory):
        yield EXTREME, (factory.extremes(9, EDGE), -1)


def _best_extremes(factory: InputFactory) -> Calls:
    if _whole(factory):
        yield EXTREME, (factory.bits(9, EDGE), 5)


def _gathered_extremes(factory: InputFactory) -> Calls:
    if _whole(factory):
        yield EXTREME, (factory.extremes(9, EDGE), 1, factory.indices(EDGE, 9, 17))


def _scattered_extremes(factory: InputFactory) -> Calls:
    if _whole(factory):
        yield EXTREME, (factory.extremes(9, EDGE), 1, torch.arange(17).expand(9, 17).clone(), factory.extremes(9, 17))


def _selected_extremes(factory: InputFactory) -> Calls:
    if _whole(factory):
        yield EXTREME, (factory.extremes(EDGE, 9), 0, factory.indices(EDGE, 65))


def _chosen_extremes(factory: InputFactory) -> Calls:
    if _whole(factory):
        yield EXTREME, (factory.extremes(9, EDGE), factory.indices(2, 9, EDGE).bool(), factory.extremes(9, EDGE))


def _counted_from_extremes(factory: InputFactory) -> Calls:
    for start in (2**24 - 3, 2**31 - 3, 2**53 - 3):
        if factory.dtype is torch.int64:
            yield EXTREME, (start, start + 37, {"dtype": torch.int64, "device": "cpu"})


def _joined_extremes(factory: InputFactory) -> Calls:
    if _whole(factory):
        yield EXTREME, ([factory.extremes(9, 17), factory.extremes(9, EDGE)], 1)


def _shifted(factory: InputFactory) -> Calls:
    if _whole(factory):
        widest = 8 * factory.dtype.itemsize
        yield EXTREME, (factory.extremes(9, EDGE), factory.indices(widest, 9, EDGE).to(factory.dtype))
        for dtype in (factory.dtype, torch.int64, torch.int32):
            yield SCALAR, (factory.bits(9, EDGE), torch.tensor(3).to(dtype))


def _with_single_number(factory: InputFactory) -> Calls:
    """Yield a tensor and a number in a tensor without dimensions, which does not widen the other's dtype."""
    if factory.dtype is not torch.bool:
        for dtype in (torch.int64, torch.int32, torch.float32):
            if factory.dtype.is_floating_point or not dtype.is_floating_point:
                yield SCALAR, (factory.positive(9, EDGE), torch.tensor(3).to(dtype))


def _wide_rows(factory: InputFactory) -> Calls:
    """Yield rows of a model's width, one of which the seed chooses: kernels are tuned for each."""
    if factory.dtype.is_floating_point:
        for width in (768, factory.rotation.width):
            yield WIDTHS.format(width), (factory.numbers(3, width),)


def _wide_rows_of_two(factory: InputFactory) -> Calls:
    if factory.dtype.is_floating_point:
        for width in (768, factory.rotation.width):
            yield WIDTHS.format(width), (factory.numbers(3, width), factory.positive(3, width))


def _wide_rows_along(factory: InputFactory) -> Calls:
    if factory.dtype.is_floating_point:
        for width in (768, factory.rotation.width):
            yield WIDTHS.format(width), (factory.numbers(3, width), -1)


def _wide_rows_normed(factory: InputFactory) -> Calls:
    for width in (768, factory.rotation.width):
        yield WIDTHS.format(width), (factory.numbers(3, width), (width,), factory.positive(width), {"eps": 1e-5})
    large = 1e4 if factory.dtype is torch.float16 else 1e6
    yield ONE_FEATURE, (factory.numbers(5, 1) * large, (1,), factory.positive(1), {"eps": 1e-5})


def _wide_products(factory: InputFactory) -> Calls:
    width = factory.rotation.width
    yield WIDTHS.format(width), (factory.numbers(3, width), factory.numbers(5, width), factory.numbers(5))


def _stable(factory: InputFactory) -> Calls:
    """Yield few values, many of them equal, whose indices must be in order."""
    if factory.dtype is not torch.bool:
        for dimension, descending in ((-1, False), (0, True)):
            values = factory.indices(5, EDGE, 17).to(factory.dtype)
            yield TIES, (values, {"dim": dimension, "descending": descending, "stable": True})


def _long_lists(count: int) -> Callable[[InputFactory], Calls]:
    """Yield a list of some hundred tensors, and one with tensors larger than a kernel takes at once."""

    def calls(factory: InputFactory) -> Calls:
        sizes = [1 + number % 7 for number in range(300)]
        yield "on lists of 300 tensors", tuple([factory.positive(size) for size in sizes] for _ in range(count))
        yield MIDDLE.format(70_001), tuple([factory.positive(5), factory.positive(70_001)] for _ in range(count))

    return calls


def _middle(factory: InputFactory) -> Calls:
    """Return a size beyond a power of two at which a kernel may split its work; the seed chooses it."""
    length = factory.rotation.middle_length
    if not factory.dtype.is_complex:  # whose products wander out of the range
        yield MIDDLE.format(length), (factory.positive(length),)


def _sorted_middle(factory: InputFactory) -> Calls:
    """Yield more than 2^22 values in one of several shapes, more than a sort by blocks takes at once."""
    if factory.dtype is torch.float32:
        shape, dimension = factory.rotation.sort
        yield MIDDLE.format(f"{'x'.join(map(str, shape))}"), (factory.numbers(*shape).detach(), dimension)


def _rows_added(factory: InputFactory) -> Calls:
    """Yield more contributions to one row than 16 bits can count."""
    if factory.dtype.is_floating_point:
        yield CONTRIBUTIONS, (factory.numbers(3, 5), 0, torch.zeros(600, dtype=torch.int64), factory.positive(600, 5))


def _elements_added(factory: InputFactory) -> Calls:
    if factory.dtype.is_floating_point:
        places = torch.zeros(600, 5, dtype=torch.int64)
        yield CONTRIBUTIONS, (factory.numbers(3, 5), 0, places, factory.positive(600, 5))


def _values_put(factory: InputFactory) -> Calls:
    if factory.dtype.is_floating_point:
        yield CONTRIBUTIONS, (factory.numbers(3, 5), torch.zeros(600, dtype=torch.int64), factory.positive(600, 5))


def _row_looked_up(factory: InputFactory) -> Calls:
    """Yield calls whose gradient adds up as many: a token that occurs 600 times in a batch."""
    if factory.dtype.is_floating_point:
        yield CONTRIBUTIONS, (factory.numbers(3, 5), torch.zeros(600, dtype=torch.int64))


def _row_selected(factory: InputFactory) -> Calls:
    if factory.dtype.is_floating_point:
        yield CONTRIBUTIONS, (factory.numbers(3, 5), 0, torch.zeros(600, dtype=torch.int64))


def _elements_gathered(factory: InputFactory) -> Calls:
    if factory.dtype.is_floating_point:
        yield CONTRIBUTIONS, (factory.numbers(3, 5), 0, torch.zeros(600, 5, dtype=torch.int64))


def _row_expanded(factory: InputFactory) -> Calls:
    if factory.dtype.is_floating_point:
        yield CONTRIBUTIONS, (factory.numbers(1, 5), (600, 5))


def _beyond_half(*further: Any) -> Callable[[InputFactory], Calls]:
    """Yield values whose sum, or sum of squares, leaves float16, and whose result does not."""

    def calls(factory: InputFactory) -> Calls:
        if factory.dtype.is_floating_point:
            with torch.no_grad():
                values = factory.positive(3, 1_031) * 300
            yield BEYOND_HALF, (values.detach().requires_grad_(factory.gradients), *further)

    return calls


def _products_beyond_half(factory: InputFactory) -> Calls:
    """Yield sums of products that leave float16 on the way and come back: what matters is what is added up in."""
    if factory.dtype.is_floating_point:
        left = torch.full((3, 40), 300.0)
        right = torch.full((40, 5), 299.0)
        left[:, 20:] *= -1
        left += torch.randint(0, 8, left.shape)
        yield BEYOND_HALF, tuple(tensor.to(factory.dtype).requires_grad_(factory.gradients) for tensor in (left, right))


def _grouped_by_one(factory: InputFactory) -> Calls:
    """Yield groups of a single value, which are normalised to 0."""
    large = 1e3 if factory.dtype is torch.float16 else 1e6
    values = (factory.numbers(5, 4) * large).detach().requires_grad_(factory.gradients)
    yield ONE_FEATURE, (values, 4, factory.positive(4), factory.numbers(4))


def _whole(factory: InputFactory) -> bool:
    return not (factory.dtype.is_floating_point or factory.dtype.is_complex or factory.dtype is torch.bool)


_FURTHER: dict[Callable[[InputFactory], Calls], tuple[str, ...]] = {
    _unary_extremes: (
        "abs", "neg", "clone", "square", "sum", "prod", "all", "any", "nonzero", "unique", "bitwise_not", "logical_not",
        "max.reduction_no_dim", "min.reduction_no_dim",
    ),
    _binary_extremes: (
        "add", "sub", "mul", "maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge", "bitwise_and", "bitwise_or",
        "bitwise_xor",
    ),
    _divided_extremes: ("div.floor_rounding", "div.trunc_rounding", "floor_divide", "remainder", "fmod"),
    _extremes_along: ("amax", "amin", "argmax", "argmin", "sort", "cumsum", "max.reduction_with_dim", "cummax"),
    _best_extremes: ("topk",),
    _gathered_extremes: ("gather",),
    _scattered_extremes: ("scatter", "scatter_add"),
    _selected_extremes: ("index_select",),
    _chosen_extremes: ("where",),
    _counted_from_extremes: ("arange",),
    _joined_extremes: ("cat",),
    _shifted: ("bitwise_left_shift", "bitwise_right_shift"),
    _with_single_number: (
        "add", "sub", "mul", "div.no_rounding_mode", "maximum", "minimum", "eq", "lt", "ge", "floor_divide", "remainder",
    ),
    _wide_rows: (
        "exp", "nn.functional.gelu", "nn.functional.relu", "nn.functional.silu", "sigmoid", "tanh", "neg", "sum", "mean",
    ),
    _wide_rows_of_two: ("add", "mul"),
    _wide_rows_along: ("softmax", "log_softmax", "cumsum"),
    _wide_rows_normed: ("nn.functional.layer_norm", "nn.functional.rms_norm"),
    _wide_products: ("nn.functional.linear",),
    _stable: ("sort", "argsort"),
    _long_lists(1): ("_foreach_neg", "_foreach_norm", "_foreach_sqrt", "_foreach_zero"),
    _long_lists(2): (
        "_foreach_add", "_foreach_copy", "_foreach_div", "_foreach_mul", "_foreach_sub", "optim.AdamW.foreach",
        "optim.AdamW.fused", "optim.SGD.foreach", "optim.SGD.fused",
    ),
    _long_lists(3): ("_foreach_addcdiv", "_foreach_addcmul", "_foreach_lerp"),
    _middle: ("all", "amax", "any", "argmax", "max.reduction_no_dim", "mean", "nonzero", "prod", "std", "sum", "var"),
    _sorted_middle: ("sort",),
    _rows_added: ("index_add",),
    _elements_added: ("scatter_add",),
    _values_put: ("index_put_.accumulate",),
    _row_looked_up: ("nn.functional.embedding", "__getitem__"),
    _row_selected: ("index_select",),
    _elements_gathered: ("gather",),
    _row_expanded: ("expand",),
    _beyond_half(): ("mean", "linalg.vector_norm", "std", "var"),
    _beyond_half(-1): ("softmax", "log_softmax"),
    _beyond_half((1_031,)): ("nn.functional.layer_norm", "nn.functional.rms_norm"),
    _products_beyond_half: ("mm", "matmul"),
    _grouped_by_one: ("nn.functional.group_norm",),
}  # fmt: skip

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
_BY_NAME: dict[str, list[Callable[[InputFactory], Calls]]] = {}
for _maker, _names in (*_MAKERS.items(), *_FURTHER.items(), *edge_arguments.CALLS.items()):
    for _name in _names:
        _BY_NAME.setdefault(_name, []).append(_maker)


def has(name: str) -> bool:
    """True if the table has calls of this operator."""
    return name in _BY_NAME


def of(name: str, dtype: torch.dtype, rotation: Rotation = USUAL, *, gradients: bool) -> Iterator[Sample]:
    """Yield the calls of this operator in these sizes, if it is in the table. Draws from PyTorch's own generator."""
    factory = InputFactory(dtype, gradients, rotation)
    for label, given in (call for maker in _BY_NAME.get(name, ()) for call in maker(factory)):
        *arguments, last = given
        named = isinstance(last, dict)
        leniency = _LENIENCY if label in (MANY, LONG, CONTRIBUTIONS) else 1.0
        if label == MANY and dtype.is_floating_point and dtype.itemsize == 2:
            leniency = _LENIENCY_NARROW
        yield Sample(
            tuple(arguments if named else given), last if named else {}, EdgeSample(), label=label, leniency=leniency,
            # Contributions of both signs would cancel before there are many.
            incoming=Incoming.EXPANDED if label == CONTRIBUTIONS else Incoming.DENSE,
        )  # fmt: skip
