"""parity.layer on a healthy CPU, on planted defects, and where nothing can be told."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from readiness.datamodel import Status
from readiness.probes.parity import decoder_layers
from tests.support import cpu, run_check, value, values
from tests.support.parity import Defect, Tensor, refuse, scale_gradient, spoil, violations

LIMITS = {
    ("forward_error", "float32"): 2e-6, ("forward_error", "bfloat16"): 0.02,
    ("gradient_error", "float32"): 4e-6, ("gradient_error", "bfloat16"): 0.05, ("misrouted",): 0.0,
}  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_a_healthy_cpu_keeps_the_limits(seed: int) -> None:
    evidence = run_check("parity.layer", cpu(seed))
    assert violations(evidence, LIMITS) == []
    assert values(evidence, "supported") == [1] * 6


def neighbour(function: Any, x: Tensor, *rest: Any, **more: Any) -> Any:
    """Each expert gets the token behind the one that is its."""
    return function(x.roll(1, 0), *rest, **more)


@pytest.mark.parametrize(
    ("name", "change", "concerned"),
    [
        ("silu", spoil(lambda out: out * 1.1), set(decoder_layers.ARCHITECTURES)),
        ("silu", spoil(lambda out: scale_gradient(out, 1.3)), set(decoder_layers.ARCHITECTURES)),
        ("rsqrt", spoil(lambda out: scale_gradient(out, 0.0)), set(decoder_layers.ARCHITECTURES)),
        ("scaled_dot_product_attention", lambda function, *args, **more: function(*args, **(more | {"is_causal": False})),
         set(decoder_layers.ARCHITECTURES)),
        ("index_select", neighbour, {"qwen3-moe", "deepseek-v3"}),
        ("sigmoid", spoil(lambda out: out.square()), {"deepseek-v3"}),
        ("linear", spoil(lambda out: out * torch.nan), set(decoder_layers.ARCHITECTURES)),
    ],
    ids=["forward", "gradient", "dead gradient", "mask ignored", "another's token", "gate", "NaN"],
)  # fmt: skip
def test_a_wrong_operator_shows(name: str, change: Any, concerned: set[str]) -> None:
    with Defect([name], change):
        found = violations(run_check("parity.layer"), LIMITS)
    assert {architecture for architecture in decoder_layers.ARCHITECTURES if any(architecture in text for text in found)} == concerned


def test_the_worse_experts_are_reported() -> None:
    def worst(function: Any, x: Tensor, count: int, *rest: Any, **more: Any) -> Any:
        return function(x, count, *rest, **(more | {"largest": False}))

    with Defect(["topk"], worst):
        evidence = run_check("parity.layer", architectures=("qwen3-moe",))
    assert value(evidence, "misrouted", dtype="float32") == 1.0


@pytest.mark.parametrize(("lead", "share"), [(0.001, 0.0), (0.3, 1.0)], ids=["about as good", "worse"])
def test_groups_that_are_about_as_good_may_be_chosen(lead: float, share: float) -> None:
    scores = torch.arange(16.0).flip(0).view(1, 16) / 16  # groups of four, the first ones the best
    scores[0, 8], scores[0, 9] = scores[0, 4], scores[0, 5] - lead
    reference = decoder_layers.Routing(scores=scores.double(), chosen=torch.tensor([[0, 1, 2, 3]]), groups=4)
    device = decoder_layers.Routing(chosen=torch.tensor([[0, 1, 2, 8]]))
    found = decoder_layers.misrouted(decoder_layers.LayerPass(scores, {}, device), decoder_layers.LayerPass(scores, {}, reference), slack=0.07)
    assert found == share


def test_experts_of_the_best_groups_alone_are_chosen() -> None:
    scores = torch.tensor([[0.55, 0.5, 0.9, 0.0, 0.6, 0.6, 0.1, 0.1]]).repeat(1, 2)[:, :16]
    scores[0, 8:] = 0.0
    chosen = decoder_layers.Routing().decide(scores, 4, groups=4)
    assert chosen.sort().values.tolist() == [[0, 2, 4, 5]]


def test_not_measured_where_a_dtype_is_refused() -> None:
    with Defect(["linear"], refuse(torch.bfloat16)):
        evidence = run_check("parity.layer", architectures=("deepseek-v3",))
    assert evidence.status is Status.MEASURED
    assert value(evidence, "supported", dtype="bfloat16") == 0
    assert values(evidence, "forward_error", dtype="bfloat16") == []
    assert value(evidence, "supported", dtype="float32") == 1


def test_slips_in_settings_are_errors() -> None:
    assert run_check("parity.layer", architectures=("gpt-9",)).status is Status.ERROR
