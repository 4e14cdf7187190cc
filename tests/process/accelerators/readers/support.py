"""What tests of readers share: fake tools on PATH, a fake libdcmi, recorded outputs, and what a look at them says."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from readiness.accelerators.readers import gather, health, source_process, sources
from readiness.accelerators.readers.contract import Reading, State
from readiness.accelerators.readers.gather import Gathered
from readiness.accelerators.readers.health import HealthFinding
from readiness.datamodel import Action
from readiness.isolation.task_process import TaskProcess

_FAKE_DCMI = Path(__file__).parent / "fake_dcmi.c"

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler here")


def fake_tool(folder: Path, name: str, answers: Mapping[str, str] | str, *, codes: Mapping[str, int] | None = None) -> None:
    """Put a program of this name into a folder. `answers` maps its arguments to what it prints, "*" all others.

    Arguments that have no answer get exit code 1. `codes` are exit codes by arguments.
    """
    folder.mkdir(exist_ok=True)
    lines = ["#!/bin/sh", 'case "$*" in']
    for number, (arguments, text) in enumerate((answers if isinstance(answers, Mapping) else {"*": answers}).items()):
        file = folder / f".{name}.{number}"
        file.write_text(text)
        pattern = "*" if arguments == "*" else f'"{arguments}"'
        lines.append(f'{pattern}) cat "{file}"; exit {(codes or {}).get(arguments, 0)};;')
    write_program(folder / name, "\n".join([*lines, "*) exit 1;;", "esac"]))


def write_program(file: Path, text: str) -> None:
    """A program of these lines."""
    file.parent.mkdir(exist_ok=True)
    file.write_text(text + "\n")
    file.chmod(0o755)


def fake_dcmi(folder: Path, *versions: int) -> None:
    """A libdcmi with these versions of its interface."""
    folder.mkdir(exist_ok=True)
    flags = [f"-DVERSION_{version}" for version in versions]
    subprocess.run(["cc", "-shared", "-fPIC", "-w", *flags, "-o", str(folder / "libdcmi.so"), str(_FAKE_DCMI)], check=True)


def use(monkeypatch: pytest.MonkeyPatch, *, tools: Path | None = None, libraries: Path | None = None, dcmi: str = "") -> None:
    """This process, and those that it starts, find these before all others."""
    if tools is not None:
        monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    if libraries is not None:
        monkeypatch.setenv("LD_LIBRARY_PATH", str(libraries))
    monkeypatch.setenv("FAKE_DCMI", dcmi)


class _Forked(TaskProcess):
    """A process that reads a source, forked from the tests' own in place of a fresh interpreter: a quarter of the time."""

    @classmethod
    def spawn(
        cls, entry: str, request: Mapping[str, Any], *, capture: bool = False, own_group: bool = False
    ) -> TaskProcess:
        assert entry == "readiness.accelerators.readers.source_process:serve"
        return cls.fork(lambda server: source_process.serve(server, request), capture=capture, own_group=own_group)


def look(root: Path, *vendors: str, detail: bool = False, limit_s: float = 100.0, **settings: str) -> Gathered:
    """What the sources of these vendors say now, with time enough for a busy host.

    Programs and files are read by forks of this process. A library is looked for where an interpreter's start says: where
    there is one, and for exporters, each source is read by a fresh interpreter, as users' are.
    """
    here = [source for source in sources.SOURCES if source.vendor in (*vendors, "") and source.is_here(root)]
    with pytest.MonkeyPatch.context() as patch:
        if all(source.tool is not None or (source.files and source.name != "NVML") for source in here):
            patch.setattr(gather, "TaskProcess", _Forked)
        return gather.gather(
            vendors=vendors, stages=("glance", "detail") if detail else ("glance",), root=root, settings=settings,
            glance_limit_s=limit_s, detail_limit_s=limit_s,
        )  # fmt: skip


def faults(reading: Reading) -> list[HealthFinding]:
    """What is wrong with a device, without notes."""
    return [finding for finding in health.judge(reading) if finding.action is not Action.NONE]


def actions(reading: Reading) -> set[str]:
    """What is to be done about a device."""
    return {finding.action.value for finding in faults(reading)}


def present(readings: Iterable[Reading]) -> dict[int | None, dict[str, object]]:
    """The fields that have a value, by the vendor's number of the device."""
    return {
        reading.index: {name: field.value for name, field in reading.fields.items() if field.state is State.PRESENT}
        for reading in readings
    }
