"""The page of a pack as PDF/A-3u, the assessments attached (extra `pdf`): made by WeasyPrint, which may fetch nothing."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from readiness.errors import InternalError
from readiness.pack.contents import PAGE, Core, sha256
from readiness.pack.extras import needs

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIANT = "pdf/a-3u"
#: What only a sheet of paper needs: nothing folds, and wide tables lie across.
_PAPER = """
@page { size: A4; margin: 16mm 12mm 14mm; }
@page wide { size: A4 landscape; margin: 12mm 10mm; }
details > summary { list-style: none; }
details, details > * { display: block; }
h2 { break-before: auto; }
.evidence { page: wide; font-size: 6.5pt; }
.contents a::after { content: leader('.') target-counter(attr(href), page); }
"""


def refuse_missing() -> None:
    """Raises UsageError, which names the extra, where it is not installed or lacks a library of the system."""
    with needs("pdf", "--pdf"):
        import weasyprint  # noqa: F401


class RefusedError(Exception):
    """Something in the page names an address. None is looked at."""


def render(page: str, core: Core) -> bytes:
    """The PDF of a page. The same page gives the same bytes with the same version of WeasyPrint and the same fonts."""
    refuse_missing()
    import weasyprint

    assessments = {subject.path: subject.content for subject in core.subjects}
    made = max(subject.assessment.started for subject in core.subjects)
    options = {"pdf_variant": VARIANT, "pdf_identifier": _identifier(core)}
    paper = weasyprint.CSS(string=_PAPER, url_fetcher=_refuse)
    document = weasyprint.HTML(string=_open(page), url_fetcher=_refuse).render(stylesheets=[paper], **options)
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


def _open(page: str) -> str:
    """Everything that folds, unfolded: paper has no folds."""
    return page.replace("<details>", "<details open>")


def _identifier(core: Core) -> bytes:
    return sha256("".join(sha256(subject.content) for subject in core.subjects).encode())[:32].encode()


def _day(started: str) -> datetime.datetime:
    try:
        return datetime.datetime.fromisoformat(started)
    except ValueError:
        return datetime.datetime(1980, 1, 1, tzinfo=datetime.UTC)


def _refuse(url: str, *_: Any, **__: Any) -> Mapping[str, Any]:
    raise RefusedError(url)
