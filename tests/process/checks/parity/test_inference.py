"""parity.inference on a healthy CPU, on planted defects, and where nothing can be told."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from readiness.datamodel import Status
from readiness.probes.parity import train_and_decode, transformer
from tests.support import cpu, run_check, value, values
from tests.support.parity import Defect, Tensor, refuse, spoil, violations

LIMITS = {
    ("logit_error", "float32"): 2e-5,
    ("logit_error", "bfloat16"): 0.1,
    ("logit_error", "float16"): 0.0125,
    ("cache_difference", "float32"): 2e-5,
    ("cache_difference", "bfloat16"): 0.1,
    ("cache_difference", "float16"): 0.0125,
    ("token_disagreements",): 0.0,
}


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_cpu_keeps_the_limits(seed: int) -> None:
    evidence = run_check("parity.inference", cpu(seed), dtypes=("float32", "bfloat16", "float16"))
    assert violations(evidence, LIMITS) == []
    assert values(evidence, "supported") == [1, 1, 1]


def test_most_choices_are_clear_enough_to_be_judged() -> None:
    rows = {row["dtype"]: row for row in run_check("parity.inference").rows}
    assert rows["float32"]["clear_choices"] >= 90
    assert rows["bfloat16"]["clear_choices"] >= 30


def test_a_stale_cache_is_seen() -> None:
    def change(function: Any, tensors: list[Tensor], axis: int = 0) -> Tensor:
        result: Tensor = function(tensors, axis)
        if axis == 2 and tensors[0].dtype != torch.float64:  # the newest entry repeats the one before
            result = result.clone()
            result[:, :, -1] = result[:, :, -2]
        return result

    with Defect(["cat"], change):
        found = violations(run_check("parity.inference"), LIMITS)
    for dtype in ("float32", "bfloat16"):
        assert any("cache_difference" in text and dtype in text for text in found)
        assert any("token_disagreements" in text and dtype in text for text in found)
    assert not any("logit_error" in text for text in found)


def test_a_wrong_choice_is_seen_though_the_logits_are_right() -> None:
    with Defect(["argmax"], spoil(lambda out: (out + 1) % transformer.Size().vocabulary)):
        evidence = run_check("parity.inference", dtypes=("float32",))
    assert value(evidence, "token_disagreements", dtype="float32") >= 90
    assert value(evidence, "logit_error", dtype="float32") < 2e-5


def test_wrong_attention_and_wrong_products_are_seen_in_the_logits() -> None:
    for name, change in (
        ("scaled_dot_product_attention", lambda function, *args, **kwargs: function(*args, enable_gqa=True)),
        ("linear", spoil(lambda out: out * 1.1)),
    ):
        with Defect([name], change):
            found = violations(run_check("parity.inference"), LIMITS)
        assert any("logit_error" in text and "float32" in text for text in found)
        assert any("logit_error" in text and "bfloat16" in text for text in found)


def test_a_missing_dtype_is_a_measurement() -> None:
    with Defect(["linear"], refuse(torch.bfloat16)):
        evidence = run_check("parity.inference")
    assert evidence.status is Status.MEASURED
    assert value(evidence, "supported", dtype="bfloat16") == 0
    assert values(evidence, "logit_error", dtype="bfloat16") == []
    assert values(evidence, "token_disagreements", dtype="bfloat16") == []
    assert value(evidence, "supported", dtype="float32") == 1


def test_tokens_outside_the_vocabulary_disagree_and_close_calls_do_not_count() -> None:
    logits = torch.tensor([[[0.0, 1.0, 1.0 + 1e-9, -1.0]]], dtype=torch.float64)
    for token, wrong in ((1, 0), (2, 0), (0, 1), (3, 1), (-1, 1), (4, 1)):
        assert train_and_decode.disagreements(torch.tensor([[token]]), logits, torch.float32) == (wrong, 0)
