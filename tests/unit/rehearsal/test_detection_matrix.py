"""What a rehearsal showed, from made-up evidence: caught, missed, could not tell, blamed without cause. No process is started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from readiness.check_registry import Check, Scope
from readiness.datamodel import Evidence, Level, Status
from readiness.errors import Exit
from readiness.missing_evidence import KillCause, SkipCause
from readiness.rehearsal.detection_matrix import DefectResult, Detection, DetectionMatrix, build_matrix
from readiness.rehearsal.plan import HOST, Request, Task, only_claimed, plan_rehearsal
from readiness.rehearsal.seeded_faults import Selection, selection
from tests.support.rehearsal import chip_file, evidence_of, host, made_check, made_profile, made_request

Say = Callable[[Task], Evidence | None]


def judged(request: Request, say: Say) -> DetectionMatrix:
    """The matrix, where `say` is the evidence of each task."""
    written = plan_rehearsal(request, host())
    found = {task.key: evidence for task in written.tasks() if (evidence := say(task)) is not None}
    return build_matrix(written, found, request.profile, request.uses)


@pytest.fixture
def one(tmp_path: Path) -> Selection:
    """One machine with one defect, and the healthy one."""
    return selection([str(chip_file(tmp_path / "one.toml", 'kind = "nan"'))])


def the(result: DetectionMatrix) -> DefectResult:
    (line,) = result.defects
    return line


def seeing(task: Task) -> Evidence:
    return evidence_of(task.job.check.id, -1.0 if task.fault_kind else 1.0, seconds=2.0, about="op x in bfloat16")


def test_caught(one: Selection) -> None:
    result = judged(made_request([made_check("a.sees", "nan"), made_check("a.other", "hang")], one), seeing)
    line = the(result)
    assert (line.detection, line.claimed_by, line.missed_by, dict(line.unable)) == (Detection.CAUGHT, ("a.sees",), (), {})
    (catch,) = line.catches
    assert (catch.check, catch.requirement, catch.seconds, catch.about) == ("a.sees", "a.sees", 2.0, "op x in bfloat16")
    assert (catch.accelerators, catch.claimed, catch.level) == (("sim:0",), True, Level.MUST)
    assert (result.healthy_runs, result.alarms, result.exit()) == (1, (), Exit.READY)


def test_missed_is_1(one: Selection) -> None:
    result = judged(made_request([made_check("a.blind", "nan")], one), lambda task: evidence_of("a.blind", 1.0))
    assert (the(result).detection, the(result).missed_by, result.exit()) == (Detection.MISSED, ("a.blind",), Exit.NOT_READY)


def test_one_that_sees_is_enough_and_the_blind_one_is_named(one: Selection) -> None:
    checks = [made_check("a.blind", "nan"), made_check("a.sees", "nan")]
    result = judged(made_request(checks, one), lambda task: evidence_of(task.job.check.id, 1.0) if task.job.check.id == "a.blind" else seeing(task))
    assert (the(result).detection, the(result).missed_by, result.exit()) == (Detection.CAUGHT, ("a.blind",), Exit.READY)


def test_an_untriggered_defect_is_not_tried_if_checks_were_left_out(one: Selection) -> None:
    checks = [made_check("a.elsewhere", "nan"), made_check("b.sees", "nan")]
    request = made_request(checks, one, expression="a.elsewhere")
    result = judged(request, lambda task: evidence_of("a.elsewhere", 1.0, met=False))
    line = the(result)
    assert (line.detection, line.missed_by, line.not_met, line.left_out) == (Detection.NOT_TRIED, (), ("a.elsewhere",), ("b.sees",))
    assert result.exit() is Exit.UNDETERMINED  # nothing was tried, and nothing is proven
    for met in (True, None):  # it looked at the defect, or nobody knows whether it did
        result = judged(request, lambda task, met=met: evidence_of("a.elsewhere", 1.0, met=met))  # type: ignore[misc]
        assert (the(result).detection, the(result).missed_by, result.exit()) == (Detection.MISSED, ("a.elsewhere",), Exit.NOT_READY)
    failed = judged(request, lambda task: evidence_of("a.elsewhere", None, status=Status.ERROR, met=False))
    assert the(failed).detection is Detection.MISSED  # an error is no reason to let it pass


def test_what_never_acts_is_neither_caught_nor_missed(one: Selection) -> None:
    """A check that no longer calls what it did proves nothing."""
    result = judged(made_request([made_check("a.elsewhere", "nan")], one), lambda task: evidence_of("a.elsewhere", 1.0, met=False))
    line = the(result)
    assert (line.detection, line.missed_by, line.not_met, result.exit()) == (Detection.DID_NOT_ACT, (), ("a.elsewhere",), Exit.UNDETERMINED)
    assert result.of(Detection.CAUGHT) == result.of(Detection.MISSED) == []


@pytest.mark.parametrize(("acted", "word"), [(0, Detection.DID_NOT_ACT), (3, Detection.MISSED)])
def test_what_was_met_counts_only_once_it_acted(one: Selection, acted: int, word: Detection) -> None:
    """A call that the defect is about, at the wrong time or of the wrong size, is no trial of it."""
    result = judged(made_request([made_check("a.blind", "nan")], one), lambda task: evidence_of("a.blind", 1.0, met=True, acted=acted))
    assert (the(result).detection, the(result).acted) == (word, {"a.blind": acted})


def test_a_failure_without_the_defect_acting_is_no_catch(one: Selection) -> None:
    request = made_request([made_check("a.sees", "nan")], one)

    def say(task: Task) -> Evidence:
        return evidence_of("a.sees", -1.0 if task.fault_kind else 1.0, met=True, acted=0 if task.fault_kind else None)

    line = the(judged(request, say))
    assert line.catches == ()
    assert line.unable == {"a.sees": "a.sees fails, but the defect never acted there"}


def test_the_requirements_that_a_defect_expects_name_who_ought_to_see_it(tmp_path: Path) -> None:
    made = selection([str(chip_file(tmp_path / "one.toml", 'kind = "nan"\nexpected = ["b.named", "c.of_another_profile"]'))])
    checks = [made_check("a.claims", "nan"), made_check("b.named")]
    result = judged(made_request(checks, made), lambda task: evidence_of(task.job.check.id, 1.0, met=True, acted=5))
    line = the(result)
    assert (line.claimed_by, line.missed_by, line.expected, line.detection) == (("b.named",), ("b.named",), ("b.named",), Detection.MISSED)
    elsewhere = selection([str(chip_file(tmp_path / "two.toml", 'kind = "nan"\nexpected = ["c.of_another_profile"]'))])
    assert the(judged(made_request(checks, elsewhere), lambda task: evidence_of(task.job.check.id, 1.0))).claimed_by == ("a.claims",)


def test_one_that_is_tried_decides_beside_one_that_is_not(tmp_path: Path) -> None:
    made = selection([str(chip_file(tmp_path / f"{kind}.toml", f'kind = "{kind}"')) for kind in ("nan", "hang")])
    checks = [made_check("a.chosen", "nan", "hang"), made_check("b.other", "nan")]
    request = made_request(checks, made, expression="a.chosen")

    def say(task: Task) -> Evidence:
        return evidence_of("a.chosen", -1.0 if task.fault_kind == "hang" else 1.0, met=task.fault_kind == "hang")

    result = judged(request, say)
    assert [line.detection for line in result.defects] == [Detection.NOT_TRIED, Detection.CAUGHT]
    assert result.exit() is Exit.READY


def test_an_unclaimed_defect_is_no_failure(one: Selection) -> None:
    result = judged(made_request([made_check("a.other", "hang")], one), seeing)
    assert (the(result).detection, result.exit()) == (Detection.NOT_CLAIMED, Exit.READY)


def test_a_full_rehearsal_counts_and_marks_unclaimed_detections(one: Selection) -> None:
    result = judged(made_request([made_check("a.other", "hang")], one, full=True), seeing)
    assert (the(result).detection, the(result).catches[0].claimed) == (Detection.CAUGHT, False)


@pytest.mark.parametrize(("status", "word"), [(Status.CRASHED, Detection.CAUGHT), (Status.TIMEOUT, Detection.CAUGHT), (Status.ERROR, Detection.MISSED), (Status.SKIPPED, Detection.MISSED)])
def test_a_crash_is_a_catch_and_an_error_is_no_evidence(one: Selection, status: Status, word: Detection) -> None:
    def say(task: Task) -> Evidence:
        return evidence_of("a.sees", None, status=status) if task.fault_kind else evidence_of("a.sees", 1.0)

    line = the(judged(made_request([made_check("a.sees", "nan")], one), say))
    assert line.detection is word
    assert line.missed_by == ()  # it did not look and see nothing
    assert dict(line.unable) == ({} if word is Detection.CAUGHT else {"a.sees": "a reason"})


@pytest.mark.parametrize("where", ["cpu", "sim"])
def test_what_fails_without_the_defect_is_no_catch(one: Selection, where: str) -> None:
    def say(task: Task) -> Evidence:
        return evidence_of("a.sees", -1.0 if task.fault_kind or task.job.accelerators[0].kind == where else 1.0)

    result = judged(made_request([made_check("a.sees", "nan")], one), say)
    assert "without the defect" in the(result).unable["a.sees"]
    assert (the(result).detection, result.exit()) == (Detection.MISSED, Exit.NOT_READY)
    assert bool(result.alarms) is (where == "sim")
    assert bool(result.host_fails) is (where == "cpu")


def test_what_the_host_cannot_judge_is_judged_on_the_healthy_chip(one: Selection) -> None:
    def say(task: Task) -> Evidence:
        return evidence_of("a.sees", None, status=Status.SKIPPED) if task.machine == HOST else seeing(task)

    assert the(judged(made_request([made_check("a.sees", "nan")], one), say)).detection is Detection.CAUGHT


def test_without_any_yardstick_nothing_counts_and_nothing_is_told(one: Selection) -> None:
    def say(task: Task) -> Evidence:
        return seeing(task) if task.fault_kind else evidence_of("a.sees", None, status=Status.SKIPPED)

    result = judged(made_request([made_check("a.sees", "nan")], one), say)
    assert (the(result).detection, the(result).unmeasured, result.exit()) == (Detection.UNTOLD, ("a.sees",), Exit.UNDETERMINED)
    assert "was not measured without the defect" in the(result).unable["a.sees"]


def test_what_could_not_be_measured_on_its_chip_cannot_be_told(one: Selection) -> None:
    """As speeds on a busy host; what another check looked at and did not see is missed all the same."""
    def say(task: Task) -> Evidence:
        return evidence_of(task.job.check.id, None if task.fault_kind and task.job.check.id == "a.speed" else 1.0)

    result = judged(made_request([made_check("a.speed", "nan")], one), say)
    line = the(result)
    assert (line.detection, line.unmeasured, line.missed_by, result.exit()) == (Detection.UNTOLD, ("a.speed",), (), Exit.UNDETERMINED)
    assert line.unable["a.speed"].startswith("a.speed: ")
    result = judged(made_request([made_check("a.speed", "nan"), made_check("b.blind", "nan")], one), say)
    assert (the(result).detection, the(result).missed_by, result.exit()) == (Detection.MISSED, ("b.blind",), Exit.NOT_READY)
    result = judged(made_request([made_check("a.speed", "nan"), made_check("b.sees", "nan")], one), lambda task: say(task) if task.job.check.id == "a.speed" else seeing(task))
    assert (the(result).detection, the(result).unmeasured, result.exit()) == (Detection.CAUGHT, ("a.speed",), Exit.READY)


def test_what_never_acted_needed_no_figure(one: Selection) -> None:
    result = judged(made_request([made_check("a.speed", "nan")], one), lambda task: evidence_of("a.speed", None if task.fault_kind else 1.0, met=False))
    assert (the(result).detection, the(result).not_met, the(result).unmeasured) == (Detection.DID_NOT_ACT, ("a.speed",), ())


@pytest.mark.parametrize(("expected", "word"), [("b.figure", Detection.MISSED), ("b.other", Detection.UNTOLD)])
def test_only_what_a_defect_expects_to_fail_must_have_been_measured(tmp_path: Path, expected: str, word: Detection) -> None:
    made = selection([str(chip_file(tmp_path / "one.toml", f'kind = "nan"\nexpected = ["{expected}"]'))])
    profile = made_profile("b.figure")
    other = replace(profile.requirements[0], id="b.other", measure="other")
    request = made_request([made_check("b.figure")], made, wanted=replace(profile, requirements=(*profile.requirements, other)))
    assert the(judged(request, lambda task: evidence_of("b.figure", 1.0))).detection is word


@pytest.mark.parametrize(("cause", "word"), [(SkipCause.BUSY_HOST, Detection.UNTOLD), (KillCause.MEMORY, Detection.UNTOLD), (KillCause.OUTPUT, Detection.MISSED), (None, Detection.MISSED)])
def test_what_the_host_ended_cannot_be_told(one: Selection, cause: SkipCause | KillCause | None, word: Detection) -> None:
    def say(task: Task) -> Evidence:
        status = Status.SKIPPED if isinstance(cause, SkipCause) else Status.ERROR
        return replace(evidence_of("a.sees", None, status=status), cause=cause) if task.fault_kind else evidence_of("a.sees", 1.0)

    assert the(judged(made_request([made_check("a.sees", "nan")], one), say)).detection is word


def test_a_kind_that_no_check_of_the_profile_claims_and_another_does_is_not_asked(one: Selection) -> None:
    checks = [made_check("a.other", "hang"), made_check("b.sees", "nan")]
    result = judged(made_request(checks, one, wanted=made_profile("a.other")), lambda task: evidence_of(task.job.check.id, 1.0))
    line = the(result)
    assert (line.detection, line.not_required, line.claimed_by, result.exit()) == (Detection.NOT_REQUIRED, ("b.sees",), (), Exit.READY)
    asked = the(judged(made_request(checks, one), seeing))
    assert (asked.detection, asked.not_required) == (Detection.CAUGHT, ())


def test_a_false_alarm_exits_1_with_the_seed(one: Selection) -> None:
    request = made_request([made_check("a.sees", "nan")], one, seeds=(7, 8))
    result = judged(request, lambda task: evidence_of("a.sees", -1.0 if task.fault_kind or task.seed == 8 else 1.0, about="words"))
    (alarm,) = result.alarms
    assert (alarm.seed, alarm.check, alarm.requirement, alarm.about, alarm.machine) == (8, "a.sees", "a.sees", "words", "healthy")
    assert (the(result).detection, result.healthy_runs, result.exit()) == (Detection.CAUGHT, 2, Exit.NOT_READY)


def test_a_crash_on_a_healthy_chip_is_an_alarm_and_unknown_is_counted(one: Selection) -> None:
    request = made_request([made_check("a.crashes"), made_check("a.skips")], one, seeds=(7, 8))

    def say(task: Task) -> Evidence:
        if task.job.check.id == "a.skips":
            return evidence_of("a.skips", None, status=Status.SKIPPED)
        return evidence_of("a.crashes", *((1.0,) if task.machine == HOST else (None,)), status=Status.MEASURED if task.machine == HOST else Status.CRASHED)

    result = judged(request, say)
    assert [alarm.seed for alarm in result.alarms] == [7, 8]
    assert dict(result.unknown) == {"a.skips": 2}


def test_a_machine_where_nothing_ran_is_3(one: Selection) -> None:
    request = made_request([made_check("a.sees", "nan")], one)
    result = judged(request, lambda task: evidence_of("a.sees", 1.0) if task.machine == HOST else evidence_of("a.sees", None, status=Status.ERROR))
    assert (result.rehearsed, result.exit()) == (False, Exit.UNDETERMINED)
    assert judged(made_request([], one), seeing).exit() is Exit.UNDETERMINED


def test_what_a_stop_cut_off_is_not_missed(one: Selection) -> None:
    checks = [made_check("a.late", "nan"), made_check("a.blind", "nan")]
    result = judged(made_request(checks, one), lambda task: None if task.job.check.id == "a.late" else evidence_of("a.blind", 1.0))
    assert (the(result).detection, the(result).not_run, the(result).missed_by) == (Detection.UNFINISHED, ("a.late",), ("a.blind",))


def test_the_chip_is_named_and_a_failure_of_a_spared_chip_is_a_false_alarm(tmp_path: Path) -> None:
    made = selection([str(chip_file(tmp_path / "four.toml", 'kind = "nan"\nwhen = { chip = 2 }', chips=4))])
    request = made_request([made_check("a.sees", "nan")], made)

    def blames(*numbers: int) -> Say:
        return lambda task: evidence_of("a.sees", -1.0 if task.fault_kind and task.job.accelerators[0].index in numbers else 1.0)

    tasks = plan_rehearsal(request, host()).tasks()
    assert sorted(task.job.accelerators[0].index for task in tasks if task.fault_kind) == [0, 2]  # one innocent is enough
    right = judged(request, blames(2))
    assert (the(right).catches[0].accelerators, right.exit()) == (("sim:2",), Exit.READY)
    wrong = judged(request, blames(0))
    assert (the(wrong).detection, [alarm.accelerator for alarm in wrong.alarms]) == (Detection.MISSED, ["sim:0"])
    assert {alarm.machine for alarm in wrong.alarms} == {"four"}


def test_seconds_are_those_of_a_run_of_that_chip(one: Selection) -> None:
    checks = [made_check("a.dear", "nan", typical_s=9.0), made_check("a.cheap", "nan", typical_s=1.0)]
    catches = the(judged(made_request(checks, one), seeing)).catches
    assert [(catch.check, catch.seconds) for catch in catches] == [("a.cheap", 2.0), ("a.dear", 4.0)]


def test_information_decides_nothing(one: Selection) -> None:
    check = made_check("a.sees", "nan")
    result = judged(made_request([check], one, wanted=made_profile("a.sees", level=Level.INFO)), seeing)
    assert (the(result).detection, the(result).claimed_by, the(result).not_required) == (Detection.NOT_REQUIRED, (), ("a.sees",))


def test_a_group_meets_all_chips_and_its_yardstick_has_as_many(tmp_path: Path) -> None:
    made = selection([str(chip_file(tmp_path / name, 'kind = "hang"', chips=chips)) for name, chips in (("a.toml", 3), ("b.toml", 2))])
    group, single = made_check("a.group", "hang", scope=Scope.GROUP, alone=True), made_check("a.single", "hang")
    written = plan_rehearsal(made_request([group, single], made, seeds=(7, 8)), host())
    met = sorted(len(task.job.accelerators) for task in written.tasks() if task.fault_kind is None and task.job.check is group and task.seed == 7)
    assert met == [1, 2, 3]  # the CPU by itself, and healthy machines of both sizes
    later = [task for task in written.tasks() if task.seed == 8]
    assert sorted((task.job.check.id, len(task.job.accelerators)) for task in later) == [("a.group", 3), ("a.single", 1)]
    assert all(task.job.check is group for task in written.tasks()[-1:])
    order = [(task.fault_kind is not None, task.seed, task.job.check.alone) for task in written.tasks()]
    assert order == sorted(order, key=lambda item: (item[1], item[0], item[2]))  # yardsticks, planted, further seeds; alone last


def test_k_leaves_out_what_no_chosen_check_claims(tmp_path: Path) -> None:
    made = selection([str(chip_file(tmp_path / f"{kind}.toml", f'kind = "{kind}"')) for kind in ("nan", "hang")])
    checks: list[Check] = [made_check("a.nan", "nan"), made_check("b.hang", "hang")]
    written = plan_rehearsal(made_request(checks, made, expression="a.nan"), host())
    assert ([trial.fault.name for trial in written.trials], written.left_out) == (["nan"], 1)
    narrowed = only_claimed(made_request(checks, made), {"b.hang"})
    assert [fault.name for fault in narrowed.selection.faults] == ["hang"]
    assert {task.job.check.id for task in plan_rehearsal(narrowed, host()).tasks()} == {"b.hang"}
