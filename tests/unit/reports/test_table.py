"""The terminal table says all there is to say, in the order of urgency, within its columns, and nothing a terminal obeys."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from readiness import rendering
from readiness.datamodel import Assessment, Evidence, Level, Outcome, Status, Use
from readiness.missing_evidence import SkipCause
from readiness.rendering import Kind
from readiness.rendering.formats import render
from tests.support import build

ALL = [build.everything, build.hostile, build.one_use, build.interrupted, build.nothing, build.many, build.simulated]


def flat(text: str) -> str:
    """The text without its line breaks and indentation."""
    return " ".join(text.split())


def section(text: str, title: str) -> str:
    """What stands under a heading, up to the next empty line."""
    return text.partition(f"\n{title}\n")[2].partition("\n\n")[0]


@pytest.mark.parametrize("made", ALL)
@pytest.mark.parametrize("width", [60, 80, 100])
def test_it_keeps_within_its_columns(made: Any, width: int) -> None:
    for line in render("table", made(), width=width).splitlines():
        assert rendering.width(line) <= width, line


@pytest.mark.parametrize("made", ALL)
def test_without_colour_nothing_acts_on_a_terminal(made: Any) -> None:
    text = render("table", made())
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", text)


def test_with_colour_only_our_own_sequences_are_there() -> None:
    coloured = render("table", build.hostile(), colour=True)
    styles = {f"\x1b[{style}m" for style in ("0", "1", "2", "1;31", "1;32", "1;33")}
    assert set(re.findall(r"\x1b[^m]*m?", coloured)) <= styles
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == render("table", build.hostile())


def test_the_sections_come_in_the_order_of_urgency() -> None:
    text = render("table", build.everything())
    titles = [
        "accelerator    training", "cuda:0  Acme A1 Ultra, 96 GiB",
        "training   NOT READY  61..97", "inference  NOT READY  61..97",
        "BLOCKERS", "LIMITS", "NOT MEASURED", "WAIVED", "FOR INFORMATION", "NOT APPLICABLE HERE",
        "TIME OF EACH CHECK", "cuda:1  Acme A1 Ultra, 96 GiB", "no blockers",
    ]  # fmt: skip
    places = [text.index(f"\n{title}") if title.isupper() else text.index(title) for title in titles]
    assert places == sorted(places)


def test_every_finding_that_is_no_pass_is_shown_with_its_remedy() -> None:
    assessment = build.everything()
    text = flat(render("table", assessment))
    for item in assessment.accelerators:
        for finding in item.findings:
            if finding.outcome is Outcome.PASS:
                continue
            assert finding.requirement in text
            if finding.remedy is not None:
                assert f"do: {finding.remedy.text}" in text
            if finding.reason is not None and finding.outcome is not Outcome.NOT_APPLICABLE:
                assert finding.reason in text


def test_a_blocker_has_value_limit_device_and_remedy() -> None:
    entry = section(render("table", build.everything()), "BLOCKERS")
    assert entry.count("matmul-bfloat16  (cuda:0 only; training, inference; parity.matmul)") == 1  # common to both uses: once
    assert "relative_error is 0.031, bound at most 0.01 (dtype=bfloat16)" in entry
    assert "backward_coverage is 0.99999, bound at least 1" in entry  # not rounded to what it fails
    assert "do:  Update the compiler that matmul-bfloat16 depends on." in entry
    assert entry.index("backward-coverage") < entry.index("matmul-bfloat16") < entry.index("attention")  # by weight


def test_blockers_that_differ_between_the_uses_are_distinguished() -> None:
    item = build.accelerator((build.failed("x", value=0.5), build.failed("x", Use.INFERENCE, value=0.7)))
    entry = section(render("table", build.assessment(item)), "BLOCKERS")
    assert "x  (training; parity.matmul)" in entry
    assert "x  (inference; parity.matmul)" in entry
    assert "is 0.5," in entry
    assert "is 0.7," in entry


def test_a_nan_common_to_both_uses_is_shown_once() -> None:
    item = build.accelerator(build.on(build.BOTH, build.failed, "x", value=float("nan")))
    assert section(render("table", build.assessment(item)), "BLOCKERS").count("NaN") == 1


def test_unknown_ones_of_one_cause_stand_together_and_musts_first() -> None:
    entry = section(render("table", build.everything()), "NOT MEASURED")
    assert "all-gather, all-reduce, reduce-scatter (must; training)" in entry
    assert entry.count("it needs two accelerators and there is one") == 1
    assert entry.index("(must;") < entry.index("fault-counters (should; training, inference)")


def test_checks_omitted_by_request_are_summarised() -> None:
    chosen = [
        *(finding for n in range(40) for finding in build.on(build.BOTH, build.unknown, f"must-{n}", check="a.one", reason="a.one: left out by -k")),
        build.unknown("late", check="b.two", level=Level.SHOULD, reason="b.two: left out by --within: it takes about 40 s"),
        build.unknown("dark", check="c.three", reason="c.three: the driver is gone"),
    ]
    evidence = (build.left_out("a.one", SkipCause.EXPRESSION), build.left_out("b.two", SkipCause.WITHIN))
    item = build.accelerator(tuple(chosen), evidence)
    text = render("table", build.assessment(item))
    entry = flat(section(text, "NOT MEASURED"))
    assert "40 requirements of 1 check (40 must): left out by -k do: Run without -k." in entry
    assert "1 requirement of 1 check (1 should): left out by --within do: Run without --within." in entry
    assert "dark (must; training) c.three: the driver is gone" in entry
    assert "must-7" not in entry
    markdown = render("markdown", build.assessment(item))
    assert "- 40 requirements of 1 check (40 must): left out by -k on `cuda:0`" in markdown


def test_checks_that_were_left_out_took_no_time_worth_a_line_each() -> None:
    away = [build.left_out(f"a.{n}", SkipCause.EXPRESSION) for n in range(9)]
    item = replace(build.accelerator(()), evidence=(build.evidence("a.done"), *away))
    entry = section(render("table", build.assessment(item)), "TIME OF EACH CHECK")
    assert re.search(r"9 more +0.0 s +skipped +left out by an option", entry)
    assert "a.done" in entry
    assert "a.7" not in entry


def test_waivers_name_who_until_and_why_and_expired_ones_count() -> None:
    text = render("table", build.everything())
    assert "waived by Ada Lovelace until 2027-01-31: The model does not use it." in section(text, "WAIVED")
    assert "waiver expired on 2026-01-31; given by Ada Lovelace" in section(text, "LIMITS")
    assert "float64" not in section(text, "BLOCKERS")


def test_times_are_listed_slowest_first_with_sum_and_failures() -> None:
    entry = section(render("table", build.everything()), "TIME OF EACH CHECK")
    lines = entry.splitlines()
    assert lines[0].split()[0] == "parity.attention"
    assert lines[-1].split() == ["total", "4", "min", "29", "s"]
    for check, status in (
        ("parity.attention", "timeout"), ("driver.memory", "crashed"),
        ("parity.softmax", "error"), ("driver.counters", "skipped"),
    ):  # fmt: skip
        assert re.search(rf"{check} .*{status}", entry)
    assert "(2 tries)" in entry
    assert "8 more" in entry


def test_an_interrupted_run_is_marked_first() -> None:
    assert render("table", build.interrupted()).startswith("INTERRUPTED")
    assert "INTERRUPTED" not in render("table", build.everything())


def test_a_stack_that_does_not_answer_is_named_first() -> None:
    text = render("table", build.half_blind())
    assert text.startswith("cuda  its accelerators could not be listed and are not assessed: RuntimeError: driver too old")


def test_no_accelerator_is_no_pass() -> None:
    assert "No accelerator was assessed" in render("table", build.nothing())


def test_one_use_only() -> None:
    text = render("table", build.one_use())
    assert "inference  READY  91..91  1 limit" in text
    assert "training" not in text.partition("cpu:0")[2]
    required_for_both = render("table", replace(build.one_use(), uses=build.BOTH))
    assert "training: no verdict; this profile does not cover it" in required_for_both


def test_many_accelerators_are_summed_up_first() -> None:
    lines = render("table", build.many(8)).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("accelerator "))
    table = lines[start + 1 : start + 9]
    assert [line.split()[0] for line in table] == [f"npu:{number}" for number in range(8)]
    assert "NOT READY" in table[7]
    assert "accelerator " not in render("table", build.one_use())


def test_the_smallest_valid_document_is_rendered() -> None:
    finding = build.failed("x", check="", measure="", labels={}, why="", remedy=None)
    device = build.facts(vendor=None, model=None, memory_bytes=None, software={})
    text = render("table", build.assessment(build.accelerator((finding,), (), (Use.TRAINING,), device), host={}))
    assert "cuda:0  unknown model" in text
    assert "x  (training)" in text
    assert "value is 0.031, bound at most 0.01" in text


def test_wide_characters_and_long_words_are_counted_in_columns() -> None:
    device = build.facts(model="昇腾" * 60, vendor="寒武纪")
    finding = build.failed("x", reason="水" * 300)
    assessment: Assessment = build.assessment(build.accelerator((finding,), facts_=device))
    text = render("table", assessment, width=80)
    assert max(map(rendering.width, text.splitlines())) <= 80
    assert text.count("水") == 300
    assert set(rendering.group_by_kind(assessment.accelerators[0])) == set(Kind)


def test_identical_accelerators_are_one_section_and_the_odd_one_is_named() -> None:
    text = render("table", build.simulated())
    assert text.count("BLOCKERS") == 2
    assert "sim:0, sim:1, sim:3 (3 identical, simulated)  Simulated Ascend as reported, 4 GiB" in text
    assert "training   NOT READY (simulated)  58..97 to 61..97  1 blocker" in text
    assert "softmax-bfloat16  (sim:2 only; training, inference; operators.sweep)" in text
    assert "collectives-correct  (training, inference; multichip.collectives on sim:0 to sim:3 together)" in text
    assert "bandwidth_gbps is 11.5 (sim:0) to 11.8 GB/s (sim:3), bound at least 20 GB/s" in text


def test_a_blocker_names_its_subject_in_words() -> None:
    words = "softmax in bfloat16, strided input: 3 of 1200 calls differed, first after 31 s"
    for width in (60, 80, 120):
        assert words in flat(render("table", build.simulated(), width=width))
    hostile = build.failed("x", reason="mm\x1b[2J in\nbfloat16 " + "y" * 3000)
    text = render("table", build.assessment(build.accelerator((hostile,))))
    assert "mm in bfloat16 yyy" in flat(text)
    assert "\x1b" not in text
    assert text.count("y" * 50) < 20


def test_a_simulated_chip_is_marked_first_and_beside_each_verdict() -> None:
    text = render("table", build.simulated())
    assert flat(text).startswith(
        "SIMULATED sim:0 to sim:3, simulated chip ascend-as-reported: a rehearsal of reported trouble, not a measurement"
    )
    for line in text.splitlines():
        if "READY" in line:
            assert "(simulated)" in line
    assert "imulated" not in render("table", build.everything())


def test_the_rehearsal_is_the_last_section() -> None:
    entry = section(render("table", build.simulated()), "SELF-TEST: PLANTED DEFECTS THAT THE CHECKS DETECTED")
    assert "  caught        2 of 3 kinds of defect, 2 of 4 planted defects" in entry
    assert "although claimed: link-flap (by multichip.collectives)" in entry
    assert "1 over 3 healthy runs: parity.matmul" in entry
    assert "SELF-TEST" not in render("table", build.everything())


def test_the_time_of_a_check_is_that_of_all_its_tries() -> None:
    tried = Evidence("a.topic", Status.MEASURED, seconds=20.0, attempts=2, earlier_tries_s=60.0)
    item = build.accelerator((), evidence_=(tried, Evidence("b.topic", Status.MEASURED, seconds=30.0)))
    entry = section(render("table", build.assessment(item)), "TIME OF EACH CHECK")
    assert [" ".join(line.split()) for line in entry.splitlines()] == [
        "a.topic 80.0 s measured (2 tries)", "b.topic 30.0 s measured", "total 1 min 50 s",
    ]  # fmt: skip


def test_of_many_unlike_accelerators_the_worst_are_told_in_full() -> None:
    items = [
        build.accelerator((build.failed("norms", reason=f"rank {number} is off"),) if number in (3, 17) else (),
                          facts_=build.facts(f"npu:{number}", model=f"M{number}"))
        for number in range(20)
    ]
    folded, whole = (render("table", build.assessment(*items), verbose=verbose) for verbose in (False, True))
    assert folded.count("BLOCKERS") == whole.count("BLOCKERS") == 2
    assert "and 10 further accelerators, none worse than these; -v shows them" in folded
    assert "further accelerators" not in whole
    assert all(f"npu:{number} " in folded for number in range(20))  # in the list of verdicts
