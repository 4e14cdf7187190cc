"""Device faults in a reading, each with severity and action. Pure; no limit is here.

Nothing is said where no source could be read: an unreadable device is neither healthy nor sick.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from packaging.version import Version

from readiness.accelerators import version_rules
from readiness.accelerators.fault_counters import kind_of, lifelong
from readiness.accelerators.readers import fault_codes
from readiness.accelerators.readers.contract import Reading, State
from readiness.accelerators.readers.fault_codes import Severity as Severity  # noqa: PLC0414 - checks import this module alone
from readiness.accelerators.readers.tool_runner import SourceError as SourceError  # noqa: PLC0414
from readiness.accelerators.run_timeline import RunTimeline
from readiness.datamodel import Action

#: Age up to which a fault in a log counts; an older one may have been repaired since.
RECENT_S = 3600.0

#: The actions that require a person.
ACTIONS = tuple(action for action in Action if action not in (Action.NONE, Action.ADD_HARDWARE))


@dataclass(frozen=True, slots=True)
class HealthFinding:
    """A fault of a device, in words, with its action and its source. `known` is False for an unknown code.

    `at` is when it came (epoch), if its source says so.
    """

    text: str
    severity: Severity
    action: Action
    source: str
    known: bool = True
    at: float | None = None


_F, _D, _N = Severity.FATAL, Severity.DEGRADED, Severity.NOTE

#: The vendors' words. What is no word of its vendor's is reported as it stands, with the vendor to ask.
_WORDS: Mapping[str, Mapping[str, tuple[Severity, Action]]] = {
    # https://support.huawei.com npu-smi: general, important and emergency alarms
    "Huawei": {
        "ok": (_N, Action.NONE), "warning": (_D, Action.CHECK_CONFIG), "alarm": (_F, Action.RESET_DEVICE),
        "critical": (_F, Action.REPLACE),
    },
    "NVIDIA": {"ok": (_N, Action.NONE), **fault_codes.RECOVERY_ACTIONS},
    "AMD": {"ok": (_N, Action.NONE)},
    # https://github.com/intel/xpumanager doc/smi_user_guide.md; Linux drm/xe: wedged, survivability mode
    "Intel": {
        "ok": (_N, Action.NONE), "warning": (_D, Action.CHECK_CONFIG), "critical": (_F, Action.RESET_DEVICE),
        "wedged": (_F, Action.REBOOT), "survivability": (_F, Action.UPDATE_SOFTWARE),
    },
    # Linux, drivers/accel/habanalabs/common/device.c: what the driver says of its device
    "Habana": {
        "operational": (_N, Action.NONE), "in device creation": (_N, Action.NONE), "in reset": (_D, Action.RETRY),
        "in reset after device release": (_N, Action.NONE), "needs reset": (_F, Action.RESET_DEVICE),
        "disabled": (_F, Action.RESET_DEVICE),
    },
    "Hygon": {"normal": (_N, Action.NONE)},
    "MetaX": {"available": (_N, Action.NONE), "not available": (_F, Action.RESET_DEVICE)},
    "Cambricon": {"ok": (_N, Action.NONE)},
    "simulated": {
        "ok": (_N, Action.NONE), "warning": (_D, Action.CHECK_CONFIG), "alarm": (_F, Action.RESET_DEVICE),
        "critical": (_F, Action.REPLACE),
    },
}  # fmt: skip

#: Less than this share of the memory that a model is sold with has been lost. Source: Ascend/mind-cluster (22bb3d98).
_LEAST_MEMORY_SHARE = 0.95
#: Memory in MiB by what a model's name begins with, the longest first.
_RATED_MIB = {
    "Ascend 910B4-1": 65536, "Ascend 910B4": 32768, "Ascend 910B": 65536, "Ascend 910A": 32768, "Ascend 910ProA": 32768,
    "Ascend 910ProB": 32768, "Ascend950PR": 131072,
}  # fmt: skip

#: A tool and the driver it belongs to, where an older tool is known to be wrong about a newer driver.
_TOOLS = ("hl-smi", "ixsmi", "npu-smi", "cnmon")

_LINK_DOWN = re.compile(r"down|fail|unreach|fault|exceeded|timed out|error|inactive|degraded|not started", re.IGNORECASE)
_REASONS_WITHOUT_FAULT = re.compile(
    r"idle|none|not active|applications? clocks?|sw power cap|sync boost|display", re.IGNORECASE
)


def judge(
    reading: Reading, now: float | None = None, timeline: RunTimeline | None = None
) -> tuple[HealthFinding, ...]:
    """Return every fault that a reading names; none if nothing is wrong or nothing is known. `now` is the epoch.

    With the timeline of a run, what its own checks have provoked is a note, and so is what ended somebody's work before it.
    """
    found = [
        *_codes(reading, time.time() if now is None else now, timeline), *_memory_errors(reading), *_capacity(reading),
        *_links(reading), *_throttling(reading), *_versions(reading), *_sensors(reading), *_sources(reading),
    ]  # fmt: skip
    return tuple(sorted([*_word(reading, found), *found], key=lambda one: list(Severity).index(one.severity)))


def _word(reading: Reading, others: list[HealthFinding]) -> Iterator[HealthFinding]:
    """The vendor's word. Where codes explain it, they have the action; a word alone has its own."""
    field = reading.field("health")
    if field.state is not State.PRESENT:
        return
    word = str(field.value)
    known = _known(reading.vendor, word)
    severity, action = known or (_D, Action.CONTACT_VENDOR)
    if severity is _N:
        return
    explained = [one.action for one in others if one.severity is _F and one.action is not Action.NONE]
    if severity is _F and explained:
        action = explained[0]
    yield HealthFinding(f"the vendor says {word!r}", severity, action, field.source, known is not None)


def _known(vendor: str, word: str) -> tuple[Severity, Action] | None:
    """Return the meaning of a health word; some have a reason in brackets behind them. `unhealthy` is an exporter's."""
    plain = word.lower().partition("(")[0].strip()
    if plain == "unhealthy":
        return _F, Action.RESET_DEVICE
    return _WORDS.get(vendor, {}).get(plain)


def _codes(reading: Reading, now: float, timeline: RunTimeline | None) -> Iterator[HealthFinding]:
    field = reading.field("fault_codes")
    for entry in field.value or ():
        if not isinstance(entry, Mapping):
            continue
        severity, action = Severity(entry["severity"]), Action(entry["action"])
        at = entry.get("time")
        if at is not None and (now - float(at) > RECENT_S or is_over(severity, action, float(at), timeline)):
            severity, action = _N, Action.NONE
        if severity is _F and action is Action.NONE:
            action = Action.CONTACT_VENDOR  # nothing fatal is left without something to do
        known = bool(entry.get("known", True))
        yield HealthFinding(
            str(entry["text"]), severity, action, field.source, known, None if at is None else float(at)
        )


def is_over(severity: Severity, action: Action, at: float, timeline: RunTimeline | None) -> bool:
    """Return whether a fault in a log says nothing about the device now: a check made it on purpose, or it ended a
    process before the run began. A fatal one always counts.
    """
    if timeline is None or severity is _F:
        return False
    return timeline.is_provoked(at) or (action is Action.RETRY and at < timeline.began)


def _memory_errors(reading: Reading) -> Iterator[HealthFinding]:
    field = reading.field("memory_errors")
    for name, count in (field.value or {}).items():
        if not isinstance(count, int | float) or count <= 0 or lifelong(name) or kind_of(name) != "uncorrected":
            continue
        words = name.replace("_", " ")
        if "fail" in name:
            yield HealthFinding(f"{words}: {count:g}", _F, Action.REPLACE, field.source)
        else:  # newer devices contain such an error; whether it may stand is for the fault codes to say
            yield HealthFinding(f"{words}: {count:g}", _D, Action.RESET_DEVICE, field.source)


def _capacity(reading: Reading) -> Iterator[HealthFinding]:
    total, model = reading.value("memory_total_bytes"), str(reading.value("model") or "")
    rated = next((mib for prefix, mib in _RATED_MIB.items() if model.startswith(prefix)), None)
    if total is not None and rated is not None and total < _LEAST_MEMORY_SHARE * rated * 2**20:
        text = f"{total / 2**20:g} MiB of the {rated} MiB of {model} are left"
        yield HealthFinding(text, _D, Action.CONTACT_VENDOR, reading.field("memory_total_bytes").source)


def _links(reading: Reading) -> Iterator[HealthFinding]:
    field = reading.field("links")
    for name, state in (field.value or {}).items():
        if _LINK_DOWN.search(str(state)):
            yield HealthFinding(f"link {name}: {state}", _D, Action.CHECK_CONFIG, field.source)


def _throttling(reading: Reading) -> Iterator[HealthFinding]:
    field = reading.field("throttle_reasons")
    for reason in field.value or ():
        if slows_by_fault(str(reason)):
            yield HealthFinding(f"it is slowed down: {reason}", _D, Action.CHECK_CONFIG, field.source)


def slows_by_fault(reason: str) -> bool:
    """True for a reason of throttling that is a fault: not for rest, nor for what somebody has set."""
    return _REASONS_WITHOUT_FAULT.search(reason) is None


def _versions(reading: Reading) -> Iterator[HealthFinding]:
    field = reading.field("versions")
    versions = field.value or {}
    driver = version_rules.version(_text(versions.get("driver")))
    for tool in _TOOLS:
        own = version_rules.version(_text(versions.get(tool)))
        if own is not None and driver is not None and _release(own) < _release(driver):
            text = f"{tool} {versions[tool]} is older than its driver {versions['driver']}"
            yield HealthFinding(text, _D, Action.UPDATE_SOFTWARE, field.source)
    mode = reading.field("mode")
    if (word := (mode.value or {}).get("compatibility")) is not None and str(word).lower() not in ("ok", "na", "n/a"):
        yield HealthFinding(f"driver and firmware: compatibility {word}", _D, Action.UPDATE_SOFTWARE, mode.source)


def _sensors(reading: Reading) -> Iterator[HealthFinding]:
    """Yield sensors with impossible values: no fault of the device, but they may hide one."""
    field = reading.field("power_w")
    if field.state is State.UNREADABLE and re.search("cannot be|no reading", field.reason or ""):
        yield HealthFinding(f"power: {field.reason}", _D, Action.UPDATE_SOFTWARE, field.source)


def _sources(reading: Reading) -> Iterator[HealthFinding]:
    """Yield errors of a source that are a fault by themselves."""
    for name, reason in reading.problems.items():
        if re.search(r"driver/library version mismatch", reason, re.IGNORECASE):
            text = f"{reason}: the loaded driver is not of the library's release"
            yield HealthFinding(text, _F, Action.REBOOT, name)


def of_problems(problems: Mapping[str, str]) -> tuple[HealthFinding, ...]:
    """The faults of a host that reveal themselves by what sources refuse, where no device could be listed."""
    return tuple(_sources(Reading("", problems=problems)))


def _release(version: Version) -> tuple[int, ...]:
    """Two numbers: tools of one release and drivers of it differ after them."""
    return (*version.release, 0)[:2]


def _text(value: object) -> str | None:
    return None if value is None else re.sub(r"^[a-z]+-(?=\d)", "", str(value))
