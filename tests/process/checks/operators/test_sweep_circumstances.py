"""operators.sweep beyond plain calls: defects that show only in one circumstance are caught, and named with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from readiness.accelerators import sim, stack
from readiness.accelerators.base import Accelerator
from readiness.probes.operators import op_semantics
from readiness.simulator import machine_file as chips
from readiness.simulator.machine_file import Condition
from tests.support import value
from tests.support.operators import findings
from tests.support.simulator import chip, defect, inside

_ATTENTION, _FUSED = "nn.functional.scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu"


def on_sim(which: chips.Chip, *only: str, dtypes: tuple[str, ...] = ("float32",), seed: int = 7) -> dict[str, list[str]]:
    """Outcome and detail of each operator that is neither native nor decomposed on a simulated chip."""

    def run() -> dict[str, list[str]]:
        accelerator = Accelerator(sim.facts(which)[0], stack("sim"), seed=seed)
        from tests.support import run_check

        evidence = run_check("operators.sweep", accelerator, only=only, dtypes=dtypes, processes=1)
        assert evidence.status.value == "measured", evidence.reason
        return {str(row["operator"]): [str(row["outcome"]), str(row["detail"])] for row in findings(evidence)}

    found: dict[str, list[str]] = inside(which, run, limit_s=240.0)
    return found


@pytest.mark.parametrize(
    ("planted", "only", "where"),
    [
        (defect("wrong-layout", "layout::strided"), "clone", "on a transposed input: output 0 has strides"),
        (defect("wrong-layout", "layout::strided"), "empty_like", "on a transposed input: output 0 has strides"),
        (defect("wrong-layout", "layout::strided"), "to", "on a transposed input: output 0 has strides"),
        (defect("ignore-argument", "std*", options={"argument": "correction"}), "std", "error"),
        (defect("zero-result", "addmm.out"), "addmm", "with strided memory to write to"),
        (defect("unwritten", "add_.Tensor", noncontiguous=True, of=["self"]), "add", "in place on a view"),
        (defect("wrong-operator", "nanmedian*", options={"operator": "median"}), "nanmedian", "on NaN"),
        (defect("zero-result", "native_layer_norm_backward", argument={"output_mask": "[False, True, True]"}),
         "nn.functional.layer_norm", "where only tensor 1 and 2 of 3 requires a gradient"),
        (defect("wrong-result", "mm", severity=0.5, rows_over=32768), "mm", "on 65537 rows"),
        (defect("wrong-result", "convolution", severity=0.5, multiple_of=32, dimension=1, of=["input"]),
         "nn.functional.conv2d", "of 32 channels"),
        (defect("wrong-result", "prod*", severity=0.5, numel_under=71), "prod", "error"),
        (defect("crash", "_assert_async*"), "_assert_async", "the process died by"),
        (defect("ignore-argument", "_fused_adam*", options={"argument": "found_inf"}), "optim.AdamW.fused.found_inf", "error"),
        (defect("unwritten", "_amp_foreach_non_finite_check_and_unscale_"), "amp.unscale", ""),
        (defect("wrong-random", "exponential_", severity=0.5), "exponential.statistics", "integers differ"),
        (defect("wrong-random", "multinomial", argument={"replacement": False}), "multinomial.statistics", "integers differ"),
        (defect("nan", "addmm*", argument={"beta": 0}, nan=True, of=["self"]), "addmm", "on NaN that beta leaves out"),
        (defect("wrong-result", "convolution", severity=0.3, argument={"groups": 3}), "nn.functional.conv1d", "with arguments"),
        (defect("wrong-result", "index_add*", severity=0.3, numel_over=100_000), "index_add", "on 65537 rows"),
        (defect("wrong-result", "masked_fill*", of=["mask"], expanded=True), "masked_fill", "on expanded inputs"),
        (defect("unwritten", "_native_batch_norm_legit"), "_native_batch_norm_legit", "output"),
        (defect("unwritten", "embedding_renorm_"), "nn.functional.embedding_bag", "with arguments"),
        (defect("ignore-argument", "sum*", options={"argument": "dtype"}), "sum", "in bfloat16, with results in float32"),
        (defect("zero-result", "cat", tensors_over=128, severity=0.3), "cat", "on 300 tensors"),
        (defect("zero-result", "bernoulli_.float", dtype=("int64",)), "bernoulli.statistics", "integers differ"),
        (defect("wrong-result", _FUSED, severity=0.3, of=["attn_mask"], ndim=[4]), _ATTENTION, "of 1 texts, attn_mask"),
        (defect("wrong-result", _FUSED, severity=0.3, of=["key"], rows_over=1023), _ATTENTION, "of 1100 keys"),
        (defect("wrong-gradient", "convolution_backward", severity=0.5, of=["input"], rows_over=65535), "nn.functional.conv1d",
         "on 65537 rows"),
        (defect("wrong-gradient", "replication_pad1d_backward", severity=0.5, rows_over=65535), "nn.functional.pad.replicate",
         "on 65537 rows"),
        (defect("zero-result", "scatter.src", of=["index"], empty=True), "scatter", "at no places"),
        (defect("zero-result", ("mm", "addmm"), severity=0.3, rows_over=524_288), "nn.functional.linear", "on 524289 rows"),
        (defect("unwritten", "fill_.Scalar", of=["self"], noncontiguous=True), "fill", "in place on a view"),
        (defect("overwritten-input", "tanh", noncontiguous=True, backward=False), "tanh", "on a strided input: it writes"),
    ],
)  # fmt: skip
def test_planted(planted: chips.Defect, only: str, where: str) -> None:
    found = on_sim(chip(planted), only)
    assert found[only][0] in ("wrong", "crash"), found
    assert where in found[only][1]


@pytest.mark.parametrize(
    ("planted", "only", "where"),
    [
        (defect("wrong-result", "mm", severity=0.5, rows_over=32768), "mm", "on 65537 rows"),
        (defect("zero-result", "addmm.out"), "addmm", "with strided memory to write to"),
        (defect("zero-result", "native_layer_norm_backward", argument={"output_mask": "[False, True, True]"}),
         "nn.functional.layer_norm", "where only tensor 1 and 2 of 3 requires a gradient"),
        (defect("zero-result", "multinomial"), "multinomial.statistics", "integers differ"),
        (defect("zero-result", "bernoulli*"), "bernoulli.statistics", "integers differ"),
        (defect("zero-result", ("native_dropout", "bernoulli*")), "dropout.statistics", "integers differ"),
        (defect("zero-result", "normal_"), "normal.statistics", "integers differ"),
        (replace(defect("wrong-result", "lerp.Tensor", severity=1.0), when=Condition(of=("weight",), dtype=("float32",))),
         "lerp", "with arguments"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_planted_in_sixteen_bits_alone(planted: chips.Defect, only: str, where: str, dtype: str) -> None:
    """Kernels for them are other code: what a float32 kernel does in a circumstance says nothing of theirs."""
    found = on_sim(chip(replace(planted, dtype=(dtype,))), only, dtypes=("float32", dtype))
    assert found[only][0] == "wrong", found
    assert where in found[only][1]


def test_a_healthy_chip_shows_none_of_these_faults() -> None:
    only = ("clone", "empty_like", "to", "std", "addmm", "add", "nanmedian", "nn.functional.layer_norm", "mm", "prod",
            "nn.functional.conv2d", "_assert_async", "optim.*", "amp.unscale", "*.statistics", "_foreach_*",
            "attention.*", "randperm", "_grouped_mm", "nn.functional.scaled_dot_product_attention")  # fmt: skip
    found = on_sim(chip(), *only, dtypes=("float32", "bfloat16"))
    assert {outcome for outcome, _ in found.values()} <= {"cannot be judged", "known defect"}
    assert set(found) <= {
        "amp.unscale", "attention.cudnn", "attention.efficient", "nn.functional.layer_norm", "optim.SGD.fused",
        "optim.SGD.fused.found_inf",
    }  # fmt: skip


def test_a_random_permutation_of_short_integers_that_kills() -> None:
    found = on_sim(chip(defect("crash", "randperm*", dtype=("int16",))), "randperm", dtypes=("int64",))
    assert found["randperm"][0] == "crash"


def test_core_dtypes_are_swept_in_the_core_alone() -> None:
    from tests.support import run_check

    evidence = run_check("operators.sweep", catalogue="core", dtypes=("bool",), core_dtypes=("int64",))
    assert value(evidence, "forward_coverage", dtype="int64", catalogue="core") == 1.0
    assert value(evidence, "forward_coverage", dtype="bool", catalogue="core") == 1.0
    assert value(evidence, "judged", dtype="int64") > 80
    assert not op_semantics.CORE.isdisjoint({"where", "std", "randperm"})
