"""What is in a pack: the same bytes each time, seventeen sections, documents that fit their published schemas."""

from __future__ import annotations

import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from readiness.datamodel import Decision, Use, Verdict
from readiness.documents import assessment as documents
from readiness.documents import schema
from readiness.errors import BadFileError, UsageError
from readiness.judging import maturity
from readiness.pack import build, in_toto, mlperf_system, verify
from readiness.pack.contents import BOM, COMPARISON, MANIFEST, PACK, PAGE, STATEMENT, SYSTEM, TEST_RESULT, WAIVERS, WORKBOOK
from readiness.pack.in_toto import Result
from readiness.pack.page import TITLES
from tests.support import packs, saved
from tests.support.pages import without_tools


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return packs.contents(tmp_path_factory.mktemp("pack"))


def test_two_packs_of_the_same_assessment_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    first = packs.contents(tmp_path, with_workbook=True)
    file = tmp_path / "b" / "a.json"
    file.write_bytes((tmp_path / "a.json").read_bytes())
    second = build.whole(build.read(build.Request(assessments=[file], with_workbook=True)))
    assert first == second


def test_the_manifest_lists_every_file_with_its_digest(files: dict[str, bytes]) -> None:
    listed = {entry["path"]: entry for entry in json.loads(files[MANIFEST])["files"]}
    assert listed.keys() == files.keys() - {MANIFEST, STATEMENT, TEST_RESULT}
    for path, entry in listed.items():
        assert entry["sha256"] == hashlib.sha256(files[path]).hexdigest()
        assert entry["bytes"] == len(files[path])


def test_pack_json_fits_the_published_schema(files: dict[str, bytes]) -> None:
    assert schema.first_problem("pack", json.loads(files[PACK])) is None


def test_the_assessment_in_it_can_be_judged_again(files: dict[str, bytes]) -> None:
    read = documents.from_json(json.loads(files["assessments/a.json"]), "here")
    assert read.accelerators[0].verdicts[Use.TRAINING].decision is Decision.READY


def test_the_profile_as_judged_has_the_sources_of_its_limits_where_it_is_known(tmp_path: Path) -> None:
    made = saved.profile(tmp_path)
    changed = replace(made, requirements=tuple(replace(one, source="A data sheet.") for one in made.requirements))
    known = packs.contents(tmp_path, profiles=[changed])
    path = next(path for path in known if path.startswith("profiles/"))
    assert json.loads(known[path])["requirements"]["met"]["source"] == "A data sheet."
    assert "A data sheet." in known[PAGE].decode()
    unknown = packs.contents(tmp_path)
    assert "The profile itself was not at hand" in " ".join(unknown[PAGE].decode().split())


def test_waivers_have_their_owners_and_last_days(files: dict[str, bytes]) -> None:
    found = json.loads(files[WAIVERS])["waive"]
    assert {(entry["requirement"], entry["by"], entry["until"], entry["state"]) for entry in found} == {
        ("waived", "Ada", "2027-01-31", "in force"), ("expired", "Grace", "2026-10-31", "expired"),
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- page


class Page(HTMLParser):
    """Headings, ids and every attribute that could ask for something."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.headings: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action", "srcset", "data")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in ("meta", "line", "rect", "br", "wbr", "path", "circle"):
            self.open.append(tag)
        if tag == "h2":
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if "h2" in self.open:
            self.headings[-1] += data


def parsed(content: bytes) -> Page:
    page = Page()
    page.feed(without_tools(content.decode()))
    page.close()
    return page


def test_the_page_has_seventeen_sections_and_requests_nothing(files: dict[str, bytes]) -> None:
    page = parsed(files[PAGE])
    numbered = [f"{number}. {title}" for number, title in enumerate(TITLES, 1)]
    assert page.headings == [numbered[0], "Contents", *numbered[1:]]
    assert len(TITLES) == 17
    assert page.open == []
    assert not {"script", "link", "img", "iframe", "object", "form"} & set(page.tags)
    assert all(link.startswith("#") or link == "reports/a.html" for link in page.links)
    assert set(page.links) >= {f"#s{number}" for number in range(1, 18)}


def test_the_page_answers_a_buyers_questions(files: dict[str, bytes]) -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<wbr>|<[^>]+>", " ", files[PAGE].decode()))
    for sentence in (
        "vendor&#39;s answer", "vendor&#39;s commitment", "No rehearsal is in this pack", "The model does not use it.",
        "Ada", "2027-01-31", "expired: the failure counts", "family.hangs did not finish within its first time limit",
        "readiness run --profile small --device sim:0 --device sim:1 --seed 7 --soak 60s", "A signature proves that the holder of the key",
        "does not prove that the machine exists", "witness", "not stated", "family.lost: there is none here",
        "reach at least 90% of every accepted rate", "12 requirements were judged", "2 do not apply",
    ):  # fmt: skip
        assert sentence in text, sentence


def test_simulated_chips_are_marked(tmp_path: Path) -> None:
    made = saved.small(tmp_path)
    items = tuple(replace(item, facts=replace(item.facts, properties={"simulated": True})) for item in made.accelerators)
    files = build.whole(build.read(build.Request(assessments=[packs.written(tmp_path, replace(made, accelerators=items))])))
    assert "Simulated chips: a rehearsal, not a measurement of a product" in files[PAGE].decode()
    assert all(one["simulated"] for one in json.loads(files[STATEMENT])["predicate"]["assessments"][0]["verdicts"])


def test_a_hostile_text_is_shown_as_text_on_every_page(tmp_path: Path) -> None:
    made = saved.small(tmp_path)
    items = tuple(
        replace(
            item, facts=replace(item.facts, model=packs.HOSTILE, vendor=packs.HOSTILE, software={packs.HOSTILE: packs.HOSTILE}),
            evidence=tuple(replace(piece, log=packs.HOSTILE) for piece in item.evidence),
        )
        for item in made.accelerators
    )  # fmt: skip
    made = packs.with_host(replace(made, accelerators=items), system=packs.HOSTILE)
    cover = build.Cover(subject=packs.HOSTILE, operator=packs.HOSTILE, note=packs.HOSTILE)
    files = build.whole(build.read(build.Request(assessments=[packs.written(tmp_path, made)], cover=cover, with_workbook=True)))
    page = parsed(files[PAGE])
    assert page.open == []
    assert "script" not in page.tags
    assert "<script" not in without_tools(files[PAGE].decode())
    assert not set("\x1b\x07\u202e\u200b") & set(files[PAGE].decode())
    for path in (BOM, SYSTEM, PACK, STATEMENT):
        assert not set("\x1b\x07\u202e") & set(files[path].decode()), path
    assert not [value for value in cells(files[WORKBOOK]) if set("\x1b\x07\u202e") & set(str(value))]


def test_several_assessments_are_compared(tmp_path: Path) -> None:
    first = packs.written(tmp_path / "x", name="one")
    second = packs.written(tmp_path / "y", name="one")
    files = build.whole(build.read(build.Request(assessments=[first, second])))
    assert {"assessments/one.json", "assessments/one-2.json"} < files.keys()
    text = files[PAGE].decode()
    assert "Verdicts side by side" in text
    assert "0 of 12 requirements came out differently" in text
    assert '<a href="comparison.html">' in text
    assert parsed(files[COMPARISON]).headings[:2] == ["To train", "To serve"]
    assert COMPARISON not in packs.contents(tmp_path / "z")
    assert verify.of_contents(files, None).altered == []


def test_the_page_of_the_comparison_counts_like_every_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved_ = [packs.written(tmp_path / name, name=name) for name in ("one", "two")]
    files = build.whole(build.read(build.Request(assessments=saved_)))
    edited = packs.made_anew({**files, COMPARISON: files[COMPARISON].replace(b"</h1>", b" edited</h1>")})
    assert [one.file for one in verify.of_contents(edited, None).altered] == [COMPARISON]
    without = packs.made_anew({path: content for path, content in files.items() if path != COMPARISON})
    assert [one.file for one in verify.of_contents(without, None).altered] == [COMPARISON]
    monkeypatch.setattr(verify, "source_digest", lambda: "0" * 64)  # an earlier build may have made none
    assert COMPARISON not in [one.file for one in verify.of_contents(without, None).altered]


# --------------------------------------------------------------------------------------------------- rehearsals, pictures


def test_a_rehearsal_is_included_and_shown(tmp_path: Path) -> None:
    made = replace(saved.small(tmp_path), rehearsal=REHEARSAL)
    text = build.whole(build.read(build.Request(assessments=[packs.written(tmp_path, made)])))[PAGE].decode()
    assert "1 of 2 kinds of defect" in text
    assert "although claimed: late (hang; by parity.matmul)" in text
    assert "2 planted defects, and what saw each" in text
    (tmp_path / "r.json").write_text("{}")
    with pytest.raises(BadFileError, match="not a rehearsal"):
        build.read(build.Request(assessments=[tmp_path / "a.json"], rehearsals=[tmp_path / "r.json"]))


REHEARSAL = {
    "profile": "smoke", "seconds": 3.0, "seeds": [1], "healthy_runs": 1, "false_alarms": [],
    "defects": [
        {"defect": "wrong", "kind": "wrong-result", "caught": True, "claimed": True, "by": [{"check": "parity.matmul"}]},
        {"defect": "late", "kind": "hang", "caught": False, "claimed": True, "missed_by": ["parity.matmul"]},
    ],
}  # fmt: skip


def test_attachments_are_hashed_and_never_looked_at(tmp_path: Path) -> None:
    (tmp_path / "Rack photo (1).JPG").write_bytes(b"\xff\xd8 no picture at all")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "Rack photo (1).JPG").write_bytes(b"another")
    pictures = [tmp_path / "Rack photo (1).JPG", tmp_path / "sub" / "Rack photo (1).JPG"]
    files = packs.contents(tmp_path, attachments=pictures)
    assert files["attachments/Rack-photo--1.JPG"] == b"\xff\xd8 no picture at all"
    assert files["attachments/Rack-photo--1-2.JPG"] == b"another"
    assert hashlib.sha256(b"another").hexdigest() in files[PAGE].decode()


def test_an_assessment_that_contradicts_itself_gets_no_pack(tmp_path: Path) -> None:
    file = packs.written(tmp_path)
    document = json.loads(file.read_text())
    document["accelerators"][0]["verdicts"]["training"]["score"] = 100
    file.write_text(json.dumps(document))
    with pytest.raises(BadFileError, match="score"):
        build.read(build.Request(assessments=[file]))


# -------------------------------------------------------------------------------------------------------------- system


def test_the_fields_of_mlperf_have_their_sources(tmp_path: Path) -> None:
    (tmp_path / "system.json").write_text('{"submitter": "Acme", "cooling": "liquid", "host_network_card_count": 4}')
    found = json.loads(packs.contents(tmp_path, systems=[tmp_path / "system.json"])[SYSTEM])["assessments/a.json"]
    assert found.keys() == set(mlperf_system.FIELDS)
    assert (len(mlperf_system.FIELDS), len(mlperf_system.MEANINGFUL)) == (35, 26)
    assert found["cooling"] == {"value": "liquid", "from": "stated"}
    assert found["accelerator_model_name"] == {"value": "Acme A1", "from": "measured"}
    assert found["division"] == {"value": "", "from": "not stated"}


@pytest.mark.parametrize("answer", ["N/A", "n/a", "", "-", "unknown", "TBD", " none "])
def test_no_answer_is_refused_where_one_is_needed(tmp_path: Path, answer: str) -> None:
    file = tmp_path / "system.json"
    file.write_text(json.dumps({"cooling": answer}))
    with pytest.raises(BadFileError, match="cooling"):
        mlperf_system.read(file)
    file.write_text(json.dumps({"hw_notes": answer}))
    assert mlperf_system.read(file) == {"hw_notes": answer.strip()}


def test_a_field_that_mlperf_does_not_have_is_refused_with_the_one_that_was_meant(tmp_path: Path) -> None:
    file = tmp_path / "system.json"
    for text, match in (('{"coolin": "air"}', "did you mean cooling"), ("[]", "no JSON object"), ('{"cooling": {}}', "no text")):
        file.write_text(text)
        with pytest.raises(BadFileError, match=match):
            mlperf_system.read(file)
    file.write_text("{}")
    with pytest.raises(UsageError, match="2 descriptions of 1"):
        packs.core(tmp_path, systems=[file, file])


# ------------------------------------------------------------------------------------------------ bill of materials


def test_the_bill_of_materials_fits_the_schema_of_cyclonedx(tmp_path: Path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    second = packs.written(tmp_path / "second", name="b")
    files = build.whole(build.read(build.Request(assessments=[packs.written(tmp_path), second])))
    validator = JsonStrictValidator(SchemaVersion.V1_7)
    assert validator.validate_str(files[BOM].decode()) is None
    assert validator.validate_str(files[BOM].decode().replace('"device"', '"gadget"')) is not None
    document = json.loads(files[BOM])
    devices = [part for machine in document["components"] for part in machine["components"] if part["type"] == "device"]
    assert {device["name"] for device in devices} == {"A1"}
    assert {one["name"] for device in devices for one in device["properties"]} >= {
        "cdx:device:quantity", "cdx:device:function", "cdx:device:location", "cdx:device:serialNumber",
    }  # fmt: skip
    libraries = [part for machine in document["components"] for part in machine["components"] if part["type"] == "framework"]
    assert ("torch", "2.9") in {(part["name"], part["version"]) for part in libraries}


def test_a_bill_of_materials_of_odd_names_fits_too(tmp_path: Path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    made = saved.small(tmp_path)
    odd = {"": None, " ": "", packs.HOSTILE: "x" * 5000, "a b/c@d": "1"}
    items = tuple(
        replace(item, facts=replace(item.facts, software=odd, model="", vendor=None, serial=None)) for item in made.accelerators
    )
    made = packs.with_host(replace(made, accelerators=items), system="", packages={"": "", "torch": None})
    files = build.whole(build.read(build.Request(assessments=[packs.written(tmp_path, made)])))
    assert JsonStrictValidator(SchemaVersion.V1_7).validate_str(files[BOM].decode()) is None


# ---------------------------------------------------------------------------------------------------------- statements


@pytest.mark.parametrize(
    ("verdict", "result"),
    [
        (Verdict(Decision.READY, 100, 100), Result.PASSED),
        (Verdict(Decision.READY, 90, 100, limits=("a",)), Result.WARNED),
        (Verdict(Decision.READY, 90, 100, unknown=("a",)), Result.WARNED),
        (Verdict(Decision.READY, 90, 100, waived=("a",)), Result.WARNED),
        (Verdict(Decision.UNDETERMINED, 0, 100), Result.FAILED),
        (Verdict(Decision.NOT_READY, 0, 0, blockers=("a",)), Result.FAILED),
    ],
)
def test_a_verdict_in_the_words_of_in_toto_is_never_better_than_it_is(verdict: Verdict, result: Result) -> None:
    assert in_toto.result(verdict) is result


def test_the_statements_name_the_files_and_the_verdicts(files: dict[str, bytes]) -> None:
    own, test = json.loads(files[STATEMENT]), json.loads(files[TEST_RESULT])
    assert {own["_type"], test["_type"]} == {"https://in-toto.io/Statement/v1"}
    assert test["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    digests = {one["name"]: one["digest"]["sha256"] for one in own["subject"]}
    assert digests == {
        path: hashlib.sha256(content).hexdigest() for path, content in files.items() if path not in (STATEMENT, TEST_RESULT)
    }
    verdicts = own["predicate"]["assessments"][0]["verdicts"]
    assert {(one["accelerator"], one["use"], one["result"]) for one in verdicts} == {
        (id, use, "WARNED") for id in ("sim:0", "sim:1") for use in ("training", "inference")
    }
    assert (test["predicate"]["result"], test["predicate"]["passedTests"], test["predicate"]["failedTests"]) == ("WARNED", [], [])
    assert len(test["predicate"]["warnedTests"]) == 4


def test_nothing_assessed_and_an_interrupted_run_have_failed(tmp_path: Path) -> None:
    for changes in ({"accelerators": ()}, {"interrupted": True}):
        made: Any = saved.small(tmp_path, **changes)
        core = build.read(build.Request(assessments=[packs.written(tmp_path, made)]))
        assert in_toto.overall(core) is Result.FAILED
        assert json.loads(build.whole(core)[TEST_RESULT])["predicate"]["result"] == "FAILED"


# ------------------------------------------------------------------------------------------------------------ workbook


def cells(content: bytes) -> list[Any]:
    from openpyxl import load_workbook

    book = load_workbook(io.BytesIO(content))
    return [cell.value for sheet in book.worksheets for row in sheet.iter_rows() for cell in row if cell.value is not None]


def test_the_maturity_of_the_stack_is_on_the_page_and_in_the_workbook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from openpyxl import load_workbook

    assert "Maturity of the software stack" not in packs.contents(tmp_path)[PAGE].decode()  # nothing is known of it
    features = (
        maturity.Feature("numerics", "small errors", "family.topic", {"dtype": "float32"}, ("error",)),
        maturity.Feature("driver", "a high speed", "family.topic", measures=("speed",)),
    )  # fmt: skip
    monkeypatch.setattr(maturity, "FEATURES", features)
    files = packs.contents(tmp_path, with_workbook=True)
    page = files[PAGE].decode()
    assert "Maturity of the software stack" in page
    line = "50 % of 2 features that PyTorch users rely on are present and right: numerics 100 %, driver 0 %"
    assert line in page
    assert "a high speed" in page
    assert "small errors" not in page  # it is right
    whole, *rest = ([cell.value for cell in row] for row in load_workbook(io.BytesIO(files[WORKBOOK]))["Maturity"].iter_rows(min_row=2))
    assert (whole[0], whole[2], whole[4]) == ("a", "all", line)
    assert [row[2:5] for row in rest] == [["driver", "a high speed", "wrong"]]


def test_the_workbook_is_read_by_another_program(tmp_path: Path) -> None:
    from openpyxl import load_workbook

    book = load_workbook(io.BytesIO(packs.contents(tmp_path, with_workbook=True)[WORKBOOK]))
    assert book.sheetnames == ["Verdicts", "Requirements", "Glossary"]
    sheet = book["Requirements"]
    heads = [cell.value for cell in sheet[1]]
    rows = {row[1].value: dict(zip(heads, row, strict=True)) for row in sheet.iter_rows(min_row=2)}
    assert rows.keys() == saved.REQUIREMENTS.keys()
    assert (rows["partly"]["value"].value, rows["partly"]["unit"].value) == (16, "GB/s")
    assert (rows["partly"]["outcome"].value, rows["partly"]["required"].value) == ("limit", "at least 20 GB/s")
    assert rows["partly"]["ratio"].value == "0.8"
    assert rows["met"]["evidence"].value == "assessments/a.json: family.topic"
    for row in rows.values():
        assert [row[name].value for name in ("vendor's answer", "vendor's commitment", "committed value")] == [None] * 3


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t=", "{=", "http://", "mailto:", "internal:", "external:"])
def test_no_cell_is_a_formula_or_a_link(tmp_path: Path, begin: str) -> None:
    from openpyxl import load_workbook

    text = f"{begin}cmd()|' /C calc'!A0"
    made = saved.small(tmp_path)
    items = tuple(
        replace(
            item, facts=replace(item.facts, model=text),
            evidence=tuple(replace(one, reason=text) if one.check == "family.lost" else one for one in item.evidence),
        )
        for item in made.accelerators
    )  # fmt: skip
    made = rejudged(tmp_path, replace(made, accelerators=items))
    request = build.Request(
        assessments=[packs.written(tmp_path, made)], cover=build.Cover(subject=text, operator=text), with_workbook=True
    )
    book = load_workbook(io.BytesIO(build.whole(build.read(request))[WORKBOOK]))
    found = [cell for sheet in book.worksheets for row in sheet.iter_rows() for cell in row if "calc" in str(cell.value)]
    assert len(found) >= 3
    assert all(cell.data_type == "s" and cell.hyperlink is None for cell in found)
    assert not [cell for sheet in book.worksheets for row in sheet.iter_rows() for cell in row if cell.data_type == "f"]


def rejudged(folder: Path, made: Any) -> Any:
    from readiness.judging.rejudge import rejudge

    return rejudge(made, saved.profile(folder), saved.BOTH, waivers=saved.waivers(), today=saved.TODAY, basis=made.basis)
