"""What tests of the engine share: a profile over some checks, a run in this process, and the look for leftovers."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import psutil
import pytest

from readiness import accelerators, check_registry, package_data
from readiness.datamodel import AcceleratorAssessment, Assessment, Evidence, Use
from readiness.engine import runner
from readiness.engine.journal import Journal
from readiness.isolation.worker_pool import WorkerPool
from readiness.profile import loader
from tests.support import command_server
from tests.support.command_line import WITHOUT_TORCH
from tests.support.paths import CHECKS

MISBEHAVING = CHECKS / "misbehaving"
MANY = CHECKS / "many"


def use_checks(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Add a folder of checks, and look for no other accelerator than the CPU. The tests' own folders need no torch."""
    monkeypatch.setenv(package_data.CHECKS_VARIABLE, str(folder))
    monkeypatch.setattr(accelerators, "NAMES", ("cpu",))
    if folder.is_relative_to(CHECKS):
        without_torch(monkeypatch)


def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of this process hand out workers that have a stand-in for torch."""
    defaults = WorkerPool.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "preload", WITHOUT_TORCH)


def write_profile(
    file: Path, checks: Iterable[str], *, measure: str = "figure", settings: Mapping[str, Mapping[str, Any]] | None = None
) -> Path:
    """A profile that demands a figure of at least 1 of each check, for both uses."""
    text = 'schema = "readiness.profile/1"\nname = "test"\ntitle = "A test"\n'
    for id, values in (settings or {}).items():
        text += f'[settings."{id}"]\n' + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
    for id in checks:
        text += f'[[require]]\nid = "{id}"\ncheck = "{id}"\nmeasure = "{measure}"\nat_least = 0\n'
    file.write_text(text)
    return file


def run(folder: Path, profile_file: Path | str, **options: Any) -> Assessment:
    """A run in this process (its checks in processes of their own, as ever)."""
    found = check_registry.discover()
    chosen = loader.load(str(profile_file), found)
    with Journal(folder) as journal:
        journal.open()
        return runner.run(runner.Request(chosen, found, tuple(Use), **options), journal, runner.Observer())


def evidence_of(assessment: Assessment | AcceleratorAssessment, check: str) -> Evidence:
    """The one piece of evidence of a check."""
    item = assessment.accelerators[0] if isinstance(assessment, Assessment) else assessment
    (found,) = [evidence for evidence in item.evidence if evidence.check == check]
    return found


def children() -> list[psutil.Process]:
    """All living descendants of this process, but for those of the tests: what hands out simulated chips and command lines."""
    helpers = {resource_tracker._resource_tracker._pid, *command_server.processes()}  # type: ignore[attr-defined]
    found: list[psutil.Process] = []
    for child in psutil.Process(os.getpid()).children():
        if child.pid not in helpers:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                found += [child, *child.children(recursive=True)]
    return [child for child in found if lives(child)]


def lives(process: psutil.Process) -> bool:
    """Whether a process has not ended: also where it ends while it is looked at."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def leftovers(environment_value: str) -> list[int]:
    """Processes whose environment carries this folder, under the name by which `many` knows it."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and environment_value in process.environ().get("MANY_TRACE", ""):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def alive(pids: Sequence[int]) -> list[int]:
    """Those of these processes that still live."""
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            if lives(psutil.Process(pid)):
                found.append(pid)
    return found
