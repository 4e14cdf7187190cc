"""Honest devices whose arithmetic is another than the host's: a simulated chip is the host's to the bit, a real one never.

Both take the place of `SimulatedDevice.call`. `wider` computes in the next wider floating dtype and rounds once, as matrix units
do and as whoever fuses steps does; `reversed_sums` adds up from the other end, as whoever adds up in parallel may.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from readiness.probes.operators import samples

#: What they give is among what they are given, to the bit in any dtype; of large tensors they take little.
_MOVES = frozenset({"index", "index_select", "gather"})

Call = Callable[[str, Any, Sequence[Any], Mapping[str, Any], Sequence[Any]], Any]
Other = Callable[[str, Any, list[Any], dict[str, Any]], Any]

_WIDER: Mapping[Any, torch.dtype] = {
    torch.bfloat16: torch.float32, torch.float16: torch.float32, torch.float32: torch.float64,
    torch.complex64: torch.complex128,
}  # fmt: skip
#: Another draw would be another result; those that write where they read are left alone by their names.
_RANDOM = (
    "bernoulli", "binomial", "cauchy", "dropout", "empty", "exponential", "geometric", "log_normal", "multinomial", "normal",
    "poisson", "rand", "rrelu", "uniform",
)  # fmt: skip


def wider(base: str, operator: Any, arguments: list[Any], keywords: dict[str, Any]) -> Any:
    """The result in the next wider dtype; None where there is none to be had."""
    if base in _MOVES or any(word in base for word in _RANDOM):
        return None
    return operator(*map(_widened, arguments), **{name: _widened(value) for name, value in keywords.items()})


def _widened(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(_WIDER[value.dtype]) if value.dtype in _WIDER else value
    if isinstance(value, torch.dtype):
        return _WIDER.get(value, value)
    return [_widened(item) for item in value] if isinstance(value, list | tuple) else value


def reversed_sums(base: str, operator: Any, arguments: list[Any], keywords: dict[str, Any]) -> Any:
    """The result of the same sums begun at the other end; None of what is no sum."""
    first, *rest = arguments
    match base:
        case "sum" | "mean" | "var" | "std" | "prod" | "logsumexp" | "linalg_vector_norm" | "norm" | "nansum" | "var_mean":
            found = operator(_turned(first), *rest, **keywords)
            return tuple(map(_turned, found)) if isinstance(found, tuple) else _turned(found)
        case "mm" | "bmm":
            return operator(first.flip(-1), rest[0].flip(-2), *rest[1:], **keywords)
        case "addmm" | "baddbmm":
            return operator(first, rest[0].flip(-1), rest[1].flip(-2), *rest[2:], **keywords)
        case "_softmax" | "_log_softmax":
            return operator(first.flip(rest[0]), *rest, **keywords).flip(rest[0])
        case "dot" | "mv":
            return operator(first.flip(-1), rest[0].flip(0), **keywords)
    return None


def _turned(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.flip(tuple(range(tensor.ndim))) if tensor.ndim else tensor


def computing(true_call: Call, other: Other, changed: list[str]) -> Call:
    """What takes the place of `SimulatedDevice.call`. The names of operators that gave another bit are written into `changed`, each once."""

    def call(
        name: str, operator: Any, arguments: Sequence[Any], keywords: Mapping[str, Any], given: Sequence[Any]
    ) -> Any:
        result = true_call(name, operator, arguments, keywords, given)
        base = name.removeprefix("aten::").partition(".")[0]
        own = list(_tensors(result))
        if base.endswith("_") or "out" in name or "out" in keywords or not own or _shared(own, arguments):
            return result
        try:
            found = list(_tensors(other(base, operator, list(arguments), dict(keywords))))
        except (RuntimeError, TypeError, ValueError, IndexError):  # it has no such dtype, or no such dimension
            return result
        with torch.no_grad():
            for mine, foreign in zip(own, found, strict=False):
                if mine.dtype in _WIDER and mine.shape == foreign.shape and mine.numel():
                    before = None if name in changed else mine.clone()
                    mine.copy_(foreign)
                    changed.extend([name] if before is not None and not torch.equal(before, mine) else [])
        return result

    return call


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    return (leaf for leaf in samples.leaves(value) if isinstance(leaf, torch.Tensor))


def _shared(own: Sequence[torch.Tensor], arguments: Sequence[Any]) -> bool:
    """Whether a result is a view of what was given."""
    foreign = {tensor.untyped_storage().data_ptr() for tensor in _tensors(list(arguments)) if tensor.numel()}
    return any(tensor.untyped_storage().data_ptr() in foreign for tensor in own if tensor.numel())
