"""PyTorch's published lists of what autocast does to each operator, and a call of each. Only workers import this.

Source: "Autocast Op Reference" (docs.pytorch.org/docs/stable/amp.html, of torch 2.13; looked up on 2026-11-30) and, for
what is on all lists of PyTorch, its registrations in torch 2.13. Operators that joined a list after torch 2.6 are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch.nn import functional

from readiness.numerics.unsupported import describe, is_unsupported

Tensor = torch.Tensor


class Fate(StrEnum):
    """What autocast does to an operator's inputs."""

    LOWER = "the lower precision"
    FLOAT32 = "float32"
    WIDEST = "the widest of their inputs"


class Lists(StrEnum):
    """Whose list an operator is on."""

    ALL = "all"
    CPU = "cpu"
    ACCELERATORS = "cuda, xpu"


#: Whose list a stack follows beside that of all. A plug-in of another vendor follows neither in particular.
_OF_STACK = {
    "cpu": Lists.CPU, "sim": Lists.CPU, "cuda": Lists.ACCELERATORS, "rocm": Lists.ACCELERATORS, "xpu": Lists.ACCELERATORS,
}  # fmt: skip


class Operands:
    """Tensors of one dtype on a device, values within 0.2 and 0.8, drawn on the host."""

    def __init__(self, device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> None:
        self.device, self.dtype, self.generator = device, dtype, generator

    def __call__(self, *shape: int) -> Tensor:
        """Draw one of this shape."""
        return (0.2 + 0.6 * torch.rand(shape, generator=self.generator)).to(self.device, self.dtype)

    def whole(self, *values: int) -> Tensor:
        """Whole numbers, as classes and indices are."""
        return torch.tensor(values, device=self.device)

    def sign(self) -> Tensor:
        """Four signs, as some losses have them."""
        return torch.tensor([1.0, -1.0, 1.0, -1.0]).to(self.device, self.dtype)


Call = Callable[[Operands], Tensor]

_LOWER_ALL: Mapping[str, Call] = {
    "mm": lambda x: torch.mm(x(4, 6), x(6, 4)),
    "bmm": lambda x: torch.bmm(x(2, 4, 6), x(2, 6, 4)),
    "matmul": lambda x: x(4, 6) @ x(6, 4),
    "addmm": lambda x: torch.addmm(x(4, 4), x(4, 6), x(6, 4)),
    "addbmm": lambda x: torch.addbmm(x(4, 4), x(2, 4, 6), x(2, 6, 4)),
    "baddbmm": lambda x: torch.baddbmm(x(2, 4, 4), x(2, 4, 6), x(2, 6, 4)),
    "linear": lambda x: functional.linear(x(4, 6), x(5, 6), x(5)),
    "conv1d": lambda x: functional.conv1d(x(2, 3, 9), x(4, 3, 3)),
    "conv2d": lambda x: functional.conv2d(x(2, 3, 9, 9), x(4, 3, 3, 3)),
    "conv3d": lambda x: functional.conv3d(x(1, 2, 5, 5, 5), x(2, 2, 3, 3, 3)),
    "conv_transpose1d": lambda x: functional.conv_transpose1d(x(2, 3, 9), x(3, 4, 3)),
    "conv_transpose2d": lambda x: functional.conv_transpose2d(x(2, 3, 5, 5), x(3, 4, 3, 3)),
    "conv_transpose3d": lambda x: functional.conv_transpose3d(x(1, 2, 4, 4, 4), x(2, 2, 3, 3, 3)),
    "prelu": lambda x: functional.prelu(x(4, 6), x(6)),
    "scaled_dot_product_attention": lambda x: functional.scaled_dot_product_attention(
        x(1, 2, 4, 8), x(1, 2, 4, 8), x(1, 2, 4, 8)
    ),
}
_LOWER_ACCELERATORS: Mapping[str, Call] = {
    "mv": lambda x: torch.mv(x(4, 6), x(6)),
    "addmv": lambda x: torch.addmv(x(4), x(4, 6), x(6)),
    "addr": lambda x: torch.addr(x(4, 6), x(4), x(6)),
    "multi_dot": lambda x: torch.linalg.multi_dot([x(4, 6), x(6, 4), x(4, 3)]),
}
_FLOAT32_ALL: Mapping[str, Call] = {
    "binary_cross_entropy_with_logits": lambda x: functional.binary_cross_entropy_with_logits(x(4, 6), x(4, 6)),
    "cdist": lambda x: torch.cdist(x(4, 6), x(5, 6)),
    "cosine_embedding_loss": lambda x: functional.cosine_embedding_loss(x(4, 6), x(4, 6), x.sign()),
    "hinge_embedding_loss": lambda x: functional.hinge_embedding_loss(x(4), x.sign()),
    "kl_div": lambda x: functional.kl_div(x(4, 6), x(4, 6), reduction="sum"),
    "l1_loss": lambda x: functional.l1_loss(x(4, 6), x(4, 6)),
    "margin_ranking_loss": lambda x: functional.margin_ranking_loss(x(4), x(4), x.sign()),
    "mse_loss": lambda x: functional.mse_loss(x(4, 6), x(4, 6)),
    "multi_margin_loss": lambda x: functional.multi_margin_loss(x(4, 6), x.whole(0, 3, 5, 1)),
    "nll_loss": lambda x: functional.nll_loss(x(4, 6), x.whole(0, 3, 5, 1)),
    "poisson_nll_loss": lambda x: functional.poisson_nll_loss(x(4, 6), x(4, 6)),
    "prod": lambda x: torch.prod(x(4, 6)),
    "smooth_l1_loss": lambda x: functional.smooth_l1_loss(x(4, 6), x(4, 6)),
    "soft_margin_loss": lambda x: functional.soft_margin_loss(x(4), x.sign()),
    "triplet_margin_loss": lambda x: functional.triplet_margin_loss(x(4, 6), x(4, 6), x(4, 6)),
}
_FLOAT32_ACCELERATORS: Mapping[str, Call] = {
    "acos": lambda x: torch.acos(x(4, 6)),
    "asin": lambda x: torch.asin(x(4, 6)),
    "cosh": lambda x: torch.cosh(x(4, 6)),
    "cosine_similarity": lambda x: functional.cosine_similarity(x(4, 6), x(4, 6)),
    "cross_entropy": lambda x: functional.cross_entropy(x(4, 6), x.whole(0, 3, 5, 1)),
    "cumprod": lambda x: torch.cumprod(x(4, 6), 1),
    "cumsum": lambda x: torch.cumsum(x(4, 6), 1),
    "dist": lambda x: torch.dist(x(6), x(6)),
    "erfinv": lambda x: torch.erfinv(x(4, 6)),
    "exp": lambda x: torch.exp(x(4, 6)),
    "expm1": lambda x: torch.expm1(x(4, 6)),
    "group_norm": lambda x: functional.group_norm(x(2, 4, 6), 2),
    "layer_norm": lambda x: functional.layer_norm(x(4, 6), (6,), x(6), x(6)),
    "log": lambda x: torch.log(x(4, 6)),
    "log10": lambda x: torch.log10(x(4, 6)),
    "log1p": lambda x: torch.log1p(x(4, 6)),
    "log2": lambda x: torch.log2(x(4, 6)),
    "log_softmax": lambda x: functional.log_softmax(x(4, 6), -1),
    "norm": lambda x: torch.norm(x(4, 6)),
    "pow": lambda x: torch.pow(x(4, 6), 3),
    "reciprocal": lambda x: torch.reciprocal(x(4, 6)),
    "renorm": lambda x: torch.renorm(x(4, 6), 2, 0, 1.0),
    "rsqrt": lambda x: torch.rsqrt(x(4, 6)),
    "sinh": lambda x: torch.sinh(x(4, 6)),
    "softmax": lambda x: functional.softmax(x(4, 6), -1),
    "softplus": lambda x: functional.softplus(x(4, 6)),
    "sum": lambda x: torch.sum(x(4, 6)),
    "tan": lambda x: torch.tan(x(4, 6)),
}
_FLOAT32_CPU: Mapping[str, Call] = {
    "avg_pool3d": lambda x: functional.avg_pool3d(x(1, 2, 4, 4, 4), 2),
    "binary_cross_entropy": lambda x: functional.binary_cross_entropy(x(4, 6), x(4, 6)),
    "cross_entropy": lambda x: functional.cross_entropy(x(4, 6), x.whole(0, 3, 5, 1)),
    "nanquantile": lambda x: torch.nanquantile(x(6), 0.5),
    "quantile": lambda x: torch.quantile(x(6), 0.5),
    "trace": lambda x: torch.trace(x(4, 4)),
}


#: The first operand of each is float32 and the others are lower, or all are lower.
_WIDEST_ACCELERATORS: Mapping[str, Callable[[Operands, Operands], Tensor]] = {
    "addcdiv": lambda x, y: torch.addcdiv(x(4, 6), y(4, 6), y(4, 6)),
    "addcmul": lambda x, y: torch.addcmul(x(4, 6), y(4, 6), y(4, 6)),
    "atan2": lambda x, y: torch.atan2(x(4, 6), y(4, 6)),
    "bilinear": lambda x, y: functional.bilinear(x(4, 6), y(4, 5), y(3, 6, 5)),
    "cross": lambda x, y: torch.linalg.cross(x(4, 3), y(4, 3)),
    "dot": lambda x, y: torch.dot(x(6), y(6)),
    "scatter_add": lambda x, y: torch.scatter_add(x(6), 0, x.whole(0, 1, 1), y(3)),
    "tensordot": lambda x, y: torch.tensordot(x(4, 6), y(6, 4), 1),
}
_WIDEST_CPU: Mapping[str, Callable[[Operands, Operands], Tensor]] = {
    "cat": lambda x, y: torch.cat([x(4, 6), y(4, 6)]),
    "index_copy": lambda x, y: torch.index_copy(x(4, 6), 0, x.whole(1, 2), y(2, 6)),
    "stack": lambda x, y: torch.stack([x(4, 6), y(4, 6)]),
}


@dataclass(frozen=True, slots=True)
class ListResult:
    """What came of an operator: the dtype of its output and the one that the list says, or why it was refused."""

    operator: str
    fate: Fate
    inputs: str
    wanted: str
    found: str = ""
    refusal: str = ""

    @property
    def wrong(self) -> bool:
        """True if the output has another dtype than the list says."""
        return not self.refusal and self.found != self.wanted


def try_lists(device: torch.device, stack: str, dtype: torch.dtype, generator: torch.Generator) -> Iterator[ListResult]:
    """Call each operator of the lists that a stack follows, once, under autocast to a dtype."""
    lists = (Lists.ALL, _OF_STACK.get(stack, Lists.ALL))
    lower, wide = Operands(device, dtype, generator), Operands(device, torch.float32, generator)
    for which, calls in ((Lists.ALL, _LOWER_ALL), (Lists.ACCELERATORS, _LOWER_ACCELERATORS)):
        for name, call in calls.items() if which in lists else ():
            yield _listed(name, Fate.LOWER, "float32", dtype, dtype, lambda call=call: call(wide), device)  # type: ignore[misc]
    for which, calls in (
        (Lists.ALL, _FLOAT32_ALL), (Lists.ACCELERATORS, _FLOAT32_ACCELERATORS), (Lists.CPU, _FLOAT32_CPU)
    ):  # fmt: skip
        for name, call in calls.items() if which in lists else ():
            given = str(dtype).removeprefix("torch.")
            yield _listed(name, Fate.FLOAT32, given, torch.float32, dtype, lambda call=call: call(lower), device)  # type: ignore[misc]
    for which, pairs in ((Lists.ACCELERATORS, _WIDEST_ACCELERATORS), (Lists.CPU, _WIDEST_CPU)):
        for name, both in pairs.items() if which in lists else ():
            for first, wanted in ((wide, torch.float32), (lower, dtype)):
                given = "mixed" if first is wide else "lower"
                yield _listed(
                    name, Fate.WIDEST, given, wanted, dtype,
                    lambda both=both, first=first: both(first, lower), device,  # type: ignore[misc]
                )  # fmt: skip


def _listed(
    name: str, fate: Fate, inputs: str, wanted: torch.dtype, dtype: torch.dtype, call: Callable[[], Tensor],
    device: torch.device,
) -> ListResult:
    expected = str(wanted).removeprefix("torch.")
    try:
        with torch.autocast(device_type=device.type, dtype=dtype):
            found = call().dtype
    except (RuntimeError, NotImplementedError, TypeError) as problem:
        if not is_unsupported(problem):
            return ListResult(name, fate, inputs, expected, f"{type(problem).__name__}")
        return ListResult(name, fate, inputs, expected, refusal=describe(problem))
    return ListResult(name, fate, inputs, expected, str(found).removeprefix("torch."))
