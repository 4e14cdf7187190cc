"""One line of at most 80 characters, the worse use first: for node health programs, which cut at 80."""

from __future__ import annotations

from readiness import telling
from readiness.model import Assessment, Decision

_LONGEST = 80
_COLOURS = {Decision.READY: 32, Decision.NOT_READY: 31, Decision.UNDETERMINED: 33}


def render(assessment: Assessment, *, colour: bool = False) -> str:
    """`training NOT READY 61..97, inference READY 96..99; 8 accelerators, worst cuda:3`."""
    text = _first_that_fits(assessment)
    if colour and (worst := telling.worst(assessment)):
        _, verdict = next(iter(worst.values()))
        text = f"\x1b[{_COLOURS[verdict.decision]}m{text}\x1b[0m"
    return f"{text}\n"


def _first_that_fits(assessment: Assessment) -> str:
    """From the most telling wording to the shortest; what goes first is what is needed least."""
    verdicts = telling.worst(assessment)
    count = len(assessment.accelerators)
    if not verdicts:
        said = "UNDETERMINED"
        counted = "no accelerator was assessed" if count == 0 else f"no verdict on {count} accelerators"
        return f"{said}: {counted}{' (interrupted)' if assessment.interrupted else ''}"
    said = ", ".join(
        f"{use} {verdict.decision.value.upper()} {telling.span(verdict)}" for use, (_, verdict) in verdicts.items()
    )
    plural = "" if count == 1 else "s"
    id = telling.clean(next(iter(verdicts.values()))[0].facts.id)
    which = id if count == 1 else f"{count} accelerator{plural}, worst {id}"
    stopped = "INTERRUPTED " if assessment.interrupted else ""
    profile = telling.clean(assessment.profile_name)
    blind = "".join(f"; {stack} could not be read" for stack in telling.failed_stacks(assessment))
    candidates = [
        *([f"{stopped}{said}{blind}; {which}", f"{stopped}{said}{blind}; {count}"] if blind else []),
        f"{stopped}{said}; {which}; {profile}",
        f"{stopped}{said}; {which}",
        *([f"{stopped}{said}; worst of {count}: {id}"] if count > 1 else []),
        f"{stopped}{said}; {count} accelerator{plural}",
        f"{stopped}{said}; {count}",
    ]
    return next((text for text in candidates if len(text) <= _LONGEST), f"{stopped}{said}"[:_LONGEST])
