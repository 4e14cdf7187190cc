"""The `-q` line: one line, at most 80 characters, whatever the assessment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from readiness.datamodel import Decision, Use, Verdict
from readiness.rendering.formats import render
from tests.support import build


def item(decisions: dict[Use, Verdict], id: str = "cuda:0") -> Any:
    """An accelerator with these verdicts and nothing else."""
    return replace(build.accelerator(()), verdicts=decisions, facts=replace(build.facts(), id=id))


#: Verdicts of a use or of both, with any score and ceiling.
_VERDICTS = st.dictionaries(
    st.sampled_from(Use), st.builds(Verdict, st.sampled_from(Decision), st.floats(0, 100), st.floats(0, 100))
)


@given(
    st.lists(
        st.tuples(
            _VERDICTS,
            st.text(max_size=300),
        ),
        max_size=4,
    ),
    st.text(max_size=300),
    st.booleans(),
    st.integers(1, 3000),
)
def test_it_is_one_line_of_at_most_80_characters(made: Any, name: str, interrupted: bool, times: int) -> None:
    items = [item(verdicts, name_of_it) for verdicts, name_of_it in made]
    text = render("line", build.assessment(*(items * times)[:3000], profile_name=name, interrupted=interrupted))
    assert text.endswith("\n")
    assert len(text.splitlines()) == 1
    assert 1 <= len(text.rstrip("\n")) <= 80
    assert text.rstrip("\n").isprintable()


@given(
    st.lists(
        st.tuples(
            _VERDICTS,
            st.text(max_size=100),
            st.booleans(),
        ),
        min_size=1,
        max_size=4,
    ),
    st.booleans(),
    st.integers(1, 3000),
)
def test_a_simulated_chip_is_never_taken_for_a_product(made: Any, interrupted: bool, times: int) -> None:
    items = [
        replace(found, facts=replace(found.facts, properties=build.SIMULATED if is_simulated else {}))
        for verdicts, id, is_simulated in made
        for found in [item(verdicts, id)]
    ]
    text = render("line", build.assessment(*(items * times)[:3000], interrupted=interrupted)).rstrip("\n")
    assert len(text) <= 80
    assert ("simulated" in text) == any(is_simulated for _, _, is_simulated in made[: 3000])


def verdict(decision: Decision, score: float, ceiling: float) -> Verdict:
    """A bare verdict."""
    return Verdict(decision, score, ceiling)


READY = verdict(Decision.READY, 96.4, 99.9)
NOT_READY = verdict(Decision.NOT_READY, 61.9, 97.0)
UNDETERMINED = verdict(Decision.UNDETERMINED, 10.0, 100.0)


def test_the_worse_use_comes_first_and_scores_are_rounded_down() -> None:
    text = render("line", build.assessment(item({Use.TRAINING: READY, Use.INFERENCE: NOT_READY})))
    assert text.startswith("inference NOT READY 61..97, training READY 96..99; cuda:0")
    text = render("line", build.assessment(item({Use.TRAINING: READY, Use.INFERENCE: UNDETERMINED})))
    assert text.startswith("inference UNDETERMINED 10..100, training READY")


def test_the_worst_accelerator_speaks_for_all() -> None:
    items = [item({Use.TRAINING: READY}, f"cuda:{number}") for number in range(7)]
    bad = item({Use.TRAINING: NOT_READY}, "cuda:7")
    text = render("line", build.assessment(*items[:3], bad, *items[3:]))
    assert text == "training NOT READY 61..97; 8 accelerators, worst cuda:7; general\n"


def test_the_number_of_accelerators_stays_when_space_is_short() -> None:
    items = [item({Use.TRAINING: UNDETERMINED, Use.INFERENCE: UNDETERMINED}, f"a-very-long-name:{n}") for n in range(16)]
    text = render("line", build.assessment(*items, interrupted=True))
    assert "16" in text
    assert text.startswith("INTERRUPTED ")


@pytest.mark.parametrize("made", [build.nothing, build.interrupted])
def test_nothing_known_is_undetermined(made: Any) -> None:
    assert "UNDETERMINED" in render("line", made())


def test_accelerators_without_a_verdict_are_undetermined() -> None:
    assert render("line", build.assessment(item({}))).startswith("UNDETERMINED: no verdict")


def test_a_stack_that_does_not_answer_is_named() -> None:
    assert render("line", build.half_blind()) == "inference READY 91..91; cuda could not be read; cpu:0\n"


def test_colour_surrounds_the_line() -> None:
    plain, coloured = render("line", build.everything()), render("line", build.everything(), colour=True)
    assert coloured == f"\x1b[31m{plain.rstrip()}\x1b[0m\n"


def test_hostile_names_do_not_reach_the_terminal() -> None:
    text = render("line", replace(build.hostile(), profile_name=build.HOSTILE))
    assert "\x1b" not in text
    assert "\x00" not in text


def test_a_simulated_chip_is_marked_behind_its_name() -> None:
    assert render("line", build.simulated(count=1)).startswith("sim:0 (simulated) training NOT READY 58..97, inference")
    text = render("line", build.simulated())
    assert text == "sim:0 of 4 (simulated) training NOT READY 58..97, inference NOT READY 58..97\n"
    mixed = replace(build.simulated(), accelerators=(*build.one_use().accelerators, *build.simulated().accelerators))
    assert render("line", mixed).startswith("sim:0 of 5 (simulated) training NOT READY 58..97")


@pytest.mark.parametrize("stack", ["ascend", "xla"])
@pytest.mark.parametrize("chips", [1, 8, 512])
@pytest.mark.parametrize("simulated", [False, True])
def test_a_stack_that_could_not_be_read_is_never_left_out(stack: str, chips: int, simulated: bool) -> None:
    verdicts = {use: Verdict(Decision.NOT_READY, 48.2, 98.9, waived=("one",)) for use in Use}
    items = [item(verdicts, f"cuda:{number}") for number in range(chips)]
    if simulated:
        items = [replace(one, facts=replace(one.facts, properties=build.SIMULATED)) for one in items]
    host = {"name": "node-17", "failed_stacks": {stack: "RuntimeError: driver too old"}}
    text = render("line", replace(build.assessment(*items), host=host))
    assert len(text) <= 81
    assert "read" in text
    assert text.count("NOT READY") == 2
