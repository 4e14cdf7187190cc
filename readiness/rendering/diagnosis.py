"""The diagnosis in words: what is wrong, how much it explains, which use it stops and what to do first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from readiness.datamodel import Assessment, Diagnosis
from readiness.judging.diagnosis import diagnose, unexplained
from readiness.rendering.accelerators import names
from readiness.rendering.text import clean, counted, wrap

TITLE = "Diagnosis"
_LONGEST_SENTENCE = 400


@dataclass(frozen=True, slots=True)
class DiagnosisText:
    """One defect: the sentence, what it explains and stops, and what to do first."""

    sentence: str
    weight: str
    remedy: str
    stops: bool
    diagnosis: Diagnosis


def diagnosis_texts(assessment: Assessment) -> tuple[list[DiagnosisText], str]:
    """All defects, the one that explains most first,
    and in words what none of them explains; empty where that is nothing.
    """
    found = diagnose(assessment)
    ids = [item.facts.id for item in assessment.accelerators]
    left = unexplained(assessment, found)
    rest = ""
    if left:
        by = "these" if found else "any rule"
        rest = f"Not explained by {by}: {counted(len(left), 'requirement')}, in the lists below."
    return [_text(one, ids) for one in found], rest


def _text(one: Diagnosis, ids: list[str]) -> DiagnosisText:
    blockers, others = len(one.blockers), len(one.requirements) - len(one.blockers)
    parts = [counted(count, word) for count, word in ((blockers, "blocker"), (others, "limit")) if count]
    weight = f"It explains {' and '.join(parts)}"
    weight += f" and stops {' and '.join(one.stops)}" if one.stops else " and stops no use"
    if len(ids) > 1:
        where = "all accelerators" if set(one.accelerators) == set(ids) else f"{names(one.accelerators)} only"
        weight += f"; on {where}"
    return DiagnosisText(clean(one.sentence, _LONGEST_SENTENCE), f"{weight}.", clean(one.remedy.text), bool(one.stops), one)


def lines(assessment: Assessment, width: int, most: int | None = None) -> Iterator[tuple[str, str]]:
    """Lines of at most `width` columns, each with its style: `sentence`, `weight` or `do`. At most so many defects, the rest
    counted.
    """
    found, rest = diagnosis_texts(assessment)
    shown = found if most is None else found[:most]
    for number, one in enumerate(shown, 1):
        first = f"  {number}. " if len(found) > 1 else "  "
        for line in wrap(one.sentence, width, first=first):
            yield ("stop" if one.stops else "limit"), line
        for line in wrap(one.weight, width, first=" " * len(first)):
            yield "weight", line
        for line in wrap(one.remedy, width, first=f"{' ' * len(first)}do:  "):
            yield "do", line
    if len(shown) < len(found):
        yield "weight", f"  and {len(found) - len(shown)} more"
    if rest:
        for line in wrap(rest, width, first="  "):
            yield "weight", line
