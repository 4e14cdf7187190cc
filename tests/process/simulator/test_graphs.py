"""Graphs of the simulated device: made by its compiler, captured and replayed; right on a healthy chip, wrong by a defect."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from readiness.accelerators import sim
from readiness.accelerators.base import Accelerator
from readiness.simulator import machine_file
from readiness.simulator.faults import kinds
from tests.support import cpu, run_check
from tests.support.simulator import chip, defect, inside


def _captured() -> Any:
    """A product and a sum captured once, and replayed with three inputs: what came of it, and what ought to come."""
    module: Any = torch.get_device_module("sim")
    given = torch.ones(4, 4, device="sim")
    weight = torch.arange(16.0, device="sim").view(4, 4)
    graph = module.SIMGraph()
    with module.graph(graph):
        assert module.is_current_stream_capturing()
        out = (given @ weight).add_(1).t().contiguous()
        given.mul_(2)
    assert not module.is_current_stream_capturing()
    found = []
    for number in range(3):
        given.fill_(number)
        graph.replay()
        wanted = (torch.full((4, 4), float(number)) @ torch.arange(16.0).view(4, 4) + 1).t()
        found.append([torch.equal(out.cpu(), wanted), bool((given.cpu() == 2 * number).all())])
    graph.reset()
    graph.replay()  # of nothing
    return found


def test_a_replay_computes_with_what_its_inputs_hold_now() -> None:
    assert inside(chip(), _captured) == [[True, True]] * 3


def test_a_stale_replay_keeps_a_result() -> None:
    found = inside(chip(defect("stale-replay", "mm")), _captured)
    assert [right for right, _ in found] == [False, False, False]
    assert [written for _, written in found] == [True, True, True]  # of another operator
    assert inside(chip(defect("nan", "mm", replayed=False)), _captured)[0][0]  # what was captured is written over


def test_what_cannot_be_captured_is_refused() -> None:
    def run() -> list[str]:
        module: Any = torch.get_device_module("sim")
        given, words = torch.ones(4, device="sim"), []
        for act in (lambda: given.cpu(), lambda: given.copy_(torch.ones(4)), lambda: module.graph(module.SIMGraph()).__enter__()):
            with pytest.raises(RuntimeError) as problem, module.graph(module.SIMGraph()):
                act()
            words.append(str(problem.value))
        given.add(1).cpu()
        return words

    first, second, third = inside(chip(), run)
    assert first == second
    assert "while a graph is being captured" in first
    assert third == "a graph is being captured already"


def _compiled() -> Any:
    """A layer's loss and gradients compiled, as a share of those call by call; decoding steps that differ in length."""

    def step(x: Any, weight: Any) -> Any:
        return torch.nn.functional.scaled_dot_product_attention(x @ weight, x, x, is_causal=True).square().mean()

    compiled = torch.compile(step)
    found = []
    for length in (3, 5, 9):
        torch.manual_seed(length)
        x, weight = torch.randn(1, 2, length, 8).to("sim"), torch.randn(8, 8).to("sim").requires_grad_()
        pairs = []
        for function in (compiled, step):
            loss = function(x, weight)
            pairs.append((loss.detach(), torch.autograd.grad(loss, weight)[0]))
        (loss, gradient), (wanted, right) = pairs
        found.append([float((loss - wanted).abs() / wanted.abs()), float((gradient - right).norm() / right.norm())])
    return found


def test_the_compiler_gives_what_comes_call_by_call() -> None:
    for loss, gradient in inside(chip(), _compiled):
        assert loss < 1e-3
        assert gradient < 1e-3


def test_a_wrong_compiler_is_wrong_in_its_graphs_alone() -> None:
    for loss, gradient in inside(chip(defect("wrong-compiled", ("mm", "bmm"), severity=0.5, backward=True)), _compiled):
        assert loss < 1e-3
        assert gradient > 1e-2
    for loss, gradient in inside(chip(defect("wrong-result", ("mm", "bmm"), severity=0.5, compiled=False, backward=True)), _compiled):
        assert loss < 1e-3
        assert gradient > 1e-2  # the compiled one is right


def _seen(check: str, name: str, **settings: Any) -> dict[str, float]:
    def run() -> Any:
        facts = sim.facts(machine_file.find(name, kinds()))
        found = run_check(check, Accelerator(facts[0], sim.STACK, seed=7), **settings)
        return {one.name: float(one.value) for one in found.measurements}

    seen: dict[str, float] = inside(machine_file.find(name, kinds()), run)
    return seen


def test_training_through_a_wrong_compiler_is_seen() -> None:
    well, ill = (_seen("parity.compiled", name, steps=4) for name in ("healthy", "wrong-compiled"))
    assert (well["supported"], ill["supported"]) == (1, 1)
    assert well["loss_error"] < 1e-5 > well["weight_error"]
    assert well["recompiles"] == 0
    assert ill["weight_error"] > 1e-2


def test_a_stale_replay_is_seen() -> None:
    well, ill = (_seen("parity.execution", name, modes=("graph",)) for name in ("healthy", "stale-replay"))
    assert (well["supported"], well["wrong"]) == (1, 0)
    assert ill["wrong"] >= 3


def test_decoding_of_growing_lengths_goes_through_the_compiler_of_the_device() -> None:
    found = _seen("parity.execution", "healthy", modes=("compiled",))
    assert (found["supported"], found["wrong"]) == (1, 0)


def test_serving_through_a_wrong_compiler_is_seen() -> None:
    settings = {"workload": "qwen3-8b", "tokens": 4, "batches": (1,), "rounds": 1, "narrow_prompt": 8, "dtype": "float32",
                "compile_narrow": True, "compile_within_s": 0.01}  # fmt: skip
    machine = chip(defect("wrong-compiled", "mm", severity=0.5), memory_gib=0.5)

    def run() -> Any:
        ill = run_check("model.serving", Accelerator(sim.facts(machine)[0], sim.STACK, seed=7), **settings)
        well = run_check("model.serving", cpu(), **settings, backend="eager")
        return [
            {one.name: float(one.value) for one in found.measurements if one.labels.get("phase", "tokens") == "tokens"}
            for found in (ill, well)
        ]

    ill, well = inside(machine, run)
    for found in (well, ill):
        assert (found["supported"], found["wrong_tokens"], found["compiled_supported"]) == (1, 0, 1)
    assert well["compiled_wrong_tokens"] == 0
    assert well["compiled_logit_error"] < 1e-4
    assert ill["compiled_wrong_tokens"] > 0
    assert ill["compiled_logit_error"] > 0.01
