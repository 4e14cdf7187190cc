"""Read all sources of device health in parallel, each in a process of its own with a time limit, and merge their
readings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from readiness.accelerators.readers import contract, device_matching
from readiness.accelerators.readers.contract import Reading
from readiness.accelerators.readers.sources import BY_NAME, SOURCES, Source
from readiness.datamodel import AcceleratorFacts
from readiness.isolation.task_process import TaskProcess
from readiness.isolation.task_supervisor import StartError, TaskEnd, TaskQueue, TaskStatus, TaskSupervisor

#: Whose devices there are sources for.
VENDORS = frozenset(source.vendor for source in SOURCES) - {""}

_ENTRY = "readiness.accelerators.readers.source_process:serve"
#: Time limit of one source for a look at all devices, and for all fields of the requested ones.
GLANCE_LIMIT_S, DETAIL_LIMIT_S = 2.0, 20.0
#: The former without a terminal: tools that query eight cards one after the other take seconds.
PATIENT_LIMIT_S = 15.0
#: What a fresh interpreter without torch may take to start, on a busy host too.
_START_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Gathered:
    """One reading for each device, in the order of the vendors' numbers; and by source why it gave no answer.

    `unassigned` are readings that name no device: a line of a log about nobody in particular.
    """

    devices: tuple[Reading, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    unassigned: tuple[Reading, ...] = ()


@dataclass(frozen=True, slots=True)
class _Task:
    source: Source
    stage: str


def gather(
    *,
    vendors: Sequence[str] | None = None,
    stages: Sequence[str] = ("glance",),
    root: Path = Path("/"),
    settings: Mapping[str, str] | None = None,
    glance_limit_s: float = GLANCE_LIMIT_S,
    detail_limit_s: float = DETAIL_LIMIT_S,
    sources: Sequence[Source] = SOURCES,
) -> Gathered:
    """Return the readings of these vendors' sources (of all if None). Never raises because of a source.

    `stages` are `glance`, a quick look at all devices, and `detail`. `settings` are told to every source: `pci_address` and
    `index` of the one device that `detail` is about.
    """
    chosen = [source for source in sources if vendors is None or source.vendor in (*vendors, "")]
    here = [source for source in chosen if source.is_here(root)]
    batches = [
        [_Task(source, stage) for stage in stages if getattr(source, stage) is not None]
        for source in here
    ]
    batches = [batch for batch in batches if batch]
    if not batches:
        return Gathered()
    limits = {"glance": glance_limit_s, "detail": detail_limit_s}
    readings: dict[str, list[Reading]] = {source.name: [] for source in here}
    problems: dict[str, str] = {}

    def start() -> TaskProcess:
        return TaskProcess.spawn(_ENTRY, {"root": str(root)}, capture=True, own_group=True)

    def message(task: _Task) -> dict[str, Any]:
        return {
            "source": task.source.name, "stage": task.stage, "limit_s": limits[task.stage], "settings": dict(settings or {}),
        }  # fmt: skip

    with TaskSupervisor[_Task](
        start, message, lambda task: limits[task.stage] + 0.3, queue=TaskQueue(batches), processes=len(batches),
        start_limit_s=_START_LIMIT_S,
    ) as supervisor:  # fmt: skip
        try:
            for end in supervisor.run():
                name = end.task.source.name
                found, problem = _understood(end)
                readings[name] += found
                if problem is not None:
                    problems[name] = problem
                if end.status is not TaskStatus.DONE:
                    end.rest.clear()  # what its process did not survive once is not tried again
        except StartError as problem:
            for source in here:
                if not readings[source.name]:
                    problems.setdefault(source.name, str(problem))
    gathered = [reading for source in here for reading in reversed(readings[source.name])]
    return _join([reading for reading in gathered if vendors is None or reading.vendor in vendors], problems)


def of_device(
    facts: AcceleratorFacts, makers: Sequence[str], hiding: Sequence[str], root: Path = Path("/")
) -> Reading | None:
    """Return the reading of one accelerator; None if this host has no source for it.

    First all devices are looked at, to find out which is this one; then it alone is asked for the rest.
    """
    vendors = (facts.vendor,) if facts.vendor in VENDORS else tuple(makers)
    if not any((source.vendor in vendors or source.name == "exporter") and source.is_here(root) for source in SOURCES):
        return None
    seen = gather(vendors=vendors, root=root, glance_limit_s=PATIENT_LIMIT_S)
    own = device_matching.of_device(seen.devices, facts, hiding)
    if own is None:
        others = f"none of {len(seen.devices)} devices that are reported is surely this one" if seen.devices else ""
        problems = {**seen.problems, **({"match": others} if others else {})}
        return Reading(vendors[0], problems=problems)
    settings = {"pci_address": own.value("pci_address"), "index": own.index}
    more = gather(
        vendors=vendors, root=root, stages=("detail",),
        settings={name: str(value) for name, value in settings.items() if value is not None},
    )  # fmt: skip
    further = [reading for reading in more.devices if contract.same_device(own, reading)]
    merged = contract.merge([own, *further])
    return contract.with_problems(merged, _own(merged, more.problems))


def _understood(end: TaskEnd[_Task]) -> tuple[list[Reading], str | None]:
    if end.status is TaskStatus.HUNG:
        return [], f"it {end.reason}, and was killed"
    if end.status is TaskStatus.CRASHED:
        return [], f"{end.reason} while it was read"
    match end.result:
        case {"problem": problem}:
            return [], str(problem)
        case {"readings": list(found)}:
            try:
                return [Reading.from_json(document) for document in found], None
            except (KeyError, TypeError, ValueError, AttributeError) as problem:
                return [], f"its process answered in no way that is known ({type(problem).__name__})"
    return [], "its process answered in no way that is known"


def _join(readings: Sequence[Reading], problems: Mapping[str, str]) -> Gathered:
    assigned = [reading for reading in readings if reading.index is not None or reading.value("pci_address")]
    named = [reading for reading in readings if reading not in assigned]
    devices = contract.join(assigned)
    devices.sort(key=_order)
    gathered = tuple(contract.with_problems(reading, _own(reading, problems)) for reading in devices)
    return Gathered(gathered, problems, tuple(named))


def _order(reading: Reading) -> tuple[str, bool, int, str]:
    return reading.vendor, reading.index is None, reading.index or 0, reading.value("pci_address") or ""


def _own(reading: Reading, problems: Mapping[str, str]) -> dict[str, str]:
    """The problems of sources that would speak of such a device."""
    return {name: problem for name, problem in problems.items() if BY_NAME[name].vendor in ("", reading.vendor)}
