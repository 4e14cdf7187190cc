"""Claims of soaks: what a check proves and what it does not, from rows with `proves` and `does_not_prove`."""

from __future__ import annotations

from readiness.datamodel import AcceleratorAssessment
from readiness.rendering.text import clean

TITLE = "Soak: proven and not proven"
_LONGEST = 2000


def soak_claim_rows(item: AcceleratorAssessment) -> list[tuple[str, str, str]]:
    """Return check, what it proves, and what it does not prove, in the order of the checks."""
    return [
        (clean(entry.check, 100), clean(row["proves"], _LONGEST), clean(row.get("does_not_prove", ""), _LONGEST))
        for entry in item.evidence
        for row in entry.rows
        if "proves" in row
    ]
