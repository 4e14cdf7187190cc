"""The five commands of docs/fleet.md, each run as it stands there but for the folder, the profile and the length of the run."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from readiness.errors import Exit
from readiness.host.identity import host_name
from tests.support.command_line import readiness
from tests.support.paths import ROOT


def commands() -> list[list[str]]:
    """The words of the five commands, without what stands beside them and without what is said after a semicolon."""
    section = (ROOT / "docs" / "fleet.md").read_text().partition("## Five commands")[2]
    block = section.split("```")[1]
    lines = [line.partition("   ")[0] for line in block.strip().splitlines()]
    return [shlex.split(line) for line in lines]


def test_from_nothing_to_a_fleets_lists_in_five_commands(tmp_path: Path) -> None:
    found = commands()
    assert [words[:3] for words in found] == [
        ["readiness", "run", "--profile"], ["readiness", "fleet", "merge"], ["readiness", "fleet", "report"],
        ["readiness", "fleet", "hosts"], ["readiness", "fleet", "hosts"],
    ]  # fmt: skip
    name = host_name(os.uname().nodename)
    folder, database = tmp_path / "fleet", tmp_path / "fleet.sqlite"
    folder.mkdir()
    said = []
    for words in found:
        here = [
            word.replace("/shared/fleet", str(folder)).replace("fleet.sqlite", str(database)).replace("general", "smoke")
            for word in words[1:]
        ]
        if ">" in here:
            here = here[: here.index(">")]
        if here[0] == "run":
            here += ["-d", "cpu", "-k", "driver.random"]
        said.append(readiness(*here, state=tmp_path))
    run, merged, report, ready, drain = said
    assert run.returncode in (Exit.READY, Exit.UNDETERMINED), run.stderr
    assert (folder / f"{name}.json").exists()
    assert merged.returncode == 0
    assert "1 new" in merged.stderr
    assert report.returncode in (Exit.READY, Exit.UNDETERMINED), report.stderr
    assert "1 host judged by the profile smoke" in " ".join(report.stdout.split())
    assert ready.returncode == drain.returncode == 0
    assert ready.stdout in ("", f"{name}\n")
    assert drain.stdout == "", "a host of which too little is known is not taken out of service"
