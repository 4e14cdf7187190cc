"""What a run that goes on takes over from its journal: the accelerators it began on, and evidence of the same settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from readiness.discovery import Discovery
from readiness.errors import UsageError
from readiness.journal import Journal
from readiness.machine import identity as this_machine
from readiness.machine import same
from readiness.model import AcceleratorFacts, Evidence, Status
from readiness.plain_json import plain
from readiness.plan import Job


def settle(
    chosen: tuple[AcceleratorFacts, ...], discovery: Discovery, journal: Journal, at: float
) -> tuple[AcceleratorFacts, ...]:
    """The accelerators under test as the journal knows them; a resumed run must find the same ones."""
    if not journal.accelerators:
        journal.found(chosen, discovery.failures, at)
        return chosen

    def identity(facts: AcceleratorFacts) -> tuple[Any, ...]:
        odd = (facts.properties.get(key) for key in ("unusable", "chip"))
        return facts.id, facts.stack, facts.model, facts.serial, dict(facts.software), *odd

    nameless = any(facts.serial is None for facts in chosen)
    if nameless and journal.machine and not same(journal.machine, this_machine()):
        raise UsageError(
            f"it began on {journal.machine.get('name', 'another machine')}, and its accelerators tell no serial number",
            place=str(journal.folder),
            remedy="begin a new run: evidence of two different machines makes no assessment",
        )
    for before in journal.accelerators:
        if identity(before) not in [identity(facts) for facts in chosen]:
            raise UsageError(
                f"{before.id} is no longer the {before.model} with the software that this run began on",
                place=str(journal.folder),
                remedy="begin a new run: evidence of two different machines makes no assessment",
            )
    return journal.accelerators  # with the fault counters as they stood at the very start


def known(jobs: Sequence[Job], journal: Journal) -> dict[tuple[str, str], Evidence]:
    """What is there already, of the same settings: a check's own may have changed with its version.

    A check that counts on from what it kept is gone on with where an error had ended it.
    """
    asked = {job.key: job for job in jobs if job.left_out is None}
    return {
        key: evidence
        for key, evidence in journal.evidence.items()
        if key in asked
        and evidence.settings == plain(asked[key].settings)
        and not (asked[key].check.recount is not None and evidence.status is Status.ERROR)
    }
