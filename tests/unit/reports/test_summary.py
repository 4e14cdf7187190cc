"""How a run ends on a screen: at most 15 lines, whatever was found, and never better than it is."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from readiness import rendering
from readiness.datamodel import Assessment, Joined, Level, Outcome, Use
from readiness.missing_evidence import SkipCause
from readiness.rendering.formats import render
from tests.support import build

ALL = [
    build.everything, build.hostile, build.one_use, build.interrupted, build.nothing, build.many, build.simulated,
    build.half_blind,
]  # fmt: skip
HINTS = {"saved": "~/runs/1/assessment.json", "more": "readiness report", "explain": "readiness explain REQUIREMENT"}


@pytest.mark.parametrize("made", ALL)
@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize("hints", [{}, HINTS])
def test_it_is_short_and_keeps_within_its_columns(made: Any, width: int, hints: dict[str, str]) -> None:
    lines = render("summary", made(), width=width, hints=hints).splitlines()
    assert 1 <= len(lines) <= 15
    assert all(rendering.width(line) <= width for line in lines)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", "".join(lines))


def of_chips(count: int, kinds: list[int]) -> Assessment:
    """So many accelerators, in turn of these kinds: 0 ready, 1 with blockers of their own, 2 unknown, 3 a limit."""
    items = []
    for number in range(count):
        kind = kinds[number % len(kinds)]
        failed = {
            0: (),
            1: tuple(build.failed(f"bad-{number}-{n}") for n in range(5)),
            2: (build.unknown(f"open-{number}", reason=f"cause {number}"),),
            3: (build.failed("slow", level=Level.SHOULD),),
        }[kind]
        findings = (*build.on(build.BOTH, build.finding, "well"), *failed)
        items.append(build.accelerator(findings, facts_=build.facts(f"npu:{number}")))
    return build.assessment(*items)


@given(st.integers(1, 24), st.lists(st.integers(0, 3), min_size=1, max_size=6), st.booleans(), st.sampled_from([60, 80, 100]))
def test_any_number_of_accelerators_fits_and_the_worst_is_shown(count: int, kinds: list[int], stopped: bool, width: int) -> None:
    made = replace(of_chips(count, kinds), interrupted=stopped)
    text = render("summary", made, width=width, hints=HINTS)
    assert len(text.splitlines()) <= 15
    worst = min(rendering.severity_key(verdict) for item in made.accelerators for verdict in item.verdicts.values())
    decision = {0: "NOT READY", 1: "UNDETERMINED", 2: "READY"}[worst[0]]
    assert decision in text
    assert ("INTERRUPTED" in text) is stopped
    if worst[0] == 0:
        assert re.search(r"^(not met  bad-\d+-0|wrong    matmul gives wrong results in bfloat16) *", text, re.MULTILINE)
        assert "blocker" in text
    if worst[0] == 1:
        assert re.search(r"^unknown  open-\d+", text, re.MULTILINE)


def test_what_is_left_out_is_counted() -> None:
    findings = tuple(build.failed(f"bad-{number}", check="family.topic") for number in range(5))
    text = render("summary", build.assessment(build.accelerator(findings)), width=80, hints=HINTS)
    assert "training   NOT READY  61..97  5 blockers" in text
    assert "and 3 blockers more" in text
    assert text.count("not met  ") == 2


def test_a_defect_that_explains_several_failures_stands_for_them() -> None:
    text = render("summary", of_chips(1, [1]), width=80, hints=HINTS)
    assert "training   NOT READY  61..97  5 blockers" in text
    assert "wrong    matmul gives wrong results in bfloat16. It explains 5 blockers and" in text
    assert "not met" not in text
    assert "explain  readiness explain bad-0-0\n" in text


def test_musts_that_failed_come_first_then_unknown_ones_then_limits() -> None:
    findings = (
        build.unknown("open", level=Level.SHOULD, reason="a"), build.failed("slow", level=Level.SHOULD, check="family.topic"),
        build.unknown("dark", reason="b"), build.failed("bad", check="family.topic"),
    )  # fmt: skip
    text = render("summary", build.assessment(build.accelerator(findings)), width=100)
    places = [text.index(word) for word in ("not met  bad", "unknown  dark", "limit    slow", "unknown  open")]
    assert places == sorted(places)


def test_unknown_ones_of_one_cause_are_one_entry() -> None:
    findings = tuple(build.unknown(f"open-{number}") for number in range(7))
    text = render("summary", build.assessment(build.accelerator(findings)), width=100)
    assert "unknown  open-0 and 6 more" in text
    assert " more\n" in text
    assert text.count("more") == 1
    left_out = tuple(build.unknown(f"open-{number}", check="x.y", reason="x.y: left out by -k") for number in range(7))
    evidence = (build.left_out("x.y", SkipCause.EXPRESSION),)
    text = render("summary", build.assessment(build.accelerator(left_out, evidence)), width=100)
    assert "unknown  7 requirements of 1 check (7 must): left out by -k:" in text
    assert "Run without -k." in text


def test_hints_are_whole_and_name_the_first_requirement() -> None:
    long = "~/" + "x" * 150
    text = render("summary", build.everything(), width=60, hints=HINTS | {"saved": long})
    assert f"saved    {long}\n" in text
    assert "explain  readiness explain matmul-bfloat16\n" in text
    ready = render("summary", build.assessment(build.accelerator(build.on(build.BOTH, build.finding, "x"))), hints=HINTS)
    assert "explain" not in ready
    assert "no blockers" in ready


def test_notes_come_before_verdicts() -> None:
    assert "\nINTERRUPTED  " in render("summary", build.interrupted())
    together = replace(build.one_use(), joined=(Joined("node2", "node2/cpu:0", "cpu"),))
    assert render("summary", together).startswith("general on node-17 with 1 accelerator of node2, 2026-11-23T10:00:00Z, ")
    assert "\ncuda  its accelerators could not be listed" in render("summary", build.half_blind())
    text = render("summary", build.simulated())
    assert "\nSIMULATED  sim:0 to sim:3, " in text
    for line in text.splitlines():
        if "READY" in line:
            assert "simulated" in line
    assert "imulated" not in render("summary", build.everything())


def test_no_evidence_is_reported_as_undetermined() -> None:
    assert "No accelerator was assessed" in render("summary", build.nothing())
    bare = replace(build.accelerator(()), verdicts={})
    assert "no verdict" in render("summary", build.assessment(bare))


def test_with_colour_only_our_own_sequences_are_there() -> None:
    coloured = render("summary", build.hostile(), colour=True, hints=HINTS)
    assert set(re.findall(r"\x1b[^m]*m?", coloured)) <= {f"\x1b[{style}m" for style in ("0", "1", "2", "1;31", "1;32", "1;33")}
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == render("summary", build.hostile(), hints=HINTS)


def test_every_verdict_of_one_accelerator_is_there() -> None:
    for made in (build.one_use(), build.interrupted()):
        (item,) = made.accelerators
        text = render("summary", made)
        for use in Use:
            assert (f"{use} " in text) is (use in item.verdicts)
        assert not any(finding.outcome is Outcome.FAIL and finding.level is Level.MUST for finding in item.findings)


def test_the_first_cause_and_the_note_are_read_to_their_end() -> None:
    """What is cut at the end of a line is often what decides: what to do, or that it is no measurement."""
    long = build.failed("bad", reason="the vendor says 'Warning'; Network port link status change (Up/Down), 4 of 4 chips, since 10:12, seen 17 times")
    device = build.facts("sim:0", properties={"simulated": True, "chip": {"name": "ascend-as-reported", "title": "Links that flap"}})
    made = build.assessment(build.accelerator((long,), facts_=device))
    for width in (60, 80, 100):
        text = render("summary", made, width=width)
        assert max(map(len, text.splitlines())) <= width
        words = " ".join(text.split())
        assert "since 10:12, seen 17 times" in words
        assert "a rehearsal, not a measurement of a product" in words
    several = tuple(build.failed(f"bad-{number}", reason=f"reason {number} {'which is long ' * 20}") for number in range(9))
    assert len(render("summary", build.assessment(build.accelerator(several)), width=80).splitlines()) <= 15
