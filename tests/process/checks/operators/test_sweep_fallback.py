"""operators.sweep and operators that run on the host: right, covered, and counted."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch

from readiness.probes.operators import cpu_fallback
from tests.support import value
from tests.support.operators import about, detail, gelu, gelu_gradient, outcomes, sweep

WARNING = "The operator 'aten::{}' is not currently supported on the MPS backend and will fall back to run on the CPU."


def warn(operator: str) -> None:
    """As PyTorch does: once per process, unless told to warn always."""
    if torch.is_warn_always_enabled():
        warnings.warn(WARNING.format(operator), UserWarning, stacklevel=1)


def test_forward(override: Callable[..., None]) -> None:
    def kernel(x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
        warn("gelu")
        return gelu(x)

    override("gelu", kernel)
    evidence = sweep(dtypes=("float32", "bfloat16"))
    assert outcomes(evidence) == {"nn.functional.gelu": ("CPU fallback", "forward")}
    assert detail(evidence, "nn.functional.gelu") == WARNING.format("gelu")
    assert about(evidence, "fallbacks") == "cpu:0: nn.functional.gelu in float32: runs on the CPU"
    for dtype in ("float32", "bfloat16"):
        assert value(evidence, "fallbacks", dtype=dtype) == 1
        assert value(evidence, "forward_coverage", dtype=dtype) == 1.0
        assert value(evidence, "backward_coverage", dtype=dtype) == 1.0


def test_backward(override: Callable[..., None]) -> None:
    def kernel(gradient: torch.Tensor, x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
        warn("gelu_backward")
        return gelu_gradient(gradient, x)

    override("gelu_backward", kernel)
    evidence = sweep()
    assert outcomes(evidence) == {"nn.functional.gelu": ("CPU fallback", "backward")}
    assert value(evidence, "backward_coverage") == 1.0


def test_wrong_there_too(override: Callable[..., None]) -> None:
    def kernel(x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
        warn("gelu")
        return gelu(x) * (1.01 if x.dtype == torch.float32 else 1.0)

    override("gelu", kernel)
    evidence = sweep()
    assert outcomes(evidence) == {"nn.functional.gelu": ("wrong", "forward")}
    assert value(evidence, "fallbacks") == 0


def test_other_warnings_are_none(override: Callable[..., None]) -> None:
    def kernel(x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
        warnings.warn("the CPU is hot; do not fall over", UserWarning, stacklevel=1)
        return gelu(x)

    override("gelu", kernel)
    assert outcomes(sweep()) == {}


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        (WARNING.format("sort"), True),
        ("CAUTION: The operator 'aten::isin' is not currently supported on the NPU backend and will fall back to run\n"
         "on the CPU. This may have performance implications.", True),
        ("Aten Op fallback from XPU to CPU happends.", True),
        ("falling back to the host for aten::mode", True),
        ("Memory efficient kernel not used, falling back to math", False),
        ("no fallback; running on CPUs is fine", False),
        ("This CPU does not support AVX512", False),
    ],
)  # fmt: skip
def test_words(text: str, counts: bool) -> None:
    reasons: list[str] = []
    with cpu_fallback.watched(reasons.append):
        warnings.warn(text, UserWarning, stacklevel=1)
        warnings.warn(text, UserWarning, stacklevel=1)
    assert len(reasons) == (2 if counts else 0)
