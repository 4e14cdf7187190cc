"""Resume: what a continued run takes from its journal: its accelerators, and evidence with the same settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from readiness.datamodel import AcceleratorFacts, Evidence, Status
from readiness.documents.strict_json import plain
from readiness.engine.discovery import Discovery
from readiness.engine.journal import Journal
from readiness.engine.plan import Job
from readiness.errors import UsageError
from readiness.host.identity import accelerator, same
from readiness.host.identity import identity as this_machine


def reconcile_devices(
    chosen: tuple[AcceleratorFacts, ...], discovery: Discovery, journal: Journal, at: float
) -> tuple[AcceleratorFacts, ...]:
    """Return the accelerators under test; a resumed run needs the ones that it started with.

    From the journal come their names and their fault counters, as they stood at the very start; all else is what was found
    now, since a worker does what the description of an accelerator says.
    """
    if not journal.accelerators:
        journal.found(chosen, discovery.failures, at)
        return chosen

    nameless = any(facts.serial is None for facts in chosen)
    if nameless and journal.machine and not same(journal.machine, this_machine()):
        raise UsageError(
            f"it began on {journal.machine.get('name', 'another machine')}, and its accelerators have no serial number",
            place=str(journal.folder),
            remedy="start a new run: evidence of different machines cannot be combined",
        )
    reconciled = []
    for before in journal.accelerators:
        now = next((facts for facts in chosen if accelerator(facts) == accelerator(before)), None)
        if now is None:
            raise UsageError(
                f"{before.id} is no longer the {before.model} with the software of this run",
                place=str(journal.folder),
                remedy="start a new run: evidence of different machines cannot be combined",
            )
        reconciled.append(replace(now, counters=before.counters))
    return tuple(reconciled)


def reusable_evidence(jobs: Sequence[Job], journal: Journal) -> dict[tuple[str, str], Evidence]:
    """Return the evidence with the same settings: a check's defaults may have changed with its version.

    A check that counts on from what it kept is gone on with where an error had ended it.
    """
    runnable = {job.key: job for job in jobs if job.left_out is None}
    return {
        key: evidence
        for key, evidence in journal.evidence.items()
        if key in runnable
        and evidence.settings == plain(runnable[key].settings)
        and not (runnable[key].check.recount is not None and evidence.status is Status.ERROR)
    }
