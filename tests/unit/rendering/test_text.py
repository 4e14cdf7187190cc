"""Texts made harmless, lines kept within their columns, figures that do not lie."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from readiness import rendering
from readiness.datamodel import PLANTED_ACTED, AcceleratorAssessment, Decision, Evidence, Level, Outcome, Use, Verdict
from reports import table
from tests.support import build

TRICKY = st.sampled_from("\x1b\x9b[]0;m\x07\\Pa \n昇\u0301\u202e:#")
ANY_TEXT = st.text(st.characters(), max_size=200) | st.text(TRICKY, max_size=60)


@given(ANY_TEXT, st.integers(3, 100))
def test_clean_text_is_one_harmless_line(text: str, longest: int) -> None:
    cleaned = rendering.clean(text, longest)
    assert len(cleaned) <= longest
    assert cleaned == " ".join(cleaned.split())
    assert not any(unicodedata.category(character).startswith("C") for character in cleaned)
    assert rendering.clean(cleaned, longest) == cleaned


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;new title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jgone", "gone"),
        ("\x1bPq#0\x1b\\x", "x"),
        ("a\r\nb\tc", "a b c"),
        ("a\x00b", "ab"),
        ("abc\u202edef", "abcdef"),
        ("half\ud800", "half"),
        ("::error::x", ": :error::x"),
        ("a\n  ::error::x ##vso[y] z::w", "a : :error::x ##vso [y] z::w"),
        ("Grün 昇腾", "Grün 昇腾"),
        (None, "None"),
    ],
)
def test_what_terminals_obey_goes(text: object, expected: str) -> None:
    assert rendering.clean(text) == expected


@given(ANY_TEXT)
def test_a_whole_text_keeps_its_lines_and_nothing_that_acts(text: str) -> None:
    seen = rendering.visible(text)
    assert seen.count("\n") == text.count("\n")
    assert not any(unicodedata.category(character).startswith("C") for character in seen.replace("\n", ""))
    assert rendering.visible(seen) == seen
    assert rendering.visible("  a  b\tc\n\n    d\x1b[2J \n") == "  a  b c\n\n    d\n"


def test_a_message_keeps_its_indentation() -> None:
    assert rendering.message("a\x1b[2J  b\n  remedy: \u202ec\n") == "a b\n  remedy: c"


def test_long_texts_are_cut_before_they_are_searched() -> None:
    assert len(rendering.clean("x" * 50_000_000, 100)) == 100


@given(ANY_TEXT, st.integers(20, 60), st.integers(0, 8))
def test_wrapped_lines_fit_and_lose_nothing(text: str, columns: int, indent: int) -> None:
    cleaned = rendering.clean(text)
    lines = rendering.wrap(cleaned, columns, first=" " * indent)
    assert all(rendering.width(line) <= columns for line in lines)
    assert "".join("".join(lines).split()) == "".join(cleaned.split())


@pytest.mark.parametrize(
    ("value", "unit", "beside", "expected"),
    [
        (0.031, "1", "", "0.031"),
        (123456.789, "GB/s", "", "1.235e+05 GB/s"),
        (0.999996, None, "at_least 1", "0.999996"),
        (0.9999999999, None, "at_least 1", "0.9999999999"),
        (float("nan"), "s", "", "NaN s"),
        (float("-inf"), None, "", "-infinity"),
        (True, None, "", "true"),
        (0, "1", "", "0"),
        (10**30, None, "", "1e+30"),
        (10**400, None, "", "2^1328"),
        (None, None, "", "nothing"),
    ],
)
def test_figures(value: float | bool | None, unit: str | None, beside: str, expected: str) -> None:
    assert rendering.figure(value, unit, beside=beside) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "0.0 s"), (41.84, "41.8 s"), (99.96, "1 min 40 s"), (200, "3 min 20 s"), (3599.7, "1 h 00 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_durations(seconds: float, expected: str) -> None:
    assert rendering.duration(seconds) == expected


def test_nothing_is_rounded_up_to_complete() -> None:
    assert rendering.score_range(Verdict(Decision.READY, 99.9, 99.9)) == "99..99"
    assert rendering.score_range(Verdict(Decision.READY, 61.9, 97), Verdict(Decision.READY, 58.2, 96)) == "58..96 to 61..97"


@pytest.mark.parametrize(
    ("vendor", "model", "expected"),
    [
        ("GenuineIntel", "Intel(R) Xeon(R) 6", "Intel(R) Xeon(R) 6"),
        ("AuthenticAMD", "AMD EPYC 9654", "AMD EPYC 9654"),
        ("NVIDIA", "NVIDIA H20", "NVIDIA H20"),
        ("Huawei", "910B2", "Huawei 910B2"),
        ("Acme", "A1", "Acme A1"),
        (None, "A1", "A1"),
        ("Acme", None, "Acme"),
        (None, None, "unknown model"),
    ],
)
def test_a_device_is_not_named_twice(vendor: str | None, model: str | None, expected: str) -> None:
    item = build.accelerator((), facts_=build.facts(vendor=vendor, model=model, memory_bytes=None))
    assert rendering.device(item) == expected


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["cpu:0"], "cpu:0"),
        (["sim:0", "sim:1", "sim:3"], "sim:0, sim:1, sim:3"),
        (["sim:0", "sim:1", "sim:2"], "sim:0, sim:1, sim:2"),
        ([f"npu:{number}" for number in (*range(7), 9)], "npu:0 to npu:6, npu:9"),
        (["a:1", "b:2", "b:1"], "a:1, b:2, b:1"),
        ([":", "odd", "x:9999999999999", "x:\u0663", "\x1b[2Jnpu:0"], ":, odd, x:9999999999999, x:\u0663, npu:0"),
        ([], ""),
    ],
)
def test_names_of_many_are_short(ids: list[str], expected: str) -> None:
    assert rendering.names(ids) == expected


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({}, None),
        ({"simulated": False, "chip": {"name": "x"}}, None),
        (
            build.SIMULATED,
            "simulated chip ascend-as-reported: a rehearsal of reported trouble, not a measurement of a product",
        ),
        ({"simulated": True, "chip": {"name": "mine"}}, "simulated chip mine: a rehearsal, not a measurement of a product"),
        ({"simulated": True, "chip": "mine\x1b[2J"}, "simulated chip mine: a rehearsal, not a measurement of a product"),
        ({"simulated": True}, "simulated chip without a name: a rehearsal, not a measurement of a product"),
    ],
)
def test_a_simulated_chip_is_no_product(properties: dict[str, object], expected: str | None) -> None:
    assert rendering.simulated(build.facts("sim:0", properties=properties)) == expected


def test_a_finding_in_words_has_its_figure_its_place_and_what_it_is_about() -> None:
    about = "softmax in bfloat16, strided input: 3 of 1200 calls differed\x1b[2J\n"
    text = rendering.measured(build.failed("x", reason=about))
    assert text == (
        "relative_error is 0.031, bound at most 0.01 (dtype=bfloat16); "
        "softmax in bfloat16, strided input: 3 of 1200 calls differed"
    )
    assert len(rendering.reason(build.failed("x", reason="word " * 500))) <= 600


def groups(*makes: object, **changes: object) -> list[rendering.DeviceGroup]:
    """Accelerators cuda:0, cuda:1, ... with these findings each."""
    items = [
        build.accelerator(findings, facts_=build.facts(f"cuda:{number}"))  # type: ignore[arg-type]
        for number, findings in enumerate(makes)
    ]
    return rendering.group_devices(build.assessment(*items))


def test_accelerators_with_identical_findings_are_one_group() -> None:
    good, bad = (build.finding("x"), build.finding("y")), (build.failed("x"), build.finding("y"))
    found = groups(good, good, bad, good)
    assert [group.title() for group in found] == ["cuda:0, cuda:1, cuda:3 (3 identical)", "cuda:2"]
    assert found[1].entries[rendering.Kind.BLOCKER][0].only == "cuda:2"
    assert [group.names() for group in groups(bad, bad)] == ["cuda:0, cuda:1"]
    assert groups(bad, bad)[0].entries[rendering.Kind.BLOCKER][0].only == ""


@pytest.mark.parametrize(
    "other",
    [
        build.failed("x", level=Level.SHOULD), build.failed("x", Use.INFERENCE), build.unknown("x"), build.failed("y"),
        build.failed("x", waived=build.waiver("x")), build.failed("x", remedy=None), build.failed("x", limit="at_most 1"),
        build.failed("x", value=None), build.finding("x", outcome=Outcome.NOT_APPLICABLE),
    ],
)  # fmt: skip
def test_findings_that_differ_beyond_figures_are_not_merged(other: object) -> None:
    assert len(groups((build.failed("x"),), (other,))) == 2


def test_another_model_software_or_simulation_is_another_group() -> None:
    devices = [
        build.facts("a:0"), build.facts("a:1", model="A2"), build.facts("a:2", software={}),
        build.facts("a:3", properties=build.SIMULATED), build.facts("a:4"),
    ]  # fmt: skip
    found = rendering.group_devices(build.assessment(*(build.accelerator((), facts_=device) for device in devices)))
    assert [group.title() for group in found] == ["a:0, a:4 (2 identical)", "a:1", "a:2", "a:3 (simulated)"]


def test_figures_that_differ_are_a_range_that_names_its_ends() -> None:
    (group,) = groups(*((build.failed("x", value=value, unit="GB/s"),) for value in (0.5, 0.25, 0.75)))
    (statement,) = group.entries[rendering.Kind.BLOCKER][0].statements
    assert statement.lines == [
        "relative_error is 0.25 (cuda:1) to 0.75 GB/s (cuda:2), bound at most 0.01 GB/s (dtype=bfloat16)"
    ]
    assert statement.applies_to == ""


def test_differing_reasons_are_reported_with_their_devices() -> None:
    nan, wrong = build.failed("x", value=float("nan"), reason="mm"), build.failed("x", reason="softmax")
    (group,) = groups((nan,), (wrong,), (nan,))
    first, second = group.entries[rendering.Kind.BLOCKER][0].statements
    assert (first.applies_to, first.reason, first.value) == ("cuda:0, cuda:2", "mm", "NaN")
    assert (second.applies_to, second.reason, second.value) == ("cuda:1", "softmax", "0.031")


def test_their_own_names_in_front_of_words_make_no_difference() -> None:
    """Checks of operators begin what they say with the accelerator's id."""
    found = [build.failed("x", reason=f"cuda:{number}: sort in bfloat16 is missing") for number in range(3)]
    (group,) = groups(*((one,) for one in found))
    (shared,) = group.entries[rendering.Kind.BLOCKER]
    (statement,) = shared.statements
    assert statement.applies_to == ""
    assert statement.reason == "sort in bfloat16 is missing"


def test_joint_measurements_are_marked() -> None:
    (first, second) = rendering.group_devices(build.simulated())
    collectives, = (entry for entry in first.entries[rendering.Kind.BLOCKER] if entry.finding.requirement == "collectives-correct")
    assert collectives.together == "sim:0 to sim:3"
    assert collectives.only == ""
    assert {entry.together for entry in second.entries[rendering.Kind.BLOCKER]} == {"", "sim:0 to sim:3"}


def test_the_time_of_several_is_the_longest_and_mishaps_are_distinguished() -> None:
    (first, _) = rendering.group_devices(build.simulated())
    assert [(time.check, time.seconds, time.applies_to) for time in first.times] == [
        ("multichip.collectives", 33.0, ""), ("operators.sweep", 13.0, ""),
    ]  # fmt: skip
    assert first.seconds == 46.0


def test_a_rehearsal_in_words() -> None:
    assert rendering.detection_texts(build.everything()) == {}
    assert rendering.detection_texts(build.simulated()) == {
        "rehearsed": "under general on simulated chips, 3 min 30 s, 3 seeds",
        "caught": "2 of 3 kinds of defect, 2 of 4 planted defects",
        "missed": (
            "although claimed: link-flap (by multichip.collectives); "
            "claimed by no check: addmm-of-a-large-matrix (wrong-result)"
        ),
        "false alarms": (
            "1 over 3 healthy runs: parity.matmul for matmul-float32: mm in float32, transposed (seed 3)"
        ),
    }


def test_a_rehearsal_without_trouble_and_an_empty_one() -> None:
    one = build.REHEARSAL["defects"][0]
    clean = build.REHEARSAL | {"defects": [one], "false_alarms": [], "healthy_runs": 1, "seeds": [1]}
    texts = rendering.detection_texts(build.assessment(rehearsal=clean))
    assert texts["caught"] == "1 of 1 kind of defect"
    assert texts["missed"] == "none"
    assert texts["false alarms"] == "none over 1 healthy run"
    texts = rendering.detection_texts(build.assessment(rehearsal=clean | {"defects": [], "healthy_runs": 0}))
    assert texts["caught"] == "nothing: no defect was planted"
    assert texts["false alarms"] == "unknown: no healthy chip was run"


def test_a_report_says_how_often_each_planted_defect_acted() -> None:
    def on(id: str, *evidence: Evidence) -> AcceleratorAssessment:
        return build.accelerator((build.finding("x"),), evidence, facts_=build.facts(id, properties=build.SIMULATED))

    def acted(check: str, counts: dict[str, object], ids: tuple[str, ...] = ()) -> Evidence:
        return build.evidence(check, environment={PLANTED_ACTED: counts}, accelerators=ids)

    both = acted("multichip.collectives", {"1 missing": 1000, "2 nan": 0}, ("sim:0", "sim:1"))
    one = acted("operators.sweep", {"1 missing": 4, "2 nan": 0})
    plain = build.evidence("parity.matmul")
    assessment = build.assessment(on("sim:0", one, both, plain), on("sim:1", both), build.accelerator((build.finding("x"),)))
    assert list(rendering.planted_defects(assessment).values()) == ["1 missing acted 1,004 times, 2 nan never"]
    assert "planted  1 missing acted 1,004 times, 2 nan never\n" in table.render(assessment)
    assert "planted  " not in table.render(build.assessment(on("sim:0", plain)))
    assert "planted  " not in table.render(build.assessment(on("sim:0", acted("x.y", {}))))


def test_a_word_that_is_too_long_breaks_between_its_parts() -> None:
    assert rendering.wrap("load-right-at-first-backward-bfloat16", 34) == ["load-right-at-first-backward-", "bfloat16"]
    assert rendering.wrap("a/path/of/very/many/parts.json", 12) == ["a/path/of/", "very/many/", "parts.json"]
    assert rendering.wrap("x" * 25, 10) == ["x" * 10, "x" * 10, "x" * 5]
    assert rendering.wrap("-" * 25, 10)[0] == "-" * 9
