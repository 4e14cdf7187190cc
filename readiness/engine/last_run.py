"""The last run, for `--failed`: what must run again, and what a new run reuses from it.

Evidence is taken over where it would be the same again as far as anybody can know: of the same machine and accelerators, by
the same version, under the same profile, with the same settings and random data, and of a check whose file is the same. All
else that the last run wanted runs again.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from readiness import __version__
from readiness.check_registry import Phase
from readiness.datamodel import AcceleratorFacts, Assessment, Evidence, Outcome, Profile, Status, Use
from readiness.documents import assessment
from readiness.documents.strict_json import plain
from readiness.engine import run_store
from readiness.engine.journal import Journal, read_request
from readiness.engine.plan import NOT_REQUESTED, Job
from readiness.errors import UsageError
from readiness.host.identity import accelerator, same
from readiness.host.identity import identity as this_machine

_FLAG = "--failed"
_ANEW = "run without --failed"


@dataclass(frozen=True, slots=True)
class LastRun:
    """The evidence and the request of the last run."""

    saved: Assessment
    request: Mapping[str, Any]

    @property
    def seed(self) -> int:
        """The seed of its random data."""
        return self.saved.seed

    @property
    def soak_s(self) -> float | None:
        """The duration of its soak."""
        return self.request.get("soak_s")

    def wanted(self) -> list[tuple[str, str]]:
        """Return the (accelerator, check) pairs that were requested."""
        return sorted(
            (item.facts.id, piece.check)
            for item in self.saved.accelerators
            for piece in item.evidence
            if piece.cause not in NOT_REQUESTED
        )

    def take_over(self, jobs: Sequence[Job], chosen: Sequence[AcceleratorFacts], journal: Journal, at: float) -> None:
        """Copy reusable evidence to the journal. Raises UsageError on another machine."""
        self._refuse_others(chosen)
        for job in jobs:
            if (evidence := self._sound(job)) is not None:
                earlier = evidence.earlier or self.saved.started
                journal.append(job.key[0], replace(evidence, earlier=earlier), at)

    def _sound(self, job: Job) -> Evidence | None:
        """Return its evidence of a job if nothing failed or was unknown and a new run would do the same."""
        ids = tuple(facts.id for facts in job.accelerators)
        items = [item for item in self.saved.accelerators if item.facts.id in ids]
        evidence = next((piece for item in items[:1] for piece in item.evidence if piece.check == job.check.id), None)
        if evidence is None or len(items) != len(ids) or evidence.status is not Status.MEASURED:
            return None
        if job.check.phase is Phase.LAST:  # it looks back on the run that it ends
            return None
        if evidence.accelerators != ids or evidence.settings != plain(job.settings):
            return None
        well = (Outcome.PASS, Outcome.NOT_APPLICABLE)
        if any(found.outcome not in well for item in items for found in item.findings if found.check == evidence.check):
            return None
        file = Path(job.check.file)
        return evidence if _is_older(file, evidence.earlier or self.saved.started) else None

    def _refuse_others(self, chosen: Sequence[AcceleratorFacts]) -> None:
        before = {item.facts.id: item.facts for item in self.saved.accelerators}
        for facts in chosen:
            if facts.id not in before:
                known = " ".join(f"--device {id}" for id in before)
                raise UsageError(
                    f"the last run did not include {facts.id}", place=_FLAG, remedy=f"add {known}, or {_ANEW}"
                )
            if accelerator(facts) != accelerator(before[facts.id]):
                raise UsageError(
                    f"{facts.id} is no longer the {before[facts.id].model} with the software of the last run",
                    place=_FLAG,
                    remedy=_ANEW,
                )
        machine = self.request.get("machine", {})
        if any(facts.serial is None for facts in chosen) and not same(machine, this_machine()):
            raise UsageError(
                f"the last run was on {machine.get('name', 'another machine')}, and its accelerators have no serial number",
                place=_FLAG,
                remedy=_ANEW,
            )


def load(profile: Profile, uses: Sequence[Use], requested: Mapping[str, Any]) -> LastRun:
    """Load the last run for reuse. Raises UsageError if there is none, or if its request was different.

    `request` is what this run is asked for: `seed`, `hosts`, and `elsewhere`, who the accelerators of those are.
    """
    folder = run_store.last_run(_FLAG, f"{_ANEW} first")
    last = LastRun(assessment.read(folder / "assessment.json"), _saved_request(folder))
    saved = last.saved
    if saved.profile_name != profile.name:
        raise UsageError(
            f"the last run was for the profile {saved.profile_name}, not {profile.name}",
            place=_FLAG,
            remedy=f"add --profile {saved.profile_name}, or {_ANEW} first",
        )
    if saved.profile_sha256 != profile.sha256:
        what = f"the profile {profile.name} has other requirements than in the last run"
        raise UsageError(what, place=_FLAG, remedy=_ANEW)
    if saved.version != __version__:
        raise UsageError(
            f"the last run was made by readiness {saved.version}; this is {__version__}", place=_FLAG, remedy=_ANEW
        )
    if not set(uses) <= set(saved.uses):
        raise UsageError(
            f"the last run was for {' and '.join(saved.uses)} only",
            place=_FLAG,
            remedy=f"add {' '.join(f'--use {use}' for use in saved.uses)}, or {_ANEW}",
        )
    if requested["seed"] not in (None, saved.seed):
        raise UsageError(
            f"the last run's random data had the seed {saved.seed}, not {requested['seed']}",
            place=_FLAG,
            remedy=f"omit --seed, or {_ANEW}",
        )
    if list(requested["hosts"]) != (hosts := last.request.get("hosts", [])):
        remedy = f"add {' '.join(f'--host {host}' for host in hosts)}" if hosts else "omit --host"
        what = f"the last run was with {', '.join(hosts) or 'no other host'}"
        raise UsageError(what, place=_FLAG, remedy=f"{remedy}, or {_ANEW}")
    if requested["elsewhere"] != last.request.get("elsewhere", []):
        what = "the other hosts no longer have the accelerators of the last run"
        raise UsageError(what, place=_FLAG, remedy=_ANEW)
    wanted = set(last.wanted())
    if not any(
        (item.facts.id, finding.check) in wanted and finding.outcome in (Outcome.FAIL, Outcome.UNKNOWN)
        for item in saved.accelerators
        for finding in item.findings
    ):
        raise UsageError("nothing failed in the last run", place=_FLAG, remedy=_ANEW)
    return last


def _saved_request(folder: Path) -> Mapping[str, Any]:
    requested: Mapping[str, Any] = read_request(folder / "run.json", _ANEW)["asked"]
    return requested


def _is_older(file: Path, started: str) -> bool:
    """Return whether a check's file is older than a run."""
    try:
        return file.stat().st_mtime <= datetime.datetime.fromisoformat(started).timestamp()
    except (OSError, ValueError):
        return False
