"""The page of a pack: the seventeen sections of an acceptance report as one HTML file that needs nothing else."""

from __future__ import annotations

from typing import Any

from readiness.pack import sections
from readiness.pack.contents import Core
from readiness.rendering import Kind

TITLES = (
    "Subject and verdicts",
    "Requirements of the profile",
    "System description",
    "Requirements and evidence",
    "Blockers, waivers and deviations",
    "Not measured, and how to measure it",
    "Results by family",
    "Scores beside their ceilings",
    "Soak: exposure, events and bound",
    "Self-test: planted defects",
    "Method and conditions",
    "Comparison",
    "Baseline for a re-test",
    "Bill of materials",
    "Files, signature and redactions",
    "Sign-off and witnesses",
    "Glossary",
)
#: So many redactions are listed on the page.
_MOST_REDACTIONS = 1000
_ROLES = ("buyer", "vendor", "operator of the test", "witness", "witness")
_COUNTED = (Kind.PASSED, Kind.BLOCKER, Kind.LIMIT, Kind.UNKNOWN, Kind.WAIVED, Kind.INFORMATION, Kind.NOT_APPLICABLE)


def render(core: Core) -> str:
    """The page. Every text that is not ours is escaped by the environment of the templates."""
    from readiness.rendering import html

    values = sections.context(core)
    parts: list[dict[str, Any]] = values.pop("parts")
    for part in parts:
        part["system_rows"] = [(name, entry["value"], entry["from"]) for name, entry in part["system"].items()]
        part["family_rows"] = [
            (family, len(rows), *(counts.get(kind, 0) for kind in _COUNTED)) for family, rows, counts in part["families"]
        ]
    comparison = values["comparison"]
    if comparison is not None:
        comparison["table"] = [
            (requirement, title, *({"text": text, "style": html.STYLES.get(kind, "none")} for text, kind in cells))
            for requirement, title, cells in comparison["rows"]
        ]
    return html.render(
        "pack.html.jinja",
        **values,
        titles=TITLES,
        parts_of=parts,
        parts_names=", ".join(part["name"] for part in parts),
        verdict_table=[
            (
                row["subject"], row["accelerators"], row["use"],
                {"text": row["decision"], "style": html.STYLES.get(row["decision"], "none")}, row["score"],
                row["outcome_counts"],
            )
            for row in values["verdict_rows"]
        ],
        redaction_rows=[
            (entry["what"], entry["placeholder"], entry["places"], ", ".join(entry["first"]))
            for entry in values["redactions"][:_MOST_REDACTIONS]
        ],
        redactions_left_out=max(len(values["redactions"]) - _MOST_REDACTIONS, 0),
        sign_rows=[(role, "", "", "", "") for role in _ROLES],
    )  # fmt: skip
