"""Maturity of a stack in words: one line, what is stated by others beside it, and the list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from readiness.datamodel import AcceleratorAssessment, Assessment
from readiness.judging.maturity import Maturity, Standing, assess
from readiness.rendering.device_groups import DeviceGroup, group_devices
from readiness.rendering.text import clean, counted

TITLE = "Maturity"
_LONGEST_REASON = 120


@dataclass(frozen=True, slots=True)
class MaturityText:
    """Maturity of a group of like devices: its line, what others state beside it, and a row for all that is not right."""

    group: DeviceGroup
    line: str
    stated: str | None
    rows: Sequence[tuple[str, str, str, str]]


def maturity_of(item: AcceleratorAssessment, assessment: Assessment) -> Maturity:
    """Return the maturity of an accelerator's stack as of the run."""
    return assess(item, assessment.started[:10])


def maturity_line(found: Maturity) -> str:
    """`91 % of 38 features that PyTorch users rely on are present and right: driver 93 %, ...; 4 unknown`."""
    if found.share is None:
        return "unknown: nothing that PyTorch users rely on was measured"
    parts = ", ".join(f"{area} {_percent(share)}" for area, share, _, _ in found.areas() if share is not None)
    unknown = len(found.features) - len(found.known)
    features = counted(len(found.known), "feature")
    text = f"{_percent(found.share)} of {features} that PyTorch users rely on are present and right: {parts}"
    return text + (f"; {unknown} unknown" if unknown else "")


def stated_line(found: Maturity) -> str | None:
    """What others state of the stack, marked as not measured; None where nothing is known."""
    if found.stated is None:
        return None
    return f"{found.stated.level}, by {found.stated.by} ({found.stated.as_of}); stated, not measured"


def maturity_rows(found: Maturity) -> list[tuple[str, str, str, str]]:
    """All features that are not right: area, name, standing and reason."""
    return [
        (one.feature.area, one.feature.name, one.standing.value, clean(one.reason, _LONGEST_REASON))
        for one in found.features
        if one.standing is not Standing.RIGHT
    ]


def maturity_texts(assessment: Assessment) -> Iterator[MaturityText]:
    """Yield the maturity of each group of like devices of which anything is known."""
    for group in group_devices(assessment):
        found = maturity_of(group.lead, assessment)
        if found.share is not None:
            yield MaturityText(group, maturity_line(found), stated_line(found), maturity_rows(found))


def _percent(share: float) -> str:
    # What is nearly all is not all.
    return f"{int(share * 100 + 1e-9)} %"
