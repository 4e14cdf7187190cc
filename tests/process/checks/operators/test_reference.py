"""What the float64 reference shares with the device: gradients against difference quotients, values against mpmath."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from readiness.probes.operators import known_values, opinfo, summary
from readiness.probes.operators.op_trial import OpTrial
from readiness.probes.operators.opinfo_trial import OpInfoTrials, TrialOptions
from readiness.probes.operators.outcomes import Outcome, Phase, SweepResult
from readiness.probes.operators.sweep import Swept
from tests.support import cpu

Override = Callable[[str, Callable[..., Any]], None]
ENTRIES = {entry.name: entry for entry in opinfo.load()}


def tried(name: str, dtype: torch.dtype = torch.float32, seed: int = 7, samples: int = 1) -> SweepResult:
    """What one operator's trial says, in this process."""
    trials = OpInfoTrials(cpu(seed), lambda *_: None, TrialOptions(samples))
    return trials.run(ENTRIES[name], dtype, full_variants=True)


@pytest.mark.parametrize(
    "name", ["sigmoid", "softmax", "erf", "lgamma", "special.bessel_j1", "xlogy", "nn.functional.hardswish", "linalg.cholesky",
             "remainder", "fft.rfft", "nn.functional.dropout", "normal", "sinc", "div.trunc_rounding", "fmod"],
)  # fmt: skip
def test_right(name: str) -> None:
    result = tried(name)
    assert result.outcome.clean or result.outcome is Outcome.FALLBACK, result
    assert "difference quotient" not in result.known
    assert result.backward == ENTRIES[name].claims_backward(torch.float32)


@pytest.mark.parametrize("name", ["nn.functional.gelu", "special.ndtr"])
def test_of_a_tail_that_is_left_of_terms_nothing_is_said(name: str) -> None:
    """The seed chooses -7.69 among the knees, where both are made of what one leaves of nearly -1."""
    assert tried(name, seed=1444187338).outcome.clean


@pytest.mark.parametrize(
    ("name", "dtype", "known"),
    [
        ("cov", torch.float64, ""), ("sinc", torch.int16, ""), ("signal.windows.blackman", torch.float32, ""),
        ("logsumexp", torch.complex64, ""), ("linalg.matrix_norm", torch.bfloat16, ""),
        ("polygamma.polygamma_n_1", torch.int8, "poles"), ("renorm", torch.complex64, "gradients of NaN"),
    ],
)  # fmt: skip
def test_right_with_several_samples(name: str, dtype: torch.dtype, known: str) -> None:
    result = tried(name, dtype, seed=1515507552, samples=6)
    assert result.outcome.right, result
    assert known in result.known


def _sigmoid_gradient(gradient: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    return gradient * out * (1 - out) * torch.where(out > 0.9, 1.02, 1.0)


def _softmax_gradient(gradient: torch.Tensor, out: torch.Tensor, dim: int, dtype: torch.dtype) -> torch.Tensor:
    return 1.02 * out * (gradient - (gradient * out).sum(dim, keepdim=True))


@pytest.mark.parametrize(
    ("kernel", "wrong", "name", "said"),
    [("sigmoid_backward", _sigmoid_gradient, "sigmoid", "at "), ("_softmax_backward_data", _softmax_gradient, "softmax", "along")],
)  # fmt: skip
def test_a_gradient_that_is_wrong_in_float64_too(
    kernel: str, wrong: Callable[..., torch.Tensor], name: str, said: str, override: Override
) -> None:
    override(kernel, wrong)
    result = tried(name)
    assert (result.outcome, result.phase, result.where) == (Outcome.WRONG, Phase.BACKWARD, "against a difference quotient")
    assert result.detail.startswith(said)


def test_on_another_device_such_a_gradient_cannot_be_judged(override: Override, monkeypatch: pytest.MonkeyPatch) -> None:
    override("sigmoid_backward", _sigmoid_gradient)
    monkeypatch.setattr(OpTrial, "on_cpu", False)
    result = tried("sigmoid")
    assert result.outcome.clean
    assert not result.backward
    assert "the reference itself is wrong" in result.known
    rows = list(summary.rows(Swept(ENTRIES["sigmoid"], "float32", result)))
    assert [(row["phase"], row["outcome"]) for row in rows] == [("forward", "known defect"), ("backward", "cannot be judged")]
    codes = summary.OperatorMap()
    codes.add(Swept(ENTRIES["sigmoid"], "float32", result))
    assert next(iter(codes.rows()))["backward"] == "u"


def test_of_a_kink_nothing_is_said(override: Override) -> None:
    """The gradient at a kink may be either side's, or half of it: only the reference's convention is asked for."""

    def halved(gradient: torch.Tensor, x: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return gradient * torch.where((x == low) | (x == high), 0.5, ((x > low) & (x < high)).to(x.dtype))

    override("hardtanh_backward", halved)
    assert tried("nn.functional.hardtanh").outcome.clean


@pytest.mark.parametrize(("name", "report"), [("ldexp", "187460"), ("special.zeta", "138464"), ("special.ndtr", "192295")])
def test_known_defects_of_formulas_are_found(name: str, report: str) -> None:
    result = tried(name)
    assert result.outcome.clean
    assert report in result.known


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("name", ["index_fill", "masked_fill", "norm"])
def test_a_gradient_that_the_cpu_refuses_is_a_known_defect(name: str) -> None:
    result = tried(name, torch.complex32)
    assert result.outcome.clean, result
    assert "the database claims gradients in complex32" in result.known


def _filled(x: torch.Tensor, mask: torch.Tensor, value: Any) -> torch.Tensor:
    filled = torch.where(mask, torch.as_tensor(value, dtype=x.dtype), x)
    return filled * 2 if x.dtype is torch.complex32 else filled


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_what_has_no_gradient_must_be_right_all_the_same(override: Override) -> None:
    override("masked_fill.Scalar", _filled)
    override("masked_fill.Tensor", _filled)
    result = tried("masked_fill", torch.complex32)
    assert (result.outcome, result.phase) == (Outcome.WRONG, Phase.FORWARD)


@pytest.mark.parametrize("seed", [506952113, 1549107668])
def test_reflections_by_complex_vectors_lose_more_digits(seed: int) -> None:
    result = tried("linalg.householder_product", torch.complex64, seed, samples=6)
    assert result.outcome.clean, result


def _without_tail(x: torch.Tensor) -> torch.Tensor:
    small = torch.exp(x * x) * torch.erfc(x)
    return torch.where(x > 7, 0.0, small)


def test_a_tail_that_is_lost_in_float64_too(override: Override) -> None:
    override("special_erfcx", _without_tail)
    result = tried("special.erfcx")
    assert result.outcome is Outcome.WRONG
    assert result.where == "at values that mpmath knows"


def test_without_mpmath_nothing_is_known_and_that_is_said(override: Override, monkeypatch: pytest.MonkeyPatch) -> None:
    override("special_erfcx", _without_tail)
    monkeypatch.setattr(known_values, "available", lambda: False)
    assert tried("special.erfcx").where != "at values that mpmath knows"
    assert "special functions were not, for want of mpmath, held against mpmath" in summary.tried(cpu(1))


@pytest.mark.parametrize("name", known_values.names())
def test_mpmath_has_a_value_for_every_argument(name: str) -> None:
    function = known_values.of(name, name)
    assert function is not None
    assert name in ENTRIES
    for arguments in function.tried:
        assert known_values.value(function, arguments) == known_values.value(function, arguments)  # no NaN


def test_an_argument_outside_the_domain_has_no_value() -> None:
    function = known_values.of("special.ndtri", "special.ndtri")
    assert function is not None
    assert known_values.value(function, (2.0,)) != known_values.value(function, (2.0,))


def test_what_the_seed_chose_is_told() -> None:
    told = summary.tried(cpu(3))
    assert told == summary.tried(cpu(3))
    assert told != summary.tried(cpu(4))
    assert "on all threads of the host" in told
    assert "special functions were held against mpmath" in told
