"""The plain decoder of a workload: the architecture's parameters, what it keeps for gradients, layers that fit, its cache."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from readiness.memory_fit import estimate
from readiness.memory_fit.estimate import Model, Training
from readiness.memory_fit.layout import Layout
from readiness.probes.model import decoder
from readiness.probes.parity import train_and_decode
from readiness.tracing import workload_schema

DECODERS = ("qwen3-8b", "llama-3.1-8b", "qwen3-235b-a22b", "deepseek-v3")


def narrow(name: str) -> decoder.Plan:
    found = decoder.plan(config(name), reduced=True, usable_bytes=None)
    assert found is not None
    return found


def config(name: str) -> dict[str, Any]:
    return dict(workload_schema.load(workload_schema.find(name)).model["config"])


def built(plan: decoder.Plan, dtype: torch.dtype = torch.float32) -> decoder.Decoder:
    return decoder.build(plan, torch.Generator().manual_seed(3), torch.device("cpu"), dtype)


@pytest.mark.parametrize("name", DECODERS)
def test_the_model_has_the_parameters_that_the_architecture_counts(name: str) -> None:
    plan = narrow(name)
    assert sum(weight.numel() for weight in built(plan).parameters()) == plan.architecture.parameters


class _Norm(nn.Module):
    """A norm in one kernel, as training uses it: it keeps its input and a number a row."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.layer_norm(x, x.shape[-1:], self.weight)


@pytest.mark.parametrize(("name", "more"), [("qwen3-8b", 0.13), ("llama-3.1-8b", 0.13), ("qwen3-235b-a22b", 0.21)])
def test_what_is_kept_for_gradients_is_what_is_reckoned(name: str, more: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch itself says what it keeps: never less, and little more, which are copies of the CPU's own kernels.

    Its attention puts its result into another order, and repeats the key heads of a group (here there are as many as heads);
    where keys and values differ in width it has no kernel that does without all scores, so latent attention is not held
    against it.
    """
    monkeypatch.setattr(decoder, "Norm", _Norm)
    alike = config(name) | {"num_key_value_heads": config(name)["num_attention_heads"]}
    plan = decoder.plan(alike, reduced=True, usable_bytes=None)
    assert plan is not None
    model, tokens = built(plan), torch.randint(plan.architecture.vocabulary, (2, 257), generator=torch.Generator().manual_seed(1))
    own = {weight.data_ptr() for weight in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own and tensor.is_floating_point():
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model.loss(tokens)
    assert loss.requires_grad
    reckoned = estimate.training(
        Model(name, plan.architecture.parameters, plan.architecture), Training("float32", batch=2, length=256, recompute=False), Layout()
    )
    activations = next(term.bytes for term in reckoned.terms if term.name == "activations")
    logits = 2 * 256 * plan.architecture.vocabulary * 4
    assert 1 <= (sum(kept.values()) - logits) / activations <= 1 + more


@pytest.mark.parametrize("name", DECODERS)
def test_decoding_with_the_cache_gives_what_one_pass_gives(name: str) -> None:
    plan = narrow(name)
    model = built(plan, torch.float64)
    prompt = torch.randint(plan.architecture.vocabulary, (2, 7), generator=torch.Generator().manual_seed(5))
    decoded = train_and_decode.decode(model, prompt, 5)
    assert torch.allclose(decoded.logits, train_and_decode.forward(model, prompt, decoded.tokens), atol=1e-9)


@pytest.mark.parametrize(
    ("name", "gib", "described"),
    [
        ("qwen3-8b", 1000, "36 of 36 true layers"), ("qwen3-8b", 30, "3 of 36 true layers"),
        ("deepseek-v3", 100, "4 of 61 true layers, 64 of 256 experts"), ("qwen3-235b-a22b", 40, "of 94 true layers"),
    ],
)  # fmt: skip
def test_as_many_true_layers_as_fit(name: str, gib: float, described: str) -> None:
    found = decoder.plan(config(name), reduced=False, usable_bytes=gib * 2**30)
    assert found is not None
    assert described in found.described
    assert 16 * found.architecture.parameters <= gib * 2**30
    assert found.architecture.hidden == config(name)["hidden_size"]


def test_what_is_no_decoder_has_no_plan() -> None:
    assert decoder.plan({}, reduced=True, usable_bytes=None) is None
    assert decoder.plan(config("vit-large"), reduced=True, usable_bytes=None) is None


def test_large_matrices_repeat_what_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = narrow("qwen3-8b")
    weights = dict(built(plan).named_parameters())
    assert all(torch.isfinite(weight).all() and weight.std() > 0 for name, weight in weights.items() if "norm" not in name)
