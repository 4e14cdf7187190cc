"""A small assessment in which every kind of finding occurs, judged from evidence under a profile as a run does it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from readiness.check_registry import Check, Scope, check
from readiness.datamodel import AcceleratorFacts, Assessment, Evidence, Joined, Measurement, Profile, Status, Use, Waiver
from readiness.documents.strict_json import plain
from readiness.judging.judge import judge
from readiness.profile import loader as profiles
from tests.support import build

BOTH = tuple(Use)
TODAY = "2026-11-23"


@check("family.topic", title="A topic", measures={"error": "1", "speed": "GB/s", "done": "1"})
def topic(accelerator: object, *, dtypes: tuple[str, ...] = ("float32", "bfloat16"), rounds: int = 3) -> Iterator[Measurement]:
    """How far is it off?"""
    yield Measurement("error", 0.0)


@check("family.file", title="A file", measures={"coverage": "1"})
def file(accelerator: object, *, workload: str = "") -> Iterator[Measurement]:
    """How much of a file?"""
    yield Measurement("coverage", 1.0)


@check("group.sum", title="A sum", measures={"wrong": "1"}, scope=Scope.GROUP)
def group(accelerator: object, *, ranks: int = 0) -> Iterator[Measurement]:
    """How many are wrong?"""
    yield Measurement("wrong", 0)


@check("group.work", title="Work", measures={"faults": "1"}, scope=Scope.GROUP, lasting="seconds")
def work(accelerator: object, *, seconds: float = 0.0, checkpoint_s: float = 30.0) -> Iterator[Measurement]:
    """How many faults?"""
    yield Measurement("faults", 0)


@check("family.hangs", title="It hangs", measures={"speed": "GB/s"})
def hangs(accelerator: object) -> Iterator[Measurement]:
    """Does it end?"""
    yield Measurement("speed", 1.0)


@check("family.lost", title="Nobody knows", measures={"count": "1"})
def lost(accelerator: object) -> Iterator[Measurement]:
    """Does anybody know?"""
    yield Measurement("count", 1)


CHECKLIST: dict[str, Check] = {item.id: item for item in (topic, file, group, work, hangs, lost)}

PROFILE = """
schema = "readiness.profile/1"
name = "small"
title = "A small one"
[settings."family.topic"]
rounds = 5
[settings."family.file"]
workload = "beside:mine.json.gz"
"""
#: Of each: check, measure, and the rest as it stands in a profile.
REQUIREMENTS = {
    "met": ("family.topic", "error", 'at_most = 0.01\nwhere = { dtype = "float32" }\nweight = 3'),
    "partly": ("family.topic", "speed", 'at_least = 20\nzero = 10\nlevel = "should"\nweight = 2.5'),
    "waived": ("family.topic", "error", 'at_most = 0.0123456789\nwhere = { dtype = "bfloat16" }\nremedy = "Update it."'),
    "expired": ("family.topic", "done", 'equals = true\nlevel = "info"'),
    "within": ("family.topic", "done", 'between = [0.5, 1.5]\nwhere = { phase = "two" }\nuse = ["inference"]'),
    "of-a-file": ("family.file", "coverage", "at_least = 1.0"),
    "together": ("group.sum", "wrong", "at_most = 0\nleast_chips = 3\nwhy = 'Links.'"),
    "of-many": ("group.sum", "wrong", "at_most = 0\nleast_chips = 9"),
    "elsewhere": ("group.sum", "wrong", 'at_most = 0\nnot_on = ["sim"]'),
    "in-the-end": ("group.work", "faults", "equals = 0"),
    "hung": ("family.hangs", "speed", 'at_least = 1\nlevel = "should"'),
    "not-known": ("family.lost", "count", 'at_least = 1\nlevel = "should"\nuse = ["training"]'),
}


def profile(folder: Path) -> Profile:
    """The profile, from files in a folder."""
    (folder / "mine.json.gz").write_bytes(b"a workload")
    entries = (
        f'[[require]]\nid = "{id}"\ncheck = "{check}"\nmeasure = "{measure}"\n{rest}\n'
        for id, (check, measure, rest) in REQUIREMENTS.items()
    )
    (folder / "small.toml").write_text(PROFILE + "\n".join(entries))
    return profiles.load(str(folder / "small.toml"), CHECKLIST)


def settings_of(demanded: Profile, id: str) -> Mapping[str, Any]:
    """What a check was told, as evidence has it."""
    settings: Mapping[str, Any] = plain({**CHECKLIST[id].settings, **demanded.settings.get(id, {})})
    return settings


def evidence(demanded: Profile) -> list[Evidence]:
    """What two chips yielded."""
    digest = hashlib.sha256(b"a workload").hexdigest()
    figures = (
        Measurement("error", 0.001, {"dtype": "float32", "op": "mm"}, "1", 0.0001, 3),
        Measurement("error", 0.002, {"dtype": "float32", "op": "bmm"}, "1"),
        Measurement("error", 0.5, {"dtype": "bfloat16", "op": "mm"}, "1", about="mm in bfloat16"),
        Measurement("speed", 16.0, {}, "GB/s", about="copies"),
        Measurement("done", False, {}, "1"),
        Measurement("done", 1, {"phase": "two"}, "1"),
        Measurement("error", float("nan"), {"dtype": "float64"}, "1"),
    )
    ended = {"exit_code": 0, "peak_memory_bytes": 1}
    both = ("sim:0", "sim:1")
    return [
        Evidence("family.topic", Status.MEASURED, measurements=figures, settings=settings_of(demanded, "family.topic"), process=ended),
        Evidence("family.file", Status.MEASURED, measurements=(Measurement("coverage", 1.0, {}, "1"),), process=ended,
                 settings=settings_of(demanded, "family.file"), rows=({"operator": "*", "sha256": digest},)),
        Evidence("group.sum", Status.MEASURED, measurements=(Measurement("wrong", 0, {}, "1"),), process=ended,
                 settings=settings_of(demanded, "group.sum"), accelerators=both),
        Evidence("group.work", Status.MEASURED, measurements=(Measurement("faults", 0, {}, "1"),), process=ended,
                 settings={**settings_of(demanded, "group.work"), "seconds": 60.0}, accelerators=both),
        Evidence("family.hangs", Status.TIMEOUT, reason="not finished within 180 s", attempts=2, process={"exit_code": -9}),
        Evidence("family.lost", Status.SKIPPED, reason="there is none here", attempts=1, process=ended),
    ]  # fmt: skip


def waivers() -> tuple[Waiver, ...]:
    """One that holds, and one whose last day has passed."""
    return (
        Waiver("waived", "sim:*", "The model does not use it.", "Ada", "2027-01-31"),
        Waiver("expired", "*", "It did not matter.", "Grace", "2026-10-31"),
    )


def small(folder: Path, **changes: Any) -> Assessment:
    """Two simulated chips, and one of another host that joined them."""
    demanded = profile(folder)
    facts = [
        AcceleratorFacts(f"sim:{number}", "sim", number, "sim", "Acme", "A1", f"S{number}", software={"torch": "2.9"})
        for number in range(2)
    ]
    items = tuple(judge(demanded, one, evidence(demanded), waivers=waivers(), today=TODAY, chips=3) for one in facts)
    made = build.assessment(
        *items,
        started=f"{TODAY}T10:00:00Z",
        profile_name=demanded.name,
        profile_title=demanded.title,
        profile_sha256=demanded.sha256,
        joined=(Joined("node2", "node2/sim:0", "sim"),),
        basis=profiles.basis_of(demanded, CHECKLIST),
    )
    return replace(made, **changes)
