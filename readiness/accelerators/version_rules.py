"""Compatibility of the versions of a stack's components: rules as data, each with its source, and their evaluation. Pure.

A rule applies where the stack lists the components it is about. It is undecided where the version of one of them could
not be read: no evidence is never a pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from itertools import takewhile

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from readiness.datamodel import AcceleratorFacts


class Ruling(StrEnum):
    """Result of a rule for a stack. An advisory hits in the circumstances it names only, and is no inconsistency."""

    HOLDS = "holds"
    BROKEN = "broken"
    ADVISORY = "advisory"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Judged:
    """A rule applied to one accelerator: the result and the reason. `as_of` is the day of its table, None if it has none."""

    rule: str
    ruling: Ruling
    text: str
    source: str
    as_of: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table that others publish and change: the day on which it was read, and until when it is believed (ISO 8601)."""

    as_of: str
    until: str


@dataclass(frozen=True, slots=True)
class Minimum:
    """Minimum rule: if `component` is within `when`, `needs` must be within `within`; or `or_newer` at least
    `component`'s major.
    """

    component: str
    when: str
    needs: str
    within: str
    source: str
    vendor: str
    or_newer: str | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """Pair rule: if `component` has this release, `other` must be one of these versions; other releases are not in the
    table.
    """

    component: str
    release: str
    other: str
    versions: tuple[str, ...]
    source: str


@dataclass(frozen=True, slots=True)
class Same:
    """Equality rule: two components must have the same release number, as far as both have it and at most `parts`
    numbers deep.
    """

    component: str
    other: str
    source: str
    parts: int = 4


@dataclass(frozen=True, slots=True)
class Denied:
    """Releases of a component that are known to be bad. With `circumstance` they are so in that circumstance only."""

    component: str
    versions: str
    what: str
    source: str
    vendor: str
    circumstance: str | None = None


_CUDA = "https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html"
_TORCH_NPU = "https://github.com/Ascend/pytorch COMPATIBILITY.en.md (9e73e708)"
_NCCL = "https://docs.nvidia.com/deeplearning/nccl/release-notes/"

MINIMUMS = (
    Minimum("cuda", ">=13,<14", "driver", ">=580", _CUDA, "NVIDIA", or_newer="cuda_driver_api"),
    Minimum("cuda", ">=12,<13", "driver", ">=525", _CUDA, "NVIDIA", or_newer="cuda_driver_api"),
    Minimum("cuda", ">=11,<12", "driver", ">=450", _CUDA, "NVIDIA", or_newer="cuda_driver_api"),
)

SAME = (
    Same("torch_npu", "torch", _TORCH_NPU, parts=3),
    Same("driver", "driver_library", "https://docs.nvidia.com/deploy/nvml-api (NVML_ERROR_LIB_RM_VERSION_MISMATCH)"),
)

PAIRS = tuple(
    Pair("cann", release, "torch_npu", tuple(versions.split()), _TORCH_NPU)
    for release, versions in {
        "9.1.0": "2.12.0 2.11.0 2.10.0.post4 2.9.0.post6 2.7.1.post8",
        "9.0.0": "2.9.0.post2 2.8.0.post4 2.7.1.post4",
        "8.5.0": "2.9.0 2.8.0.post2 2.7.1.post2 2.6.0.post5",
        "8.3.RC1": "2.8.0 2.7.1 2.6.0.post3 2.1.0.post17",
        "8.2.RC1": "2.6.0 2.5.1.post1 2.1.0.post13",
        "8.1.RC1": "2.5.1 2.4.0.post4 2.3.1.post6 2.1.0.post12",
        "8.0.0": "2.4.0.post2 2.3.1.post4 2.1.0.post10",
        "8.0.RC3": "2.4.0 2.3.1.post2 2.1.0.post8",
        "8.0.RC2": "2.3.1 2.2.0.post2 2.1.0.post6",
        "8.0.RC1": "2.2.0 2.1.0.post4",
        "7.0.0": "2.1.0",
    }.items()
)

DENIED = (
    Denied("nccl", "==2.29.2", "collectives hang", "https://github.com/pytorch/pytorch/pull/174338", "NVIDIA"),
    Denied("nccl", "==2.28.3", "it breaks H100", "https://github.com/pytorch/pytorch/pull/164352", "NVIDIA"),
    Denied("nccl", ">=2.18.1,<2.18.3", "all-reduce corrupts data", f"{_NCCL}rel_2-18-1.html", "NVIDIA"),
    Denied("nccl", ">=2.27,<2.28.7", "small messages are corrupted", "https://github.com/NVIDIA/nccl/commit/ae7aed19",
           "NVIDIA", "symmetric memory kernels"),
    Denied("nccl", "<2.27.3", "all-to-all hangs", "https://github.com/NVIDIA/nccl/commit/72d24320",
           "NVIDIA", "more than 80 ranks on multi-node NVLink"),
    Denied("nccl", "<2.26.2", "aborting a communicator hangs", "https://github.com/pytorch/pytorch/pull/149546",
           "NVIDIA", "recovery in the same process"),
    Denied("nccl", ">=2.20,<2.21", "collectives hang", "https://github.com/NVIDIA/nccl/issues/1251",
           "NVIDIA", "CUDA graphs"),
    Denied("nccl", "<2.17.1", "collectives hang", "https://github.com/pytorch/pytorch/pull/97843",
           "NVIDIA", "CUDA_LAUNCH_BLOCKING=1"),
)  # fmt: skip


#: Tables that new releases make incomplete. A rule that follows from how things work has none.
CUDA_DRIVERS = Table("2026-11-23", "2027-11-23")
CANN_PLUGINS = Table("2026-11-23", "2027-11-23")
NCCL_RELEASES = Table("2026-11-23", "2027-11-23")
HARMFUL_PACKAGES = Table("2026-11-30", "2027-11-30")


def today() -> str:
    """Return the day, for tables that end."""
    return datetime.now(UTC).date().isoformat()


def judge(facts: AcceleratorFacts, capability: str | None = None, day: str | None = None) -> tuple[Judged, ...]:
    """Apply every rule that is about this accelerator's stack. `capability` is `torch.backends.cpu.get_cpu_capability()`.

    `day` is today unless given: beyond its end a table vouches for nothing.
    """
    day = today() if day is None else day
    return (
        *_dated(_minimums(facts), CUDA_DRIVERS, day),
        *_same(facts.software),
        *_dated(_pairs(facts.software), CANN_PLUGINS, day),
        *_dated(_denied(facts), NCCL_RELEASES, day),
        *_compatibility(facts),
        *_library(facts),
        *_dated(_modules(facts), HARMFUL_PACKAGES, day),
        *_instruction_sets(facts, capability),
    )


def _dated(found: Iterable[Judged], table: Table, day: str) -> Iterator[Judged]:
    """Give each result the day of its table. Beyond the table's end nothing is known to hold, since newer releases are not
    in it; what it knew to be bad is bad still.
    """
    for one in found:
        if day > table.until and one.ruling is Ruling.HOLDS:
            text = f"unknown: the table is of {table.as_of} and ended on {table.until} ({one.text})"
            yield replace(one, ruling=Ruling.UNDECIDED, text=text, as_of=table.as_of)
        else:
            yield replace(one, as_of=table.as_of)


def version(text: str | None) -> Version | None:
    """A version as people and vendors write it (`6.3.42134-a9a80e791`, `V2.1`); None where there is none in it."""
    if text is None:
        return None
    for candidate in (text, re.split(r"[-\s]", text.strip().lstrip("vV"))[0]):
        try:
            return Version(candidate)
        except InvalidVersion:
            continue
    return None


def _within(found: Version, specifiers: str) -> bool:
    return SpecifierSet(specifiers).contains(found, prereleases=True)


def _undecided(rule: str, source: str, *missing: str) -> Judged:
    return Judged(rule, Ruling.UNDECIDED, f"the version of {' and '.join(missing)} could not be read", source)


def _missing(software: Mapping[str, str | None], *components: str) -> list[str]:
    return [component for component in components if version(software.get(component)) is None]


def _minimums(facts: AcceleratorFacts) -> Iterator[Judged]:
    software = facts.software
    for rule in MINIMUMS:
        if rule.component not in software or rule.needs not in software or rule.vendor != facts.vendor:
            continue
        found, needed = version(software[rule.component]), version(software[rule.needs])
        name = f"{rule.component} {rule.when} needs {rule.needs} {rule.within}"
        if found is None:
            yield _undecided(f"{rule.component} has a driver that is new enough", rule.source, rule.component)
            return
        if not _within(found, rule.when):
            continue
        newer = version(software.get(rule.or_newer)) if rule.or_newer else None
        if newer is not None and newer.major >= found.major:
            text = f"{rule.component} {found} needs {rule.or_newer} {newer}"
            yield Judged(name, Ruling.HOLDS, text, rule.source)
        elif needed is None:
            yield _undecided(name, rule.source, rule.needs)
        else:
            holds = _within(needed, rule.within)
            text = f"{rule.component} is {found}, {rule.needs} is {needed}"
            yield Judged(name, Ruling.HOLDS if holds else Ruling.BROKEN, text, rule.source)


def _same(software: Mapping[str, str | None]) -> Iterator[Judged]:
    for rule in SAME:
        if rule.component not in software or rule.other not in software:
            continue
        name = f"{rule.component} and {rule.other} have the same release"
        if missing := _missing(software, rule.component, rule.other):
            yield _undecided(name, rule.source, *missing)
            continue
        releases = [_release(software[component], rule.parts) for component in (rule.component, rule.other)]
        equal = all(first == second for first, second in zip(*releases, strict=False))
        text = f"{rule.component} is {software[rule.component]}, {rule.other} is {software[rule.other]}"
        yield Judged(name, Ruling.HOLDS if equal else Ruling.BROKEN, text, rule.source)


def _release(text: str | None, parts: int) -> Sequence[int]:
    found = version(text)
    return () if found is None else found.release[:parts]


def _pairs(software: Mapping[str, str | None]) -> Iterator[Judged]:
    # One finding for the whole table: only the row of the release that is installed speaks.
    components = sorted({(rule.component, rule.other) for rule in PAIRS})
    for component, other in components:
        if component not in software or other not in software:
            continue
        name, table = f"{component} fits this {other}", [rule for rule in PAIRS if rule.component == component]
        if missing := _missing(software, component, other):
            yield _undecided(name, table[0].source, *missing)
            continue
        row = next((rule for rule in table if version(rule.release) == version(software[component])), None)
        if row is None:
            text = f"{component} {software[component]} is not in the table"
            yield Judged(name, Ruling.UNDECIDED, text, table[0].source)
            continue
        holds = version(_public(software[other])) in [version(item) for item in row.versions]
        text = f"{component} {row.release} is for {other} {', '.join(row.versions)}; installed is {software[other]}"
        yield Judged(name, Ruling.HOLDS if holds else Ruling.BROKEN, text, row.source)


def _public(text: str | None) -> str | None:
    """Return a version without local part and development suffix: nightly builds of a release belong to it."""
    return None if text is None else re.sub(r"(\+.*|\.dev\d+.*)$", "", text)


def _denied(facts: AcceleratorFacts) -> Iterator[Judged]:
    if facts.vendor is None and facts.stack == "cuda" and facts.software.get("nccl") is not None:
        text = "the vendor is unknown, so it is unknown which rules apply"
        yield Judged("nccl is not a release known to be bad", Ruling.UNDECIDED, text, _NCCL)
    rules = [rule for rule in DENIED if rule.component in facts.software and rule.vendor == facts.vendor]
    for component in dict.fromkeys(rule.component for rule in rules):
        found = version(facts.software[component])
        mine = [rule for rule in rules if rule.component == component]
        name = f"{component} is not a release known to be bad"
        if found is None:
            yield _undecided(name, mine[0].source, component)
            continue
        hits = [rule for rule in mine if _within(found, rule.versions)]
        for rule in hits:
            where = f" with {rule.circumstance}" if rule.circumstance else ""
            ruling = Ruling.ADVISORY if rule.circumstance else Ruling.BROKEN
            yield Judged(name, ruling, f"{component} {found}: {rule.what}{where} ({rule.versions})", rule.source)
        if all(rule.circumstance for rule in hits):
            yield Judged(name, Ruling.HOLDS, f"{component} {found} is not on the list", _NCCL)


def _compatibility(facts: AcceleratorFacts) -> Iterator[Judged]:
    """Apply the components' own compatibility lists (Ascend)."""
    found = facts.properties.get("compatibility")
    if not isinstance(found, Mapping):
        return
    for pair, accepted in found.items():
        name, source = str(pair).replace("_", " ") + " list each other as compatible", "version files of the installation"
        ruling = {True: Ruling.HOLDS, False: Ruling.BROKEN}.get(accepted, Ruling.UNDECIDED)
        text = {Ruling.HOLDS: "they do", Ruling.BROKEN: "they do not"}.get(ruling, "their files do not list it")
        yield Judged(name, ruling, text, source)


def _library(facts: AcceleratorFacts) -> Iterator[Judged]:
    """Apply the rule that NVML does not start unless the library is of the loaded kernel module's release."""
    reported = str(facts.properties.get("nvml", ""))
    if re.search(r"driver/library version mismatch", reported, re.IGNORECASE):
        yield Judged("the management library fits the loaded driver", Ruling.BROKEN, reported, SAME[1].source)


def amdsmi_text(version: str) -> str:
    """Return why the published package amdsmi should not be installed beside torch."""
    return f"amdsmi {version} is installed: torch imports it, and with the published package it may count no device"


def _modules(facts: AcceleratorFacts) -> Iterator[Judged]:
    """Packages that do harm by being importable."""
    if "amdsmi" not in facts.properties:
        return
    name, source = "no package hides devices from torch", "https://github.com/pytorch/pytorch/issues/186516"
    installed = facts.properties["amdsmi"]
    if installed is not None:
        yield Judged(name, Ruling.ADVISORY, f"{amdsmi_text(str(installed))}; uninstall it", source)
    yield Judged(name, Ruling.HOLDS, "amdsmi is not installed" if installed is None else "torch counts devices", source)


def _instruction_sets(facts: AcceleratorFacts, capability: str | None) -> Iterator[Judged]:
    """Return whether torch uses the widest vector unit that it has kernels for; x86 only, as elsewhere its levels have
    no order.
    """
    if facts.stack != "cpu" or facts.properties.get("architecture") not in ("x86_64", "AMD64"):
        return
    name, source = "torch uses the processor's vector unit", "ATen/native/DispatchStub.cpp"
    sets = facts.properties.get("instruction_sets")
    levels = {"DEFAULT": 0, "NO AVX": 0, "AVX2": 1, "AVX512": 2}
    if sets is None or capability is None or capability.upper() not in levels:
        yield Judged(name, Ruling.UNDECIDED, "the processor or torch does not report it", source)
        return
    ladder = ({"avx2", "fma"}, {"avx512f", "avx512dq", "avx512bw", "avx512vl"})
    able = len(list(takewhile(lambda needed: needed <= set(sets), ladder)))
    ruling = Ruling.HOLDS if levels[capability.upper()] >= able else Ruling.BROKEN
    yield Judged(name, ruling, f"torch chose {capability} on a processor with {', '.join(sets)}", source)
