"""Architectures: exact numbers of parameters, and nothing where the configuration does not say enough."""

from __future__ import annotations

from typing import Any

import pytest

from readiness.memory_fit import architecture
from readiness.memory_fit.architecture import Attention, Dense, Experts, LatentAttention
from readiness.tracing import workload_schema


def model(name: str) -> dict[str, Any]:
    return dict(workload_schema.load(workload_schema.find(name)).model)


@pytest.mark.parametrize("name", ["qwen3-8b", "qwen3-32b", "qwen3-235b-a22b", "llama-3.1-8b", "deepseek-v3"])
def test_shipped_decoders_have_exactly_the_traced_number_of_parameters(name: str) -> None:
    found = architecture.read(model(name))
    assert found is not None
    assert found.parameters == model(name)["parameters"]


@pytest.mark.parametrize("name", ["vit-large", "dit-xl-2"])
def test_what_is_no_decoder_has_no_architecture(name: str) -> None:
    assert architecture.read(model(name)) is None


def test_kinds_of_attention_and_layers_are_read_from_what_a_configuration_holds() -> None:
    deepseek, qwen = architecture.read(model("deepseek-v3")), architecture.read(model("qwen3-235b-a22b"))
    assert deepseek is not None
    assert qwen is not None
    assert isinstance(deepseek.attention, LatentAttention)
    assert [type(feed) for feed in deepseek.feeds[:4]] == [Dense, Dense, Dense, Experts]
    assert isinstance(qwen.attention, Attention)
    assert {type(feed) for feed in qwen.feeds} == {Experts}
    assert (qwen.experts, deepseek.experts) == (128, 256)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hidden_size": "4096"}, "a width is no text"),
        ({"num_hidden_layers": 0}, "no layers"),
        ({"hidden_size": True}, "a boolean is no width"),
        ({"num_hidden_layers": 40}, "parameters are not the stated ones"),
    ],
)
def test_a_configuration_that_does_not_agree_is_not_read(change: dict[str, Any], reason: str) -> None:
    found = model("qwen3-8b")
    found["config"] = found["config"] | change
    assert architecture.read(found) is None, reason


def test_tied_embeddings_count_once() -> None:
    tied = model("qwen3-8b")
    tied["config"] = tied["config"] | {"tie_word_embeddings": True}
    tied["parameters"] -= 151936 * 4096
    found = architecture.read(tied)
    assert found is not None
    assert found.head == 0
    assert found.parameters == tied["parameters"]


def test_experts_every_second_layer_and_layers_without() -> None:
    sparse = model("qwen3-235b-a22b")
    sparse["config"] = sparse["config"] | {"decoder_sparse_step": 2, "mlp_only_layers": [1]}
    found = architecture.decoder(sparse["config"])
    assert [type(feed) for feed in found.feeds[:5]] == [Dense, Dense, Dense, Experts, Dense]
