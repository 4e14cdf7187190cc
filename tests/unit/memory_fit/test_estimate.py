"""Estimates of memory: against published figures, and against what one can reckon by hand."""

from __future__ import annotations

from typing import Any

import pytest

from readiness.datamodel import Use
from readiness.memory_fit import estimate, plan
from readiness.memory_fit.estimate import Estimate, Model, Serving, Training
from readiness.memory_fit.layout import Chosen, Layout, Optimizer, Sharding
from readiness.tracing import workload_schema

GIB, GB, MIB = 2**30, 1e9, 2**20


def model(name: str) -> Model:
    return plan.model_of(workload_schema.load(workload_schema.find(name)))


def term(found: Estimate, name: str) -> float:
    return next(each.bytes for each in found.terms if each.name == name)


#: Published: the model, how it is served, what is compared, and the figure with its source.
PUBLISHED: list[tuple[str, Serving | Training, Layout, str | None, float, str]] = [
    *(
        ("qwen3-8b", Serving(length=prompt + 2048), Layout(), None, mib * MIB, "Qwen's speed benchmark (QwenLM/Qwen3@7a2f61f), Transformers, bfloat16, MB on an H20")
        for prompt, mib in ((1, 15947), (6144, 16811), (14336, 17963), (30720, 20267))
    ),
    ("llama-3.1-8b", Serving(length=1024), Layout(), "KV cache", 0.125 * GIB, "huggingface.co/blog/llama31, cache of 1k tokens"),
    ("llama-3.1-8b", Serving(length=16000), Layout(), "KV cache", 1.95 * GIB, "the same, 16k tokens"),
    ("llama-3.1-8b", Serving(length=128000), Layout(), "KV cache", 15.62 * GIB, "the same, 128k tokens"),
    ("deepseek-v3", Serving(length=1), Layout(), "KV cache", 70.3e3, "576 values x 61 layers x 2 bytes; arXiv 2505.09343: 70.272 KB a token"),
    ("deepseek-v3", Serving(dtype="float8_e4m3fn"), Layout(), "parameters", 688.6 * GB, "the published checkpoint, 641.30 GiB, which has 14e9 parameters of MTP besides"),
    ("deepseek-v3", Training(), Layout(2048, 2, 16, 8), "parameters", 11.64 * GIB, "arXiv 2502.07846: pipeline 16, tensor 2, expert 8, parameters on a device"),
    ("qwen3-235b-a22b", Serving(), Layout(), "parameters", 470.2 * GB, "fitmygpu.com, calibrated from the published checkpoint"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "how", "layout", "part", "published", "source"), PUBLISHED)
def test_published_figures_are_met_within_a_tenth(
    name: str, how: Serving | Training, layout: Layout, part: str | None, published: float, source: str
) -> None:
    found = estimate.training(model(name), how, layout) if isinstance(how, Training) else estimate.serving(model(name), how, layout)
    reckoned = found.bytes if part is None else term(found, part)
    assert abs(reckoned / published - 1) < 0.1, source


def test_qwen3_235b_in_bfloat16_is_served_by_eight_chips_of_64_gib_and_not_by_eight_of_32() -> None:
    """vllm-ascend's documentation: one Atlas 800 A2 of 8 x 64 GB, or two of 8 x 32 GB."""
    workload = workload_schema.load(workload_schema.find("qwen3-235b-a22b"))
    for chips, memory, fits in ((8, 64, True), (16, 32, True), (8, 32, False)):
        settings = plan.Settings(serving_chips=chips)
        (found,) = plan.report("", workload, settings, memory * GIB, (Use.INFERENCE,), "").fits.values()
        assert found.fits is fits, (chips, memory)


def test_sixteen_bytes_a_parameter_are_divided_as_sharding_says() -> None:
    qwen = model("qwen3-8b")
    parameters = qwen.parameters
    for sharding, each in (
        (Sharding.NONE, 16.0), (Sharding.OPTIMIZER, 2 + 2 + 12 / 8), (Sharding.GRADIENTS, 2 + 14 / 8), (Sharding.PARAMETERS, 16 / 8),
    ):  # fmt: skip
        found = estimate.training(qwen, Training(), Layout(8, sharding=sharding))
        state = sum(term(found, name) for name in ("parameters", "gradients", "optimizer state"))
        assert state == pytest.approx(parameters * each)


@pytest.mark.parametrize(
    ("optimizer", "dtype", "each"),
    [("adamw", "bfloat16", 12), ("adamw", "float32", 8), ("adamw-bfloat16", "bfloat16", 4), ("adamw-8bit", "bfloat16", 2),
     ("muon", "bfloat16", 8), ("sgd-momentum", "float32", 4), ("sgd", "float32", 0)],
)  # fmt: skip
def test_optimizers_keep_what_they_keep(optimizer: str, dtype: str, each: float) -> None:
    llama = model("llama-3.1-8b")
    found = estimate.training(llama, Training(dtype, Optimizer(optimizer)), Layout())
    assert term(found, "optimizer state") == pytest.approx(llama.parameters * each)


def test_recomputation_keeps_the_inputs_of_layers_alone() -> None:
    llama = model("llama-3.1-8b")
    with_it = estimate.training(llama, Training(length=8192), Layout())
    without = estimate.training(llama, Training(length=8192, recompute=False), Layout())
    assert term(with_it, "activations") == 8192 * 32 * 4096 * 2
    assert term(without, "activations") > 10 * term(with_it, "activations")


def test_the_first_stage_of_a_pipeline_has_every_batch_under_way() -> None:
    llama = model("llama-3.1-8b")
    found = estimate.training(llama, Training(recompute=False), Layout(4, pipeline=4))
    whole = estimate.training(llama, Training(recompute=False), Layout())
    assert term(found, "activations") == pytest.approx(term(whole, "activations"))  # a quarter of the layers, four batches
    assert "x 4 batches under way" in next(each.formula for each in found.terms if each.name == "activations")


def test_key_heads_are_divided_no_further_and_latents_not_at_all() -> None:
    qwen, deepseek = model("qwen3-235b-a22b"), model("deepseek-v3")
    one = term(estimate.serving(qwen, Serving(), Layout()), "KV cache")
    assert term(estimate.serving(qwen, Serving(), Layout(8, tensor=8)), "KV cache") == pytest.approx(one / 4)
    one = term(estimate.serving(deepseek, Serving(), Layout()), "KV cache")
    assert term(estimate.serving(deepseek, Serving(), Layout(8, tensor=8)), "KV cache") == pytest.approx(one)


@pytest.mark.parametrize("name", ["qwen3-8b", "deepseek-v3", "vit-large", "dit-xl-2"])
def test_every_part_shows_numbers_that_give_it(name: str) -> None:
    """The formula of each part, reckoned as it stands, is its bytes."""
    found: list[Any] = [*estimate.training(model(name), Training(), Layout(4, sharding=Sharding.PARAMETERS)).terms]
    found += estimate.training(model(name), Training(recompute=False), Layout(2, tensor=2)).terms
    found += estimate.serving(model(name), Serving(batch=3), Layout(2, tensor=2)).terms
    for each in found:
        assert reckoned(each.formula) == pytest.approx(each.bytes, rel=1e-3), each


def reckoned(formula: str) -> float:
    """The value of a formula: words are left out, `x` multiplies."""
    import re

    text = formula.rpartition(": ")[2].replace(",", "")
    text = re.sub(r"\(a copy[^)]*\)|\((?:two|mom|no|the traced)[^)]*\)|\((?:bfloat16|float32|float8_e4m3fn)[^)]*\)", "", text)
    text = re.sub(r"\bx\b", "*", text)
    text = re.sub(r"[A-Za-z_]+\w*", " ", text)
    assert re.fullmatch(r"[0-9.+*/() ]+", text), text
    value: float = eval(text)  # digits and signs alone, as the line above says
    return value


def test_activations_of_a_trace_scale_with_the_batch() -> None:
    vit = model("vit-large")
    one, two = (estimate.training(vit, Training(batch=batch), Layout()) for batch in (32, 64))
    assert term(one, "activations") == vit.traced_activations > 1e9
    assert term(two, "activations") == 2 * term(one, "activations")


@pytest.mark.parametrize(
    ("layout", "reason"),
    [
        (Layout(6, tensor=4), "no multiple"), (Layout(64, pipeline=64), "make no 64 stages"), (Layout(3, tensor=3), "32 heads"),
        (Layout(2, expert=2), "no experts"),
    ],
)  # fmt: skip
def test_layouts_that_cannot_be(layout: Layout, reason: str) -> None:
    assert reason in str(layout.problem(model("qwen3-8b").architecture))


def test_a_model_without_known_layers_has_no_stages() -> None:
    assert "unknown" in str(Layout(4, pipeline=4).problem(None))
    assert Layout(4, tensor=2).problem(None) is None


def test_a_layout_that_nobody_can_choose_is_told() -> None:
    assert "3 experts" not in str(Chosen(expert=3).problem(3, model("deepseek-v3").architecture))
    assert "256 experts" in str(Chosen(expert=3).problem(3, model("deepseek-v3").architecture))
