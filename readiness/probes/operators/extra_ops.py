"""Operators that PyTorch's database lacks: lists of tensors, optimizers, attention back-ends, loss scaling.

Each is an entry like those of the database and is judged as they are. Names that PyTorch does not have are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from readiness.probes.operators.edge_inputs import Calls, InputFactory
from readiness.probes.operators.outcomes import NotClaimedError

FLOATS = frozenset({torch.float64, torch.float32, torch.bfloat16, torch.float16})
Tensors = list[torch.Tensor]

_UNARY = (
    "abs", "acos", "asin", "atan", "ceil", "cos", "cosh", "erf", "erfc", "exp", "expm1", "floor", "frac", "lgamma", "log",
    "log10", "log1p", "log2", "neg", "reciprocal", "round", "rsqrt", "sigmoid", "sign", "sin", "sinh", "sqrt", "tan", "tanh",
    "trunc",
)  # fmt: skip
_BINARY = ("add", "clamp_max", "clamp_min", "div", "maximum", "minimum", "mul", "pow", "sub")
_SHAPES = ((5, 3), (129,), (), (0, 2), (1,))
_BACKENDS = {
    "math": SDPBackend.MATH, "flash": SDPBackend.FLASH_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}  # fmt: skip
_NO_BACKEND = re.compile(r"no (viable|available) (backend|kernel)", re.IGNORECASE)
#: Numbers drawn where their distribution is looked at.
_DRAWN = 20_000
#: Rows and columns of a product of 50 million elements, which no tile divides.
_PRODUCT = 7_177, 7_001
#: Tokens of a large vocabulary, and rows that are drawn from once.
_TOKENS, _ROWS = 2**17, 6


@dataclass(frozen=True, slots=True)
class ExtraSample:
    """Sample like those of the database."""

    input: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def output_process_fn_grad(self, result: Any) -> Any:
        """Return the output unchanged: all of it is comparable."""
        return result


@dataclass(frozen=True, slots=True)
class Operator:
    """Operator description like the database's OpInfo, for an operator that it lacks."""

    name: str
    function: Callable[..., Any]
    calls: Callable[[InputFactory], Calls]
    dtypes: frozenset[torch.dtype] = FLOATS
    supports_autograd: bool = False
    aten_name: str = ""
    supports_out: bool = False
    inplace_variant: None = None

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call the operator."""
        return self.function(*arguments, **keywords)

    def supported_dtypes(self, device_type: str) -> frozenset[torch.dtype]:  # noqa: ARG002
        """Return the CPU's dtypes, as for all operators."""
        return self.dtypes

    def supported_backward_dtypes(self, device_type: str) -> frozenset[torch.dtype]:  # noqa: ARG002
        """Return the CPU's dtypes of gradients."""
        return self.dtypes if self.supports_autograd else frozenset()

    def sample_inputs_func(self, info: Operator, device: str, dtype: torch.dtype, gradients: bool) -> Iterator[ExtraSample]:  # noqa: ARG002
        """Yield inputs from PyTorch's own generator."""
        for _, given in self.calls(InputFactory(dtype, gradients)):
            yield ExtraSample(given[0], tuple(given[1:]), {})


def operators() -> Iterator[Operator]:
    """Return those of these operators that this PyTorch has."""
    for name in _UNARY:
        yield from _lists(name, _some_lists(1))
    for name in _BINARY:
        yield from _lists(name, _some_lists(2))
    for name in ("addcdiv", "addcmul"):
        yield from _lists(name, _some_lists(3))
    yield from _lists("lerp", _some_lists(3))
    yield from _lists("norm", _some_lists(1))
    yield Operator("_foreach_copy", _copied, _some_lists(2), aten_name="_foreach_copy")
    yield Operator("_foreach_zero", _zeroed, _some_lists(1), aten_name="_foreach_zero")
    yield from _optimizers()
    for name, backend in _BACKENDS.items():
        yield Operator(
            f"attention.{name}", partial(_attend, backend), _some_attention, supports_autograd=True,
            aten_name="scaled_dot_product_attention",
        )  # fmt: skip
    if hasattr(torch, "_grouped_mm"):
        yield Operator(
            "_grouped_mm", _grouped, _some_groups, frozenset({torch.float32, torch.bfloat16}), supports_autograd=True,
            aten_name="_grouped_mm",
        )  # fmt: skip
    yield Operator("index_put_.accumulate", _put, _some_indices, supports_autograd=True, aten_name="index_put_")
    yield Operator("amp.unscale", _unscale, _some_lists(1), aten_name="_amp_foreach_non_finite_check_and_unscale_")
    yield Operator("clip_grad_norm", _clipped, _some_lists(1), aten_name="_foreach_norm")
    yield Operator("unpack", _unpacked, _some_packed, frozenset({torch.int64, torch.int32, torch.uint8}))
    both = frozenset({torch.float32, torch.bfloat16})
    yield Operator("mm.many_elements", _large_product, _some_factors, both, aten_name="mm")
    yield Operator("_assert_async", _assert, _one, frozenset({torch.float32}), aten_name="_assert_async")
    yield Operator("exponential.statistics", _exponential, _one, frozenset({torch.float32}), aten_name="exponential")
    yield Operator("multinomial.vocabulary", _vocabulary, _one, FLOATS, aten_name="multinomial")
    for function in (_multinomial, _dropout, _normal, _bernoulli, _uniform, _randint):
        name = function.__name__.strip("_")
        yield Operator(f"{name}.statistics", function, _one, aten_name=name)
    yield Operator("randperm", _permute, _one, frozenset({torch.int64}), aten_name="randperm")


def _lists(name: str, calls: Callable[[InputFactory], Calls]) -> Iterator[Operator]:
    if hasattr(torch, f"_foreach_{name}"):
        yield Operator(f"_foreach_{name}", partial(_foreach, name), calls, aten_name=f"_foreach_{name}")


def _some_lists(count: int) -> Callable[[InputFactory], Calls]:
    def calls(factory: InputFactory) -> Calls:
        # Between 0.1 and 0.7, where all of them are defined.
        yield "", tuple([factory.positive(*shape) * 0.6 - 0.2 for shape in _SHAPES] for _ in range(count))

    return calls


def _foreach(name: str, first: Tensors, *rest: Tensors) -> Tensors:
    """Return the operator's result, and then what it writes in place."""
    result = list(getattr(torch, f"_foreach_{name}")(first, *rest))
    if (in_place := getattr(torch, f"_foreach_{name}_", None)) is not None:
        in_place(first, *rest)
    return [*result, *first]


def _copied(first: Tensors, second: Tensors) -> Tensors:
    torch._foreach_copy_(first, second)
    return first


def _zeroed(first: Tensors) -> Tensors:
    torch._foreach_zero_(first)
    return first


def _optimizers() -> Iterator[Operator]:
    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "AdamW": (torch.optim.AdamW, {"lr": 0.1}),
        "SGD": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    }
    for name, (kind, options) in kinds.items():
        for way in ("fused", "foreach"):
            step = partial(_step, partial(kind, **options, **{way: True}), False)
            yield Operator(f"optim.{name}.{way}", step, _some_parameters, aten_name=f"_{way}_{name.lower()}")
        step = partial(_step, partial(kind, **options, fused=True), True)
        yield Operator(f"optim.{name}.fused.found_inf", step, _some_parameters, aten_name=f"_fused_{name.lower()}")


def _some_parameters(factory: InputFactory) -> Calls:
    shapes = ((5, 3), (129,), (17, 9))
    # In float16 squares of small gradients vanish, and what is divided by them. A sweep rounds what it drew in float32, so
    # that gradients are of a size of one in every dtype.
    gradients = [factory.positive(*shape) * (1 - 2 * torch.randint(0, 2, shape)) for shape in shapes]
    yield "", ([factory.numbers(*shape) for shape in shapes], gradients)


def _step(kind: Callable[..., torch.optim.Optimizer], overflow: bool, values: Tensors, gradients: Tensors) -> Tensors:
    """Make two steps; with `overflow` the second is told of an overflow and must change nothing."""
    device = values[0].device
    parameters = [value.detach().requires_grad_() for value in values]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimizer = kind(parameters)
    optimizer.step()
    if overflow:
        for name in ("found_inf", "grad_scale"):  # as a gradient scaler sets them
            setattr(optimizer, name, torch.ones((), dtype=torch.float32, device=device))
    optimizer.step()
    return [parameter.detach() for parameter in parameters]


def _some_attention(factory: InputFactory) -> Calls:
    yield "", tuple(factory.numbers(2, 3, 17, 8) for _ in range(3))


def _attend(backend: SDPBackend, *arguments: Any, **keywords: Any) -> torch.Tensor:
    chosen = SDPBackend.MATH if arguments[0].dtype is torch.float64 else backend
    try:
        with sdpa_kernel([chosen]):
            return torch.nn.functional.scaled_dot_product_attention(*arguments, **keywords)
    except RuntimeError as problem:
        if _NO_BACKEND.search(str(problem)):
            raise NotClaimedError("the device does not claim this back-end of attention") from problem
        raise


def _some_groups(factory: InputFactory) -> Calls:
    yield "", (factory.numbers(40, 32), factory.numbers(4, 32, 16), torch.tensor([8, 8, 24, 40], dtype=torch.int32))


#: Builds before 2.10 have products of groups on accelerators alone.
_HOST_GROUPS = hasattr(torch, "_grouped_mm") and any(
    torch._C._dispatch_has_kernel_for_dispatch_key("aten::_grouped_mm", key) for key in ("CPU", "CompositeExplicitAutograd")
)


def _grouped(rows: torch.Tensor, weights: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    if rows.dtype is not torch.float64:
        if rows.device.type == "cpu" and not _HOST_GROUPS:
            raise NotClaimedError("this build of PyTorch has no kernel for it on the CPU")
        result: torch.Tensor = torch._grouped_mm(rows, weights, offs=ends)
        return result
    stops = [0, *ends.tolist()]
    parts = zip(stops[:-1], stops[1:], weights, strict=True)
    return torch.cat([rows[start:stop] @ weight for start, stop, weight in parts])


def _some_indices(factory: InputFactory) -> Calls:
    yield "", (factory.numbers(9, 5), torch.randint(0, 9, (40,)), factory.numbers(40, 5))


def _put(target: torch.Tensor, indices: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return target.clone().index_put_((indices,), values, accumulate=True)


def _unscale(gradients: Tensors) -> Sequence[torch.Tensor]:
    """Unscale finite and non-finite gradients: all are scaled, and the overflow is reported."""
    device = gradients[0].device
    result: Tensors = []
    for several in (gradients, *_spoilt(gradients)):
        found, scale = (torch.full((), value, dtype=torch.float32, device=device) for value in (0.0, 0.25))
        torch._amp_foreach_non_finite_check_and_unscale_(several, found, scale)
        result += [*several, found]
    return result


def _spoilt(gradients: Tensors) -> Iterator[Tensors]:
    """Unscale gradients with an infinity, and with NaN at the end of the second tensor."""
    for index, value in ((7, "inf"), (128, "nan")):
        copied = [gradient.clone() for gradient in gradients]
        copied[1][index] = float(value)
        yield copied


def _clipped(gradients: Tensors) -> Tensors:
    """Clip gradients to a norm; the norm of non-finite ones shows them."""
    result: Tensors = []
    for several in (gradients, *_spoilt(gradients)):
        parameters = [torch.zeros_like(gradient, requires_grad=True) for gradient in several]
        for parameter, gradient in zip(parameters, several, strict=True):
            parameter.grad = gradient.clone()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 0.25)
        result += [norm, *(parameter.grad for parameter in parameters if parameter.grad is not None)]
    return result


def _some_packed(factory: InputFactory) -> Calls:
    """Yield numbers of four bits, two in a byte or eight in a word, and the shift of each."""
    shifts = torch.arange(0, min(8 * factory.dtype.itemsize, 32), 4).to(factory.dtype)
    yield "", (factory.bits(9, 129), shifts)


def _unpacked(packed: torch.Tensor, shifts: torch.Tensor) -> Tensors:
    """Unpack by all shifts, by one shift of the same and of another dtype, and by a number; pack again."""
    low = [(packed >> shift) & 15 for shift in (shifts[1], shifts[1].to(torch.int32), 4)]
    apart = torch.bitwise_right_shift(packed.unsqueeze(-1), shifts) & 15
    together = torch.zeros_like(packed)
    for position in range(len(shifts)):
        together |= apart[..., position] << shifts[position]
    return [*low, apart, together, ~packed ^ (packed | shifts[1])]


def _some_factors(factory: InputFactory) -> Calls:
    yield "", (factory.numbers(_PRODUCT[0], 33), factory.numbers(33, _PRODUCT[1]))


def _large_product(left: torch.Tensor, right: torch.Tensor) -> Tensors:
    """Compute a product of 50 million elements; return some of its rows, and the sum of each row and column."""
    marks = (0, 1, _PRODUCT[0] // 2, _PRODUCT[0] - 1, *(2**power // _PRODUCT[1] for power in range(16, 26)))
    rows = torch.tensor(sorted(mark + step for mark in set(marks) for step in (0, 1) if mark + step < _PRODUCT[0]))
    if left.dtype is torch.float64:
        return [left[rows] @ right, left @ right.sum(1), left.sum(0) @ right]
    product = left @ right
    return [product[rows.to(left.device)], product.sum(1, dtype=torch.float32), product.sum(0, dtype=torch.float32)]


def _one(factory: InputFactory) -> Calls:
    yield "", (factory.numbers(3),)


def _assert(values: torch.Tensor) -> torch.Tensor:
    """Assert a true condition on the device: a false one would rightly invalidate the device's context."""
    torch._assert_async(torch.ones((), dtype=torch.bool, device=values.device))
    return values + 1


def _exponential(values: torch.Tensor) -> torch.Tensor:
    """Check that mean and deviation are 1, within six standard errors, for two rates, and that hardly a number repeats."""
    right = []
    for rate in (1.0, 4.0):
        drawn = torch.empty(_DRAWN, device=values.device, dtype=torch.float32).exponential_(rate).cpu().double() * rate
        different = len(set(drawn.tolist()))
        right += [abs(float(drawn.mean()) - 1) < 0.045, abs(float(drawn.std()) - 1) < 0.09, different > 0.99 * _DRAWN]
    return torch.tensor(right, device=values.device)


def _within(found: torch.Tensor, wanted: float, deviation: float, dtype: torch.dtype) -> bool:
    """True if a mean of so many draws is as expected, within six standard errors and the dtype's rounding."""
    return bool(abs(float(found) - wanted) < 6 * deviation / _DRAWN**0.5 + float(torch.finfo(dtype).eps))


def _multinomial(values: torch.Tensor) -> torch.Tensor:
    """Check that tokens are sampled in proportion to their weights, those of weight 0 never, and none twice unless told."""
    weights = torch.tensor([0.0, 0.25, 0.5, 0.0, 0.25], dtype=values.dtype, device=values.device)
    drawn = torch.multinomial(weights, _DRAWN, replacement=True).cpu()
    shares = torch.bincount(drawn.clamp(0, 4), minlength=5).double() / _DRAWN
    inside = bool((drawn >= 0).all()) and bool((drawn < 5).all())
    right = [inside, float(shares[0]) == 0, float(shares[3]) == 0, _within(shares[1], 0.25, 0.433, torch.float32)]
    several = torch.multinomial(torch.ones(3, 97, dtype=values.dtype, device=values.device), 60).cpu()
    right.append(all(len(set(row)) == 60 for row in several.tolist()))
    return torch.tensor([*right, _within(shares[2], 0.5, 0.5, torch.float32)], device=values.device)


def _vocabulary(values: torch.Tensor) -> torch.Tensor:
    """Check draws from as many tokens as models have: all parts are reached alike, and nothing of weight 0.

    A sum of weights that stalls at a few thousand never comes to the tail. Many draws of one distribution, then one of each
    of some rows, which is another algorithm.
    """
    weights = torch.zeros(_TOKENS, dtype=values.dtype, device=values.device)
    weights[::2] = 2 / _TOKENS
    drawn = torch.multinomial(weights, _DRAWN, replacement=True).cpu()
    quarters = torch.bincount(drawn.clamp(0, _TOKENS - 1) // (_TOKENS // 4), minlength=4).double() / _DRAWN
    rows = torch.zeros(_ROWS, _TOKENS, dtype=values.dtype, device=values.device)
    rows[:, 0], rows[:, -1] = 0.5, 0.5
    once = torch.multinomial(rows, 1).cpu()
    right = [bool((drawn % 2 == 0).all()) and bool((drawn >= 0).all()) and bool((drawn < _TOKENS).all())]
    right += [_within(share, 0.25, 0.433, torch.float32) for share in quarters]
    return torch.tensor([*right, bool(((once == 0) | (once == _TOKENS - 1)).all())], device=values.device)


def _dropout(values: torch.Tensor) -> torch.Tensor:
    """Check that a quarter is dropped, the rest is scaled by 4/3, and gradients follow."""
    given = torch.ones(_DRAWN, dtype=values.dtype, device=values.device).requires_grad_()
    with torch.enable_grad():
        left = torch.nn.functional.dropout(given, 0.25)
        (gradient,) = torch.autograd.grad(left, given, torch.ones_like(left))
    kept, back = left.detach().cpu().double(), gradient.cpu().double()
    grown = float(torch.tensor(4 / 3, dtype=values.dtype))
    right = bool((((kept - grown).abs() <= grown * torch.finfo(values.dtype).eps) | (kept == 0)).all())
    share = (kept != 0).double().mean()
    return torch.tensor([right, _within(share, 0.75, 0.433, values.dtype), torch.equal(kept, back)], device=values.device)


def _normal(values: torch.Tensor) -> torch.Tensor:
    """Check that mean and deviation are 0 and 1, and others where others are asked for, as weights are initialised."""
    right = []
    for mean, deviation in ((2.0, 0.5), (0.0, 1.0)):
        drawn = torch.empty(_DRAWN, dtype=values.dtype, device=values.device).normal_(mean, deviation).cpu().double()
        drawn = (drawn - mean) / deviation
        right += [_within(drawn.mean(), 0.0, 1.0, values.dtype), _within(drawn.square().mean(), 1.0, 2**0.5, values.dtype)]
    # Beyond 3.3 deviations lie 19 of 20,000; none, or three times as many, come once in 10^8 draws or less.
    beyond = int((drawn.abs() > 3.3).sum())
    return torch.tensor([*right, 0 < beyond < 60], device=values.device)


def _bernoulli(values: torch.Tensor) -> torch.Tensor:
    """Check that a quarter is 1 and the rest 0, in whole numbers and truth values too."""
    right = []
    for dtype in (values.dtype, torch.int64, torch.bool):
        drawn = torch.empty(_DRAWN, dtype=dtype, device=values.device).bernoulli_(0.25).cpu().double()
        right += [bool(((drawn == 0) | (drawn == 1)).all()), _within(drawn.mean(), 0.25, 0.433, values.dtype)]
    return torch.tensor(right, device=values.device)


def _uniform(values: torch.Tensor) -> torch.Tensor:
    """Check that the numbers fill the range that is asked for, evenly."""
    right = []
    for low, high in ((0.0, 1.0), (-2.0, 6.0)):
        drawn = torch.empty(_DRAWN, dtype=values.dtype, device=values.device).uniform_(low, high).cpu().double()
        inside = bool((drawn >= low).all()) and bool((drawn <= high).all())
        share = (drawn - low) / (high - low)
        right += [inside, _within(share.mean(), 0.5, 12**-0.5, values.dtype)]
        right.append(_within(share.square().mean(), 1 / 3, (4 / 45) ** 0.5, values.dtype))
    return torch.tensor(right, device=values.device)


def _randint(values: torch.Tensor) -> torch.Tensor:
    """Check that each number of the range comes equally often, and none outside of it."""
    right = []
    for dtype in (torch.int64, torch.int32):
        drawn = torch.randint(-3, 5, (_DRAWN,), dtype=dtype, device=values.device).cpu()
        counts = torch.bincount((drawn.clamp(-4, 5) + 4).long(), minlength=10).double() / _DRAWN
        right += [float(counts[0]) == 0, float(counts[-1]) == 0]
        right += [_within(count, 0.125, 0.331, torch.float32) for count in counts[1:-1]]
    return torch.tensor(right, device=values.device)


def _permute(values: torch.Tensor) -> Tensors:
    """Check that each number occurs once, in every index dtype, and that the order is random."""
    drawn = [
        torch.randperm(257, dtype=dtype, device=values.device) for dtype in (torch.int64, torch.int32, torch.int16)
    ]
    shuffled = [bool((one.cpu() != torch.arange(257)).any()) for one in drawn]
    return [*(one.cpu().sort().values.to(values.device) for one in drawn), torch.tensor(shuffled, device=values.device)]
