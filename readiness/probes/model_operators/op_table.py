"""Operator table: how an operator is called, what it writes to, and how its result is judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from readiness.probes.operators import op_semantics
from readiness.probes.operators.layouts import Layout
from readiness.probes.operators.op_entry import Entry
from readiness.tracing.workload_schema import Call, Named, Spec

#: Move, choose or copy values, or round them once: their results are equal bit by bit.
_EXACT = frozenset({
    "_to_copy", "_unsafe_view", "alias", "arange", "as_strided", "bitwise_and", "bitwise_not", "bitwise_or", "cat",
    "chunk", "clamp", "clamp_max", "clamp_min", "clone", "constant_pad_nd", "contiguous", "copy_", "diagonal", "embedding",
    "eq", "expand", "eye", "fill", "fill_", "flip", "full", "full_like", "gather", "ge", "gt", "index", "index_select",
    "le", "logical_and", "logical_not", "logical_or", "lt", "masked_fill", "masked_fill_", "max", "maximum", "min",
    "minimum", "narrow", "ne", "neg", "neg_", "new_full", "new_ones", "new_zeros", "ones", "ones_like", "permute", "relu",
    "repeat", "roll", "scalar_tensor", "scatter", "scatter_", "select", "select_backward", "slice", "slice_backward",
    "sort", "split", "split_with_sizes", "squeeze", "stack", "t", "topk", "transpose", "tril", "triu", "unbind", "unfold",
    "unsqueeze", "view", "view_as_complex", "view_as_real", "where", "zero_", "zeros", "zeros_like", "_foreach_copy_",
    "_foreach_zero_", "_foreach_neg", "amax", "amin", "argmax", "argmin", "any", "all", "histc", "floor_divide",
})  # fmt: skip
#: Memory as it was found.
_UNSPECIFIED = frozenset({"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"})
#: Another device has another stream of random numbers.
_RANDOM = frozenset({
    "bernoulli", "bernoulli_", "exponential_", "multinomial", "native_dropout", "normal_", "rand", "rand_like", "randint",
    "randn", "randn_like", "randperm", "uniform_",
})  # fmt: skip
#: Sums of products, and sums: what rounding may cost each element is known (numerics.bound_ratio). Which are linear in
#: each of their inputs, so that the same operator on magnitudes gives |A||B|.
CONTRACTIONS = frozenset({
    "_grouped_mm", "addmm", "baddbmm", "bmm", "convolution", "dot", "linear", "mean", "mm", "mv", "sum",
})  # fmt: skip
#: Element by element, so that any elements of a large result can be checked alone. Not gelu: what is left of a
#: difference is small beside its input's roundings.
POINTWISE = frozenset({
    "_to_copy", "add", "clamp", "clone", "cos", "div", "exp", "log", "mul", "neg", "pow",
    "reciprocal", "rsqrt", "rsub", "sigmoid", "sigmoid_backward", "silu", "silu_backward", "sin", "sqrt", "sub", "tanh",
    "tanh_backward", "where",
})  # fmt: skip
#: PyTorch itself refuses them memory that is not aligned to 16 bytes, on accelerators.
_ALIGNED = frozenset({"_grouped_mm", "_scaled_mm", "_scaled_grouped_mm"})
#: As the catalogue of PyTorch's own database names the classes: one member stands for each.
_ALIASES = {
    "linalg_vector_norm": "linalg.vector_norm", "_foreach_norm": "linalg.vector_norm",
    "native_layer_norm_backward": "native_layer_norm",
}  # fmt: skip
_CLASS = (("clone", _EXACT), ("empty", _UNSPECIFIED), ("randn", _RANDOM))


class NoOperatorError(Exception):
    """The operator does not exist in this torch, or a workload may not call it."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One overload. `written` are the positions and names of arguments that it writes to."""

    name: str
    overload: Any
    written: frozenset[int | str]

    @property
    def base(self) -> str:
        """Name without namespace and overload: `mul` of `aten::mul.Tensor`."""
        return self.name.partition("::")[2].partition(".")[0]

    @property
    def entry(self) -> Entry:
        """Entry for the comparisons of the operator database."""
        base = self.base
        if base in op_semantics.INDICES_ALONG:  # they tell places as well, and of equal values any
            reduces = base in ("max", "min") and self.name.endswith(".dim")
            return Entry(self.name, f"{base}.reduction_with_dim" if reduces else base, self)
        alias = next((member for member, names in _CLASS if base in names), _ALIASES.get(base, base))
        return Entry(self.name, alias, self)

    @property
    def unspecified(self) -> bool:
        """True if only the shape of its result is defined."""
        return self.base in _UNSPECIFIED

    @property
    def contraction(self) -> bool:
        """True if the bound of sums of products applies to it."""
        return self.base in CONTRACTIONS

    @property
    def on_lists(self) -> bool:
        """True if it takes lists of tensors, such as those of optimizers."""
        return self.base.startswith(("_foreach_", "_fused_"))

    @property
    def spared(self) -> tuple[Layout, ...]:
        """Layouts that no model uses for it: weights may be views of one block, never strided; see also `_ALIGNED`."""
        if self.base in _ALIGNED:
            return (Layout.OFFSET,)
        return (Layout.STRIDED,) if self.on_lists else ()

    @property
    def exact(self) -> bool:
        """True if every bit of its result is defined."""
        return self.base in _EXACT

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call the operator on copies of what it writes to; return its result, or what it wrote if it returns none."""
        given = [_own(value) if index in self.written else value for index, value in enumerate(arguments)]
        named = {name: _own(value) if name in self.written else value for name, value in keywords.items()}
        result = self.overload(*given, **named)
        if result is not None:
            return result
        return [value for index, value in enumerate(given) if index in self.written]


def _own(value: Any) -> Any:
    """Return a tensor that may be written to: a leaf that requires a gradient may not."""
    if isinstance(value, list | tuple):
        return [_own(item) for item in value]
    return value.clone() if isinstance(value, torch.Tensor) and value.requires_grad else value


def find(name: str) -> Operator:
    """Return the operator of this name (`aten::mul.Tensor`). Raises NoOperatorError."""
    space, _, rest = name.partition("::")
    base, _, variant = rest.partition(".")
    packet = getattr(torch.ops.aten, base, None) if space == "aten" else None
    overload = getattr(packet, variant or "default", None)
    if not isinstance(overload, torch._ops.OpOverload):
        raise NoOperatorError(f"torch {torch.__version__} has no operator {name}")
    arguments = overload._schema.arguments
    if any("filename" in argument.name for argument in arguments):
        raise NoOperatorError(f"{name} opens files: a workload must not call it")
    written: set[int | str] = set()
    for position, argument in enumerate(arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            written |= {position, argument.name}
    return Operator(name, overload, frozenset(written))


#: An index of every expert's last row: sums of counts.
_OFFSETS = "offsets"


@dataclass(frozen=True, slots=True)
class Values:
    """Values that an argument may have. `kind` is one of `input_generation`; `bound` the number of choices of an index."""

    kind: str = "normal"
    bound: int = 2
    along: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)


_AWAY, _POSITIVE = Values("away from zero"), Values("positive")
#: By operator and position, where anything will not do.
_VALUES: Mapping[tuple[str, int], Values] = {
    ("rsqrt", 0): _POSITIVE, ("sqrt", 0): _POSITIVE, ("log", 0): _POSITIVE, ("reciprocal", 0): _AWAY, ("div", 1): _AWAY,
    ("div_", 1): _AWAY, ("_foreach_sqrt", 0): _POSITIVE, ("_foreach_addcdiv_", 2): _POSITIVE,
    ("_foreach_div_", 1): _AWAY, ("sigmoid_backward", 1): Values("share"), ("tanh_backward", 1): Values("share"),
    ("_softmax_backward_data", 1): Values("softmax"), ("_log_softmax_backward_data", 1): Values("log softmax"),
    ("native_layer_norm_backward", 3): Values("mean"), ("native_layer_norm_backward", 4): _POSITIVE,
    ("cumsum", 0): Values("small count"), ("nll_loss_backward", 6): _POSITIVE,
}  # fmt: skip


def values(call: Call, position: int) -> Values:
    """Return which values the argument at this position may have."""
    base = call.op.partition("::")[2].partition(".")[0]
    known = _VALUES.get((base, position))
    if base == "_grouped_mm" and position == 2:
        # Rows of the left factor are dealt out; where both are matrices, the terms of the sums are.
        left = _shape(call, 0)
        return Values(_OFFSETS, extra={"rows": left[-1] if len(_shape(call, 1)) == 2 else left[0]})
    if known is not None and not (known.kind == "small count" and call.specs()[0].dtype not in ("int32", "int64")):
        return known
    index = _INDEX.get(base)
    return Values() if index is None else index(call, position) or Values()


def _shape(call: Call, position: int) -> tuple[int, ...]:
    found = call.arguments[position]
    return found.shape if isinstance(found, Spec) else ()


def _embedding(call: Call, position: int) -> Values | None:
    if position != 1:
        return None
    rows = _shape(call, 0)[0] if call.op == "aten::embedding" else int(call.arguments[2])
    return Values("index", rows)


def _indexed(call: Call, position: int) -> Values | None:
    """Values of `index`, `index_put`: one index per dimension, all of one length; written positions must differ."""
    unique = call.op.startswith("aten::index_put") and not (len(call.arguments) > 3 and call.arguments[3])
    return Values("unique indices" if unique else "indices", extra={"sizes": _shape(call, 0)}) if position == 1 else None


def _along(call: Call, position: int) -> Values | None:
    """Values of `gather`, `scatter`: an index into one dimension of the first argument; written positions must differ."""
    if position != 2:
        return None
    shape, dimension = _shape(call, 0), int(call.arguments[1])
    unique = call.op.startswith("aten::scatter") and "add" not in call.op
    return Values("unique" if unique else "index", shape[dimension] if shape else 1, dimension)


def _classes(call: Call, position: int) -> Values | None:
    place = 1 if call.op == "aten::nll_loss_forward" else 2
    scores = _shape(call, place - 1)
    return Values("index", scores[-1] if scores else 1) if position == place else None


_INDEX: Mapping[str, Callable[[Call, int], Values | None]] = {
    "embedding": _embedding, "embedding_dense_backward": _embedding, "index": _indexed, "index_put": _indexed,
    "index_put_": _indexed, "gather": _along, "scatter": _along, "scatter_": _along, "scatter_add": _along,
    "scatter_add_": _along, "nll_loss_forward": _classes, "nll_loss_backward": _classes,
    "index_select": _along, "histc": lambda *_: Values("count", 16),
}  # fmt: skip


def work(call: Call) -> float:
    """Return the approximate number of multiplications, which predicts time where sizes do not."""
    base = call.op.partition("::")[2].partition(".")[0]
    shapes: list[tuple[int, ...]] = [spec.shape for spec in call.specs()]
    match base:
        case "mm" | "bmm" | "addmm" | "baddbmm" | "_grouped_mm" | "linear" if len(shapes) > 1:
            left, right = (shapes[-2], shapes[-1]) if base in ("addmm", "baddbmm") else (shapes[0], shapes[1])
            columns = right[0] if base == "linear" else right[-1]
            groups = left[0] if base == "_grouped_mm" and len(left) == 3 else 1
            return float(math.prod(left)) * columns / (max(groups, 1) if len(right) == 3 and len(left) == 3 else 1)
        case "scaled_dot_product_attention" if len(shapes) > 1:
            return 2.0 * math.prod(shapes[0]) * shapes[1][-2]
        case "convolution" | "convolution_backward" if len(shapes) > 1:
            weight = next((shape for shape in shapes[1:] if len(shape) == len(shapes[0])), shapes[1])
            return float(math.prod(shapes[0])) * weight[0]
        case _:
            return float(max((math.prod(shape) for shape in shapes), default=1))


def at_home(call: Call, device_type: str) -> Call:
    """Return the call as a model makes it on this device, if that differs from the meta device.

    transformers counts experts in float32 where whole numbers cannot be counted; the CPU keeps mean and deviation of a
    norm in the norm's own dtype, where accelerators keep them in float32.
    """
    if device_type not in ("cpu", "mps", "sim"):
        return call
    if call.op == "aten::histc":
        return Call(call.op, (replace(call.arguments[0], dtype="float32"), *call.arguments[1:]), call.keywords)
    if call.op == "aten::native_layer_norm_backward" and device_type != "mps":
        kept = [
            replace(item, dtype=call.arguments[1].dtype) if position in (3, 4) else item
            for position, item in enumerate(call.arguments)
        ]
        return Call(call.op, tuple(kept), call.keywords)
    return call


def dtype_of(call: Call) -> str:
    """Return the dtype that a call counts under: of its first floating tensor, else of its first tensor or result."""
    specs = call.specs()
    floating = [spec.dtype for spec in specs if spec.dtype.startswith(("float", "bfloat"))]
    named = [value.value for _, value in call.keywords if isinstance(value, Named) and value.kind == "dtype"]
    found = [*floating, *(spec.dtype for spec in specs), *named]
    return found[0] if found else "float32"
