"""The PDF of a pack: PDF/A with the assessments attached, the same bytes each time, and nothing is fetched for it."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from pikepdf import pdfa
from pypdf import PdfReader

from readiness.pack import build, pdf
from readiness.pack.contents import PAGE, PDF, Core
from readiness.pack.page import TITLES
from tests.support import packs

#: WeasyPrint leaves the file of its own colour profile open.
pytestmark = pytest.mark.filterwarnings("ignore:.*sRGB2014:pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Core:
    return packs.core(tmp_path_factory.mktemp("pack"), with_pdf=True)


@pytest.fixture(scope="module")
def files(core: Core) -> dict[str, bytes]:
    return build.whole(core)


def test_it_has_all_sections_and_the_assessment_is_attached(files: dict[str, bytes]) -> None:
    reader = PdfReader(io.BytesIO(files[PDF]))
    text = " ".join(" ".join(page.extract_text().split()) for page in reader.pages)
    for number, title in enumerate(TITLES, 1):
        assert f"{number}. {title}" in text, title
    assert reader.attachments["a.json"] == [files["assessments/a.json"]]
    assert json.loads(reader.attachments["a.json"][0])["schema"] == "readiness.assessment/1"


def test_it_is_marked_as_pdf_a(files: dict[str, bytes]) -> None:
    reader = PdfReader(io.BytesIO(files[PDF]))
    metadata = reader.metadata
    assert metadata is not None
    assert metadata.title == "Acceptance report: a"
    xmp = reader.trailer["/Root"]["/Metadata"].get_data().decode()  # type: ignore[index]
    assert 'pdfaid:part="3"' in xmp or "<pdfaid:part>3<" in xmp
    assert 'pdfaid:conformance="U"' in xmp or "<pdfaid:conformance>U<" in xmp


def _objects(reader: PdfReader) -> Iterator[Any]:
    for number in range(1, len(reader.xref_objStm) + max(reader.xref[0], default=0) + 2):
        with contextlib.suppress(Exception):
            yield reader.get_object(number)


def test_it_keeps_the_rules_of_pdf_a_that_can_be_checked_without_a_validator(files: dict[str, bytes]) -> None:
    """ISO 19005-3: header, identifier, output intent with a profile, embedded fonts with Unicode, sources named, no action."""
    data = files[PDF]
    assert data.startswith(b"%PDF-1.7")
    comment = data.splitlines()[1]
    assert comment.startswith(b"%")
    assert sum(byte > 127 for byte in comment) >= 4
    reader = PdfReader(io.BytesIO(data))
    root: Any = reader.trailer["/Root"]
    assert "/ID" in reader.trailer
    assert "/Encrypt" not in reader.trailer
    assert root["/MarkInfo"]["/Marked"]  # for screen readers: headings, lists and tables are marked as such
    assert "/StructTreeRoot" in root
    assert root["/Lang"] == "en"
    (intent,) = root["/OutputIntents"]
    intent = intent.get_object()
    assert (intent["/S"], intent["/DestOutputProfile"].get_object()["/N"]) == ("/GTS_PDFA1", 3)
    assert intent["/DestOutputProfile"].get_object().get_data()[36:40] == b"acsp"  # the mark of an ICC profile
    for named in root["/AF"]:
        source = named.get_object()
        assert (source["/AFRelationship"], source["/F"], source["/UF"]) == ("/Source", "a.json", "a.json")
        assert source["/EF"]["/F"].get_object()["/Subtype"] == "/application/json"
    assert not {"/AA", "/OpenAction"} & root.keys()
    fonts = [one for one in _objects(reader) if isinstance(one, dict) and one.get("/Type") == "/Font"]
    assert fonts
    for font in fonts:
        if font["/Subtype"] == "/Type0":
            assert "/ToUnicode" in font
            descriptor = font["/DescendantFonts"][0].get_object()["/FontDescriptor"].get_object()
            assert {"/FontFile2", "/FontFile3"} & descriptor.keys(), font["/BaseFont"]
    for one in _objects(reader):
        if isinstance(one, dict):
            assert one.get("/S") not in ("/JavaScript", "/Launch", "/URI", "/GoToR", "/SubmitForm"), one
            assert one.get("/Subtype") not in ("/Movie", "/Sound", "/Screen", "/3D", "/FileAttachment")


def _violations(data: bytes) -> list[str]:
    """What a validator by the rules of veraPDF's profile for PDF/A-3b finds; of what it cannot judge, all that is there."""
    report = pdfa.validate_written(io.BytesIO(data), "3b")
    return [f"{finding}" for finding in report.findings if not re.search("schema-Resources .* (patterns|shadings) are not", f"{finding}")]


def test_a_validator_of_pdf_a_finds_no_violation(files: dict[str, bytes]) -> None:
    """Level U is B with Unicode for all text, which the test above looks at; patterns and shadings it does not judge."""
    (level,) = _violations(files[PDF])
    assert "pdfaid:conformance is 'U', expected 'B'" in level
    reader = PdfReader(io.BytesIO(files[PDF]))
    for page in reader.pages:
        resources: Any = page["/Resources"].get_object()
        assert not [kind for kind in ("/Pattern", "/Shading", "/XObject") if resources.get(kind, {})]


def test_the_validator_finds_what_is_planted(files: dict[str, bytes]) -> None:
    with pikepdf.open(io.BytesIO(files[PDF])) as document:
        descriptors = [one for one in document.objects if isinstance(one, pikepdf.Dictionary) and "/FontFile2" in one]
        for one in descriptors:
            del one["/FontFile2"]
        out = io.BytesIO()
        document.save(out)
    assert descriptors
    assert "6.2.11.4.1" in " ".join(_violations(out.getvalue()))  # fonts that are not embedded


def test_bars_have_their_colours(files: dict[str, bytes]) -> None:
    page = pdf._on_paper(files[PAGE].decode())
    assert page.count('class="bar of-') == page.count(".of-bad .proven") - 1  # that of the style sheet
    assert 'class="bar of-' in page


def test_the_same_page_gives_the_same_bytes(core: Core, files: dict[str, bytes]) -> None:
    assert pdf.render(files[PAGE].decode(), core) == files[PDF]


@pytest.mark.parametrize("address", ["file:///etc/passwd", "http://127.0.0.1:1/x", "https://example.com/x", "data:text/css,body{}", "x.png"])
def test_nothing_is_fetched(core: Core, address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    from weasyprint.urls import URLFetcher

    def fetch(*_: object, **__: object) -> None:
        pytest.fail("it looks at an address")

    monkeypatch.setattr(URLFetcher, "fetch", fetch)
    monkeypatch.setattr(URLFetcher, "open", fetch)
    caplog.set_level("WARNING", "weasyprint")
    (tmp_path / "x.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    page = f'<!DOCTYPE html><html lang="en"><title>t</title><link rel="stylesheet" href="{address}"><img src="{address}" alt="a"><p>text</p>'
    reader = PdfReader(io.BytesIO(pdf.render(page, core)))
    assert "text" in reader.pages[0].extract_text()
    assert "no address is looked at" in caplog.text or address == "x.png"
