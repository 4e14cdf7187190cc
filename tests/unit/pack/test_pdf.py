"""The PDF of a pack: PDF/A with the assessments attached, the same bytes each time, and nothing is fetched for it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
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
