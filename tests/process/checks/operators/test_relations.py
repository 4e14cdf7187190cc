"""Relations between results of one operator: kept by a healthy device, broken where a reference shares the mistake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from readiness.probes.operators import opinfo, seeded_selection
from readiness.probes.operators.opinfo_trial import OpInfoTrials, TrialOptions
from readiness.probes.operators.outcomes import Outcome, SweepResult
from tests.support import cpu, run_check, value

Override = Callable[[str, Callable[..., Any]], None]
ENTRIES = {entry.name: entry for entry in opinfo.load()}


def tried(name: str, dtype: torch.dtype = torch.float32, seed: int = 7) -> SweepResult:
    """What one operator's trial says, in this process."""
    trials = OpInfoTrials(cpu(seed), lambda *_: None, TrialOptions())
    return trials.run(ENTRIES[name], dtype, full_variants=True)


@pytest.mark.parametrize(
    "name", ["nn.functional.silu", "softmax", "mm", "sum", "nn.functional.layer_norm", "bmm", "topk", "nn.functional.conv2d",
             "nn.functional.scaled_dot_product_attention", "linalg.vector_norm", "diff", "nn.functional.cross_entropy"],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_kept(name: str, dtype: torch.dtype) -> None:
    assert tried(name, dtype).outcome.clean


def test_one_value_in_every_place_gives_two_results(override: Override) -> None:
    """In float64 too: no reference sees it."""

    def wrong(x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = x * torch.special.expit(x)
        if x.numel() == 67:
            result[-3:] *= 1.01
        return result

    override("silu", wrong)
    result = tried("nn.functional.silu")
    assert result.outcome is Outcome.WRONG
    assert result.where.endswith("in every place")
    assert "within one tensor" in result.detail


def _softmax(x: torch.Tensor, dim: int, half: bool) -> torch.Tensor:
    shifted = (x - x.amax(dim, keepdim=True)).exp()
    return shifted / shifted.sum(dim, keepdim=True)


def test_rows_that_depend_on_their_place(override: Override) -> None:
    def wrong(x: torch.Tensor, dim: int, half: bool) -> torch.Tensor:
        result = _softmax(x, dim, half)
        if x.ndim == 2 and x.shape[1] == 19:
            result[20:] *= 1.01
        return result

    override("_softmax", wrong)
    result = tried("softmax")
    assert (result.outcome, result.where) == (Outcome.WRONG, "with rows exchanged")


def test_rows_that_read_what_lies_behind_them(override: Override) -> None:
    def wrong(x: torch.Tensor, dim: int, half: bool) -> torch.Tensor:
        result = _softmax(x, dim, half)
        if x.ndim == 2 and len(x) == 40:
            result[:37] += 0.01 * x[-1].isnan()
        return result

    override("_softmax", wrong)
    result = tried("softmax")
    assert (result.outcome, result.where) == (Outcome.WRONG, "with more rows behind")


def test_a_sum_that_loses_its_tail(override: Override) -> None:
    def wrong(x: torch.Tensor, *, dtype: torch.dtype | None = None) -> torch.Tensor:
        flat = x.reshape(-1)
        kept = flat[:-9] if len(flat) in seeded_selection.SUM_LENGTHS else flat
        return torch.sum(kept, (0,), dtype=dtype)

    override("sum", wrong)
    result = tried("sum")
    assert (result.outcome, result.where) == (Outcome.WRONG, "as the sum of two parts")


def test_memory_to_write_to_that_is_not_what_is_returned(override: Override) -> None:
    def wrong(x: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
        return out.copy_(torch.special.erfcx(x) * (1 if out.is_contiguous() else 2))

    override("special_erfcx.out", wrong)
    result = tried("special.erfcx")
    assert (result.outcome, result.where) == (Outcome.WRONG, "with memory to write to that lies otherwise")


def test_what_refuses_a_relation_is_not_blamed_for_it(override: Override) -> None:
    """Whether it must take the call is told elsewhere: nothing is known of the relation."""

    def refusing(x: torch.Tensor) -> torch.Tensor:
        if x.numel() == 67:
            raise RuntimeError("no such size")
        result: torch.Tensor = x * torch.special.expit(x)
        return result

    override("silu", refusing)
    assert tried("nn.functional.silu").outcome.clean


def test_a_known_defect_is_told_and_not_counted_as_wrong() -> None:
    evidence = run_check("operators.sweep", only=("nn.functional.hardtanh", "optim.SGD.fused"), dtypes=("bfloat16",), processes=1)
    rows = {row["operator"]: row for row in evidence.rows if row.get("outcome") == "known defect"}
    assert value(evidence, "wrong") == 0
    assert value(evidence, "forward_coverage") == 1.0
    assert value(evidence, "known_defects") == len(rows)
    assert "https://github.com/pytorch/pytorch/issues/195075" in rows["nn.functional.hardtanh"]["detail"]
    assert "https://github.com/pytorch/pytorch/issues/191763" in rows["optim.SGD.fused"]["detail"]
