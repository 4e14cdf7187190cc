"""The command line as a user meets it: exit codes, streams, speed of thought, and one clear error for each mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from readiness.__main__ import main
from readiness.cli.run import _hints
from readiness.errors import Exit
from tests.support.command_line import CODE, CODE_WITHOUT_TORCH, readiness
from tests.support.engine import MISBEHAVING, write_profile
from tests.support.paths import ROOT
from tests.unit.documents.test_assessment import HOSTILE as HOSTILE_ASSESSMENTS
from tests.unit.profile.test_loader import HOSTILE as HOSTILE_PROFILES
from tests.unit.rendering.test_log_commands import obeyed


@pytest.mark.parametrize("arguments", [("--help",), ("list",), ("list", "profiles"), ("explain", "parity.matmul"), ("schema", "profile"), ("rehearse", "--help"), ("rehearse", "--kinds")])
def test_what_needs_no_device_needs_no_torch(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    code = (
        "import sys, atexit; atexit.register(lambda: print('torch' in sys.modules, 'numpy' in sys.modules, file=sys.stderr)); "
        + CODE
    )
    result = readiness(*arguments, state=tmp_path, code=code)
    assert result.returncode == Exit.READY, result.stderr
    assert result.stderr.split() == ["False", "False"]
    assert result.stdout


def test_the_options_of_run_are_a_promise(tmp_path: Path) -> None:
    """Adding is compatible; what users have in their scripts stays."""
    text = readiness("run", "--help", state=tmp_path).stdout
    for option in (
        "--profile", "--use", "--device", "-k", "--within", "--failed", "--resume", "--checks", "--timeout", "--seed",
        "--waivers", "--fail-on", "--format", "-f", "--quiet", "-q", "--verbose", "-v", "--no-color", "--rehearse",
        "--soak", "--host", "--reach", "--address", "--shared",
    ):  # fmt: skip
        assert option in text
    commands = readiness("--help", state=tmp_path).stdout
    for command in ("run", "judge", "report", "devices", "list", "explain", "rehearse", "schema"):
        assert f"\n  {command} " in commands


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_profile(tmp_path_factory.mktemp("profile") / "test.toml", ["trouble.well"])


def test_ready_is_0_with_data_on_stdout_and_progress_on_stderr(tmp_path: Path, profile: Path) -> None:
    """With torch, which the other runs of this file have a stand-in for."""
    result = readiness("run", "--profile", str(profile), "--checks", str(MISBEHAVING), state=tmp_path, code=CODE)
    assert result.returncode == Exit.READY, result.stderr
    assert "READY" in result.stdout
    assert "trouble.well" in result.stderr
    assert "\x1b" not in result.stdout + result.stderr


def test_a_run_ends_with_a_summary_and_where_to_read_all_of_it(tmp_path: Path) -> None:
    file = write_profile(tmp_path / "test.toml", [f"trouble.{way}" for way in ("segfaults", "raises", "skips", "not_a_number", "well")])
    arguments = ("run", "-p", str(file), "--checks", str(MISBEHAVING))
    result = readiness(*arguments, state=tmp_path)
    assert result.returncode == Exit.NOT_READY
    lines = result.stdout.splitlines()
    assert len(lines) <= 18
    assert "more     readiness report" in lines
    (saved,) = [line.split()[1] for line in lines if line.startswith("saved ")]
    document = json.loads(Path(saved).expanduser().read_text())
    assert document["accelerators"][0]["verdicts"]["training"]["verdict"] == "not ready"
    assert "explain  readiness explain trouble.not_a_number" in lines
    table = readiness(*arguments, "-f", "table", state=tmp_path).stdout
    assert "TIME OF EACH CHECK" in table
    assert len(table.splitlines()) > 15
    assert "TIME OF EACH CHECK" in readiness(*arguments, "-v", state=tmp_path).stdout
    summary = tmp_path / "summary.txt"
    both = readiness(*arguments, "-f", f"summary={summary}", "-f", "table", state=tmp_path)
    assert "TIME OF EACH CHECK" in both.stdout
    assert "more     readiness report" in summary.read_text()


def test_a_stopped_run_reports_how_to_resume_and_read_it(tmp_path: Path) -> None:
    code = CODE_WITHOUT_TORCH.replace(
        "from readiness.__main__",
        "from dataclasses import replace; from readiness.engine import runner; run = runner.run; "
        "runner.run = lambda *a: replace(run(*a), interrupted=True); from readiness.__main__",
    )
    file = write_profile(tmp_path / "test.toml", ["trouble.well"])
    result = readiness("run", "-p", str(file), "--checks", str(MISBEHAVING), state=tmp_path, code=code)
    assert result.returncode == Exit.INTERRUPTED
    assert "INTERRUPTED" in result.stdout
    (command,) = [line.split(maxsplit=1)[1] for line in result.stdout.splitlines() if line.startswith("more ")]
    again = readiness(*command.split()[1:], state=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("INTERRUPTED")


def test_hints_are_short_at_home_and_can_be_pasted_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    at_home, elsewhere = tmp_path / "home" / "runs" / "1", tmp_path / "a folder"
    assert _hints(at_home) == {
        "saved": "~/runs/1/assessment.json", "more": "readiness report", "explain": "readiness explain REQUIREMENT",
    }  # fmt: skip
    stopped = _hints(elsewhere)
    assert stopped["saved"] == str(elsewhere / "assessment.json")
    assert stopped["more"] == "readiness report"  # it takes the interrupted run too


@pytest.mark.parametrize(("fail_on", "red", "code"), [("must", 0, Exit.READY), ("should", 1, Exit.NOT_READY), ("never", 0, Exit.READY)])
def test_junit_is_red_where_the_exit_code_is(tmp_path: Path, fail_on: str, red: int, code: Exit) -> None:
    file = write_profile(tmp_path / "test.toml", ["trouble.well", "trouble.not_a_number"])
    file.write_text(file.read_text() + 'level = "should"\n')
    report, saved = tmp_path / "j.xml", tmp_path / "a.json"
    result = readiness(
        "run", "-p", str(file), "--use", "training", "--checks", str(MISBEHAVING), "--fail-on", fail_on, "-f", f"junit={report}",
        "-f", f"json={saved}", "-q", state=tmp_path,
    )  # fmt: skip
    assert result.returncode == code, result.stderr
    assert f'failures="{red}" errors="0"' in report.read_text()
    again = readiness("report", str(saved), "--fail-on", fail_on, "-f", "junit", state=tmp_path)
    assert again.returncode == Exit.READY
    assert again.stdout == report.read_text()
    judged = readiness(
        "judge", str(saved), "-p", str(file), "--use", "training", "--checks", str(MISBEHAVING), "--fail-on", fail_on,
        "-f", "junit", state=tmp_path,
    )  # fmt: skip
    assert judged.returncode == code
    assert judged.stdout == report.read_text()


@pytest.mark.parametrize(
    ("way", "code"),
    [("segfaults", Exit.NOT_READY), ("skips", Exit.UNDETERMINED), ("raises", Exit.UNDETERMINED), ("not_a_number", Exit.NOT_READY)],
)
def test_the_exit_code_is_the_verdict(tmp_path: Path, way: str, code: Exit) -> None:
    file = write_profile(tmp_path / "test.toml", [f"trouble.{way}", "trouble.well"])
    result = readiness("run", "-p", str(file), "--checks", str(MISBEHAVING), "-q", state=tmp_path)
    assert result.returncode == code, result.stderr
    assert len(result.stdout.splitlines()) == 1
    assert len(result.stdout.rstrip("\n")) <= 80
    assert result.stderr == ""
    never = readiness("run", "-p", str(file), "--checks", str(MISBEHAVING), "-q", "--fail-on", "never", state=tmp_path)
    assert never.returncode == Exit.READY


def test_saved_evidence_is_judged_and_reported_again_without_hardware(tmp_path: Path, profile: Path) -> None:
    checks = ("--checks", str(MISBEHAVING))
    saved = tmp_path / "a.json"
    first = readiness("run", "-p", str(profile), *checks, "-f", f"json={saved}", "-f", "junit=" + str(tmp_path / "j.xml"), state=tmp_path)
    assert first.returncode == Exit.READY, first.stderr
    assert "READY" in first.stdout
    assert (tmp_path / "j.xml").read_text().startswith("<?xml")
    again = readiness("judge", str(saved), "-p", str(profile), *checks, "-f", "json", state=tmp_path)
    assert again.returncode == Exit.READY, again.stderr
    before, after = json.loads(saved.read_text()), json.loads(again.stdout)
    assert after["accelerators"] == before["accelerators"]
    more = write_profile(tmp_path / "more.toml", ["trouble.well", "trouble.raises"])
    stricter = readiness("judge", str(saved), "-p", str(more), *checks, state=tmp_path)
    assert stricter.returncode == Exit.UNDETERMINED
    assert "was not run" in stricter.stdout
    result = readiness("report", str(saved), "-f", "markdown", state=tmp_path)
    assert result.returncode == 0
    assert result.stdout.startswith("#")


def test_the_last_run_gives_the_failed_ones(tmp_path: Path) -> None:
    checks = ("--checks", str(MISBEHAVING))
    file = str(write_profile(tmp_path / "test.toml", ["trouble.well", "trouble.raises"]))
    none = readiness("run", "-p", file, *checks, "--failed", state=tmp_path)
    assert none.returncode == Exit.USAGE
    assert "there is no last run" in none.stderr
    whole, failed = tmp_path / "whole.json", tmp_path / "failed.json"
    readiness("run", "-p", file, *checks, "-q", "-f", f"json={whole}", state=tmp_path)
    readiness("run", "-p", file, *checks, "--failed", "-q", "-f", f"json={failed}", state=tmp_path)
    evidence = {item["check"]: item for item in json.loads(failed.read_text())["accelerators"][0]["evidence"]}
    assert evidence["trouble.raises"]["status"] == "error"
    assert "earlier" not in evidence["trouble.raises"]
    assert evidence["trouble.well"]["status"] == "measured"
    assert evidence["trouble.well"]["earlier"] == json.loads(whole.read_text())["started"]


def test_within_is_kept(tmp_path: Path) -> None:
    """As if the time had passed by the time that the first of two checks has ended, however late a busy host lets it end."""
    code = CODE_WITHOUT_TORCH.replace(
        "from readiness.__main__",
        "from readiness.engine.runner import _Run; keep = _Run.keep; "
        "_Run.keep = lambda run, *a: (keep(run, *a), setattr(run, 'began', run.began - 600)); from readiness.__main__",
    )
    file = str(write_profile(tmp_path / "test.toml", ["trouble.ignores_signals", "trouble.well"]))
    result = readiness(
        "run", "-p", file, "--checks", str(MISBEHAVING), "--timeout", "600", "--within", "600s", "-f", "json", state=tmp_path, code=code
    )
    assert result.returncode == Exit.UNDETERMINED, result.stderr
    document = json.loads(result.stdout)
    evidence = {item["check"]: item for item in document["accelerators"][0]["evidence"]}
    assert evidence["trouble.well"]["status"] == "measured"
    assert "--within" in evidence["trouble.ignores_signals"]["reason"]
    assert evidence["trouble.ignores_signals"]["cause"] == "time-up"


def test_waivers_are_shown_and_never_hide_the_unknown(tmp_path: Path) -> None:
    file = str(write_profile(tmp_path / "test.toml", ["trouble.segfaults", "trouble.well"]))
    waivers = tmp_path / "waivers.toml"
    waivers.write_text(
        'schema = "readiness.waivers/1"\n[[waive]]\nrequirement = "trouble.segfaults"\naccelerator = "cpu:*"\n'
        'reason = "known, ticket 7"\nby = "the owner"\nuntil = "2999-01-01"\n'
    )
    arguments = ("run", "-p", file, "--checks", str(MISBEHAVING), "--waivers", str(waivers), "-f", "table")
    waived = readiness(*arguments, state=tmp_path)
    assert waived.returncode == Exit.READY, waived.stderr
    assert "known, ticket 7" in waived.stdout
    assert "the owner" in waived.stdout
    waivers.write_text(waivers.read_text().replace("2999", "2001"))
    expired = readiness(*arguments, state=tmp_path)
    assert expired.returncode == Exit.NOT_READY
    assert "2001-01-01" in expired.stdout


HOSTILE_WAIVERS = {
    "no reason": 'reason = ""',
    "a blank name": 'by = "  "',
    "a day that is none": 'until = "2027-02-30"',
    "a date, not text": "until = 2027-01-01",
    "another requirement": 'requirement = "nobody"',
    "an unknown key": 'because = "x"',
}


@pytest.mark.parametrize("name", HOSTILE_WAIVERS)
def test_hostile_waivers(tmp_path: Path, profile: Path, name: str) -> None:
    entry = {"requirement": '"trouble.well"', "accelerator": '"*"', "reason": '"r"', "by": '"b"', "until": '"2027-01-01"'}
    key, _, value = HOSTILE_WAIVERS[name].partition(" = ")
    entry[key] = value
    file = tmp_path / "waivers.toml"
    file.write_text('schema = "readiness.waivers/1"\n[[waive]]\n' + "".join(f"{key} = {value}\n" for key, value in entry.items()))
    result = readiness("run", "-p", str(profile), "--checks", str(MISBEHAVING), "--waivers", str(file), state=tmp_path)
    assert result.returncode == Exit.USAGE
    assert f"{file}:" in result.stderr
    assert "remedy:" in result.stderr
    assert "Traceback" not in result.stderr


MISTAKES = {
    "no such command": ("runn",),
    "no such option": ("run", "--profil", "smoke"),
    "no such profile": ("run", "--profile", "smok"),
    "no such device": ("run", "--device", "cuda:99", "--profile", "PROFILE", "--checks", "CHECKS"),
    "no such use": ("run", "--use", "gaming"),
    "no such format": ("run", "-f", "jsn=a.json"),
    "no such folder for a report": ("run", "-f", "json=/no/such/folder/a.json"),
    "a report into a folder": ("run", "-f", "json=/"),
    "twice the same report": ("run", "-f", "json", "-f", "json"),
    "is not a duration": ("run", "--within", "soon"),
    "a negative time": ("run", "--timeout=-5s"),
    "a time that is not a number": ("run", "--within", "nan"),
    "a seed out of range": ("run", "--seed", "-1"),
    "an expression": ("run", "-k", "and and", "--profile", "PROFILE", "--checks", "CHECKS"),
    "no such checks": ("run", "--checks", "/no/such/folder"),
    "no such assessment": ("judge", "/no/such/file.json"),
    "a folder to judge": ("judge", "/"),
    "nothing to judge": ("judge",),
    "a journal that cannot be": ("run", "--resume", "/proc/no/such"),
    "nothing to explain": ("explain", "parity.matmull"),
    "no such schema": ("schema", "everything"),
    "an empty profile": ("run", "--profile", ""),
    "an empty folder of checks": ("list", "--checks", ""),
    "an empty journal": ("run", "--resume", ""),
    "an empty assessment": ("judge", ""),
    "an empty output": ("trace", "a:b", "--output", ""),
    "a folder's name that is too long": ("list", "--checks", "x" * 300),
    "an output's name that is too long": ("trace", "a:b", "--output", "x" * 5000),
    "a profile's name that is too long": ("run", "--profile", "x" * 100_000),
    "an id that is too long": ("explain", "x" * 100_000),
    "a word that is too long": ("schema", "x" * 100_000),
    "rows of an id that is too long": ("report", "/dev/null", "--rows", "x" * 100_000),
    "a link to itself": ("run", "--profile", "LOOP"),
    "a link to itself as a folder": ("list", "--checks", "LOOP"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_clear_error(tmp_path: Path, profile: Path, name: str) -> None:
    (tmp_path / "loop.toml").symlink_to(tmp_path / "loop.toml")
    meant = {"PROFILE": str(profile), "CHECKS": str(MISBEHAVING), "LOOP": str(tmp_path / "loop.toml")}
    arguments = [meant.get(word, word) for word in MISTAKES[name]]
    result = readiness(*arguments, state=tmp_path)
    assert result.returncode == Exit.USAGE, (result.stdout, result.stderr)
    assert "Traceback" not in result.stderr
    assert 0 < len(result.stderr) < 20_000
    assert result.stdout == ""


@pytest.mark.parametrize("error", ["EOFError()", "BrokenPipeError(32, 'Broken pipe')", "SystemExit(1)", "SystemExit(0)"])
def test_no_other_way_out_reads_as_a_verdict(tmp_path: Path, error: str) -> None:
    code = (
        "from readiness import check_registry\n"
        f"def fails(): raise {error}\n"
        "check_registry.shipped = fails\n"
        "from readiness.__main__ import main; main()"
    )
    result = readiness("list", state=tmp_path, code=code)
    assert (result.returncode, result.stdout) == (Exit.INTERNAL, ""), result


@pytest.mark.parametrize("value", ["complete_bash", "source_bash", "complete_zsh", "bogus", ""])
def test_a_variable_of_completion_ends_no_command(tmp_path: Path, value: str) -> None:
    """Left behind in an environment, it would have a run end with the code of READY, having measured nothing."""
    result = readiness("judge", "/no/such/file.json", state=tmp_path, _READINESS_COMPLETE=value)
    assert result.returncode == Exit.USAGE, result
    assert "no such file" in result.stderr


@pytest.mark.parametrize("words", [{}, {"COMP_WORDS": "readiness run", "COMP_CWORD": "x"}, {"COMP_WORDS": "readiness run '", "COMP_CWORD": "2"}])
def test_a_completion_that_cannot_be_is_no_verdict(tmp_path: Path, words: dict[str, str]) -> None:
    result = readiness(state=tmp_path, _READINESS_COMPLETE="complete_bash", **words)
    assert result.returncode in (Exit.USAGE, Exit.READY), result
    assert "Traceback" not in result.stderr
    assert readiness(state=tmp_path, _READINESS_COMPLETE="bogus").returncode == Exit.USAGE


def test_a_broken_check_file_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "broken.py").write_text("x = 1\nimport no_such_module_at_all\n")
    result = readiness("list", "--checks", str(tmp_path / "checks"), state=tmp_path)
    assert result.returncode == Exit.USAGE
    assert "broken.py:2" in result.stderr
    assert "remedy:" in result.stderr


def test_two_checks_of_one_id_are_refused_with_both_places(tmp_path: Path) -> None:
    (tmp_path / "checks" / "trouble").mkdir(parents=True)
    text = (MISBEHAVING / "trouble" / "ways.py").read_text()
    (tmp_path / "checks" / "trouble" / "others.py").write_text(text)
    result = readiness("list", "--checks", str(tmp_path / "checks"), "--checks", str(MISBEHAVING), state=tmp_path)
    assert result.returncode == Exit.USAGE
    assert "others.py:" in result.stderr
    assert "ways.py:" in result.stderr


def test_a_file_of_the_same_name_in_two_folders_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checks" / "trouble").mkdir(parents=True)
    (tmp_path / "checks" / "trouble" / "ways.py").write_text("")
    result = readiness("list", "--checks", str(tmp_path / "checks"), "--checks", str(MISBEHAVING), state=tmp_path)
    assert result.returncode == Exit.USAGE
    assert "share the name" in result.stderr


def test_an_internal_fault_is_70_never_1(tmp_path: Path) -> None:
    code = "from readiness import check_registry; check_registry.shipped = lambda: 1 / 0; from readiness.__main__ import main; main()"
    result = readiness("list", state=tmp_path, code=code)
    assert result.returncode == Exit.INTERNAL
    assert "internal fault" in result.stderr


def test_a_reader_that_leaves_early_changes_no_exit_code(tmp_path: Path, profile: Path) -> None:
    command = [sys.executable, "-P", "-c", CODE_WITHOUT_TORCH, "run", "-p", str(profile), "--checks", str(MISBEHAVING), "-f", "json"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=240) == Exit.READY


def test_a_state_folder_that_cannot_be_written_is_no_obstacle(tmp_path: Path, profile: Path) -> None:
    (tmp_path / "file").write_text("")
    result = readiness("run", "-p", str(profile), "--checks", str(MISBEHAVING), "-q", state=tmp_path / "file")
    assert result.returncode == Exit.READY, result.stderr


def test_devices_are_listed_as_table_and_json(tmp_path: Path) -> None:
    table = readiness("devices", state=tmp_path)
    assert table.returncode == 0, table.stderr
    assert "cpu:0" in table.stdout
    document = json.loads(readiness("devices", "-f", "json", state=tmp_path).stdout)
    assert [item["id"] for item in document["accelerators"]] == ["cpu:0"]


def test_a_broken_stack_is_not_replaced_by_the_cpu(tmp_path: Path, profile: Path) -> None:
    """A driver that fails must not turn into a good word for the CPU: the device is there, and nothing is known of it."""
    code = CODE_WITHOUT_TORCH.replace("('cpu',)", "('cuda', 'cpu')").replace(
        "from readiness.__main__",
        "import readiness.engine.discovery as d; d.discover = lambda pool, f=d.discover, **limits: d.Discovery("
        "f(pool, **limits).accelerators, {}, {'cuda': 'the driver and its library do not fit'}); from readiness.__main__",
    )
    result = readiness("run", "-p", str(profile), "--checks", str(MISBEHAVING), "-f", "table", state=tmp_path, code=code)
    assert result.returncode == Exit.UNDETERMINED, result.stderr
    assert "cuda:0" in result.stdout
    assert "the driver and its library do not fit" in result.stdout


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_obstacle(tmp_path: Path, profile: Path, closed: str) -> None:
    report = tmp_path / "a.json"
    script = f'exec "$0" "$@" {closed}'
    command = [sys.executable, "-P", "-c", CODE_WITHOUT_TORCH, "run", "-p", str(profile), "--checks", str(MISBEHAVING), "-f", f"json={report}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path)}
    result = subprocess.run(["sh", "-c", script, *command], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == Exit.READY, result.stderr
    assert json.loads(report.read_text())["accelerators"][0]["evidence"][0]["status"] == "measured"


def test_a_full_disk_is_an_error_and_nothing_is_lost(tmp_path: Path, profile: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    run_folder = tmp_path / "run"
    arguments = ("run", "-p", str(profile), "--checks", str(MISBEHAVING), "--resume", str(run_folder))
    failed = readiness(*arguments, "-f", "json=/dev/full", state=tmp_path)
    assert failed.returncode == Exit.USAGE
    assert "No space left" in failed.stderr
    again = readiness("run", "--checks", str(MISBEHAVING), "--resume", str(run_folder), "-q", state=tmp_path)
    assert again.returncode == Exit.READY, again.stderr


@pytest.mark.parametrize("kind", ["profiles", "assessments"])
def test_hostile_files_at_the_command_line(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every hostile file of the other tests, through the front door: exit 2, the file named, a remedy, no traceback."""
    contents = (
        {name: text for name, (text, _) in HOSTILE_PROFILES.items()}
        if kind == "profiles"
        else {name: make() for name, (make, *_) in HOSTILE_ASSESSMENTS.items()}
    )
    assert len(contents) >= 30
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for name, content in contents.items():
        file = tmp_path / ("test.toml" if kind == "profiles" else "a.json")
        file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        arguments = ["run", "-d", "cpu", "-p", str(file)] if kind == "profiles" else ["judge", str(file)]
        monkeypatch.setattr(sys, "argv", ["readiness", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        output = capsys.readouterr()
        assert left.value.code == Exit.USAGE, (name, output.err)
        assert str(file) in output.err, name
        assert "remedy:" in output.err, name
        assert "Traceback" not in output.err, name
        assert "\x1b" not in output.err, name
        assert output.out == "", name


@pytest.mark.parametrize("gone", ["2>/dev/full", "2> >(head -1 >/dev/null)", "2>&1 >/dev/null | head -1"])
def test_messages_that_nobody_can_read_change_no_exit_code(tmp_path: Path, gone: str) -> None:
    file = write_profile(tmp_path / "test.toml", ["trouble.well", "trouble.prints_rubbish"])
    command = f'"$0" -P -c "$1" run -p {file} --checks {MISBEHAVING} -v -f json={tmp_path / "a.json"} {gone}; echo "code ${{PIPESTATUS[0]}}"'
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path)}
    result = subprocess.run(
        ["bash", "-c", command, sys.executable, CODE_WITHOUT_TORCH], env=environment, capture_output=True, text=True, check=False, timeout=240
    )
    assert result.stdout.splitlines()[-1] == "code 0", result
    assert len(json.loads((tmp_path / "a.json").read_text())["accelerators"][0]["evidence"]) == 2


@pytest.mark.parametrize("command", ["list", "--help", "schema profile", "explain smoke"])
def test_data_that_find_no_room_are_an_error_and_a_reader_that_left_is_none(tmp_path: Path, command: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path)}
    for redirected, code in ((">/dev/full", Exit.USAGE), ("| true", Exit.READY)):
        shell = f'"$0" -P -c "$1" {command} {redirected}; echo "code ${{PIPESTATUS[0]}}"'
        result = subprocess.run(
            ["bash", "-c", shell, sys.executable, CODE], env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert result.stdout.splitlines()[-1] == f"code {int(code)}", (redirected, result)
        assert "Traceback" not in result.stderr
        assert ("standard output" in result.stderr) == (code is Exit.USAGE)


def test_evidence_with_other_settings_is_unknown_for_a_profile(tmp_path: Path) -> None:
    checks = ("--checks", str(MISBEHAVING))
    lax = tmp_path / "lax.toml"
    text = write_profile(lax, ["trouble.well"]).read_text()
    lax.write_text(text.replace("[[require]]", '[settings."trouble.well"]\nwanted = 5.0\n[[require]]', 1))
    strict = write_profile(tmp_path / "strict.toml", ["trouble.well"])
    saved = tmp_path / "a.json"
    assert readiness("run", "-p", str(lax), *checks, "-q", "-f", f"json={saved}", state=tmp_path).returncode == Exit.READY
    assert readiness("judge", str(saved), "-p", str(lax), *checks, state=tmp_path).returncode == Exit.READY
    result = readiness("judge", str(saved), "-p", str(strict), *checks, state=tmp_path)
    assert result.returncode == Exit.UNDETERMINED
    assert "it was measured with wanted = 5.0, but this profile requires 1.0" in " ".join(result.stdout.split())
    alone = readiness("judge", str(saved), *checks, state=tmp_path)
    assert alone.returncode == Exit.USAGE
    assert "which is not a shipped profile" in alone.stderr
    quiet = readiness("judge", str(saved), "-p", str(lax), *checks, "-q", "-f", "json", state=tmp_path)
    assert json.loads(quiet.stdout)["accelerators"], "the line has no place behind a document"


def test_less_time_than_a_check_may_take_proves_nothing(tmp_path: Path) -> None:
    file = str(write_profile(tmp_path / "test.toml", ["trouble.hangs"]))
    result = readiness("run", "-p", file, "--checks", str(MISBEHAVING), "--timeout", "0.2", "-f", "table", state=tmp_path)
    assert result.returncode == Exit.UNDETERMINED
    assert "--timeout is shorter than its own time limit of 3 s" in " ".join(result.stdout.split())


def test_a_finished_run_is_reported_again_with_its_own_date(tmp_path: Path) -> None:
    file = str(write_profile(tmp_path / "test.toml", ["trouble.well"]))
    arguments = ("run", "--checks", str(MISBEHAVING), "--resume", str(tmp_path / "run"), "-q", "-f")
    readiness(*arguments, f"json={tmp_path / 'a.json'}", "-p", file, state=tmp_path)
    loud = [argument for argument in arguments if argument != "-q"]
    assert readiness(*arguments, f"json={tmp_path / 'b.json'}", state=tmp_path).stderr == ""
    result = readiness(*loud, f"json={tmp_path / 'b.json'}", state=tmp_path)
    first, again = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert again["started"] == first["started"]
    assert f"nothing was measured: the run that began at {first['started']}" in result.stderr
    request = json.loads((tmp_path / "run" / "run.json").read_text())
    for change in ({"seed": "x"}, {"profile": 5}, {"devices": None}, {"uses": ["bogus"]}, {"only": [1]}, {"within_s": "1"}):
        (tmp_path / "run" / "run.json").write_text(json.dumps(request | {"asked": request["asked"] | change}))
        result = readiness("run", "--resume", str(tmp_path / "run"), "-q", state=tmp_path)
        assert result.returncode == Exit.USAGE, (change, result)
        assert "this is not a run.json of readiness" in result.stderr


def test_a_profile_drives_no_terminal(tmp_path: Path) -> None:
    file = write_profile(tmp_path / "test.toml", ["trouble.well"])
    file.write_text(file.read_text() + 'why = "\\u001b[31mred\\u0007 \\u202e"\n')
    result = readiness("explain", str(file), "--checks", str(MISBEHAVING), state=tmp_path)
    assert result.returncode == Exit.READY, result.stderr
    assert "red" in result.stdout
    assert not set(result.stdout) & {"\x1b", "\x07", "\u202e"}


HOSTILE_CHECK = '''
from collections.abc import Iterator
from readiness import Accelerator, Measurement, check


@check("odd.one", title="Odd \\x1b[31mred\\x07 \\u202e\\x7f ##vso[task.complete]\\n::error::boom", measures={"figure": "\\x9bs"})
def one(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is it \\x1b[2J odd?

    ::error::boom
    ##vso[task.complete result=Succeeded]
    """
    yield Measurement("figure", 1.0)
'''


@pytest.mark.parametrize("command", [("list",), ("list", "-f", "json"), ("explain", "odd.one")])
def test_a_check_file_drives_neither_terminal_nor_pipeline(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "checks" / "odd").mkdir(parents=True)
    (tmp_path / "checks" / "odd" / "one.py").write_text(HOSTILE_CHECK)
    result = readiness(*command, "--checks", str(tmp_path / "checks"), state=tmp_path)
    assert result.returncode == Exit.READY, result.stderr
    assert "odd" in result.stdout
    assert not set(result.stdout) & {"\x1b", "\x07", "\x7f", "\x9b", "\u202e"}
    assert not obeyed(result.stdout)
    if command[-1] == "json":
        (row,) = [row for row in json.loads(result.stdout)["checks"] if row["id"] == "odd.one"]
        assert row["title"].endswith("##vso[task.complete]\n::error::boom")


def test_the_traceback_of_an_internal_fault_drives_no_terminal(tmp_path: Path) -> None:
    code = (
        "from readiness import check_registry\n"
        "def fault(): raise ValueError('\\x1b[2J \\u202e\\n::error::boom\\n##vso[x]')\n"
        "check_registry.shipped = fault\n"
        "from readiness.__main__ import main; main()"
    )
    result = readiness("list", state=tmp_path, code=code)
    assert result.returncode == Exit.INTERNAL
    assert r"\x1b[2J \u202e" in result.stderr
    assert not set(result.stderr) & {"\x1b", "\u202e"}
    assert not obeyed(result.stderr)


def test_an_expression_that_fits_nothing_is_a_mistake(tmp_path: Path) -> None:
    file = str(write_profile(tmp_path / "test.toml", ["trouble.well"]))
    result = readiness("run", "-p", file, "--checks", str(MISBEHAVING), "-k", "Well", state=tmp_path)
    assert result.returncode == Exit.USAGE
    assert "no check of the profile test matches" in result.stderr
