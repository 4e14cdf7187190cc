"""`readiness rehearse` and `run --rehearse` as a user meets them: exit codes, streams, files, one clear error a mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from readiness.__main__ import main
from readiness.documents import schema
from readiness.errors import Exit
from readiness.rehearsal.document import NOTICE
from readiness.simulator.faults import kinds
from tests.support.command_line import readiness
from tests.support.rehearsal import CHECKS, chip_file, profile_file


def test_the_options_are_a_promise(tmp_path: Path) -> None:
    """Adding is compatible; what users have in their scripts stays."""
    text = readiness("rehearse", "--help", state=tmp_path).stdout
    for option in (
        "--profile", "--chip", "--seeds", "--seed", "--full", "-k", "--checks", "--timeout", "--jobs", "--kinds", "--format",
        "-f", "--quiet", "-q", "--no-color",
    ):  # fmt: skip
        assert option in text
    assert "not measurements of a product" in " ".join(text.split())


def test_kinds_are_listed_without_torch(tmp_path: Path) -> None:
    result = readiness("rehearse", "--kinds", "-f", "json", state=tmp_path)
    assert result.returncode == Exit.READY, result.stderr
    rows = {row["kind"]: row for row in json.loads(result.stdout)["kinds"]}
    assert set(rows) == set(kinds())
    assert rows["version"]["claimed_by"] == ["driver.stack"]
    text = readiness("rehearse", "--kinds", state=tmp_path).stdout
    for name, kind in kinds().items():
        assert f"\n{name}" in f"\n{text}"
        assert kind.summary.split()[0] in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--chip", "no-such-chip"), "--chip"), (("--chip", "../../etc/passwd"), "passwd"), (("--chip", ""), "--chip"),
        (("--profile", "nonsense"), "nonsense"), (("-f", "pdf"), "--format"), (("-f", "json=/no/such/folder/x"), "--format"),
        (("-k", "(("), "-k"), (("--timeout", "soon"), "--timeout"), (("--seeds", "-1"), "--seeds"), (("--jobs", "0"), "--jobs"),
        (("--kinds", "-f", "html"), "--kinds"), (("--seed", "99999999999"), "--seed"),
    ],
)  # fmt: skip
def test_bad_input_is_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.setattr("sys.argv", ["readiness", "rehearse", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    output = capsys.readouterr()
    assert (left.value.code, output.out) == (Exit.USAGE, ""), output.err
    assert words in output.err


@pytest.mark.parametrize(("check", "word", "code"), [("parity.matmul", "not tried", Exit.UNDETERMINED), ("parity.attention", "caught", Exit.READY)])
def test_a_defect_that_the_chosen_check_cannot_see_is_not_tried(tmp_path: Path, check: str, word: str, code: Exit) -> None:
    """The planted NaN is in the gradient of attention: products of matrices never meet it, whatever they claim."""
    result = readiness("rehearse", "--chip", "nan", "-k", check, "--seeds", "0", "--seed", "7", "-f", "json", state=tmp_path)
    assert result.returncode == code, result.stderr
    (defect,) = json.loads(result.stdout)["defects"]
    assert (defect["result"], defect["missed_by"]) == (word, [])
    assert (defect["not_met"] == ["parity.matmul"]) is (word == "not tried")
    assert ("parity.attention" in defect["left_out"]) is (word == "not tried")


def test_a_missed_defect_is_1_and_every_format_is_kept(tmp_path: Path) -> None:
    chip = chip_file(tmp_path / "misfit.toml", 'kind = "version"\nset = { driver = "0.9.0" }')
    wanted = profile_file(tmp_path / "test.toml", ["acting.blind"])
    files = {name: tmp_path / f"out.{name}" for name in ("json", "html", "markdown")}
    result = readiness(
        "rehearse", "-p", str(wanted), "--checks", str(CHECKS), "--chip", str(chip), "--seeds", "1", "--seed", "7",
        *(f"-f{name}={file}" for name, file in files.items()), state=tmp_path,
    )  # fmt: skip
    assert result.returncode == Exit.NOT_READY, result.stderr
    assert "MISSED" in result.stdout
    assert NOTICE in " ".join(result.stdout.split())
    assert NOTICE in result.stderr
    assert "acting.blind" in result.stderr
    assert "\x1b" not in result.stdout + result.stderr
    document = json.loads(files["json"].read_text())
    assert schema.first_problem("rehearsal", document) is None
    assert (document["defects"][0]["missed_by"], document["seeds"]) == (["acting.blind"], [7])
    assert NOTICE in files["html"].read_text()
    assert NOTICE in files["markdown"].read_text()


def test_run_puts_the_rehearsal_into_the_assessment(tmp_path: Path) -> None:
    """Only defects that the checks of this run claim; the verdict stays that of the device."""
    wanted = profile_file(tmp_path / "test.toml", ["acting.blind"])
    result = readiness(
        "run", "-p", str(wanted), "--checks", str(CHECKS), "-d", "cpu", "--seed", "7", "--rehearse", "-q", "-f", f"json={tmp_path / 'a.json'}",
        state=tmp_path,
    )  # fmt: skip
    assert result.returncode == Exit.READY, result.stderr
    assert result.stderr == ""
    assert len(result.stdout.splitlines()) == 1
    rehearsal = json.loads((tmp_path / "a.json").read_text())["rehearsal"]
    assert {item["kind"] for item in rehearsal["defects"]} == {"version"}
    assert (rehearsal["seeds"], rehearsal["healthy_runs"], rehearsal["false_alarms"]) == ([7], 1, [])
    assert rehearsal["defects"][0]["missed_by"] == ["acting.blind"]
    output = readiness("report", str(tmp_path / "a.json"), state=tmp_path)
    assert "acting.blind" in output.stdout
    refused = readiness("run", "--rehearse", "--within", "50s", state=tmp_path)
    assert refused.returncode == Exit.USAGE
    assert "--rehearse with --within" in refused.stderr
