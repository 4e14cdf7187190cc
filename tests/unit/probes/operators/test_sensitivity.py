"""How far a reference moves with its inputs: what excuses a result of terms that cancel, and how often it is asked."""

from __future__ import annotations

import torch

from readiness.probes.operators import opinfo, samples
from readiness.probes.operators.comparison import Comparison
from readiness.probes.operators.edge_inputs import EdgeSample
from readiness.probes.operators.op_oracle import OpOracle
from readiness.probes.operators.op_trial import OpTrial
from readiness.probes.operators.samples import Sample
from tests.support import cpu

ADD = next(entry for entry in opinfo.load() if entry.name == "add")


def oracle(seed: int, elements: int) -> OpOracle:
    """A sum of two terms that nearly cancel."""
    drawn = torch.full((elements,), 0.5)
    sample = Sample((drawn, -drawn * 0.999), {}, EdgeSample())
    return OpOracle(OpTrial(cpu(seed), ADD, torch.bfloat16, lambda *_: None), sample, False, [])


def test_two_terms_that_cancel_in_one_element_move_apart_at_some_time() -> None:
    rounding = 0.5 * 2.0**-8
    for seed in range(40):  # of four runs one in sixteen shows nothing
        due = oracle(seed, 1)
        moved = [float((run.outputs[0] - due._reference.outputs[0]).abs()) for run in due.sensitivity()]
        assert len(moved) == 16
        assert max(moved) > 1.9 * rounding
        assert list(due.sensitivity()) == list(due.sensitivity())


def differs(due: OpOracle, error: float) -> str | None:
    """What the comparison says of a result that is off by so much."""
    want = due._reference.outputs
    runs = [run.outputs for run in due.sensitivity()]
    return Comparison(ADD, torch.bfloat16, due.sample).values([(want[0] + error).float()], want, None, lambda: runs)


def test_an_error_of_what_each_term_is_rounded_by_is_excused_in_few_elements_and_a_larger_one_is_not() -> None:
    for seed in range(40):
        assert differs(oracle(seed, 1), 2 * 0.5 * 2.0**-8) is None
        assert differs(oracle(seed, 1), 0.2) is not None


def test_large_samples_are_moved_four_times() -> None:
    assert len(list(oracle(3, 3_000).sensitivity())) == samples.PERTURBATIONS
    due = oracle(3, 1_000)
    asked = []

    def runs() -> object:
        for run in due.sensitivity():
            asked.append(run)
            yield run.outputs

    judge = Comparison(ADD, torch.bfloat16, due.sample)
    assert judge.values([due._reference.outputs[0].float() + 1], due._reference.outputs, None, runs) is not None  # type: ignore[arg-type]
    assert len(asked) == samples.PERTURBATIONS  # for more than a few elements
