"""One line of at most 80 characters, the worse use first: for node health programs, which cut at 80."""

from __future__ import annotations

from readiness import rendering
from readiness.datamodel import Assessment, Decision, Verdict

_LONGEST = 80
_COLOURS = {Decision.READY: 32, Decision.NOT_READY: 31, Decision.UNDETERMINED: 33}


def render(assessment: Assessment, *, colour: bool = False) -> str:
    """`training NOT READY 61..97, inference READY 96..99; 8 accelerators, worst cuda:3`.

    Of simulated chips: `sim:2 of 4 (simulated) training NOT READY 61..97, inference READY 96..99`.
    """
    text = _first_that_fits(assessment)
    if colour and (worst := rendering.worst(assessment)):
        _, verdict = next(iter(worst.values()))
        text = f"\x1b[{_COLOURS[verdict.decision]}m{text}\x1b[0m"
    return f"{text}\n"


def _waived(verdict: Verdict) -> str:
    return f" ({len(verdict.waived)} waived)" if verdict.waived else ""


def _first_that_fits(assessment: Assessment) -> str:
    """Return the first wording that fits, from the longest to the shortest; the least needed part is dropped first."""
    verdicts = rendering.worst(assessment)
    count = len(assessment.accelerators)
    simulated = [rendering.simulated(item.facts) is not None for item in assessment.accelerators]
    if not verdicts:
        counted = "no accelerator was assessed" if count == 0 else f"no verdict on {count} accelerators"
        stopped = " (interrupted)" if assessment.interrupted else ""
        return f"UNDETERMINED: {counted}{' (simulated)' if any(simulated) else ''}{stopped}"
    stopped = "INTERRUPTED " if assessment.interrupted else ""
    full = stopped + ", ".join(
        f"{use} {verdict.decision.value.upper()} {rendering.score_range(verdict)}{_waived(verdict)}"
        for use, (_, verdict) in verdicts.items()
    )
    short = stopped + ", ".join(f"{use} {verdict.decision.value.upper()}" for use, (_, verdict) in verdicts.items())
    worst = next(iter(verdicts.values()))[0].facts
    id = rendering.clean(worst.id)
    plural = "" if count == 1 else "s"
    which = id if count == 1 else f"{count} accelerator{plural}, worst {id}"
    profile = rendering.clean(assessment.profile_name)
    blind = "".join(f"; {stack} could not be read" for stack in rendering.failed_stacks(assessment))
    unread = [blind, "; some could not be read", "; some unread"] if blind else []
    candidates = [
        *(f"{words}{ending}; {applies_to}" for ending in unread for words in (full, short) for applies_to in (which, count)),
        *(f"{words}{ending}" for ending in unread for words in (full, short)),
        f"{full}; {which}; {profile}",
        f"{full}; {which}",
        *([f"{full}; worst of {count}: {id}"] if count > 1 else []),
        f"{full}; {count} accelerator{plural}",
        f"{full}; {count}",
        full,
    ]
    if any(simulated):
        # A rehearsal is never taken for a product, however short the space: the word stands in front of all verdicts.
        some = "simulated" if all(simulated) else "partly simulated"
        mark = "simulated" if rendering.simulated(worst) else "others simulated"
        several = count > 1
        worst_of = f"; worst of {count}" if several else ""
        candidates = [
            *(f"{id} ({mark}) {words}{ending}{worst_of}" for ending in unread for words in (full, short)),
            *(f"{some}: {words}{ending}; {count}" for ending in unread for words in (full, short)),
            *(f"{some}: {short}{ending}" for ending in unread),
            f"{id} ({mark}) {full}{worst_of}; {profile}",
            f"{id} ({mark}) {full}{worst_of}",
            *([f"{id} of {count} ({mark}) {full}", f"{id} ({mark}) {short}{worst_of}"] if several else []),
            f"{some}: {full}; {count}",
            f"{some}: {short}; {count}",
            f"{some}: {short}",
        ]
    return next((text for text in candidates if len(text) <= _LONGEST), candidates[-1][:_LONGEST])
