"""How a rehearsal is told: harmless whatever its texts are, valid, and never without the notice."""

from __future__ import annotations

import html.parser
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from readiness.datamodel import Status
from readiness.documents import schema
from readiness.errors import UsageError
from readiness.rehearsal import Rehearsal, formats, markdown, table
from readiness.rehearsal import html as rehearsal_html
from readiness.rehearsal import text as rehearsal_text
from readiness.rehearsal.detection_matrix import Detection, build_matrix
from readiness.rehearsal.document import NOTICE, for_assessment, to_json
from readiness.rehearsal.plan import Task, plan_rehearsal
from readiness.rehearsal.progress import RichProgress
from readiness.rehearsal.seeded_faults import selection
from readiness.rendering.detection_summary import describe
from tests.support import build
from tests.support.pages import without_tools
from tests.support.rehearsal import chip_file, evidence_of, host, made_check, made_profile, made_request

EVIL = "<script>alert(1)</script> | [x](http://evil) \x1b[2J \u202e ![i](u) @all `"


def made(folder: Path, *, stopped: bool = False, alarms: bool = True) -> Rehearsal:
    """One defect caught, one missed, one of which nothing could be told, one not claimed; and a false alarm."""
    files = [
        chip_file(folder / "nan.toml", 'kind = "nan"\nsource = "javascript:alert(1) ; https://example.org/?a=1&b=<2>"', title="<b>T</b> &amp;"),
        chip_file(folder / "missed.toml", 'kind = "hang"'),
        chip_file(folder / "dark.toml", 'kind = "crash"'),
        chip_file(folder / "nobody.toml", 'kind = "slow"'),
    ]
    checks = [made_check("a.sees", "nan"), made_check("a.blind", "hang", "nan"), made_check("a.dark", "crash")]
    request = made_request(checks, selection([str(file) for file in files]), seeds=(7, 8, 9))

    def say(task: Task) -> Any:
        id = task.job.check.id
        if stopped and id == "a.blind":
            return None
        if id == "a.dark" and task.fault_kind:
            return replace(evidence_of(id, None, status=Status.ERROR), reason=EVIL)
        poor = (task.fault_kind == "nan" and id == "a.sees") or (alarms and id == "a.blind" and task.seed > 7)
        return evidence_of(id, -1.0 if poor else 1.0, seconds=12.3456, about=EVIL)

    written = plan_rehearsal(request, host())
    found = {task.key: evidence for task in written.tasks() if (evidence := say(task)) is not None}
    result = build_matrix(written, found, request.profile, request.uses)
    return Rehearsal(request, result, "2026-01-02T03:04:05Z", 61.2, {"name": "here"}, left_out=2, interrupted=stopped)


@pytest.fixture
def rehearsal(tmp_path: Path) -> Rehearsal:
    return made(tmp_path)


def test_the_document_is_valid_and_complete(rehearsal: Rehearsal) -> None:
    document = json.loads(json.dumps(to_json(rehearsal), allow_nan=False))
    assert schema.first_problem("rehearsal", document) is None
    assert [item["result"] for item in document["defects"]] == ["caught", "missed", "missed", "not claimed"]
    caught, missed, dark, _ = document["defects"]
    assert (caught["by"][0]["check"], caught["missed_by"], caught["severity"]) == ("a.sees", ["a.blind"], 0.0)
    assert (missed["missed_by"], dark["unable"][0]["check"], document["left_out"]) == (["a.blind"], "a.dark", 2)
    assert {alarm["seed"] for alarm in document["false_alarms"]} == {8, 9}
    assert document["seeds"] == [7, 8, 9]


@pytest.mark.parametrize("stopped", [False, True])
def test_its_part_of_an_assessment_fits_there(tmp_path: Path, stopped: bool) -> None:
    from readiness.documents import assessment

    done = made(tmp_path, stopped=stopped)
    told = assessment.to_json(replace(build.everything(), rehearsal=for_assessment(done)))["rehearsal"]
    assert told == json.loads(json.dumps(for_assessment(done)))  # nothing was cut on the way
    names = [item["defect"] for item in told["defects"]]
    assert names == (["nan", "dark", "nobody"] if stopped else ["nan", "missed", "dark", "nobody"])


@pytest.mark.parametrize("render", [table.render, markdown.render, rehearsal_html.render])
def test_every_format_states_that_no_product_was_measured(rehearsal: Rehearsal, render: Any) -> None:
    assert " ".join(NOTICE.split()) in " ".join(render(rehearsal).split())
    assert NOTICE in to_json(rehearsal)["notice"]


@pytest.mark.parametrize("render", [table.render, markdown.render, rehearsal_html.render, table.line])
def test_no_text_reaches_the_terminal_raw(rehearsal: Rehearsal, render: Any) -> None:
    text = render(rehearsal)
    assert "\x1b" not in text
    assert "\u202e" not in text


@pytest.mark.parametrize("width", [60, 80, 100])
def test_the_table_fits_and_colours_change_no_word(rehearsal: Rehearsal, width: int) -> None:
    import re

    plain, coloured = (table.render(rehearsal, colour=colour, width=width) for colour in (False, True))
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain
    assert max(map(len, plain.splitlines())) <= width
    for text in ("MISSED", "missed by a.blind", "unknown: a.dark", "a.sees 24.7 s", "not claimed", "seeds 8, 9", "7 to 9"):
        assert text in " ".join(plain.split()), text


def test_the_line_is_a_line(rehearsal: Rehearsal) -> None:
    long = replace(rehearsal, request=replace(rehearsal.request, profile=replace(rehearsal.request.profile, name="long" * 50)))
    for one in (rehearsal, long):
        text = table.line(one)
        assert text.count("\n") == 1
        assert len(text) <= 81
    assert "1 caught, 2 missed, 1 not claimed, 2 false alarms" in table.line(rehearsal)


class _Reader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_in_names_stays_text(rehearsal: Rehearsal) -> None:
    reader = _Reader()
    reader.feed(without_tools(rehearsal_html.render(rehearsal)))
    assert not {"script", "b", "img", "iframe", "link"} & set(reader.tags)
    assert "<script>alert(1)</script>" in reader.text
    assert "<b>T</b> &amp;" in reader.text
    assert reader.links == ["#main", "https://example.org/?a=1&b=<2>"]  # a source that is no web address is no link
    assert reader.tags.count("tr") == 5
    assert "24.7 s" in reader.text


def test_markdown_stays_a_table(rehearsal: Rehearsal) -> None:
    text = markdown.render(rehearsal)
    assert "<script" not in text
    assert "http://" not in text
    assert "@all" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 5
    assert {row.replace("\\|", "").count("|") for row in rows} == {7}


def test_markdown_fits_a_comment_and_counts_what_it_leaves_out(rehearsal: Rehearsal) -> None:
    many = replace(rehearsal, result=replace(rehearsal.result, defects=rehearsal.result.defects * 300))
    text = markdown.render(many)
    assert 30_000 < len(text.encode()) <= 65_536
    assert " of 1200 defects, " in text
    assert "1200 accounts" in text
    assert "Left out" not in markdown.render(rehearsal)


def test_false_alarms_are_described_in_sentences(tmp_path: Path) -> None:
    done = made(tmp_path, alarms=False)
    assert "False alarms: none over 3 healthy runs (seeds 7 to 9)." in rehearsal_text.healthy(done)
    never = replace(done, result=replace(done.result, healthy_runs=0))
    assert "unknown, no healthy chip was run" in rehearsal_text.healthy(never)[0]
    assert [line.fault.name for line in done.result.of(Detection.NOT_CLAIMED)] == ["nobody"]


def test_what_cannot_be_told_and_what_is_not_asked_stand_in_every_format(tmp_path: Path) -> None:
    files = [chip_file(tmp_path / f"{kind}.toml", f'kind = "{kind}"') for kind in ("slow", "hang")]
    checks = [made_check("a.speed", "slow"), made_check("b.hang", "hang")]
    request = made_request(checks, selection([str(file) for file in files]), wanted=made_profile("a.speed"))
    written = plan_rehearsal(request, host())
    found = {task.key: evidence_of("a.speed", None if task.fault_kind else 1.0) for task in written.tasks()}
    result = build_matrix(written, found, request.profile, request.uses)
    done = Rehearsal(request, result, "2026-01-02T03:04:05Z", 1.0, {"name": "here"})
    document = json.loads(json.dumps(to_json(done)))
    assert schema.first_problem("rehearsal", document) is None
    slow, hang = document["defects"]
    assert (slow["result"], slow["unmeasured"], slow["unable"][0]["check"], slow["missed_by"]) == ("cannot be told", ["a.speed"], "a.speed", [])
    assert (hang["result"], hang["not_required"], hang["claimed"]) == ("not asked", ["b.hang"], False)
    assert for_assessment(done)["defects"] == []
    assert describe(document)["missed"] == "none"
    sentences = ("what would show it could not be measured: slow.", "Not asked by this profile: hang (b.hang).", "a.speed measured nothing")
    for text in (markdown.render(done), rehearsal_html.render(done)):
        assert all(sentence in text.replace("\\", "") for sentence in sentences)
    plain = " ".join(table.render(done).split())
    assert all(text in plain for text in (*sentences[:2], "unknown: a.speed", "would be seen by b.hang"))
    assert table.line(done).startswith("rehearsal made: 0 caught, 1 cannot be told, 1 not asked, ")


@pytest.mark.parametrize("text", ["", "pdf", "json=", "html= ", "json=/no/such/folder/a.json", "json=/", "json=\0", "table=" + "a" * 5000])
def test_impossible_formats_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--format"):
        formats.requests([text])


def test_two_formats_do_not_share_a_target(tmp_path: Path) -> None:
    for pair in (["json", "html"], [f"json={tmp_path / 'a'}", f"html={tmp_path / '.' / 'a'}"]):
        with pytest.raises(UsageError, match="would be written to"):
            formats.requests(pair)


def test_all_are_written_and_one_that_fails_costs_itself(rehearsal: Rehearsal, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    asked = formats.requests([f"json={tmp_path / 'gone' / 'a.json'}", f"html={tmp_path / 'a.html'}", f"markdown={tmp_path / 'a.md'}"])
    (tmp_path / "gone").rmdir()
    out = io.StringIO()
    with pytest.raises(UsageError, match="cannot be written"):
        formats.write_all(asked, rehearsal, quiet=False, colour=False, stdout=out)
    assert (tmp_path / "a.html").read_text().startswith("<!DOCTYPE html>")
    assert (tmp_path / "a.md").exists()
    assert out.getvalue() == table.render(rehearsal)


def test_the_line_stays_out_of_what_goes_to_standard_output(rehearsal: Rehearsal, tmp_path: Path) -> None:
    out = io.StringIO()
    formats.write_all(formats.requests(["json"]), rehearsal, quiet=True, colour=False, stdout=out)
    assert json.loads(out.getvalue())["schema"]
    out = io.StringIO()
    formats.write_all(formats.requests([f"json={tmp_path / 'a.json'}"]), rehearsal, quiet=True, colour=False, stdout=out)
    assert out.getvalue() == table.line(rehearsal)


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_prints_the_same_text_everywhere(rehearsal: Rehearsal, terminal: bool) -> None:
    from rich.console import Console

    stream = io.StringIO()
    tasks = plan_rehearsal(rehearsal.request, host()).tasks()
    console = Console(file=stream, force_terminal=terminal, width=200, no_color=True, _environ={"TERM": "xterm"})
    with RichProgress("a rehearsal", console) as told:
        told.planned(tasks, 2)
        told.running([])
        told.finished(tasks[0], replace(evidence_of("a.sees", None, status=Status.ERROR), reason=EVIL))
    text = stream.getvalue()
    assert f"these are {NOTICE}" in text
    assert "a.sees" in text
    assert "<script>alert(1)</script>" in text
    if not terminal:
        assert "\x1b" not in text
        assert len(text.splitlines()) == 3


def test_a_detection_by_timeout_is_marked(rehearsal: Rehearsal) -> None:
    line = rehearsal.result.defects[0]
    late = replace(line, catches=(replace(line.catches[0], status=Status.TIMEOUT, claimed=False),))
    assert rehearsal_text.detections(late) == "a.sees 24.7 s (unclaimed, no end)"


def test_the_failed_chip_of_several_is_named(tmp_path: Path) -> None:
    file = chip_file(tmp_path / "one.toml", 'kind = "nan"\nwhen = { chip = 1 }', chips=3)
    request = made_request([made_check("a.sees", "nan")], selection([str(file)]))

    def say(task: Task) -> Any:
        return evidence_of("a.sees", -1.0 if task.fault_kind and task.job.accelerators[0].index == 1 else 1.0)

    written = plan_rehearsal(request, host())
    result = build_matrix(written, {task.key: say(task) for task in written.tasks()}, request.profile, request.uses)
    done = Rehearsal(request, result, "2026-01-02T03:04:05Z", 1.0, {"name": "here"})
    assert "(on sim:1)" in rehearsal_text.detections(done.result.defects[0])
    (caught,) = for_assessment(done)["defects"]
    assert caught["by"][0]["where"] == "sim:1"
