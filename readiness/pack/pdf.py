"""The page of a pack as PDF/A-3u, the assessments attached (extra `pdf`): made by WeasyPrint, which may fetch nothing."""

from __future__ import annotations

import datetime
import re
from typing import Any

from readiness.errors import InternalError
from readiness.optional_imports import optional
from readiness.pack.contents import PAGE, Core, sha256
from readiness.rendering.text import clean

VARIANT = "pdf/a-3u"
#: What only a sheet of paper needs, behind the rules of the screen: nothing folds, and wide tables lie across.
_PAPER = """<style>
@page wide { size: A4 landscape; margin: 12mm 10mm; }
details > summary { list-style: none; }
th, td { overflow-wrap: break-word; }
.sheet { page: wide; }
.evidence { width: 100%; table-layout: fixed; font-size: 7pt; }
.evidence th, .evidence td { overflow-wrap: anywhere; }
.sign { width: 100%; break-inside: avoid; }
.contents { columns: 1; }
.cards { grid-template-columns: 1fr 1fr; }
.contents a::after { content: leader('.') target-counter(attr(href), page); }
</style>"""
#: WeasyPrint gives pictures within a page neither its style sheet nor its variables.
_PICTURES = """<style>
.back { fill: #e8ebee; stroke: #535c66; stroke-width: .5 } .proven { fill: #0b62a8 }
.of-bad .proven { fill: #8a0f14 } .of-open .proven { fill: #634200 }
</style>"""
#: Archives keep plain colours best: what is possible and not proven is pale instead of hatched.
_HATCH = re.compile(r'<defs>.*?</defs>|style="fill: url\(#hatch-[^"]*"', re.DOTALL)
_POSSIBLE = 'fill="#a9c6e3"'
#: A sheet of paper leads to no other file.
_LINK = re.compile(r'<a href="(?:reports/[^"]*|comparison\.html)">([^<]*)</a>')
_PICTURE = re.compile(r'<svg class="bar [^>]*>')


def refuse_missing() -> None:
    """Raises UsageError, which names the extra, where it is not installed or lacks a library of the system."""
    with optional("pdf", "--pdf"):
        import weasyprint  # noqa: F401


def render(page: str, core: Core) -> bytes:
    """The PDF of a page. The same page gives the same bytes with the same version of WeasyPrint and the same fonts."""
    refuse_missing()
    import weasyprint

    assessments = {subject.path: subject.content for subject in core.subjects}
    made = max(subject.assessment.started for subject in core.subjects)
    refusing = _fetcher()
    options: dict[str, Any] = {"pdf_variant": VARIANT, "pdf_identifier": _identifier(core), "pdf_tags": True}
    document = weasyprint.HTML(string=_on_paper(page), url_fetcher=refusing).render(**options)
    document.metadata.attachments = [
        weasyprint.Attachment(
            string=content, name=path.rpartition("/")[2], description=f"{path}, SHA-256 {sha256(content)}",
            relationship="Source", created=_day(made), modified=_day(made),
        )
        for path, content in assessments.items()
    ]
    written = document.write_pdf(**options)
    if not isinstance(written, bytes):
        raise InternalError(f"WeasyPrint gave no PDF of {PAGE}", remedy="report this; a pack without --pdf says the same")
    return written


def _fetcher() -> Any:
    """Return a fetcher for WeasyPrint that refuses every address, those of files too."""
    from weasyprint.urls import URLFetcher

    class Refusing(URLFetcher):  # type: ignore[misc]
        def fetch(self, url: str, headers: object = None) -> Any:  # noqa: ARG002 - WeasyPrint's
            raise ValueError(f"no address is looked at: {clean(url, 200)}")

    return Refusing()


def _on_paper(page: str) -> str:
    """Return the page for paper: folded parts open, rules for paper after those for the screen, colours within pictures."""
    opened = page.replace("<details>", "<details open>")
    coloured = _PICTURE.sub(lambda match: match[0] + _PICTURES, _HATCH.sub(_plain, opened))
    before, end, after = _LINK.sub(r"\1", coloured).rpartition("</body>")
    return before + _PAPER + end + after


def _plain(match: re.Match[str]) -> str:
    """Return what stands for a hatch, or for its definition."""
    return _POSSIBLE if match[0].startswith("style") else ""


def _identifier(core: Core) -> bytes:
    return sha256("".join(sha256(subject.content) for subject in core.subjects).encode())[:32].encode()


def _day(started: str) -> datetime.datetime:
    try:
        return datetime.datetime.fromisoformat(started)
    except ValueError:
        return datetime.datetime(1980, 1, 1, tzinfo=datetime.UTC)

