"""Formats are found, requests understood, targets tried early, and reports written whole or not at all."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from readiness import package_data
from readiness.errors import Exit, InternalError, UsageError
from readiness.rendering import formats as rendering_formats
from readiness.rendering.formats import (
    Format,
    Request,
    check_writable,
    formats,
    parse_request,
    parse_requests,
    render,
    write,
)
from tests.support import build
from tests.support.other_users import planted

ASSESSMENT = build.everything()


def test_the_formats_are_the_files_of_the_folder() -> None:
    files = {file.stem for file in package_data.shipped("reports").glob("*.py")}
    assert set(formats()) == files
    assert {"table", "line", "json", "junit", "markdown"} <= files
    for format_ in formats().values():
        assert format_.description.endswith((".", ".."))
        assert len(format_.description) <= 120
        assert format_.suffix.startswith(".")


def test_descriptions_are_those_of_the_formats() -> None:
    assert rendering_formats.descriptions() == {name: known.description for name, known in formats().items()}


def test_optional_arguments_of_a_format() -> None:
    assert {name: set(format_.takes) for name, format_ in formats().items() if format_.takes} == {
        "junit": {"fail_on"}, "sarif": {"fail_on"}, "ctrf": {"fail_on"}, "openmetrics": {"fail_on"}, "nagios": {"fail_on"},
        "github": {"fail_on", "to_file"}, "summary": {"width", "hints"}, "table": {"width", "verbose", "blocks"},
    }  # fmt: skip


def test_a_file_that_is_no_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import readiness.reports

    (tmp_path / "empty_shell.py").write_text('"""Nothing in here."""\n')
    monkeypatch.setattr(package_data, "shipped", lambda kind: tmp_path)
    monkeypatch.setattr(readiness.reports, "__path__", [str(tmp_path)])
    formats.cache_clear()
    try:
        with pytest.raises(InternalError, match="empty_shell"):
            formats()
    finally:
        formats.cache_clear()
        sys.modules.pop("readiness.reports.empty_shell", None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("json", Request("json")),
        ("json=-", Request("json")),
        ("json=a.json", Request("json", Path("a.json"))),
        ("markdown=a=b.md", Request("markdown", Path("a=b.md"))),
        ("junit=out/r.xml", Request("junit", Path("out/r.xml"))),
    ],
)
def test_requests_are_understood(text: str, expected: Request) -> None:
    assert parse_request(text) == expected


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("jsn", "did you mean json?"),
        ("JUnit=a.xml", "did you mean junit?"),
        ("markdwon", "did you mean markdown?"),
        ("yaml", "choose one of"),
        ("", "choose one of"),
        ("=a.json", "choose one of"),
        ("json=", "json=report.json"),
        ("junit=  ", "junit=report.xml"),
        ("../table", "choose one of"),
        ("os", "choose one of"),
        ("json\0", "did you mean json?"),
    ],
)
def test_requests_that_cannot_be(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_request(text)
    assert caught.value.exit_code is Exit.USAGE
    assert hint in (caught.value.remedy or "")
    assert "--format" in (caught.value.place or "")


def test_an_unknown_format_is_an_error_that_lists_all() -> None:
    with pytest.raises(UsageError) as caught:
        parse_request("yaml")
    for name in formats():
        assert name in str(caught.value)


@pytest.mark.parametrize(
    "texts",
    [
        ["json=a.json", "json=a.json"],
        ["json=a.json", "junit=./a.json"],
        ["json=a.json", "table", "markdown=sub/../a.json"],
        ["table", "json"],
        ["table", "json=-"],
    ],
)
def test_two_reports_never_share_a_target(texts: list[str]) -> None:
    with pytest.raises(UsageError, match="would be written to"):
        parse_requests(texts)


def test_two_reports_never_share_a_target_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("")
    (tmp_path / "link.json").symlink_to("real.json")
    with pytest.raises(UsageError, match="would be written to"):
        parse_requests([f"json={tmp_path}/real.json", f"markdown={tmp_path}/link.json"])


def test_several_reports_at_once() -> None:
    assert parse_requests(["table", "json=a.json", "junit=b.xml"]) == [
        Request("table"), Request("json", Path("a.json")), Request("junit", Path("b.xml")),
    ]  # fmt: skip
    assert parse_requests([]) == []


def test_what_can_be_written_passes_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("old")
    check_writable(parse_requests(["table", f"json={tmp_path}/new.json", f"junit={tmp_path}/old.json"]))
    assert [file.name for file in tmp_path.iterdir()] == ["old.json"]
    assert (tmp_path / "old.json").read_text() == "old"


@pytest.mark.parametrize(
    ("target", "what", "remedy"),
    [
        ("missing/a.json", "does not exist", "create it first"),
        ("a-file/a.json", "does not exist", "create it first"),
        ("folder", "this is a folder", "report"),
        (f"{'x' * 255}.json", "File name too long", "name a file"),
        ("nul\0.json", "null byte|null character", "name a file|correct the path"),
        ("dangling", "does not exist", "create it first"),
    ],
)
def test_unwritable_reports_are_an_error_before_the_run(tmp_path: Path, target: str, what: str, remedy: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "a-file").write_text("")
    (tmp_path / "dangling").symlink_to("nowhere/a.json")
    with pytest.raises(UsageError, match=what) as caught:
        check_writable([Request("json", tmp_path / target)])
    assert caught.value.exit_code is Exit.USAGE
    assert any(part in (caught.value.remedy or "") for part in remedy.split("|"))
    assert target.partition("\0")[0] in (caught.value.place or "")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is write-protected for root")
def test_protected_places_are_an_error_before_the_run(tmp_path: Path) -> None:
    file = tmp_path / "kept.json"
    file.write_text("kept")
    file.chmod(0o444)
    with pytest.raises(UsageError, match="write-protected"):
        check_writable([Request("json", file)])
    tmp_path.chmod(0o555)
    with pytest.raises(UsageError, match="Permission denied"):
        check_writable([Request("json", tmp_path / "new.json")])
    tmp_path.chmod(0o755)


def test_a_protected_file_is_an_error_for_every_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept.json").write_text("kept")
    monkeypatch.setattr(os, "access", lambda file, mode: False)
    with pytest.raises(UsageError, match="write-protected"):
        check_writable([Request("json", tmp_path / "kept.json")])


def test_a_file_is_written_whole_with_ordinary_permissions(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("old")
    write(Request("json", file), ASSESSMENT, True, io.StringIO())
    assert json.loads(file.read_text())["schema"] == "readiness.assessment/1"
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~mask
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.md").write_text("old")
    (tmp_path / "link.md").symlink_to("real.md")
    write(Request("markdown", tmp_path / "link.md"), ASSESSMENT, False, io.StringIO())
    assert (tmp_path / "link.md").is_symlink()
    assert (tmp_path / "real.md").read_text().startswith("## Readiness")


def test_a_pipe_is_written_into_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        check_writable([Request("line", pipe)])
        write(Request("line", pipe), ASSESSMENT, False, io.StringIO())
        assert os.read(reader, 1000).decode().startswith("training NOT READY")
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("way", ["a link", "a link to nothing", "a pipe"])
def test_what_another_user_put_in_the_place_of_a_report_is_refused_at_once_and_at_the_end(way: str, tmp_path: Path) -> None:
    request = Request("line", planted(tmp_path, way))
    acts: list[Callable[[], None]] = [
        partial(check_writable, [request]), partial(write, request, ASSESSMENT, False, io.StringIO()),
    ]  # fmt: skip
    for act in acts:
        with pytest.raises(UsageError, match="user 4711 has put something else than a file") as refused:
            act()
        assert refused.value.remedy
    assert (tmp_path / "target").read_bytes() == b"precious"
    assert not (tmp_path / "nothing").exists()


def test_files_have_no_colour_and_streams_do_on_request(tmp_path: Path) -> None:
    stream = io.StringIO()
    write(Request("table"), ASSESSMENT, True, stream)
    assert "\x1b[1;31mNOT READY\x1b[0m" in stream.getvalue()
    write(Request("table", tmp_path / "a.txt"), ASSESSMENT, True, stream)
    assert "\x1b" not in (tmp_path / "a.txt").read_text()


def test_a_terminal_that_is_not_utf8_gets_escapes() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    write(Request("table"), build.hostile(), False, stream)
    assert b"\\u6607" in raw.getvalue()


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


@pytest.mark.parametrize(("columns", "widest"), [("80", 80), ("200", 100), ("20", 60)])
def test_the_table_fits_the_terminal(columns: str, widest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    stream = Terminal()
    write(Request("table"), ASSESSMENT, False, stream)
    assert max(map(len, stream.getvalue().splitlines())) in range(widest - 8, widest + 1)


class Broken(io.StringIO):
    """A stream that cannot be written to."""

    def write(self, text: str) -> int:
        """Fails."""
        raise OSError(5, "Input/output error")


def test_a_reader_that_has_left_is_no_fault() -> None:
    read, wrote = os.pipe()
    os.close(read)
    with open(wrote, "w", encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor
        write(Request("table"), ASSESSMENT, False, stream)
        write(Request("table"), ASSESSMENT, False, stream)


def test_failing_streams_and_files_are_usage_errors_and_cost_no_other_report(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"standard output.*Input/output error"):
        write(Request("line"), ASSESSMENT, False, Broken())
    closed = io.StringIO()
    closed.close()
    with pytest.raises(UsageError, match="standard output"):
        write(Request("line"), ASSESSMENT, False, closed)
    gone = tmp_path / "gone" / "a.json"
    with pytest.raises(UsageError, match="No such file") as caught:
        rendering_formats.write_all(
            [Request("json", gone), Request("line"), Request("json", tmp_path / "b.json")], ASSESSMENT, False, Broken()
        )
    assert caught.value.place == str(gone)
    assert "--resume" in (caught.value.remedy or "")
    assert json.loads((tmp_path / "b.json").read_text())


def test_a_failing_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.json"
    file.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left"):
        write(Request("json", file), ASSESSMENT, False, io.StringIO())
    assert file.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_a_report_that_fails_is_our_fault_and_costs_itself_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> str:
        raise ZeroDivisionError("oh")

    monkeypatch.setitem(formats(), "line", Format("line", "x.", ".txt", broken, frozenset()))
    stream = io.StringIO()
    with pytest.raises(InternalError, match="'line' failed: ZeroDivisionError: oh"):
        rendering_formats.write_all([Request("line"), Request("table")], ASSESSMENT, False, stream)
    assert "BLOCKERS" in stream.getvalue()


@pytest.mark.parametrize("name", sorted(formats()))
@pytest.mark.parametrize(
    "made",
    [build.everything, build.hostile, build.one_use, build.interrupted, build.nothing, build.many, build.simulated],
)
def test_every_format_renders_every_assessment_as_utf8_text(name: str, made: Any) -> None:
    text = render(name, made())
    assert text.encode("utf-8")
    assert text.endswith("\n")
    assert text.strip()
    assert render(name, made()) == text  # nothing depends on the clock or on hashing


# ---------------------------------------------------------------------------------------------------------- part by part


def test_a_format_that_yields_parts_writes_the_same_into_a_file(tmp_path: Path) -> None:
    made = [ASSESSMENT, build.nothing(), build.interrupted(), build.hostile()]
    in_parts = {name for name, format_ in formats().items() if format_.pieces is not None}
    assert in_parts == {"ctrf"}
    for number, assessment in enumerate(made):
        file = tmp_path / f"{number}.json"
        write(Request("ctrf", file), assessment, False, io.StringIO())
        assert file.read_text() == render("ctrf", assessment)
        json.loads(file.read_text())


def test_of_a_report_that_fails_in_the_middle_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pieces(assessment: Any) -> Any:
        yield "half"
        raise KeyError("mine")

    broken = Format("ctrf", "d.", ".json", lambda *_, **__: "", frozenset(), pieces=pieces)
    monkeypatch.setattr(rendering_formats, "formats", lambda: {"ctrf": broken})
    with pytest.raises(InternalError, match="KeyError"):
        write(Request("ctrf", tmp_path / "a.json"), ASSESSMENT, False, io.StringIO())
    assert list(tmp_path.iterdir()) == []
