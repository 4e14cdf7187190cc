"""What is forgiven, and what PyTorch itself gets wrong, stands in docs/operators.md and nowhere else."""

from __future__ import annotations

import math

import pytest
import torch
from torch.torch_version import TorchVersion

from readiness.probes.operators import exemptions, known_defects, op_semantics, opinfo
from readiness.probes.operators.outcomes import FailedError, Outcome, Phase
from tests.support import cpu
from tests.support.paths import ROOT

ENTRIES = opinfo.load()


def test_every_table_is_listed_or_forgives_nothing() -> None:
    tables = {name for name, value in vars(op_semantics).items() if name.isupper() and isinstance(value, dict | frozenset)}
    assert tables == exemptions.FORGIVING.keys() | exemptions.OTHERS
    assert not exemptions.FORGIVING.keys() & exemptions.OTHERS


def test_the_page_lists_them_as_the_code_has_them() -> None:
    page = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")
    assert "\n".join(exemptions.tables()) in page


def test_known_defects_are_of_operators_that_exist_and_name_a_report() -> None:
    names = {entry.name for entry in ENTRIES} | {entry.base for entry in ENTRIES}
    for defect in known_defects.KNOWN:
        assert defect.operators <= names, defect
        assert not defect.report or defect.report.startswith("https://github.com/"), defect
        assert defect.builds


def failure(where: str, phase: Phase = Phase.BACKWARD) -> FailedError:
    return FailedError(Outcome.WRONG, phase, "results are 0.0 and 1.0 within one tensor", where)


def test_a_known_defect_excuses_the_cpu_in_its_circumstance_alone() -> None:
    entry = next(entry for entry in ENTRIES if entry.name == "nn.functional.hardtanh")
    at_nan = failure(known_defects.equal_values(math.nan))
    accelerator = cpu(1)
    found = known_defects.excusing(accelerator, entry, torch.float32, at_nan)
    assert found is not None
    assert "issues/195075" in str(found)
    for other in (failure(known_defects.equal_values(3.0)), failure(""), failure(at_nan.where, Phase.FORWARD)):
        assert known_defects.excusing(accelerator, entry, torch.float32, other) is None


def test_a_known_defect_of_the_cpu_excuses_no_other_device(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    accelerator = cpu(1)
    monkeypatch.setattr(type(accelerator.stack), "host_backed", False)
    by_name = {entry.name: entry for entry in ENTRIES}
    at_nan = failure(known_defects.equal_values(math.nan))
    assert known_defects.excusing(accelerator, by_name["nn.functional.hardtanh"], torch.float32, at_nan) is None
    shared = failure("", Phase.FORWARD)
    assert known_defects.excusing(accelerator, by_name["matrix_exp"], torch.bfloat16, shared) is not None


def test_a_refusal_that_is_known_excuses_no_wrong_result() -> None:
    entry = next(entry for entry in ENTRIES if entry.name == "masked_fill")
    accelerator = cpu(1)
    refused = FailedError(Outcome.MISSING, Phase.BACKWARD, '"sum_cpu" not implemented for \'ComplexHalf\'')
    assert known_defects.excusing(accelerator, entry, torch.complex32, refused) is not None
    assert known_defects.excusing(accelerator, entry, torch.complex64, refused) is None
    assert known_defects.excusing(accelerator, entry, torch.complex32, failure("")) is None
    wrong = next(entry for entry in ENTRIES if entry.name == "matrix_exp")
    assert known_defects.excusing(accelerator, wrong, torch.bfloat16, refused) is None


@pytest.mark.parametrize("build", ["2.6.0", "2.7.1+cpu"])
def test_what_older_builds_get_wrong_is_known(build: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", TorchVersion(build))
    accelerator = cpu(1)
    by_name = {entry.name: entry for entry in ENTRIES}

    def found(name: str, failed: FailedError) -> str:
        return str(known_defects.excusing(accelerator, by_name[name], torch.float32, failed))

    for where in ("on 3 in every place", "at knees and extremes"):
        assert "issues/136345" in found("nn.functional.hardswish", failure(where))
    assert "pull/149673" in found("nn.functional.selu", failure("at knees and extremes", Phase.FORWARD))
    assert "issues/52241" in found("nn.functional.ctc_loss", failure("against a difference quotient"))
    assert found("nn.functional.hardswish", failure("on 1.5 in every place")) == "None"
    assert found("nn.functional.selu", failure("", Phase.FORWARD)) == "None"
    assert found("nn.functional.ctc_loss", failure("")) == "None"


@pytest.mark.parametrize("build", ["2.8.0", "2.10.0", "2.13.0+cpu"])
def test_what_has_been_mended_is_excused_no_more(build: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", TorchVersion(build))
    by_name = {entry.name: entry for entry in ENTRIES}
    for name, phase in (("nn.functional.hardswish", Phase.BACKWARD), ("nn.functional.selu", Phase.FORWARD)):
        wrong = failure("at knees and extremes", phase)
        assert known_defects.excusing(cpu(1), by_name[name], torch.float32, wrong) is None
    refused = FailedError(Outcome.MISSING, Phase.FORWARD, "expected dtype c10::Half", known_defects.ARGUMENTS)
    assert known_defects.excusing(cpu(1), by_name["lerp"], torch.float16, refused) is None
