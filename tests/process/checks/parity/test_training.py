"""parity.training on a healthy CPU, on planted defects, and where nothing can be told."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional

from readiness.datamodel import Status
from readiness.probes.parity import train_and_decode, transformer
from tests.support import cpu, run_check, value, values
from tests.support.parity import Change, Defect, Tensor, refuse, scale_gradient, spoil, violations

LIMITS = {
    ("gradient_error", "float32"): 1e-5,
    ("gradient_error", "bfloat16"): 0.03,
    ("loss_difference", "float32"): 1e-5,
    ("loss_difference", "bfloat16"): 0.01,
    ("loss_decreased",): 0.7,
}


@pytest.mark.parametrize("seed", range(2))
def test_a_healthy_cpu_keeps_the_limits(seed: int) -> None:
    evidence = run_check("parity.training", cpu(seed))
    assert violations(evidence, LIMITS) == []
    assert values(evidence, "supported") == [1, 1]
    assert len([item for item in evidence.rows if "losses" in item]) == 2


def head_gradient_off(function: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The output layer, whose weight's gradient comes out 5 % too large."""
    wrong = scale_gradient(weight, 1.05) if weight.shape[0] == transformer.Size().vocabulary else weight
    result: Tensor = function(x, wrong, bias)
    return result


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("linear", head_gradient_off),
        ("linear", lambda function, x, weight, bias=None: function(x, weight.detach(), bias)),
        ("linear", spoil(lambda out: out * 1.05)),
        ("embedding", spoil(lambda out: scale_gradient(out, 1.1))),
        ("silu", spoil(lambda out: scale_gradient(out, 0.0))),
        ("cross_entropy", spoil(lambda out: out * torch.nan)),
        ("scaled_dot_product_attention", lambda function, *args, **kwargs: function(*args, enable_gqa=True)),
    ],
    ids=["weight gradient", "no gradient", "forward", "embedding gradient", "dead gradient", "NaN", "mask ignored"],
)
def test_a_wrong_operator_shows_in_gradients_or_losses(name: str, change: Change) -> None:
    with Defect([name], change):
        found = violations(run_check("parity.training", steps=6), {**LIMITS, ("loss_decreased",): math.inf})
    assert any("float32" in text for text in found)
    assert any("bfloat16" in text for text in found)


def test_float32_that_is_tf32_is_seen() -> None:
    def change(function: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        values = x.detach().contiguous(), weight.detach().contiguous()
        cut = [(item.view(torch.int32) & ~0x1FFF).view(torch.float32) for item in values]
        result: Tensor = function(x + (cut[0] - x).detach(), weight + (cut[1] - weight).detach(), bias)
        return result

    with Defect(["linear"], change):
        evidence = run_check("parity.training", dtypes=("float32",), steps=6)
    assert len(violations(evidence, LIMITS)) >= 2


def test_a_model_that_does_not_learn_is_seen() -> None:
    with Defect(["cross_entropy"], spoil(lambda out: scale_gradient(out, 0.0))):
        evidence = run_check("parity.training", dtypes=("float32",))
    assert value(evidence, "loss_decreased", dtype="float32") > 0.9
    assert value(evidence, "gradient_error", dtype="float32") == 1


def test_a_device_without_autocast_is_reported_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device_type: False)
    evidence = run_check("parity.training", steps=3)
    assert value(evidence, "supported", dtype="bfloat16") == 0
    assert value(evidence, "supported", dtype="float32") == 1
    assert values(evidence, "gradient_error", dtype="bfloat16") == []
    assert any("autocast" in item.get("refused", "") for item in evidence.rows)


def test_a_missing_operator_is_a_measurement() -> None:
    with Defect(["silu"], refuse(torch.float32, torch.bfloat16)):
        evidence = run_check("parity.training", steps=3)
    assert evidence.status is Status.MEASURED
    assert values(evidence, "supported") == [0, 0]
    assert values(evidence, "loss_difference") == []


def test_a_gradient_that_never_came_is_infinitely_wrong() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    assert train_and_decode.gradient(parameter).isnan().all()


def test_a_loss_that_is_no_number_is_infinitely_different() -> None:
    good = train_and_decode.TrainingRun((2.0, 1.0), {})
    assert train_and_decode.loss_difference(train_and_decode.TrainingRun((2.0, math.nan), {}), good) == math.inf
    assert train_and_decode.loss_difference(train_and_decode.TrainingRun((2.0, 1.5), {}), good) == 0.5
    assert train_and_decode.decrease(train_and_decode.TrainingRun((2.0, 1.0, 0.5), {})) == pytest.approx(3.5 / 3 / 2)
    assert train_and_decode.decrease(train_and_decode.TrainingRun((0.0, 0.0), {})) == math.inf
    assert train_and_decode.decrease(train_and_decode.TrainingRun((math.nan, 1.0), {})) == math.inf


def test_the_same_generator_builds_the_same_model_whatever_else_was_drawn() -> None:
    models = []
    for _ in range(2):
        torch.rand(3)
        models.append(transformer.build(torch.Generator().manual_seed(5)).state_dict())
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_rotation_keeps_lengths_and_depends_on_the_distance_alone() -> None:
    x = torch.randn(1, 1, 1, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = torch.randn(1, 1, 1, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def at(place: int, tensor: Tensor) -> Tensor:
        return transformer.rotate(tensor, transformer.angles(place, 1, 16, tensor))

    assert torch.linalg.vector_norm(at(9, x)) == pytest.approx(float(torch.linalg.vector_norm(x)))
    assert float((at(9, x) * at(4, y)).sum()) == pytest.approx(float((at(25, x) * at(20, y)).sum()))
    assert functional.cosine_similarity(at(0, x), x, -1).item() == pytest.approx(1)
