"""Contract of device health readers: one for all vendors and sources. Pure.

A field is present, absent (the source has no such thing) or unreadable (it should have, and did not give it); the last two
with a reason. Nothing defaults to healthy, and nothing unreadable is sick.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

#: The fields and what each holds.
FIELDS: Mapping[str, str] = {
    "model": "name of the device as the vendor gives it",
    "serial": "serial number",
    "pci_address": "address as the kernel writes it, 0000:17:00.0",
    "firmware": "version of the firmware",
    "versions": "versions by component: driver, tool, library",
    "health": "the vendor's own word",
    "temperatures_c": "degrees Celsius by sensor",
    "power_w": "power drawn, watts",
    "power_limit_w": "power limit, watts",
    "clocks_mhz": "clocks by domain",
    "utilisation_percent": "share of time that the device computes",
    "memory_used_bytes": "memory in use",
    "memory_total_bytes": "memory in all",
    "throttle_reasons": "what slows the device down now; empty where nothing does",
    "memory_errors": "error counts by name, pending and failed repairs and retired pages among them",
    "links": "state by link",
    "link_errors": "error counts of links by name",
    "fault_codes": "codes that stand now, each with its time where it is given",
    "processes": "processes on the device",
    "mode": "how the device is set up: partitions, compute mode, error correction",
}

#: One of these must be present before the health of a device is known.
HEALTH_FIELDS = ("health", "fault_codes", "memory_errors")

#: Possible values of sensors; an interface gives others in place of an answer (6553.5 W is 0xFFFF tenths).
_PLAUSIBLE: Mapping[str, tuple[float, float]] = {
    "temperatures_c": (-40.0, 150.0),
    "power_w": (0.0, 3000.0),
    "power_limit_w": (1.0, 3000.0),
    "clocks_mhz": (0.0, 20_000.0),
    "utilisation_percent": (0.0, 100.0),
    "memory_used_bytes": (0.0, 2.0**44),
    "memory_total_bytes": (1.0, 2.0**44),
}
#: A device that computes draws more of its limit than this; if less, its sensor has no reading.
_LEAST_POWER_SHARE, _BUSY_PERCENT = 0.03, 10.0

_LONGEST_TEXT, _MOST_ITEMS = 400, 4096
_NOTHING = re.compile(r"\[?(n/?a|not (supported|available|applicable)|none|unknown|-+|/)?\]?", re.IGNORECASE)


class State(StrEnum):
    """State of a field: whether it has a value."""

    PRESENT = "present"
    ABSENT = "absent"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its value, or the reason why there is none, and its source."""

    state: State
    value: Any = None
    reason: str | None = None
    source: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        given = {"state": self.state.value, "source": self.source}
        return given | ({"value": self.value} if self.state is State.PRESENT else {"reason": self.reason})

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Field:
        """The inverse of `to_json`."""
        return Field(State(document["state"]), document.get("value"), document.get("reason"), str(document["source"]))


@dataclass(frozen=True, slots=True)
class Reading:
    """The data of one device from its sources. `index` is the vendor's own number of it, which need not be torch's.

    `sources` are those that answered; `problems` maps a source that did not to the reason.
    """

    vendor: str
    index: int | None = None
    fields: Mapping[str, Field] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)

    def field(self, name: str) -> Field:
        """A field; absent where no source speaks of it."""
        assert name in FIELDS, name
        return self.fields.get(name) or Field(State.ABSENT, reason=self._nobody())

    def value(self, name: str) -> Any:
        """The value of a field, None where it has none."""
        return self.field(name).value

    @property
    def health_is_known(self) -> bool:
        """True if a field about the device's health is present."""
        return any(self.field(name).state is State.PRESENT for name in HEALTH_FIELDS)

    @property
    def share_present(self) -> float:
        """The share of the contract's fields that have a value."""
        return sum(self.field(name).state is State.PRESENT for name in FIELDS) / len(FIELDS)

    def _nobody(self) -> str:
        if self.sources:
            return f"{' and '.join(self.sources)} {'do' if len(self.sources) > 1 else 'does'} not report it"
        return "; ".join(f"{name}: {reason}" for name, reason in self.problems.items()) or "no source for it is on this host"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, without the fields that no source speaks of."""
        return {
            "vendor": self.vendor, "index": self.index, "sources": list(self.sources), "problems": dict(self.problems),
            "fields": {name: self.fields[name].to_json() for name in FIELDS if name in self.fields},
        }  # fmt: skip

    def complete(self) -> Reading:
        """Return the reading with all fields; those without a source are absent, with the reason."""
        return replace(self, fields={name: self.field(name) for name in FIELDS})

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Reading:
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError for what is none."""
        fields = {name: Field.from_json(value) for name, value in document["fields"].items() if name in FIELDS}
        index = document["index"]
        return Reading(
            str(document["vendor"]), None if index is None else int(index), fields, tuple(document["sources"]),
            dict(document["problems"]),
        )  # fmt: skip


class Report:
    """Builder of a `Reading` from one source."""

    def __init__(self, source: str, vendor: str, index: int | None = None) -> None:
        self.source = source
        self.vendor = vendor
        self.index = index
        self._fields: dict[str, Field] = {}

    def record(self, name: str, value: Any) -> None:
        """Set a field's value; None and the words that stand for none make it absent. Mappings and lists of several
        calls are merged.
        """
        assert name in FIELDS, name
        if isinstance(value, str):
            value = value.strip()[:_LONGEST_TEXT]
            if _NOTHING.fullmatch(value):
                self.absent(name, f"it says {value!r}" if value else "it says nothing")
                return
        if value is None:
            self.absent(name, "it does not report it")
            return
        if (wrong := _implausible(name, value)) is not None:
            self.unreadable(name, wrong)
            return
        before = self._fields.get(name)
        if isinstance(value, Mapping):
            value = {str(key): item for key, item in value.items() if item is not None}
            if before is not None and before.state is State.PRESENT:
                value = {**before.value, **value}
            if not value:
                self.absent(name, "it does not report it")
                return
            value = dict(list(value.items())[:_MOST_ITEMS])
        elif isinstance(value, list | tuple):
            value = [*before.value, *value] if before is not None and before.state is State.PRESENT else list(value)
            value = value[:_MOST_ITEMS]
        self._fields[name] = Field(State.PRESENT, value, source=self.source)

    def absent(self, name: str, reason: str) -> None:
        """Mark a field as absent: the source does not have it."""
        self._without(name, State.ABSENT, reason)

    def unreadable(self, name: str, reason: str) -> None:
        """Mark a field as unreadable: the source should have it, and its value is missing or impossible."""
        self._without(name, State.UNREADABLE, reason)

    def _without(self, name: str, state: State, reason: str) -> None:
        assert name in FIELDS, name
        if name not in self._fields:
            self._fields[name] = Field(state, reason=reason[:_LONGEST_TEXT], source=self.source)

    def reading(self) -> Reading:
        """Return the finished reading."""
        self._doubt_power()
        return Reading(self.vendor, self.index, dict(self._fields), (self.source,))

    def _doubt_power(self) -> None:
        power, limit, busy = (
            self._fields[name].value if name in self._fields else None
            for name in ("power_w", "power_limit_w", "utilisation_percent")
        )
        if power is None or limit is None or busy is None:
            return
        if busy >= _BUSY_PERCENT and power < _LEAST_POWER_SHARE * limit:
            reason = f"{power:g} W of {limit:g} W at {busy:g} % of the time at work is no reading"
            self._fields["power_w"] = Field(State.UNREADABLE, reason=reason, source=self.source)


def merge(readings: Iterable[Reading]) -> Reading:
    """Merge the readings of several sources about one device; the first sources take precedence. Raises ValueError for none.

    A value stands above a reason; unreadable above absent, since somebody should have told.
    """
    every = list(readings)
    if not every:
        raise ValueError("there is no reading to merge")
    fields: dict[str, Field] = {}
    for name in FIELDS:
        present = [reading.fields[name] for reading in every if name in reading.fields]
        for state in (State.PRESENT, State.UNREADABLE, State.ABSENT):
            own = [one for one in present if one.state is state]
            if own:
                fields[name] = _joined(own) if state is State.PRESENT else _reasons(own)
                break
    sources = tuple(dict.fromkeys(source for reading in every for source in reading.sources))
    problems = {name: reason for reading in every for name, reason in reading.problems.items()}
    index = next((reading.index for reading in every if reading.index is not None), None)
    return Reading(every[0].vendor, index, fields, sources, problems)


def same_device(one: Reading, other: Reading) -> bool:
    """Return whether two readings are of one device: by PCI address or serial number if both have it, else by number."""
    if one.vendor != other.vendor:
        return False
    addresses = [reading.value("pci_address") for reading in (one, other)]
    if all(addresses):
        return bool(addresses[0] == addresses[1])
    serials = [reading.value("serial") for reading in (one, other)]
    if all(serials) and serials[0] == serials[1]:
        return True
    return one.index is not None and one.index == other.index


def join(readings: Iterable[Reading]) -> list[Reading]:
    """One reading for each device, from those of all sources."""
    groups: list[list[Reading]] = []
    for reading in readings:
        group = next((group for group in groups if any(same_device(reading, known) for known in group)), None)
        if group is None:
            groups.append([reading])
        else:
            group.append(reading)
    return [merge(group) for group in groups]


def with_problems(reading: Reading, problems: Mapping[str, str]) -> Reading:
    """Return the reading with the sources that did not answer."""
    return replace(reading, problems={**reading.problems, **problems})


def number(text: str | float | None) -> float | None:
    """The number that a cell begins with (`87W`, `24.5 %`, `0x10`); None where it begins with none, or where a comma makes
    two of it: `24,5` is a fraction in one language and thousands in another.
    """
    if isinstance(text, int | float):
        return float(text) if math.isfinite(text) else None
    match = re.match(r"\s*(0x[0-9a-f]+|[-+]?\d+(?:\.\d+)?)(?![.,]?\d)", text or "", re.IGNORECASE)
    if match is None:
        return None
    return float(int(match[1], 16)) if match[1].lower().startswith("0x") else float(match[1])


def whole(text: str | float | None) -> int | None:
    """Return the whole number of a text; None if there is none."""
    found = number(text)
    return None if found is None or not found.is_integer() else int(found)


def pci_address(text: str | None) -> str | None:
    """A PCI address in any spelling of the vendors' (`00000000:8A:00.0`, `8a:00.0`) as the kernel writes it."""
    match = re.fullmatch(r"\s*(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])\s*", (text or "").lower())
    if match is None:
        return None
    return f"{int(match[1] or '0', 16):04x}:{int(match[2], 16):02x}:{int(match[3], 16):02x}.{match[4]}"


def _implausible(name: str, value: Any) -> str | None:
    low_high = _PLAUSIBLE.get(name)
    if low_high is None:
        return None
    low, high = low_high
    for label, item in value.items() if isinstance(value, Mapping) else [("", value)]:
        if item is None:
            continue
        if not isinstance(item, int | float) or not low <= item <= high:
            return f"it says {f'{label} ' if label else ''}{item!r}, which cannot be"
    return None


def _joined(own: list[Field]) -> Field:
    """The first one; mappings gain what only later sources have, with each source named."""
    first = own[0]
    if not isinstance(first.value, Mapping):
        if isinstance(first.value, list):
            items = [item for one in own for item in one.value]
            return replace(first, value=_once(items), source=_names(own))
        return first
    value = dict(first.value)
    for one in own[1:]:
        for key, item in one.value.items():
            value.setdefault(key, item)
    return replace(first, value=value, source=_names(own))


def _once(items: list[Any]) -> list[Any]:
    kept: list[Any] = []
    for item in items:
        key = item.get("code", item.get("pid")) if isinstance(item, Mapping) else item
        if all(key != (known.get("code", known.get("pid")) if isinstance(known, Mapping) else known) for known in kept):
            kept.append(item)
    return kept


def _names(own: list[Field]) -> str:
    return ", ".join(dict.fromkeys(one.source for one in own))


def _reasons(own: list[Field]) -> Field:
    reasons = dict.fromkeys(f"{one.source}: {one.reason}" for one in own)
    return replace(own[0], reason="; ".join(reasons)[:_LONGEST_TEXT], source=_names(own))
