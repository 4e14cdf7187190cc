"""What is said while a run goes on: who is under test, what was found not to hold, how long the rest takes, why it ends."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from readiness.check_registry import Check, Scope
from readiness.cli import options, progress
from readiness.cli.live_findings import count
from readiness.datamodel import (
    AcceleratorFacts,
    Evidence,
    HostLoad,
    Level,
    Limit,
    Measure,
    Measurement,
    Operator,
    Profile,
    Requirement,
    Status,
    Use,
    Waiver,
)
from readiness.engine.plan import Job
from readiness.missing_evidence import SkipCause
from tests.support import build
from tests.unit.engine.test_plan import make

CHECK = make("a.check", typical_s=20)
GROUP = make("b.group", typical_s=3, scope=Scope.GROUP)
TITLE = "Softmax is right"


def requirement(id: str, check: Check = CHECK, level: Level = Level.MUST, **changes: Any) -> Requirement:
    base = Requirement(id, (Use.TRAINING, Use.INFERENCE), check.id, "m", Limit(Operator.AT_MOST, 1.0), level=level)
    return replace(base, **changes)


def profile(*requirements: Requirement) -> Profile:
    return Profile("p", "P", (Use.TRAINING, Use.INFERENCE), requirements or (requirement("r"),))


def measured(value: float = float("nan"), check: Check = CHECK, about: str = "softmax in bfloat16\x1b[2J, strided input") -> Evidence:
    return Evidence(check.id, Status.MEASURED, measurements=(Measurement("m", value, {"dtype": "bfloat16"}, "1", about=about),))


class Screen:
    """An observer and what it has written, on a terminal of so many columns or in a file."""

    def __init__(self, *requirements: Requirement, columns: int = 200, terminal: bool = False, **options: Any) -> None:
        self.stream = io.StringIO()
        screen = Console(file=self.stream, width=columns, height=30, force_terminal=terminal, color_system=None)
        self.display = progress.ProgressDisplay(profile(*requirements), Path("x"), verbose=options.pop("verbose", False), console=screen, **options)

    def plan(self, devices: Iterable[AcceleratorFacts], *jobs: Job, known: dict[Any, Evidence] | None = None) -> Screen:
        self.display.planned(tuple(devices), jobs, known or {})
        return self

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    def about(self, words: str) -> list[str]:
        return [line.strip() for line in self.lines if words in line]


def chips(count: int, **properties: Any) -> tuple[AcceleratorFacts, ...]:
    return tuple(build.facts(f"sim:{number}", properties=properties) for number in range(count))


def shown(count: int, **properties: Any) -> str:
    """What is said of a run of one check on so many accelerators together."""
    devices = chips(count, **properties)
    job = Job(CHECK, devices)
    screen = Screen().plan(devices, job)
    screen.display.finished(job, measured())
    return screen.stream.getvalue()


def test_unmet_requirements_have_their_subject() -> None:
    text = shown(1)
    assert "not met: r (must): m is NaN, bound at most 1 (dtype=bfloat16); softmax in bfloat16, strided input\n" in text
    assert "\x1b" not in text


def test_it_begins_with_the_title() -> None:
    devices = chips(1)
    job = Job(CHECK, devices)
    screen = Screen(requirement("r", title=TITLE)).plan(devices, job)
    screen.display.finished(job, measured())
    assert screen.about("not met")[0].startswith("not met: Softmax is right (r, must): m is NaN")


def test_many_accelerators_are_one_name_and_simulated_ones_are_marked() -> None:
    assert shown(1).startswith("sim:0 (Acme A1 Ultra): p, 1 check, about 20 s")
    assert shown(8, **build.SIMULATED).startswith("sim:0 to sim:7 (simulated, Acme A1 Ultra): p, 1 check, ")


def test_chips_that_agree_are_one_line_when_the_last_of_them_has_ended() -> None:
    devices = chips(4)
    jobs = [Job(CHECK, (facts,)) for facts in devices]
    screen = Screen().plan(devices, *jobs)
    for number in (0, 3, 1, 2):
        assert screen.about("not met") == []
        screen.display.finished(jobs[number], measured(2.0 + number / 10))
    (line,) = screen.about("not met")
    assert line.startswith("not met: r (must) on sim:0 to sim:3: m is 2 (sim:0) to 2.3 (sim:3), bound at most 1")


def test_the_odd_one_is_distinguished() -> None:
    devices = chips(3)
    jobs = [Job(CHECK, (facts,)) for facts in devices]
    screen = Screen().plan(devices, *jobs)
    for job, about in zip(jobs, ("mm", "mm", "softmax"), strict=True):
        screen.display.finished(job, measured(about=about))
    start = next(number for number, line in enumerate(screen.lines) if "not met" in line)
    assert [line.strip() for line in screen.lines[start : start + 3]] == [
        "not met: r (must)",
        "sim:0, sim:1: m is NaN, bound at most 1 (dtype=bfloat16); mm",
        "sim:2: m is NaN, bound at most 1 (dtype=bfloat16); softmax",
    ]


def test_one_chip_of_several_is_named_and_healthy_ones_are_not() -> None:
    devices = chips(3)
    jobs = [Job(CHECK, (facts,)) for facts in devices]
    screen = Screen().plan(devices, *jobs)
    for job, value in zip(jobs, (0.5, 7.0, 0.5), strict=True):
        screen.display.finished(job, measured(value, about=""))
    assert screen.about("not met") == ["not met: r (must) on sim:1: m is 7, bound at most 1 (dtype=bfloat16)"]


def test_joint_measurements_are_marked() -> None:
    devices = chips(4)
    job = Job(GROUP, devices)
    screen = Screen(requirement("r", GROUP)).plan(devices, job)
    screen.display.finished(job, measured(2.0, GROUP, ""))
    assert screen.about("not met") == ["not met: r (must) on sim:0 to sim:3 together: m is 2, bound at most 1 (dtype=bfloat16)"]


def test_a_run_that_ends_early_keeps_nothing_to_itself() -> None:
    devices = chips(2)
    jobs = [Job(CHECK, (facts,)) for facts in devices]
    screen = Screen().plan(devices, *jobs)
    with screen.display:
        screen.display.finished(jobs[0], measured())
        assert screen.about("not met") == []
    assert len(screen.about("not met: r (must) on sim:0: ")) == 1


def test_what_is_known_from_before_is_not_waited_for() -> None:
    devices = chips(2)
    jobs = [Job(CHECK, (facts,)) for facts in devices]
    screen = Screen().plan(devices, *jobs, known={jobs[1].key: measured()})
    screen.display.finished(jobs[0], measured())
    assert len(screen.about("not met")) == 1
    assert "[2/2]" in screen.stream.getvalue()
    assert "1 of them were already done" in screen.stream.getvalue()


def test_reused_evidence_names_its_run() -> None:
    devices = chips(2)
    jobs = [Job(CHECK, (facts,)) for facts in devices]
    taken = replace(measured(), earlier="2026-11-23T10:00:00Z")
    screen = Screen().plan(devices, *jobs, known={job.key: taken for job in jobs})
    assert "2 of them are reused from the run of 2026-11-23T10:00:00Z" in screen.lines
    assert not screen.about("already done")


def test_what_only_informs_is_neither_not_met_nor_counted_with_it() -> None:
    devices = chips(1)
    job = Job(CHECK, devices)
    requirements = requirement("a"), requirement("b", level=Level.SHOULD), requirement("c", level=Level.INFO)
    screen = Screen(*requirements).plan(devices, job)
    screen.display.finished(job, measured())
    assert len(screen.about("not met: ")) == 2
    assert len(screen.about("for information: c (info): m is NaN")) == 1
    assert count(screen.display.findings) == "2 not met, 1 for information"


def test_waived_findings_are_not_counted_and_unrequested_ones_not_shown() -> None:
    devices = chips(1)
    job = Job(CHECK, devices)
    waiver = Waiver("r", "sim:*", "known", "me", "2999-01-01")
    screen = Screen(
        requirement("r"), requirement("t", uses=(Use.TRAINING,)), waivers=(waiver,), uses=(Use.INFERENCE,)
    ).plan(devices, job)
    screen.display.finished(job, measured())
    assert screen.about("not met") == []
    assert len(screen.about("waived: r (must)")) == 1
    assert count(screen.display.findings) == ""


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_on_a_terminal_lines_break_between_words_and_in_a_file_not_at_all(columns: int) -> None:
    devices = chips(1)
    job = Job(CHECK, devices)
    words = " ".join(f"word{number}" for number in range(60))
    for terminal, moving in ((True, True), (False, True), (True, False)):  # the last: a pipeline that asks for colours
        screen = Screen(columns=columns, terminal=terminal, moving=moving).plan(devices, job)
        screen.display.finished(job, Evidence(CHECK.id, Status.ERROR, reason=words))
        screen.display.finished(job, measured(about=words))
        text = screen.stream.getvalue()
        assert " ".join(text.split()).count(words) == 2
        if terminal and moving:
            assert max(len(line) for line in text.splitlines()) <= max(columns, 62)
            assert all("word" not in line or line.split()[-1] in words.split() for line in text.splitlines()[2:])
            continued = [line for line in text.splitlines() if line.strip().startswith("word")]
            assert all(line.startswith(" " * 11) for line in continued)
        else:
            assert any(words in line for line in text.splitlines())


def test_why_the_run_ends_and_what_that_leaves_open() -> None:
    devices = chips(3)
    jobs = [Job(CHECK, (facts,)) for facts in devices]
    screen = Screen().plan(devices, *jobs)
    screen.display.stopping("the time given with --within (50 s) was used up", jobs[:1], jobs[1:])
    assert screen.lines[-1] == "the time given with --within (50 s) was used up: of the checks 1 running are stopped, 2 will not start"


def test_what_is_left_out_is_counted_by_the_option_that_did_it() -> None:
    devices = chips(1)
    causes = (SkipCause.EXPRESSION, SkipCause.WITHIN, SkipCause.EXPRESSION, SkipCause.SOAK, SkipCause.UNUSABLE)
    jobs = [Job(make(f"a.n{number}"), devices, left_out="left out", cause=cause) for number, cause in enumerate(causes)]
    screen = Screen().plan(devices, Job(CHECK, devices), *jobs)
    assert screen.lines[0].endswith("p, 1 check, about 20 s; left out: 2 by -k, 1 by --within")


@pytest.mark.parametrize(
    ("unit", "load", "expected"),
    [
        ("GB/s", HostLoad(0.43, 0.0, 0.02), True), ("s", HostLoad(0.01, 0.2, None), True), ("us", HostLoad(None, None, 0.5), True),
        ("1", HostLoad(0.43, 0.0, 0.02), False), ("GB/s", HostLoad(0.05, 0.01, 0.1), False), ("GB/s", None, False),
    ],
)  # fmt: skip
def test_a_host_that_is_too_busy_to_time_is_reported(unit: str, load: HostLoad | None, expected: bool) -> None:
    devices = chips(1)
    job = Job(replace(CHECK, measures={"m": Measure(unit)}), devices)
    screen = Screen().plan(devices, job)
    screen.display.started(job, 1)
    screen.display.finished(job, replace(measured(0.5), seconds=2.0, host_load=load))
    assert bool(screen.about("this host was too busy for timing")) is expected
    if load is not None and load.others == 0.43 and expected:
        assert screen.about("too busy")[0] == (
            "this host was too busy for timing: other processes took 43% of the processors, the check waited for one for 2% of "
            "its time; the times of a.check are not reliable"
        )


@pytest.mark.parametrize(
    ("value", "option", "refused"), [(None, False, False), ("", False, False), ("1", False, True), (None, True, True)]
)
def test_no_color_is_understood_in_one_place(
    value: str | None, option: bool, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    if value is not None:
        monkeypatch.setenv("NO_COLOR", value)
    assert options.is_colour_refused(option) is refused
    assert options.colour_for(True, option) is not refused
    assert not options.colour_for(False, option)


@pytest.mark.parametrize("moving", [True, False])
def test_what_moves_stays_on_terminals(moving: bool) -> None:
    """rich takes FORCE_COLOR and TTY_COMPATIBLE for a terminal; a log of a pipeline is none."""
    screen = Screen(terminal=True, moving=moving)
    with screen.display as observer:
        observer.looking()
        assert (screen.display.live is not None) is moving
    assert ("\x1b[?25l" in screen.stream.getvalue()) is moving


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_bar_and_the_time_that_is_left(columns: int) -> None:
    devices = chips(2)
    jobs = [Job(CHECK, (facts,)) for facts in devices]
    screen = Screen(columns=columns, terminal=True, within_s=None).plan(devices, *jobs)
    at_work: Any = SimpleNamespace(seconds=5.0, ready=1.0, note="step 3\x1b[2J of 30 ##vso[x]" + " and so on" * 30)
    shown = Console(file=io.StringIO(), width=columns, color_system=None, force_terminal=True)
    shown.print(screen.display._at_work([(jobs[0], at_work)]))
    shown.print(screen.display._progress([(jobs[0], 5.0)]))
    lines = shown.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert all(len(line) <= columns for line in lines)
    assert "a.check" in lines[0]
    assert "\x1b" not in "".join(lines)
    assert "0 of 2" in lines[1]
    if columns >= 80:
        assert "step 3 of 30" in lines[0]
        assert "left" in lines[1]


def test_no_more_is_at_work_on_the_screen_than_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = chips(64)
    jobs = [Job(CHECK, (facts,)) for facts in devices]
    screen = Screen(terminal=True).plan(devices, *jobs)
    worker: Any = SimpleNamespace(seconds=5.0, ready=None, note="")
    lines = screen.display._at_work([(job, worker) for job in jobs]).plain.splitlines()
    assert len(lines) == 27
    assert lines[-1] == "  and 38 more"


def test_what_is_left_is_never_more_than_was_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = chips(1)
    screen = Screen(terminal=True, within_s=8.0).plan(devices, Job(CHECK, devices))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: 105.0))
    monkeypatch.setattr(screen.display, "began", 100.0)
    shown = Console(file=io.StringIO(), width=80, color_system=None)
    shown.print(screen.display._progress([]))
    assert "about 3 s left" in shown.file.getvalue()  # type: ignore[attr-defined]


def test_forced_colours_animate_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("sys.stderr", io.StringIO())
    request: Any = SimpleNamespace(profile=profile(), uses=tuple(Use), waivers=(), within_s=None)
    observer = progress.observer(request, tmp_path, quiet=False, verbose=False, no_color=False)
    assert isinstance(observer, progress.ProgressDisplay)
    assert not observer.moving


def test_verbose_shows_measurements_without_control_characters() -> None:
    devices = chips(1)
    job = Job(CHECK, devices)
    screen = Screen(verbose=True).plan(devices, job)
    odd = Measurement("m", 1.5, {"a\x1b[2J": "\u202eb\n::error::x"}, "\x9b2Junit")
    screen.display.finished(job, Evidence(CHECK.id, Status.MEASURED, measurements=(odd,)))
    assert "m = 1.5 unit a=b : :error::x" in " ".join(screen.stream.getvalue().split())
    assert not set(screen.stream.getvalue()) & {"\x1b", "\u202e", "\x9b"}
