"""Fault codes of vendors: what each means, how grave it is, what to do; from catalogues that are shipped as data. Pure."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from readiness.datamodel import Action

_DATA = Path(__file__).parent / "data"


class Severity(StrEnum):
    """Severity of a fault: `fatal` if the device must not be used before the action, `note` if nothing is wrong."""

    FATAL = "fatal"
    DEGRADED = "degraded"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault code understood. `known` is False for one that its catalogue does not have."""

    code: str
    text: str
    severity: Severity
    action: Action
    source: str
    known: bool = True


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A catalogue's rows by code, and where and when they were taken from."""

    rows: Mapping[str, Mapping[str, str]]
    source: str
    date: str


@cache
def catalogue(name: str) -> Catalogue:
    """The shipped catalogue of this name. Its first lines are comments: source and date."""
    lines = (_DATA / f"{name}.csv").read_text(encoding="utf-8").splitlines()
    header = dict(re.findall(r"^# (source|date): (.*)$", "\n".join(lines[:4]), re.MULTILINE))
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    key = (rows.fieldnames or [""])[0]
    return Catalogue({row[key].upper(): row for row in rows}, header["source"], header["date"])


_F, _D, _N = Severity.FATAL, Severity.DEGRADED, Severity.NOTE

#: Actions for the fault classes of Huawei's device plug-in.
#: Source: Ascend/mind-cluster (22bb3d98), ascend-device-plugin, fault levels: restart the request, restart the business,
#: reset the free NPU, reset the NPU, isolate it before or at once, watch its health.
_ASCEND_CLASSES: Mapping[str, tuple[Severity, Action]] = {
    "RestartRequestCodes": (_D, Action.RETRY),
    "RestartBusinessCodes": (_D, Action.RETRY),
    "FreeRestartNPUCodes": (_F, Action.RESET_DEVICE),
    "RestartNPUCodes": (_F, Action.RESET_DEVICE),
    "PreSeparateNPUCodes": (_F, Action.CONTACT_VENDOR),
    "SeparateNPUCodes": (_F, Action.REPLACE),
    "ManuallySeparateNPUCodes": (_F, Action.REPLACE),
    "SubHealthFaultCodes": (_D, Action.CHECK_CONFIG),
}
#: Texts of codes that the plug-in ignores (`NotHandle`): it leaves them to others, they are faults all the same.
_WORDS: tuple[tuple[re.Pattern[str], Severity, Action], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), severity, action)
    for pattern, severity, action in (
        (r"completed", _N, Action.NONE),
        (r"multi-bit|uncorrect|double.bit|fallen off|fatal|\bhalt", _F, Action.RESET_DEVICE),
        (r"reduced.*capacity|lifetime", _D, Action.CONTACT_VENDOR),
        (r"temperature|overcurrent|power supply", _D, Action.CHECK_CONFIG),
        (r"link status|lanes?\b|link down", _D, Action.CHECK_CONFIG),
        (r"configuration", _D, Action.UPDATE_SOFTWARE),
        (r"capability (re|dis)engaged", _N, Action.NONE),
    )
)


def ascend(code: str) -> Fault:
    """A fault code of an Ascend, in hexadecimal."""
    key = code.strip().upper().removeprefix("0X").rjust(8, "0")
    table = catalogue("ascend_fault_codes")
    row = table.rows.get(key)
    if row is None:
        text = f"{key}: no public description"
        return Fault(key, text, _D, Action.CONTACT_VENDOR, table.source, known=False)
    severity, action = _ASCEND_CLASSES.get(row["default_class"]) or _by_words(row["cause_en"])
    return Fault(key, f"{row['cause_en']} ({row['module']}, {key})", severity, action, table.source)


#: Actions for the immediate recommendations of NVIDIA's catalogue of Xid codes.
_XID_RESOLUTIONS: Mapping[str, tuple[Severity, Action]] = {
    "RESET_GPU": (_F, Action.RESET_DEVICE),
    "RESTART_BM": (_F, Action.REBOOT),
    "RESTART_VM": (_F, Action.REBOOT),
    "RESTART_APP": (_D, Action.RETRY),
    "CONTACT_SUPPORT": (_D, Action.CONTACT_VENDOR),
    "IGNORE": (_N, Action.NONE),
    "WORKFLOW_XID_48": (_F, Action.RESET_DEVICE),
    "WORKFLOW_XID_45": (_D, Action.RETRY),
    "WORKFLOW_NVLINK_ERR": (_F, Action.RESET_DEVICE),
    "WORKFLOW_NVLINK5_ERR": (_F, Action.RESET_DEVICE),
    "CHECK_MECHANICALS": (_F, Action.CHECK_CONFIG),
    "UPDATE_SWFW": (_D, Action.UPDATE_SOFTWARE),
    "CHECK_UVM": (_D, Action.GATHER_EVIDENCE),
}
#: What a driver that names a recovery action means by it; the words are those of nvidia-smi and of Xid 154.
RECOVERY_ACTIONS: Mapping[str, tuple[Severity, Action]] = {
    "none": (_N, Action.NONE),
    "reset": (_F, Action.RESET_DEVICE),
    "gpu reset required": (_F, Action.RESET_DEVICE),
    "reboot": (_F, Action.REBOOT),
    "node reboot required": (_F, Action.REBOOT),
    "drain p2p": (_D, Action.RESET_DEVICE),
    "drain and reset": (_F, Action.RESET_DEVICE),
}


def xid(number: int, text: str = "") -> Fault:
    """An Xid of NVIDIA's driver, with the text of its line where there is one."""
    table = catalogue("nvidia_xid_catalog")
    row = table.rows.get(str(number))
    if row is None:
        unknown = f"Xid {number}: not in the catalogue"
        return Fault(f"Xid {number}", unknown, _D, Action.CONTACT_VENDOR, table.source, known=False)
    meaning = row["description"] if row["description"] not in ("", "Unused") else row["mnemonic"]
    words = f"{row['mnemonic']} {meaning}".replace("_", " ")
    severity, action = _XID_RESOLUTIONS.get(row["immediate_resolution"]) or _by_words(words)
    if number == 154:
        severity, action = _recovery(text)
    elif re.search(r"reset gpu to activate", text, re.IGNORECASE):  # a remapped row waits for it (63)
        severity, action = _D, Action.RESET_DEVICE
    elif row["immediate_resolution"] == "WORKFLOW_NVLINK5_ERR" and re.search(r"\bnon-?fatal\b", text, re.IGNORECASE):
        severity, action = _D, Action.GATHER_EVIDENCE
    return Fault(f"Xid {number}", f"{meaning} (Xid {number})", severity, action, table.source)


def _recovery(text: str) -> tuple[Severity, Action]:
    named = re.search(r"\bto 0x[0-9a-f]+ \(([^)]*)\)", text, re.IGNORECASE)
    return recovery_action(named[1] if named else "")


def recovery_action(word: str) -> tuple[Severity, Action]:
    """Return the action of a recovery action's name; an unknown name requires the vendor."""
    return RECOVERY_ACTIONS.get(word.strip().lower(), (_D, Action.CONTACT_VENDOR))


def _by_words(text: str) -> tuple[Severity, Action]:
    for pattern, severity, action in _WORDS:
        if pattern.search(text):
            return severity, action
    return _D, Action.GATHER_EVIDENCE
