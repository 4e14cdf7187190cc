"""Reference cases put to a device: what it lacks, and what that takes with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from readiness.datamodel import Measurement, Row
from readiness.errors import UsageError
from readiness.numerics.strict_precision import strict_precision
from readiness.probes.parity.reference_cases import Case, Expected, dtype_named, run_cases
from tests.support import cpu


def expected(value: float) -> Expected:
    tensor = torch.full((3,), value, dtype=torch.float64)
    return Expected("result", tensor, torch.ones(3), torch.float32)


def test_what_follows_a_refusal_was_not_had_either() -> None:
    def compute(device: torch.device) -> Iterator[torch.Tensor]:
        yield torch.ones(3)
        raise NotImplementedError("no gradient")

    case = Case("op", "case", compute, [expected(1.0), expected(1.0), expected(1.0)])
    items = list(run_cases(cpu(), [case]))
    told = {item.name: item.value for item in items if isinstance(item, Measurement)}
    assert told == {"supported": 1 / 3, "bound_ratio": 0.0, "relative_error": 0.0}
    assert ["refused" in item.cells for item in items if isinstance(item, Row)] == [False, True, True]


def test_an_error_that_surfaces_only_when_waited_for_belongs_to_its_case(monkeypatch: pytest.MonkeyPatch) -> None:
    accelerator = cpu()

    def late() -> None:
        raise NotImplementedError("found out later")

    monkeypatch.setattr(accelerator, "synchronize", late)
    items = list(run_cases(accelerator, [Case("op", "case", lambda device: iter([torch.ones(3)]), [expected(1.0)])]))
    assert [item.value for item in items if isinstance(item, Measurement)] == [0.0]


def test_names_of_dtypes() -> None:
    assert dtype_named("bfloat16") is torch.bfloat16
    assert dtype_named("int32", floating=False) is torch.int32
    for name in ("float33", "int32", "nn", ""):
        with pytest.raises(UsageError, match="dtype"):
            dtype_named(name)


def test_strict_precision_switches_shortcuts_off_and_back() -> None:
    flags = torch.backends.cuda.matmul
    before = flags.allow_bf16_reduced_precision_reduction
    with strict_precision():
        assert flags.allow_bf16_reduced_precision_reduction is False
        assert torch.get_float32_matmul_precision() == "highest"
    assert flags.allow_bf16_reduced_precision_reduction == before
