"""Default prose of requirements: that of the check's `Measure` for what the profile leaves out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from readiness.check_registry import Check
from readiness.datamodel import Labels, Measure, Remedy, Requirement


def with_defaults(requirement: Requirement, checklist: Mapping[str, Check]) -> Requirement:
    """The requirement with title, why and remedy; its check and measure are known to the checklist."""
    check = checklist[requirement.check]
    measure = check.measures[requirement.measure]
    return replace(
        requirement,
        title=requirement.title or _filled(measure.title, requirement.where) or _title(requirement, check),
        why=requirement.why or _filled(measure.why, requirement.where),
        remedy=_remedy(requirement, measure),
    )


def _remedy(requirement: Requirement, measure: Measure) -> Remedy | None:
    """Return the profile's remedy, or the measure's; an action of the profile without a text gets the measure's text."""
    own = requirement.remedy
    if own is not None and own.text:
        return own
    text = _filled(measure.remedy, requirement.where)
    return Remedy(text, measure.action if own is None else own.action) if text else None


def _filled(text: str, labels: Labels) -> str:
    """The text with each `{LABEL}` replaced by what the requirement asks of it; nothing where it asks nothing of one."""
    names = re.findall(r"\{([A-Za-z_]+)\}", text)
    if any(name not in labels for name in names):
        return ""
    for name in names:
        text = text.replace(f"{{{name}}}", labels[name])
    return text


def _title(requirement: Requirement, check: Check) -> str:
    """`Matrix products agree with float64 (relative error, dtype=bfloat16)`: of one that nobody gave a title."""
    labels = (f"{key}={value}" for key, value in requirement.where.items())
    about = ", ".join((requirement.measure.replace("_", " "), *labels))
    return f"{check.title} ({about})"
