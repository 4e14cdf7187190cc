"""What the database's operators and the calls recorded of a model share: how a call is seeded, differentiated and judged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch

from readiness.probes.model_operators import op_table
from readiness.probes.model_operators.trial import RecordedTrial
from readiness.probes.operators.edge_inputs import EdgeSample
from readiness.probes.operators.op_call import CPU, OpCaller
from readiness.probes.operators.outcomes import FailedError, Outcome, Phase
from readiness.probes.operators.samples import Sample, widened
from tests.process.checks.operators import test_workload as of_models
from tests.support import cpu
from tests.support.operators import detail, outcomes, sweep
from tests.support.simulator import chip, inside

Override = Callable[[str, Callable[..., Any]], None]


def recorded(name: str, dtype: torch.dtype = torch.float32) -> RecordedTrial:
    return RecordedTrial(cpu(), op_table.find(name), dtype, lambda phase, where: None)


def drawn(*shape: int, dtype: torch.dtype = torch.float32, gradient: bool = True) -> torch.Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    return values.requires_grad_(gradient)


def silent(phase: Phase) -> None:
    """Nobody listens."""


def cotangents_of(caller: OpCaller, sample: Sample, *, wide: bool) -> torch.Tensor:
    """Those that a call starts from, heard where a cotangent may be moved."""
    noted: list[torch.Tensor] = []

    def move(cotangent: torch.Tensor) -> torch.Tensor:
        noted.append(cotangent)
        return cotangent

    given = sample.converted(widened if wide else torch.clone, CPU, widen=wide)
    caller.call(given, True, silent, move)
    return noted[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_cotangents_have_as_many_bits_as_the_dtype_under_test_and_the_reference_has_the_same(dtype: torch.dtype) -> None:
    caller = recorded("aten::sigmoid", dtype).trial.caller
    sample = Sample((drawn(40, 3, dtype=dtype),), {}, EdgeSample())
    narrow, wide = cotangents_of(caller, sample, wide=False), cotangents_of(caller, sample, wide=True)
    assert narrow.dtype is dtype
    assert wide.dtype is torch.float64
    assert torch.equal(narrow.double(), wide)
    fewer = torch.float16 if dtype is torch.bfloat16 else torch.bfloat16
    assert torch.equal(narrow.double(), narrow.to(fewer).double()) is (dtype is torch.bfloat16)


def test_a_result_of_fewer_bits_has_the_same_cotangents_in_float64() -> None:
    """A cast from float32: what rounds on the device must not be taken for the device's mistake."""
    caller = recorded("aten::_to_copy").trial.caller
    sample = Sample((drawn(40, 3),), {"dtype": torch.bfloat16}, EdgeSample())
    narrow, wide = cotangents_of(caller, sample, wide=False), cotangents_of(caller, sample, wide=True)
    assert (narrow.dtype, wide.dtype) == (torch.bfloat16, torch.float64)
    assert torch.equal(narrow.double(), wide)
    recorded("aten::_to_copy").check(sample, gradients=True, views=True)


def test_a_gradient_that_loses_bits_of_its_cotangent_is_wrong_to_both(override: Override) -> None:
    def rounded(cotangent: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        if cotangent.dtype == torch.float32:
            cotangent = cotangent.bfloat16().float()
        return cotangent * out * (1 - out)

    override("sigmoid_backward", rounded)
    assert of_models.outcomes(of_models.played("aten::sigmoid", "aten::rsqrt")) == {"sigmoid float32": ("wrong", "backward")}
    assert outcomes(sweep("sigmoid")) == {"sigmoid": ("wrong", "backward")}


def test_a_call_seeds_the_host_and_its_own_device_alone() -> None:
    """`torch.manual_seed` writes down a stack for every kind of device that is not there: a quarter of a workload's time."""

    def look() -> Any:
        from readiness import accelerators
        from readiness.accelerators import sim
        from readiness.accelerators.base import Accelerator

        def refuse(seed: int) -> torch.Generator:
            raise AssertionError("every kind of device is seeded")

        accelerator = Accelerator(sim.facts(chip())[0], accelerators.stack("sim"), seed=7)
        trial = RecordedTrial(accelerator, op_table.find("aten::native_dropout"), torch.float32, lambda phase, where: None)
        torch.manual_seed = refuse
        trial.check(Sample((drawn(400, gradient=False), 0.5, True), {}, EdgeSample()), gradients=False)
        return [str(noted) for noted in trial.trial.nondeterministic]

    assert inside(chip(), look) == []


def test_each_operator_has_a_seed_of_its_own_and_keeps_it() -> None:
    seeds = {recorded(name, dtype).trial.caller.seed for name in ("aten::mm", "aten::add.Tensor") for dtype in (torch.float32, torch.bfloat16)}
    assert len(seeds) == 4
    assert recorded("aten::mm").trial.caller.seed in seeds


def test_random_numbers_that_heed_no_seed_are_wrong_to_both(override: Override) -> None:
    def unseeded(shape: torch.Size) -> torch.Tensor:
        return torch.from_numpy(numpy.random.default_rng().random(tuple(shape)))

    def dropout(given: torch.Tensor, p: float, train: bool | None) -> tuple[torch.Tensor, torch.Tensor]:
        mask = unseeded(given.shape) > p
        return given * mask / (1 - p), mask

    override("native_dropout", dropout)
    override("uniform_", lambda given, low=0.0, high=1.0, generator=None: given.copy_(unseeded(given.shape)))
    trial = recorded("aten::native_dropout")
    with pytest.raises(FailedError, match="the same seed differ") as caught:
        trial.check(Sample((drawn(400, gradient=False), 0.5, True), {}, EdgeSample()), gradients=False)
    assert caught.value.outcome is Outcome.WRONG
    found = sweep("uniform")
    assert outcomes(found) == {"uniform": ("wrong", "forward")}
    assert "the same seed differ" in detail(found, "uniform")


def test_of_equal_values_another_layout_may_pick_another(override: Override) -> None:
    def last_if_strided(given: torch.Tensor, dim: int | None = None, keepdim: bool = False) -> torch.Tensor:
        values = given.double().numpy()
        first = given.is_contiguous() or given.dtype == torch.float64
        places = values.argmax(-1) if first else values.shape[-1] - 1 - values[..., ::-1].argmax(-1)
        return torch.from_numpy(places.copy())

    override("argmax", last_if_strided)
    ties = torch.randint(0, 3, (9, 17), generator=torch.Generator().manual_seed(1)).float()
    recorded("aten::argmax").check(Sample((ties, -1), {}, EdgeSample()), gradients=False, views=True)
    assert outcomes(sweep("argmax")) == {}


def test_an_input_that_is_only_read_must_stay_as_it_was(override: Override) -> None:
    def kernel(values: torch.Tensor) -> torch.Tensor:
        result = torch.copysign(torch.ones_like(values), values) < 0
        if values.dtype is torch.float32:
            values.fill_(-1)
        return result

    override("signbit", kernel)
    found = sweep("signbit")
    assert outcomes(found) == {"signbit": ("wrong", "forward")}
    assert "it writes to what it must only read: tensor 1 of 1 among its inputs" in detail(found, "signbit")


def test_running_statistics_may_be_written_to() -> None:
    """No schema says so: the reference, which writes to them as well, does."""
    assert outcomes(sweep("native_batch_norm", "nn.functional.batch_norm", "nn.functional.instance_norm")) == {}


def test_what_differs_from_call_to_call_on_dense_inputs_alone_shows(override: Override) -> None:
    turn = [0]

    def silu(x: torch.Tensor) -> torch.Tensor:
        out = x * torch.sigmoid(x)
        if x.dtype != torch.float32:
            return out
        dense = x.is_contiguous() and not x.storage_offset()
        turn[0] += dense
        steps = turn[0] % 2 if dense else 2  # another kernel for other strides, the same at every call
        return out * (1 + steps * torch.finfo(x.dtype).eps)

    override("silu", silu)
    assert outcomes(sweep("nn.functional.silu"))["nn.functional.silu"] == ("nondeterministic", "forward")
    trial = recorded("aten::silu")
    trial.check(Sample((drawn(40, 3, gradient=False),), {}, EdgeSample()), gradients=False, views=True)
    assert [noted.outcome for noted in trial.trial.nondeterministic] == [Outcome.NONDETERMINISTIC]
