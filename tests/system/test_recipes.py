"""The recipes of docs/reports.md: configuration is parsed, scripts are checked and run with a stand-in for what they call."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from readiness.errors import Exit
from readiness.rendering import formats
from tests.support.paths import ROOT

TEXT = (ROOT / "docs" / "reports.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def configuration(word: str) -> Any:
    """The one block of YAML that contains a word, as YAML's reader has it."""
    (found,) = [text for text in blocks("yaml") if word in text]
    return yaml.safe_load(found)


def accepted(line: str) -> bool:
    """Whether the command line takes these words."""
    from typer.main import get_command

    from readiness.cli import app

    words = shlex.split(line)
    command = get_command(app).commands[words[1]]  # type: ignore[attr-defined]
    command.make_context(words[1], words[2:], resilient_parsing=True)
    options = {option for parameter in command.params for option in parameter.opts}
    assert all(word.partition("=")[0] in options for word in words[2:] if word.startswith("-")), line
    for position, word in enumerate(words):
        if word == "-f":
            formats.parse_request(words[position + 1], {**formats.suffixes(), "xlsx": ".xlsx"})
    return True


def test_every_format_is_in_the_table() -> None:
    named = set(re.findall(r"^\| `([a-z]+)` \|", TEXT, re.MULTILINE))
    assert named == set(formats.suffixes()) - {"summary"}


def test_github() -> None:
    job = configuration("codeql-action")["jobs"]["readiness"]
    (run,) = [step["run"] for step in job["steps"] if "run" in step]
    assert accepted(run)
    assert job["permissions"]["security-events"] == "write"
    (upload,) = [step["with"]["sarif_file"] for step in job["steps"] if "upload-sarif" in step.get("uses", "")]
    assert f"sarif={upload}" in run


def test_gitlab() -> None:
    job = configuration("artifacts")["readiness"]
    (script,) = job["script"]
    assert accepted(script)
    assert f"junit={job['artifacts']['reports']['junit']}" in script
    assert job["allow_failure"] == {"exit_codes": int(Exit.UNDETERMINED)}


def test_jenkins() -> None:
    (text,) = blocks("groovy")
    (script,) = re.findall(r"sh '(.*)'", text)
    assert accepted(script)
    assert text.count("{") == text.count("}")
    for file in re.findall(r"(?:junit|pattern:|archiveArtifacts) '(.*?)'", text):
        assert f"={file}" in script


def test_kubernetes() -> None:
    pod = configuration("initContainers")
    (first,) = pod["spec"]["initContainers"]
    assert accepted(shlex.join(first["command"]))
    assert first["resources"] == pod["spec"]["containers"][0]["resources"]
    detector = json.loads(blocks("json")[0])
    conditions = {condition["type"] for condition in detector["conditions"]}
    assert {rule["condition"] for rule in detector["rules"]} == conditions


def test_prometheus() -> None:
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    from tests.support import build

    rules = configuration("groups")["groups"][0]["rules"]
    text = formats.render("openmetrics", build.everything())
    there = {family.name for family in text_string_to_metric_families(text)}  # type: ignore[no-untyped-call]
    named = {name for rule in rules for name in re.findall(r"readiness_[a-z_]+", rule["expr"])}
    assert named
    assert named <= there
    verdicts = {word for rule in rules for word in re.findall(r'verdict="(.*?)"', rule["expr"])}
    assert all(f'verdict="{word}"' in text for word in verdicts)


def test_nagios() -> None:
    (line,) = re.findall(r"^command\[check_readiness\]=(.*)$", TEXT, re.MULTILINE)
    assert accepted(line)
    assert "--exit-style nagios" in line


SCRIPTS = [text for text in blocks("sh") if text.startswith("#!")]


@pytest.mark.parametrize("number", range(len(SCRIPTS)))
def test_scripts_are_sound(number: int, tmp_path: Path) -> None:
    assert len(SCRIPTS) == 3
    file = tmp_path / "script.sh"
    file.write_text(SCRIPTS[number])
    subprocess.run(["sh", "-n", str(file)], check=True, timeout=120)
    if shutil.which("shellcheck"):
        done = subprocess.run(["shellcheck", str(file)], capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout
    for line in re.findall(r"readiness (?:run|judge)[^\n)]*", SCRIPTS[number]):
        assert accepted(line)


def play(script: str, code: int, folder: Path) -> tuple[int, str]:
    """The exit code of a script, where readiness exits with this one, and what it told others."""
    tools = {"readiness": f"echo 'a line; $(touch {folder}/owned)'\nexit {code}", "hostname": "echo node-7"}
    tools |= {name: f'echo {name} "$@" >> {folder}/told' for name in ("scontrol", "logger")}
    for name, body in tools.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    (folder / "told").write_text("")
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=False, timeout=120,
        env={"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
    )  # fmt: skip
    assert not (folder / "owned").exists()
    return done.returncode, (folder / "told").read_text()


@pytest.mark.parametrize("code", [0, 1, 2, 3, 70, 130])
def test_what_the_scripts_make_of_each_exit_code(code: int, tmp_path: Path) -> None:
    health, prolog, detector = SCRIPTS
    ended, text = play(health, code, tmp_path)
    assert ended == 0
    assert ("scontrol update NodeName=node-7 State=DRAIN Reason=readiness: a line" in text) == (code == Exit.NOT_READY)
    assert play(prolog, code, tmp_path)[0] == (1 if code == Exit.NOT_READY else 0)
    assert play(detector, code, tmp_path)[0] == {0: 0, 1: 1}.get(code, 2)
