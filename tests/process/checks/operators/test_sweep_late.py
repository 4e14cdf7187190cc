"""operators.sweep and errors that come late: they are the operator's that caused them, and nobody else's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from readiness.accelerators.cpu import Cpu
from tests.support.operators import detail, gelu, gelu_gradient, outcomes, sweep

Kernel = Callable[..., torch.Tensor]


@pytest.fixture
def pending(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Errors that the device has met and not told: each wait for it tells one."""
    errors: list[str] = []

    def synchronize(stack: Cpu, device: torch.device) -> None:
        if errors:
            raise RuntimeError(errors.pop(0))

    monkeypatch.setattr(Cpu, "synchronize", synchronize)
    return errors


@pytest.mark.parametrize("several", [1, 5])
def test_a_late_error_is_raised_by_the_next_synchronisation(override: Callable[..., None], pending: list[str], several: int) -> None:
    def kernel(x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
        if x.dtype != torch.float32:
            return gelu(x)
        pending.extend(["an engine stopped"] * several)
        return torch.full_like(x, 7.0)

    override("gelu", kernel)
    evidence = sweep()
    assert outcomes(evidence) == {"nn.functional.gelu": ("missing", "forward")}
    assert "an engine stopped" in detail(evidence, "nn.functional.gelu")


def test_error_of_the_gradient(override: Callable[..., None], pending: list[str]) -> None:
    def kernel(gradient: torch.Tensor, x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
        if x.dtype == torch.float32:
            pending.append("an engine stopped")
        return gelu_gradient(gradient, x)

    override("gelu_backward", kernel)
    assert outcomes(sweep()) == {"nn.functional.gelu": ("missing", "backward")}


def test_error_on_a_view(override: Callable[..., None], pending: list[str]) -> None:
    def kernel(x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
        if x.dtype == torch.float32 and not x.is_contiguous():
            pending.append("an engine stopped")
        return gelu(x)

    override("gelu", kernel)
    evidence = sweep()
    assert outcomes(evidence) == {"nn.functional.gelu": ("missing", "forward")}
    assert detail(evidence, "nn.functional.gelu").startswith("on a strided input: ")


def test_a_late_error_that_is_never_raised(override: Callable[..., None]) -> None:
    override("gelu", lambda x, approximate="none": gelu(x) if x.dtype != torch.float32 else torch.full_like(x, 7.0))
    assert outcomes(sweep()) == {"nn.functional.gelu": ("wrong", "forward")}
