"""Ten megabytes of hostile text in logs, reasons, names, labels and rows: every report stays small, and shows it as text."""

from __future__ import annotations

import io
import json
import re
import unicodedata
import xml.etree.ElementTree as ET
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from readiness.comparison import change_reports, machine_page, machine_reports, machine_workbook
from readiness.comparison.changes import compare as changes_between
from readiness.comparison.machines import compare
from readiness.comparison.reference import of_run
from readiness.datamodel import Action, Assessment, Better, Measurement, Outcome, Remedy, Status, Waiver
from readiness.documents import assessment as documents
from readiness.errors import BadFileError
from readiness.judging.rejudge import rejudge
from readiness.pack import build as pack
from readiness.rendering import formats
from tests.support import build, packs, saved

#: What reports for people and pipelines may take of it, in bytes.
MOST = 2_000_000
DIRECTIONS = {("parity.matmul", "relative_error"): Better.LOWER}
PART = (
    build.HOSTILE.replace("\ud800", "") + " =cmd()|'/c calc'!A1 ]]> </pre></td><script>alert(1)</script>\n::error::x\n"
    "##vso[task.complete]\n/home/ada/x 10.1.2.3 "
)  # fmt: skip


def text(length: int) -> str:
    """Hostile text of this length."""
    return (PART * (length // len(PART) + 1))[:length]


@cache
def heavy() -> Assessment:
    """An assessment in which every text is as long as a file may have it, more than ten megabytes together."""
    reason, word, label = text(99_990), text(290), text(19_000)
    figures = tuple(
        Measurement("relative_error", float(number), {"dtype": label, word: str(number)}, word, about=text(9_990))
        for number in range(30)
    )
    rows = (*({"text": text(500_000), "number": number} for number in range(6)), *({f"{n} {word}": n} for n in range(200)))
    checks = (
        build.evidence("parity.matmul", log=text(3_990_000), rows=rows, measurements=figures),
        build.evidence("parity.layer", log=text(3_990_000), status=Status.ERROR, measurements=(), reason=reason),
        build.evidence("parity.norm", status=Status.CRASHED, measurements=(), reason=reason),
    )
    bad = (
        found
        for number in range(30)
        for found in build.on(
            build.BOTH, build.failed, f"bad-{number}", title=text(990), reason=reason, why=text(99_000), source=reason,
            labels={word: label, "dtype": label}, unit=word, remedy=Remedy(text(99_000), Action.REPLACE),
        )
    )  # fmt: skip
    findings = (
        *bad, *build.on(build.BOTH, build.unknown, "open", reason=reason),
        *build.on(build.BOTH, build.failed, "waived", waived=Waiver("waived", "*", label, label, "2027-01-31")),
    )  # fmt: skip
    chip = {"name": text(9_000), "title": text(99_000), "source": text(9_000)}
    device = build.facts(
        vendor=label, model=label, serial=label, software={word: label},
        properties={"simulated": True, "chip": chip, word: text(990_000)},
    )  # fmt: skip
    item = build.accelerator(findings, checks, facts_=device)
    return build.assessment(item, profile_title=label, host={"name": text(990_000), word: text(99_000)})


def assert_is_text(made: str) -> None:
    """Nothing in it acts upon a terminal, a page or a pipeline."""
    assert not {character for character in set(made) if character != "\n" and unicodedata.category(character) in ("Cc", "Cf", "Cs")}
    assert not re.search(r"^\s*(::|##\[|##vso)", made.replace("::error title=", "").replace("::error file=", ""), re.MULTILINE)


@pytest.mark.parametrize("name", sorted(formats.formats()))
def test_a_format_of_ten_megabytes_of_hostile_text(name: str) -> None:
    made = formats.render(name, heavy())
    if name == "json":
        document = json.loads(made)
        assert len(made) < 60_000_000
        assert document["accelerators"][0]["evidence"][0]["log"] == text(3_990_000)
        return
    assert len(made.encode()) < MOST
    if name == "junit":
        assert {element.tag for element in ET.fromstring(made).iter()} <= {
            "testsuites", "testsuite", "testcase", "failure", "error", "skipped", "properties", "property", "system-out",
        }  # fmt: skip
    elif name in ("sarif", "ctrf", "host"):
        json.loads(made)
    elif name == "html":
        assert "<script>alert(1)" not in made
        assert made.count("<script>") == 1
    elif name == "markdown":
        assert "<script" not in made
    if name == "github":  # its own commands are one to ten lines
        made = "\n".join(line for line in made.splitlines() if not line.startswith(("::error", "::warning", "::notice", "::group", "::endgroup")))
    assert_is_text("\n".join(made.splitlines()) if name != "html" else re.sub(r"<[^>]*>", "", made))


def compared() -> Any:
    return compare([(text(200), heavy()), ("b", replace(heavy(), started="2026-11-24T10:00:00Z"))], DIRECTIONS)


def test_machines_side_by_side_with_ten_megabytes_of_hostile_text() -> None:
    comparison = compared()
    page = machine_page.render(comparison, "1.0")
    assert page.count("<script>") == 1
    document = machine_reports.as_json(comparison, "1.0")
    made = [page, machine_reports.table(comparison, verbose=True), machine_reports.markdown(comparison, "1.0"), documents.dumps(document)]
    assert max(map(len, made)) < MOST
    assert "<script" not in made[2]
    assert_is_text(made[1])
    book = machine_workbook.render(comparison, "1.0")
    assert len(book) < MOST
    with zipfile.ZipFile(io.BytesIO(book)) as whole:
        assert not any(b"<f>" in whole.read(name) for name in whole.namelist())


def test_a_difference_with_ten_megabytes_of_hostile_text() -> None:
    item = heavy().accelerators[0]
    before = replace(heavy(), accelerators=(
        replace(item, findings=tuple(replace(finding, outcome=Outcome.PASS) for finding in item.findings)),
    ))  # fmt: skip
    difference = changes_between(of_run(before, DIRECTIONS, "old"), heavy(), DIRECTIONS, title="new")
    assert difference.entries
    made = [
        change_reports.table(difference, verbose=True), change_reports.markdown(difference, "1.0"),
        documents.dumps(change_reports.as_json(difference, "1.0")),
    ]  # fmt: skip
    assert max(map(len, made)) < MOST
    assert_is_text(made[0])


def test_a_pack_of_ten_megabytes_of_hostile_text(tmp_path: Path) -> None:
    """Read, redacted, judged again, rendered and made again while it is verified."""
    one = saved.small(tmp_path)

    def loud(piece: Any) -> Any:
        if piece.check.startswith("group."):  # several accelerators share it
            return piece
        figures = tuple(replace(figure, about=text(9_990)) for figure in piece.measurements)
        return replace(piece, log=text(1_300_000), measurements=figures, reason=piece.reason and text(99_000))

    items = tuple(
        replace(item, evidence=tuple(map(loud, item.evidence)), facts=replace(item.facts, serial=text(19_000)))
        for item in one.accelerators
    )
    made = replace(one, accelerators=items, host={**one.host, "name": text(990_000)})
    made = rejudge(made, saved.profile(tmp_path), saved.BOTH, basis=one.basis)
    file = packs.written(tmp_path / "made", made)
    assert file.stat().st_size > 10_000_000
    files = pack.whole(pack.read(pack.Request(assessments=[file])), None)
    assert sum(len(content) for path, content in files.items() if not path.startswith("assessments/")) < MOST
    assert b"/home/ada" not in b"".join(files.values())
    assert b"<script>alert(1)" not in files["index.html"]


@pytest.mark.parametrize("place", ["log", "reason", "check", "label", "name", "row"])
def test_a_file_with_a_text_of_ten_megabytes_is_refused_or_read(place: str, tmp_path: Path) -> None:
    document = documents.to_json(saved.small(tmp_path))
    piece = document["accelerators"][0]["evidence"][0]
    huge = text(10_000_000)
    match place:
        case "row":
            piece["rows"] = [{"text": huge}]
        case "label":
            piece["measurements"][0]["labels"]["dtype"] = huge
        case "name":
            piece["measurements"][0]["name"] = huge
        case _:
            piece[place] = huge
    file = tmp_path / "huge.json"
    file.write_text(json.dumps(document))
    with pytest.raises(BadFileError) as refused:
        documents.read(file)
    assert len(str(refused.value)) < 2000
    assert refused.value.remedy
    assert "evidence[0]" in (refused.value.place or "")
    assert_is_text(str(refused.value))
