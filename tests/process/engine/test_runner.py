"""Scheduling: what runs side by side, and what alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from readiness.engine import discovery, runner
from readiness.isolation.worker_pool import WorkerPool
from tests.support.engine import evidence_of, run, use_checks, without_torch, write_profile

TIMES = '''
import time
from collections.abc import Iterator
from pathlib import Path
from readiness import Accelerator, Measurement, Scope, check

def note(accelerator, name):
    begun = time.monotonic()
    if name == "shared":  # it goes on when its like is there as well
        Path({trace!r} + accelerator.id).touch()
        while not all(Path({trace!r} + id).exists() for id in ("cpu:0", "cpu:1")):
            time.sleep(0.01)
    else:
        time.sleep(0.2)
    with open({trace!r}, "a") as stream:
        stream.write(f"{{name}} {{accelerator.id}} {{begun}} {{time.monotonic()}} {{len(accelerator.peers)}}\\n")

@check("times.shared", title="Beside others", measures={{"figure": "1"}}, typical_s=0.1)
def shared(accelerator: Accelerator) -> Iterator[Measurement]:
    """Does it run beside others?"""
    note(accelerator, "shared")
    yield Measurement("figure", 1)

@check("times.second", title="After the first", measures={{"figure": "1"}}, typical_s=0.2)
def second(accelerator: Accelerator) -> Iterator[Measurement]:
    """Does an accelerator do one thing at a time?"""
    note(accelerator, "second")
    yield Measurement("figure", 1)

@check("times.alone", title="Alone", measures={{"figure": "1"}}, typical_s=0.1, alone=True)
def alone(accelerator: Accelerator) -> Iterator[Measurement]:
    """Does it have the machine to itself?"""
    note(accelerator, "alone")
    yield Measurement("figure", 1)

@check("times.group", title="Together", measures={{"figure": "1"}}, typical_s=0.3, scope=Scope.GROUP)
def group(accelerator: Accelerator) -> Iterator[Measurement]:
    """Does it run once for all?"""
    note(accelerator, "group")
    yield Measurement("figure", 1)
'''


def test_accelerators_work_side_by_side_and_some_checks_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checks" / "times").mkdir(parents=True)
    (tmp_path / "checks" / "times" / "times.py").write_text(TIMES.format(trace=str(tmp_path / "trace")))
    use_checks(monkeypatch, tmp_path / "checks")
    without_torch(monkeypatch)
    real = discovery.discover

    def two(pool: WorkerPool, **limits: Any) -> discovery.Discovery:
        found = real(pool, **limits)
        (one,) = found.accelerators
        return replace(found, accelerators=(one, replace(one, id="cpu:1", index=1)))

    monkeypatch.setattr(runner, "discover", two)
    ids = [f"times.{name}" for name in ("shared", "second", "alone", "group")]
    assessment = run(tmp_path / "run", write_profile(tmp_path / "test.toml", ids))
    spans = [
        (name, id, float(begun), float(ended), int(peers))
        for name, id, begun, ended, peers in map(str.split, (tmp_path / "trace").read_text().splitlines())
    ]
    assert sorted((name, id) for name, id, *_ in spans) == [
        ("alone", "cpu:0"), ("alone", "cpu:1"), ("group", "cpu:0"), ("second", "cpu:0"), ("second", "cpu:1"),
        ("shared", "cpu:0"), ("shared", "cpu:1"),
    ]  # fmt: skip

    def overlap(one: tuple[str, str, float, float, int], other: tuple[str, str, float, float, int]) -> bool:
        return one[2] < other[3] and other[2] < one[3]

    pairs = [(one, other) for number, one in enumerate(spans) for other in spans[number + 1 :]]
    assert any(overlap(one, other) for one, other in pairs if one[0] == other[0] == "shared")
    for one, other in pairs:
        if one[1] == other[1] or "alone" in (one[0], other[0]) or "group" in (one[0], other[0]):
            assert not overlap(one, other), (one, other)
    assert next(peers for name, *_, peers in spans if name == "group") == 2
    for item in assessment.accelerators:  # the group's evidence is filed under each of them
        assert evidence_of(item, "times.group").accelerators == ("cpu:0", "cpu:1")


TIMELINE = '''
from collections.abc import Iterator
from readiness import Accelerator, Measurement, Phase, Row, check

@check("timed.early", title="Early", measures={"figure": "1"}, typical_s=0.1, provokes=True)
def early(accelerator: Accelerator) -> Iterator[Measurement]:
    """Knows of no timeline."""
    yield Measurement("figure", int(accelerator.timeline is None))

@check("timed.late", title="Late", measures={"figure": "1"}, typical_s=0.1, phase=Phase.LAST)
def late(accelerator: Accelerator) -> Iterator[Row | Measurement]:
    """Knows what ran before."""
    for span in accelerator.timeline.spans:
        yield Row({"check": span.check, "provokes": span.provokes, "within": accelerator.timeline.began <= span.began <= span.ended})
    yield Measurement("figure", 1)
'''


def test_the_last_checks_know_what_ran_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checks" / "timed").mkdir(parents=True)
    (tmp_path / "checks" / "timed" / "timed.py").write_text(TIMELINE)
    use_checks(monkeypatch, tmp_path / "checks")
    without_torch(monkeypatch)
    assessed = run(tmp_path / "run", write_profile(tmp_path / "profile.toml", ["timed.early", "timed.late"]))
    found = {evidence.check: evidence for evidence in assessed.accelerators[0].evidence}
    assert found["timed.early"].measurements[0].value == 1
    assert found["timed.late"].rows == ({"check": "timed.early", "provokes": True, "within": True},)
