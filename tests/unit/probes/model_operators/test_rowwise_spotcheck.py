"""Rows of large results that are worked out alone: right ones of every dtype pass, what is wrong by little does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.nn import functional

from readiness.probes.model_operators import matmul_bounds, op_table
from readiness.probes.operators.edge_inputs import EdgeSample
from readiness.probes.operators.samples import Sample

Tensor = torch.Tensor
Cases = Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]


def calls(seed: int, dtype: torch.dtype) -> Cases:
    """Operators and arguments, some hundred or thousand wide."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw).to(dtype)

    queries, keys, values = normal(2, 4, 300, 32), normal(2, 2, 300, 32), normal(2, 2, 300, 32)
    mask = torch.rand(300, 300, generator=draw) > 0.2
    mask[:, 0] = True
    wide = [tensor.repeat_interleave(2, 1) for tensor in (keys, values)]
    attend = "aten::scaled_dot_product_attention"
    yield attend, (queries, keys, values, None, 0.0, True), {"enable_gqa": True}
    yield attend, (queries, *wide), {"attn_mask": mask, "scale": 0.3}
    yield attend, (queries, *wide), {}
    scores = 3 * normal(40, 5000)
    yield "aten::_softmax", (scores, -1, False), {}
    yield "aten::_log_softmax", (scores, 1, False), {}
    yield "aten::_softmax", (scores.mT.contiguous(), 0, False), {}
    block = normal(60, 7, 900)
    yield "aten::sum.dim_IntList", (block, [2]), {}
    yield "aten::sum.dim_IntList", (block, [0, 2], True), {}
    yield "aten::mean.dim", (block, [-1], True), {}
    yield "aten::sum", (block,), {}
    yield "aten::cat", ([block, block[:, :3]], 1), {}


def looked_at(name: str, arguments: tuple[Any, ...], keywords: dict[str, Any], out: Tensor, seed: int) -> str | None:
    found = op_table.find(name)
    sample = Sample(arguments, keywords, EdgeSample())
    return matmul_bounds.spot_check(found, sample, out, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("seed", range(6))
def test_the_hosts_own_are_right(seed: int, dtype: torch.dtype) -> None:
    for name, arguments, keywords in calls(seed, dtype):
        out = op_table.find(name)(*arguments, **keywords)
        assert looked_at(name, arguments, keywords, out, seed) is None, (name, keywords)


WRONG: dict[str, Callable[[Tensor], Tensor]] = {
    "nothing was written": torch.zeros_like,
    "a tenth too large": lambda out: out * 1.1,
    "rows in another order": lambda out: out.flip(-2) if out.ndim > 1 and out.shape[-2] > 1 else torch.zeros_like(out),
    "no number": lambda out: torch.full_like(out, torch.nan),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_seen(what: str, dtype: torch.dtype) -> None:
    for name, arguments, keywords in calls(1, dtype):
        out = WRONG[what](op_table.find(name)(*arguments, **keywords))
        # Of a sum of either sign, which cancels, a tenth is less than what its terms' roundings may do in 16 bits.
        adds = name.startswith(("aten::sum", "aten::mean", "aten::scaled_dot"))
        if (what, dtype) == ("a tenth too large", torch.bfloat16) and adds:
            continue
        assert looked_at(name, arguments, keywords, out, 1) is not None, (name, keywords)


def test_a_mask_that_is_ignored_is_seen() -> None:
    name, arguments, keywords = next(calls(1, torch.bfloat16))
    query, key, value = arguments[:3]
    out = functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)
    assert looked_at(name, arguments, keywords, out, 1) is not None


def test_what_cannot_be_worked_out_by_rows_is_left_alone() -> None:
    query = torch.randn(2, 2, 8, 4)
    attend = "aten::scaled_dot_product_attention"
    assert looked_at(attend, (query, query, query, None, 0.5), {}, torch.zeros(2, 2, 8, 4), 1) is None
    blind = torch.zeros(8, 8, dtype=torch.bool)
    assert looked_at(attend, (query,) * 3, {"attn_mask": blind}, torch.zeros(2, 2, 8, 4), 1) is None
    assert looked_at("aten::sum", (torch.ones(3, dtype=torch.int64),), {}, torch.tensor(3), 1) is None
