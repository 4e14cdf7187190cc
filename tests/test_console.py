"""What is said while a run goes on: who is under test, and what was found not to hold, in words."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from readiness import console
from readiness.checklist import Check, discover
from readiness.cli import common
from readiness.model import Evidence, Limit, Measurement, Operator, Profile, Requirement, Status, Use
from readiness.plan import Job
from tests.reports import build


def told(count: int, **properties: Any) -> str:
    """What is said of a run on so many accelerators."""
    check: Check = next(iter(discover().values()))
    requirement = Requirement("r", (Use.TRAINING,), check.id, "m", Limit(Operator.AT_MOST, 1.0))
    profile = Profile("p", "P", (Use.TRAINING,), (requirement,))
    stream = io.StringIO()
    observer = console.Told(profile, Path("x"), verbose=False, console=Console(file=stream, width=200))
    devices = tuple(build.facts(f"sim:{number}", properties=properties) for number in range(count))
    job = Job(check, devices)
    observer.planned(devices, [job], 0)
    measurement = Measurement("m", float("nan"), {"dtype": "bfloat16"}, about="softmax in bfloat16\x1b[2J, strided input")
    observer.finished(job, Evidence(check.id, Status.MEASURED, measurements=(measurement,)))
    return stream.getvalue()


def test_what_is_not_met_says_what_it_is_about() -> None:
    text = told(1)
    assert "not met: r (must): m is NaN, limit at most 1 (dtype=bfloat16); softmax in bfloat16, strided input\n" in text
    assert "\x1b" not in text


def test_many_accelerators_are_one_name_and_simulated_ones_say_so() -> None:
    assert told(1).startswith("sim:0 (Acme A1 Ultra): p, 1 check, ")
    assert told(8, **build.SIMULATED).startswith("sim:0 to sim:7 (simulated, Acme A1 Ultra): p, 1 check, ")


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
    assert console.is_colour_refused(option) is refused
    assert common.colour_for(True, option) is not refused
    assert not common.colour_for(False, option)


@pytest.mark.parametrize("moving", [True, False])
def test_what_moves_stays_on_terminals(moving: bool) -> None:
    """rich takes FORCE_COLOR and TTY_COMPATIBLE for a terminal; a log of a pipeline is none."""
    stream = io.StringIO()
    profile = Profile("p", "P", (Use.TRAINING,), ())
    screen = Console(file=stream, force_terminal=True, width=80)
    with console.Told(profile, Path("x"), verbose=False, console=screen, moving=moving) as observer:
        observer.looking()
        assert (observer.live is not None) is moving
    assert ("\x1b[?25l" in stream.getvalue()) is moving


def test_colours_that_a_pipeline_asks_for_move_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("sys.stderr", io.StringIO())
    told = console.observer(Profile("p", "P", (Use.TRAINING,), ()), tmp_path, quiet=False, verbose=False, no_color=False)
    assert isinstance(told, console.Told)
    assert not told.moving
