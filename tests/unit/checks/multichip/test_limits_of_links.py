"""What the shipped profiles make of links by figures that were published of real machines, and of links that are weak."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import pytest

from readiness.datamodel import AcceleratorFacts, Evidence, Measurement, Outcome, Profile, Status, Use
from readiness.judging.judge import judge
from readiness.profile import loader
from tests.support import checks

CHIP = AcceleratorFacts("cuda:0", "cuda", 0, "cuda", "NVIDIA", "a chip of eight")
WHERE = {"world": "all", "chips": "several", "ranks": "8"}
#: Bus bandwidth between eight chips, and that of a sum between two over that of one between eight. Published is algorithm
#: bandwidth: a switch makes two, four and eight A800 alike on the bus, and by no other reading.
#: A800 and 910B: https://github.com/gameofdimension/limulidae ; H800: https://github.com/deepseek-ai/DeepEP ; the last is
#: what a machine carries whose chips talk over a slot of the first generation.
MACHINES = {
    "a800": {"all_gather": 173 * 7 / 8, "all_to_all": 90.0, "latency": 60.0, "two": 143 / (89 * 1.75)},
    "h800": {"all_gather": 160.0, "all_to_all": 153.0, "latency": 77.0, "two": 1.0},
    "910b": {"all_gather": 149 * 7 / 8, "all_to_all": 60.0, "latency": 100.0, "two": 18 / (72 * 1.75)},
    "slots": {"all_gather": 2.0, "all_to_all": 1.0, "latency": 900.0, "two": 1.0},
}


def measured(name: str, *, left_out: str = "") -> Evidence:
    """The evidence of `multichip.bandwidth` on a machine, as far as what follows looks at it."""
    machine = MACHINES[name]
    items: Iterable[Measurement] = [
        Measurement("peak_bus_gbps", machine["all_gather"], WHERE | {"op": "all_gather"}),
        Measurement("peak_bus_gbps", machine["all_to_all"], WHERE | {"op": "all_to_all"}),
        Measurement("latency_us", machine["latency"], WHERE | {"op": "all_to_all", "group": "8", "bytes": "8"}),
        Measurement("group_bus_share", machine["two"], WHERE | {"op": "all_reduce", "group": "2", "bytes": "2097152"}),
    ]
    return Evidence("multichip.bandwidth", Status.MEASURED, measurements=tuple(item for item in items if item.name != left_out))


@cache
def demands(model: str) -> Profile:
    """A shipped profile, read once."""
    return loader.load(model, checks())


def judged(name: str, model: str, use: Use, *, left_out: str = "") -> dict[str, Outcome]:
    """The outcome of each requirement on links that a profile of a model has, by name."""
    found = judge(demands(model), CHIP, [measured(name, left_out=left_out)], uses=[use], chips=8)
    return {item.requirement: item.outcome for item in found.findings if item.requirement in IDS}


IDS = {
    "links-carry-parameters", "links-leave-time", "links-carry-tokens", "tokens-leave-time", "links-carry-prompts",
    "exchanges-in-time", "exchanges-prompt", "small-groups-carry",
}  # fmt: skip
MODELS = {
    ("qwen3-dense", Use.TRAINING): {"links-carry-parameters", "links-leave-time", "small-groups-carry"},
    ("qwen3-dense", Use.INFERENCE): {"small-groups-carry"},
    ("llama-dense", Use.TRAINING): {"links-carry-parameters", "links-leave-time", "small-groups-carry"},
    ("qwen3-moe", Use.TRAINING): {"links-carry-parameters", "links-leave-time", "links-carry-tokens", "tokens-leave-time", "small-groups-carry"},
    ("qwen3-moe", Use.INFERENCE): {"links-carry-prompts", "exchanges-in-time", "exchanges-prompt", "small-groups-carry"},
    ("deepseek-v3", Use.TRAINING): {"links-carry-tokens", "tokens-leave-time", "small-groups-carry"},
    ("deepseek-v3", Use.INFERENCE): {"links-carry-prompts", "exchanges-in-time", "exchanges-prompt", "small-groups-carry"},
}


@pytest.mark.parametrize(("model", "use"), MODELS)
@pytest.mark.parametrize("name", ["a800", "h800"])
def test_machines_that_trained_such_models_have_the_links(name: str, model: str, use: Use) -> None:
    found = judged(name, model, use)
    assert found == dict.fromkeys(MODELS[model, use], Outcome.PASS)


@pytest.mark.parametrize(("model", "use"), MODELS)
def test_eight_chips_without_a_switch_fail_for_small_groups(model: str, use: Use) -> None:
    found = judged("910b", model, use)
    assert [id for id, outcome in found.items() if outcome is Outcome.FAIL] == ["small-groups-carry"]


@pytest.mark.parametrize(("model", "use"), [key for key, ids in MODELS.items() if len(ids) > 1])
def test_eight_chips_with_equally_weak_links_fail_for_all_groups(model: str, use: Use) -> None:
    found = judged("slots", model, use)
    assert {id for id, outcome in found.items() if outcome is Outcome.FAIL} == MODELS[model, use] - {"small-groups-carry"}


@pytest.mark.parametrize(("model", "use"), MODELS)
@pytest.mark.parametrize("left_out", ["peak_bus_gbps", "latency_us", "group_bus_share"])
def test_what_was_not_measured_of_links_is_unknown(model: str, use: Use, left_out: str) -> None:
    found = judged("h800", model, use, left_out=left_out)
    assert found.keys() == MODELS[model, use]
    assert set(found.values()) <= {Outcome.PASS, Outcome.UNKNOWN}
    assert (found["small-groups-carry"] is Outcome.UNKNOWN) == (left_out == "group_bus_share")


def test_two_chips_have_no_smaller_group() -> None:
    found = judge(demands("general"), CHIP, [measured("h800", left_out="group_bus_share")], uses=[Use.TRAINING], chips=2)
    assert next(item.outcome for item in found.findings if item.requirement == "small-groups-carry") is Outcome.NOT_APPLICABLE


@pytest.mark.parametrize(
    ("ratio", "outcome"), [(1.0, Outcome.PASS), (1.5, Outcome.PASS), (1.6, Outcome.FAIL), (2.0, Outcome.FAIL), (None, Outcome.UNKNOWN)]
)
def test_exchanges_that_take_turns_with_computing_are_reported(ratio: float | None, outcome: Outcome) -> None:
    items = [] if ratio is None else [Measurement("overlap_ratio", ratio, WHERE)]
    evidence = Evidence("multichip.bandwidth", Status.MEASURED, measurements=tuple(items))
    outcomes = {}
    for stack in ("cuda", "cpu", "sim"):
        found = judge(demands("general"), replace(CHIP, stack=stack), [evidence], uses=[Use.TRAINING], chips=8)
        outcomes[stack] = next(item.outcome for item in found.findings if item.requirement == "exchanges-hide")
    assert outcomes == {"cuda": outcome, "cpu": Outcome.NOT_APPLICABLE, "sim": Outcome.NOT_APPLICABLE}
