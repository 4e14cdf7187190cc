"""Edge arguments: arguments other than the usual ones, at sizes that no tile divides.

The database has most of them, at sizes of a few elements, and a sweep tries a few of its samples. A kernel that takes no
notice of one, or has other code for it, is right until a model asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from readiness.probes.operators.edge_inputs import EDGE, MANY, MIDDLE, ROWS, WIDTHS, Calls, InputFactory
from readiness.probes.operators.known_defects import ARGUMENTS

#: Rows to which ROWS contributions are added, some sixty to each.
_TARGETS = 1_021
#: Rows whose numbers 16 bits do not hold, and tokens of a large vocabulary.
_FAR, VOCABULARY = 70_001, 131_072
#: One row more than 2^19.
TALL = 2**19 + 1


def _scaled_sum(factory: InputFactory) -> Calls:
    if factory.dtype.is_floating_point:
        yield ARGUMENTS, (factory.numbers(9, EDGE), factory.numbers(9, EDGE), {"alpha": 0.5})


def _weighed_triple(factory: InputFactory) -> Calls:
    if factory.dtype.is_floating_point:
        yield ARGUMENTS, (factory.numbers(9, EDGE), factory.positive(9, EDGE), factory.positive(9, EDGE), {"value": 0.5})


def _weighed_product(factory: InputFactory) -> Calls:
    """Yield products with sizes beyond the first tile."""
    if factory.dtype.is_floating_point:
        for beta, alpha in ((0.5, 2.0), (1.0, -0.5)):
            options = {"beta": beta, "alpha": alpha}
            yield ARGUMENTS, (factory.numbers(EDGE, 65), factory.numbers(EDGE, 33), factory.numbers(33, 65), options)


def _weighed_batches(factory: InputFactory) -> Calls:
    if factory.dtype.is_floating_point:
        options = {"beta": 0.5, "alpha": 2.0}
        yield ARGUMENTS, (factory.numbers(2, EDGE, 17), factory.numbers(2, EDGE, 33), factory.numbers(2, 33, 17), options)


def _spread(factory: InputFactory) -> Calls:
    if factory.dtype.is_floating_point:
        for dimension, correction in ((-1, 0), (0, 2)):
            yield ARGUMENTS, (factory.numbers(9, EDGE), {"dim": dimension, "correction": correction, "keepdim": True})


def _normed_with_eps(factory: InputFactory) -> Calls:
    yield ARGUMENTS, (factory.numbers(9, EDGE), (EDGE,), factory.positive(EDGE), {"eps": 0.5})


def _along_others(factory: InputFactory) -> Calls:
    if factory.dtype.is_floating_point:
        for dimension in (0, 1):
            yield ARGUMENTS, (factory.numbers(17, 5, EDGE), dimension)


def _norms(factory: InputFactory) -> Calls:
    for options in ({"ord": 1, "dim": -1}, {"ord": float("inf"), "dim": 0}, {"ord": 2, "dim": (0, 1)}):
        yield ARGUMENTS, (factory.numbers(9, EDGE), options)
    yield MIDDLE.format(70_001), (factory.numbers(70_001),)


def _least(factory: InputFactory) -> Calls:
    if factory.dtype.is_floating_point:
        yield ARGUMENTS, (factory.numbers(9, EDGE), 5, {"dim": 0, "largest": False})


def _smoothed_loss(factory: InputFactory) -> Calls:
    targets = factory.indices(65, EDGE)
    targets[::7] = 3
    yield ARGUMENTS, (factory.numbers(EDGE, 65), targets, {"ignore_index": 3, "label_smoothing": 0.25})


def _scaled_attention(factory: InputFactory) -> Calls:
    yield ARGUMENTS, (*(factory.numbers(1, 2, 69, 8) for _ in range(3)), {"scale": 0.25, "is_causal": True})


def _gelu_by_tanh(factory: InputFactory) -> Calls:
    yield ARGUMENTS, (factory.numbers(9, EDGE), {"approximate": "tanh"})


def _softplus_arguments(factory: InputFactory) -> Calls:
    yield ARGUMENTS, (factory.numbers(9, EDGE), {"beta": 2.0, "threshold": 1.0})


def _weighed_addition(factory: InputFactory) -> Calls:
    if factory.dtype.is_floating_point:
        rows = torch.randperm(EDGE)[:65]
        yield ARGUMENTS, (factory.numbers(EDGE, 17), 0, rows, factory.numbers(65, 17), {"alpha": 0.5})

def _nothing_of_the_first(*shapes: tuple[int, ...]) -> Callable[[InputFactory], Calls]:
    """Yield sums of which nothing is the first term, by `beta`: whatever stands there, NaN too, must not be read."""

    def calls(factory: InputFactory) -> Calls:
        if factory.dtype.is_floating_point:
            target, left, right = shapes
            unread = torch.full(target, float("nan"), dtype=factory.dtype)
            yield "on NaN that beta leaves out", (unread, factory.numbers(*left), factory.numbers(*right), {"beta": 0})

    return calls


def _convolved(dimensions: int) -> Callable[[InputFactory], Calls]:
    """Yield groups of an odd number of channels, one group for each channel, and strides, gaps and margins together."""

    def calls(factory: InputFactory) -> Calls:
        size, kernel = (9, 7, 5)[:dimensions], (3, 2, 2)[:dimensions]
        for inputs, outputs, options in (
            (9, 6, {"groups": 3, "padding": 1}), (7, 7, {"groups": 7, "padding": 2}),
            (3, 5, {"stride": 2, "dilation": 2, "padding": 2}),
        ):  # fmt: skip
            weight = factory.numbers(outputs, inputs // options.get("groups", 1), *kernel)
            yield ARGUMENTS, (factory.numbers(2, inputs, *size), weight, factory.numbers(outputs), options)

    return calls


def _convolved_back(factory: InputFactory) -> Calls:
    options = {"stride": 2, "padding": 1, "output_padding": 1, "groups": 3}
    yield ARGUMENTS, (factory.numbers(2, 9, 7, 5), factory.numbers(9, 2, 3, 3), factory.numbers(6), options)


def _averaged_pools(factory: InputFactory) -> Calls:
    for options in ({"stride": 2, "padding": 1, "count_include_pad": False}, {"ceil_mode": True, "divisor_override": 5}):
        yield ARGUMENTS, (factory.numbers(2, 3, 11, 9), 3, options)


def _largest_of_pools(factory: InputFactory) -> Calls:
    yield ARGUMENTS, (factory.numbers(2, 3, 11, 9), 3, {"stride": 2, "padding": 1, "dilation": 2, "ceil_mode": True})


def _powers(factory: InputFactory) -> Calls:
    """Yield exponents for which kernels have code of their own."""
    for exponent in (2, 3, -1, -2, 0.5, -0.5) if factory.dtype.is_floating_point else (2, 3):
        yield ARGUMENTS, (factory.positive(9, EDGE), exponent)


def _clamped(factory: InputFactory) -> Calls:
    if not factory.dtype.is_complex:
        for options in ({"min": -1}, {"max": 1}):
            yield ARGUMENTS, (factory.numbers(9, EDGE), options)


def _multiples(factory: InputFactory) -> Calls:
    if factory.dtype.is_floating_point:
        yield ARGUMENTS, (factory.numbers(9, EDGE), 0.37)


def _summed_wider(*further: Any) -> Callable[[InputFactory], Calls]:
    """Yield numbers of 16 bits whose result is to be of more: it must not be rounded to 16 bits on the way."""

    def calls(factory: InputFactory) -> Calls:
        if factory.dtype is torch.float32:
            with torch.no_grad():
                given = factory.positive(9, 1_031).to(torch.bfloat16)
            wanted = given.detach().requires_grad_(factory.gradients)
            yield "in bfloat16, with results in float32", (wanted, *further, {"dtype": torch.float32})

    return calls


def _selected_inside(factory: InputFactory) -> Calls:
    """Yield indices into the dimension between two others."""
    yield ARGUMENTS, (factory.numbers(5, EDGE, 7), 1, factory.indices(EDGE, 65))


def _changed_inside(factory: InputFactory) -> Calls:
    yield ARGUMENTS, (factory.numbers(5, EDGE, 7), 1, torch.randperm(EDGE)[:65], factory.numbers(5, 65, 7))


def _gathered_inside(factory: InputFactory) -> Calls:
    for dimension in (0, 1):
        yield ARGUMENTS, (factory.numbers(17, EDGE, 3), dimension, factory.indices(17, 17, 33, 3))


def _scattered_inside(factory: InputFactory) -> Calls:
    for dimension in (0, 1):
        places = torch.stack([torch.randperm(17) for _ in range(33)]).T.unsqueeze(-1).expand(17, 33, 3)
        places = places if dimension == 0 else places.transpose(0, 1)
        yield ARGUMENTS, (factory.numbers(17 if dimension == 0 else 33, 33, 3), dimension, places.contiguous(),
                          factory.numbers(*places.shape))  # fmt: skip


def _joined(factory: InputFactory) -> Calls:
    """Yield more tensors than a kernel takes at once, and tensors that are joined within."""
    yield "on 300 tensors", ([factory.numbers(1 + number % 3, 5) for number in range(300)], 0)
    for dimension in (1, 2):
        sizes = [tuple(width if place == dimension else 5 for place in range(3)) for width in (17, 1, 33)]
        yield ARGUMENTS, ([factory.numbers(*size) for size in sizes], dimension)


def _stacked(factory: InputFactory) -> Calls:
    yield "on 300 tensors", ([factory.numbers(7) for _ in range(300)], 1)


def _renormalised(factory: InputFactory) -> Calls:
    """Yield rows that are shortened where they lie before they are added up."""
    if factory.dtype is torch.float32:
        yield ARGUMENTS, (factory.numbers(7, 33).detach(), factory.indices(7, 5, 17), {"max_norm": 1.0, "mode": "sum"})


def _embedded(factory: InputFactory) -> Calls:
    """Yield a row without a gradient, and gradients divided by how often their row occurs."""
    for options in ({"padding_idx": 3}, {"scale_grad_by_freq": True}):
        yield ARGUMENTS, (factory.numbers(7, 33), factory.indices(7, EDGE), options)


def _weighed_loss(factory: InputFactory) -> Calls:
    for reduction in ("sum", "none"):
        yield ARGUMENTS, (factory.numbers(EDGE, 65), factory.indices(65, EDGE), factory.positive(65).detach(),
                          {"reduction": reduction})  # fmt: skip


def _many_added(factory: InputFactory) -> Calls:
    """Yield so many contributions to so many rows that threads meet in one, as tokens do in experts."""
    if factory.dtype.is_floating_point:
        yield MANY, (factory.numbers(_TARGETS, 3), 0, factory.indices(_TARGETS, ROWS), factory.numbers(ROWS, 3))


def _many_scattered(factory: InputFactory) -> Calls:
    if factory.dtype.is_floating_point:
        places = factory.indices(_TARGETS, ROWS, 1).expand(ROWS, 3).contiguous()
        yield MANY, (factory.numbers(_TARGETS, 3), 0, places, factory.numbers(ROWS, 3))


def _many_put(factory: InputFactory) -> Calls:
    if factory.dtype.is_floating_point:
        yield MANY, (factory.numbers(_TARGETS, 3), factory.indices(_TARGETS, ROWS), factory.numbers(ROWS, 3))


def _over_outer_dimensions(factory: InputFactory) -> Calls:
    if factory.dtype.is_floating_point:
        yield ARGUMENTS, (factory.numbers(17, 5, EDGE), (0, 2))


def _vocabulary_along(factory: InputFactory) -> Calls:
    """Yield rows as long as the vocabulary of a model, of which a kernel cannot keep all at once."""
    if factory.dtype.is_floating_point:
        yield WIDTHS.format(VOCABULARY), (factory.numbers(2, VOCABULARY), -1)


def _vocabulary_loss(factory: InputFactory) -> Calls:
    targets = torch.tensor([VOCABULARY - 1, 70_001])
    yield WIDTHS.format(VOCABULARY), (factory.numbers(2, VOCABULARY), targets)


def _far_places() -> torch.Tensor:
    """Return places that 16 bits do not hold, each once, the last among them."""
    return torch.cat([torch.randperm(_FAR - 1)[:64], torch.tensor([_FAR - 1])])


def _selected_far(factory: InputFactory) -> Calls:
    places = _far_places()
    yield MIDDLE.format(2 * _FAR), (factory.numbers(_FAR, 2), 0, places)
    yield "with places of 32 bits", (factory.numbers(EDGE, 17), 0, factory.indices(EDGE, 65).to(torch.int32))


def _looked_up_far(factory: InputFactory) -> Calls:
    yield MIDDLE.format(2 * _FAR), (factory.numbers(_FAR, 2), _far_places())
    yield "with places of 32 bits", (factory.numbers(EDGE, 17), factory.indices(EDGE, 65).to(torch.int32))


def _bagged(factory: InputFactory) -> Calls:
    """Yield bags of indices of 32 bits, added up and the largest of each."""
    if factory.dtype.is_floating_point:
        for mode in ("sum", "max"):
            yield "with places of 32 bits", (
                factory.numbers(EDGE, 5), factory.indices(EDGE, 9, 17).to(torch.int32), {"mode": mode}
            )  # fmt: skip


def _weighed_by_one_number(factory: InputFactory) -> Calls:
    """Yield a weight of no dimensions in float32 between two tensors, as running means of 16 bits are weighed."""
    if factory.dtype in (torch.float32, torch.bfloat16, torch.float16):
        yield ARGUMENTS, (factory.numbers(9, EDGE), factory.numbers(9, EDGE), torch.tensor(0.25))


def _scattered_nowhere(factory: InputFactory) -> Calls:
    """Yield no indices along a dimension that has elements: all must stay."""
    yield "at no places", (factory.numbers(5, 7), 1, torch.zeros(5, 0, dtype=torch.int64), factory.numbers(5, 0))


def _filled_nowhere(factory: InputFactory) -> Calls:
    yield "at no places", (factory.numbers(5, 7), 1, torch.zeros(0, dtype=torch.int64), 1)


def _tall(*shapes: tuple[int, ...]) -> Callable[[InputFactory], Calls]:
    """Yield more rows than a grid of 2^19 blocks has; of gradients too little would be left of so long sums."""

    def calls(factory: InputFactory) -> Calls:
        if factory.dtype is torch.float32:
            yield f"on {TALL} rows", tuple(factory.numbers(*shape).detach() for shape in shapes)

    return calls


def _many_convolved(dimensions: int) -> Callable[[InputFactory], Calls]:
    """Yield more images than 16 bits count."""

    def calls(factory: InputFactory) -> Calls:
        if factory.dtype is torch.float32:
            yield MANY, (factory.numbers(ROWS, 1, *[2] * dimensions), factory.numbers(2, 1, *[2] * dimensions))

    return calls


def _many_padded(mode: str) -> Callable[[InputFactory], Calls]:
    def calls(factory: InputFactory) -> Calls:
        if factory.dtype is torch.float32:
            yield MANY, (factory.numbers(ROWS, 1, 3), (2, 1), {"mode": mode})

    return calls


def _masked_attention(factory: InputFactory) -> Calls:
    """Yield masks over few queries, as in decoding, masks of their own for each text, long texts, and narrow values."""
    for texts, queries, keys in ((1, 1, 69), (1, 8, EDGE), (2, 17, 33), (1, 3, 1_100)):
        mask = torch.rand(texts, 1, queries, keys) > 0.3
        mask[..., 0] = True  # a row that may look at nothing has no defined result
        inputs = [factory.numbers(texts, 2, length, 8) for length in (queries, keys, keys)]
        yield f"on {queries} queries of {keys} keys of {texts} texts, attn_mask", (*inputs, {"attn_mask": mask})
    yield "on 3 queries of 1100 keys", tuple(factory.numbers(1, 2, length, 8) for length in (3, 1_100, 1_100))
    yield "with values narrower than keys", tuple(factory.numbers(1, 2, 17, width) for width in (16, 16, 8))


def _gathered_far(factory: InputFactory) -> Calls:
    yield MIDDLE.format(2 * _FAR), (factory.numbers(_FAR, 2), 0, _far_places().unsqueeze(-1).expand(-1, 2).contiguous())


def _changed_far(factory: InputFactory) -> Calls:
    yield MIDDLE.format(2 * _FAR), (factory.numbers(_FAR, 2), 0, _far_places(), factory.numbers(65, 2))


def _scattered_far(factory: InputFactory) -> Calls:
    places = _far_places().unsqueeze(-1).expand(-1, 2).contiguous()
    yield MIDDLE.format(2 * _FAR), (factory.numbers(_FAR, 2), 0, places, factory.numbers(65, 2))


#: The calls of each operator.
CALLS: dict[Callable[[InputFactory], Calls], tuple[str, ...]] = {
    _scaled_sum: ("add", "sub"),
    _weighed_triple: ("addcmul", "addcdiv"),
    _weighed_product: ("addmm",),
    _weighed_batches: ("baddbmm",),
    _spread: ("var", "std"),
    _normed_with_eps: ("nn.functional.layer_norm", "nn.functional.rms_norm"),
    _along_others: ("softmax", "log_softmax", "cumsum", "logsumexp", "amax", "mean"),
    _norms: ("linalg.vector_norm",),
    _least: ("topk",),
    _smoothed_loss: ("nn.functional.cross_entropy",),
    _scaled_attention: ("attention.flash", "attention.math", "nn.functional.scaled_dot_product_attention"),
    _gelu_by_tanh: ("nn.functional.gelu",),
    _softplus_arguments: ("nn.functional.softplus",),
    _weighed_addition: ("index_add",),
    _nothing_of_the_first((EDGE, 17), (EDGE, 33), (33, 17)): ("addmm",),
    _nothing_of_the_first((2, 17, 5), (2, 17, 33), (2, 33, 5)): ("baddbmm",),
    _nothing_of_the_first((EDGE,), (EDGE, 33), (33,)): ("addmv",),
    _convolved(1): ("nn.functional.conv1d",),
    _convolved(2): ("nn.functional.conv2d",),
    _convolved(3): ("nn.functional.conv3d",),
    _convolved_back: ("nn.functional.conv_transpose2d",),
    _averaged_pools: ("nn.functional.avg_pool2d",),
    _largest_of_pools: ("nn.functional.max_pool2d",),
    _powers: ("pow",),
    _clamped: ("clamp",),
    _multiples: ("add", "sub", "mul", "div.no_rounding_mode"),
    _summed_wider(): ("sum", "mean"),
    _summed_wider(-1): ("cumsum", "softmax.with_dtype", "log_softmax.with_dtype"),
    _selected_inside: ("index_select",),
    _changed_inside: ("index_add", "index_copy"),
    _gathered_inside: ("gather",),
    _scattered_inside: ("scatter", "scatter_add"),
    _joined: ("cat",),
    _stacked: ("stack",),
    _renormalised: ("nn.functional.embedding_bag",),
    _embedded: ("nn.functional.embedding",),
    _weighed_loss: ("nn.functional.cross_entropy", "nn.functional.nll_loss"),
    _many_added: ("index_add",),
    _many_scattered: ("scatter_add",),
    _many_put: ("index_put_.accumulate",),
    _over_outer_dimensions: ("sum", "mean", "amax", "var"),
    _vocabulary_along: ("softmax", "log_softmax"),
    _vocabulary_loss: ("nn.functional.cross_entropy",),
    _selected_far: ("index_select",),
    _looked_up_far: ("nn.functional.embedding",),
    _bagged: ("nn.functional.embedding_bag",),
    _weighed_by_one_number: ("lerp",),
    _scattered_nowhere: ("scatter", "scatter_add"),
    _filled_nowhere: ("index_fill",),
    _tall((TALL, 4), (4, 2)): ("mm",),
    _tall((2,), (TALL, 4), (4, 2)): ("addmm",),
    _tall((TALL, 4), (2, 4), (2,)): ("nn.functional.linear",),
    _many_convolved(1): ("nn.functional.conv1d",),
    _many_convolved(2): ("nn.functional.conv2d",),
    _many_padded("replicate"): ("nn.functional.pad.replicate",),
    _many_padded("reflect"): ("nn.functional.pad.reflect",),
    _masked_attention: ("attention.math", "nn.functional.scaled_dot_product_attention"),
    _gathered_far: ("gather",),
    _changed_far: ("index_add", "index_copy"),
    _scattered_far: ("scatter", "scatter_add"),
}  # fmt: skip
