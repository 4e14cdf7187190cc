"""What tests of rehearsals share: chips and profiles as files, a rehearsal in this process, and made-up evidence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from readiness import check_registry, package_data
from readiness.check_registry import Check, Scope
from readiness.datamodel import (
    AcceleratorFacts,
    Cost,
    Evidence,
    Level,
    Limit,
    Measure,
    Measurement,
    Operator,
    Profile,
    Requirement,
    Status,
    Use,
)
from readiness.profile import loader
from readiness.rehearsal import Rehearsal, Request, rehearse
from readiness.rehearsal.executor import Observer
from readiness.rehearsal.seeded_faults import Selection, selection
from tests.support import paths

CHECKS = paths.CHECKS / "rehearsal"
SOFTWARE = 'software = { driver = "1.0.0", driver_library = "1.0.0" }\n'


def chip_file(file: Path, *defects: str, chips: int = 1, title: str = "A test", name: str | None = None) -> Path:
    """A chip with these defects, each the body of its table."""
    text = f'schema = "readiness.chip/1"\nname = "{name or file.stem}"\ntitle = """{title}"""\nchips = {chips}\nmemory_gib = 0.5\n'
    file.write_text(text + SOFTWARE + "".join(f"[[defect]]\n{defect}\n" for defect in defects))
    return file


def profile_file(file: Path, acting: Iterable[str], further: str = "") -> Path:
    """A profile that wants a figure of at least 0 of each of these checks."""
    text = 'schema = "readiness.profile/1"\nname = "test"\ntitle = "A test"\n'
    text += "".join(f'[[require]]\nid = "{id}"\ncheck = "{id}"\nmeasure = "figure"\nat_least = 0\n' for id in acting)
    file.write_text(text + further)
    return file


def use_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the checks that play a part."""
    monkeypatch.setenv(package_data.CHECKS_VARIABLE, str(CHECKS))


def play(profile_path: Path, chips: Sequence[Path | str], observer: Any = None, **options: Any) -> Rehearsal:
    """A rehearsal in this process (its checks in processes of their own, as ever)."""
    found = check_registry.discover()
    chosen = loader.load(str(profile_path), found)
    given: dict[str, Any] = {"seed": 7, "seeds": (7,), "jobs": 2} | options
    request = Request(profile=chosen, checklist=found, selection=selection([str(chip) for chip in chips]), uses=chosen.uses, **given)
    return rehearse(request, observer or Observer())


def made_check(id: str, *catches: str, scope: Scope = Scope.ACCELERATOR, alone: bool = False, typical_s: float = 1.0) -> Check:
    """A check that is never run."""

    def function(accelerator: Any) -> Any:
        """Never run."""
        yield Measurement("figure", 1.0)

    return Check(id, id, function, {"figure": Measure("1")}, Cost.SECONDS, typical_s, 60.0, scope=scope, alone=alone, catches=catches)


def made_profile(*checks: str, level: Level = Level.MUST, uses: tuple[Use, ...] = tuple(Use)) -> Profile:
    """It wants a figure of at least 0 of each check, under the check's own id."""
    limit = Limit(Operator.AT_LEAST, 0)
    wanted = tuple(Requirement(id, uses, id, "figure", limit, level=level) for id in checks)
    return Profile("made", "Made up", uses, wanted)


def made_request(checks: Sequence[Check], made_cast: Selection, *, wanted: Profile | None = None, **options: Any) -> Request:
    """A request for these checks."""
    chosen = wanted or made_profile(*(check.id for check in checks))
    given: dict[str, Any] = {"seed": 7, "seeds": (7,)} | options
    return Request(profile=chosen, checklist={check.id: check for check in checks}, selection=made_cast, uses=chosen.uses, **given)


def host() -> AcceleratorFacts:
    """The host's CPU."""
    return AcceleratorFacts("cpu:0", "cpu", 0, "cpu", "somebody", "a CPU")


def evidence_of(
    check: str, figure: float | None, *, status: Status = Status.MEASURED, seconds: float = 1.0, about: str | None = None, met: bool | None = None,
    acted: int | None = None,
) -> Evidence:
    """Evidence of one figure, or of none; `met` and `acted` say what became of a planted defect, where somebody knows."""
    measurements = () if figure is None else (Measurement("figure", figure, unit="1", about=about),)
    environment: dict[str, Any] = {} if met is None else {"planted_defect_met": met}
    environment |= {} if acted is None else {"planted_defects_acted": {"1 nan": acted}}
    reason = None if status is Status.MEASURED else "a reason"
    return Evidence(check, status, reason=reason, seconds=seconds, measurements=measurements, environment=environment)
