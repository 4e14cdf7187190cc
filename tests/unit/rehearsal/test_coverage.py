"""What is planted: every kind of defect, every condition that has made a real one slip through, each claimed by a check."""

from __future__ import annotations

from dataclasses import fields
from functools import cache

import pytest

from readiness.datamodel import Profile
from readiness.profile import loader
from readiness.rehearsal.plan import Request, claims, expectations, plan_rehearsal
from readiness.rehearsal.seeded_faults import SeededFault, selection
from readiness.simulator.faults import kinds
from readiness.simulator.machine_file import Condition
from tests.support import checks
from tests.support.rehearsal import host

FAULTS = selection().faults
#: Conditions that no planted chip has: others stand for them (sizes, graphs), and the tests of the simulator try each.
UNPLANTED = {
    "compiled", "dimension", "empty", "multiple_of", "ndim", "numel_under", "remainder", "replayed", "rows_over", "temperature",
}  # fmt: skip
#: Their kinds are claimed by checks of the profiles of language models alone.
OF_LANGUAGE_MODELS = {"wrong-compiled"}


@cache
def profile(name: str) -> Profile:
    return loader.load(name, checks())


def test_every_kind_is_planted() -> None:
    assert {fault.kind.name for fault in FAULTS} == set(kinds())


def test_every_condition_is_planted_or_stands_in_the_list() -> None:
    plain = Condition()
    names = {field.name for field in fields(Condition)}
    planted = {name for fault in FAULTS for name in names if getattr(fault.defect.when, name) != getattr(plain, name)}
    assert names - planted == UNPLANTED


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault.name))
def test_a_planted_defect_is_claimed_by_a_check_that_the_profile_asks_for(fault: SeededFault) -> None:
    asking = profile("qwen3-dense" if fault.name in OF_LANGUAGE_MODELS else "general")
    asked = {item.check for item in asking.requirements}
    assert [id for id, check in checks().items() if id in asked and claims(check, fault, asking)]
    assert set(expectations(fault, asking)) == set(fault.defect.expected)


@pytest.mark.parametrize("name", sorted(OF_LANGUAGE_MODELS))
def test_what_language_models_alone_ask_for_is_not_asked_by_general(name: str) -> None:
    for asking, asked in (("general", False), ("qwen3-dense", True)):
        request = Request(profile(asking), checks(), selection([name]), profile(asking).uses, seed=7, seeds=())
        (trial,) = plan_rehearsal(request, host()).trials
        assert (bool(trial.claimed_by), bool(trial.not_required)) == (asked, not asked)
