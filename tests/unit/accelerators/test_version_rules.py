"""Version rules: seen holding, broken, advising and undecided."""

from __future__ import annotations

from typing import Any

import pytest

from readiness.accelerators.version_rules import CUDA_DRIVERS, DENIED, MINIMUMS, PAIRS, Ruling, judge, version
from readiness.datamodel import AcceleratorFacts


def _rulings(software: dict[str, str | None], **facts: Any) -> list[tuple[Ruling, str]]:
    base: dict[str, Any] = {"id": "cuda:0", "kind": "cuda", "index": 0, "stack": "cuda", "vendor": "NVIDIA", "model": None}
    return [(item.ruling, item.text) for item in judge(AcceleratorFacts(**{**base, **facts}, software=software), day="2026-12-01")]


@pytest.mark.parametrize(
    ("cuda", "driver", "api", "ruling"),
    [
        ("13.0", "580.65.06", "13.0", Ruling.HOLDS),
        ("13.0", "575.57.08", "12.9", Ruling.BROKEN),
        ("13.0", "550.54.15", "13.0", Ruling.HOLDS),  # a compatibility package serves the newer runtime
        ("12.8", "525.60.13", "12.0", Ruling.HOLDS),  # minor versions are compatible within a major one
        ("12.8", "515.65.01", "11.7", Ruling.BROKEN),
        ("11.8", "450.80.02", "11.0", Ruling.HOLDS),
        ("13.0", None, None, Ruling.UNDECIDED),
        (None, "580.65.06", "13.0", Ruling.UNDECIDED),
    ],
)
def test_the_driver_a_runtime_needs(cuda: str | None, driver: str | None, api: str | None, ruling: Ruling) -> None:
    found = _rulings({"cuda": cuda, "driver": driver, "cuda_driver_api": api})
    assert [item for item, _ in found] == [ruling]


def test_rules_of_one_vendor_do_not_judge_another() -> None:
    software: dict[str, str | None] = {"cuda": "13.0", "driver": "3.0", "nccl": "2.29.2"}
    assert _rulings(software, vendor="MetaX") == []
    ((ruling, text),) = _rulings(software, vendor=None)
    assert (ruling, text.partition(",")[0]) == (Ruling.UNDECIDED, "the vendor is unknown")
    assert _rulings(software, vendor=None, stack="sim") == []


@pytest.mark.parametrize(
    ("nccl", "rulings"),
    [
        ("2.29.2", {Ruling.BROKEN}),
        ("2.28.3", {Ruling.BROKEN, Ruling.ADVISORY}),
        ("2.18.1", {Ruling.BROKEN, Ruling.ADVISORY}),
        ("2.27.5", {Ruling.ADVISORY, Ruling.HOLDS}),
        ("2.29.7", {Ruling.HOLDS}),
        (None, {Ruling.UNDECIDED}),
    ],
)
def test_releases_known_to_be_bad(nccl: str | None, rulings: set[Ruling]) -> None:
    assert {ruling for ruling, _ in _rulings({"nccl": nccl})} == rulings


@pytest.mark.parametrize(
    ("library", "ruling"),
    [("590.48", Ruling.HOLDS), ("590.48.01", Ruling.HOLDS), ("550.144", Ruling.BROKEN), (None, Ruling.UNDECIDED)],
)
def test_driver_and_library_are_of_one_release(library: str | None, ruling: Ruling) -> None:
    assert [item for item, _ in _rulings({"driver": "590.48.01", "driver_library": library})] == [ruling]


def test_a_library_that_refuses_to_start_beside_its_driver() -> None:
    properties = {"nvml": "NVML does not start: Driver/library version mismatch"}
    assert [ruling for ruling, _ in _rulings({}, properties=properties)] == [Ruling.BROKEN]


@pytest.mark.parametrize(
    ("torch_npu", "torch", "cann", "rulings"),
    [
        ("2.9.0", "2.9.0+cpu", "8.5.0", [Ruling.HOLDS, Ruling.HOLDS]),
        ("2.7.1.post4", "2.7.1+cpu", "9.0.0", [Ruling.HOLDS, Ruling.HOLDS]),
        ("2.1.0.post8.dev20241009", "1.11.0", "8.0.RC3", [Ruling.BROKEN, Ruling.HOLDS]),
        ("2.9.0", "2.9.0", "8.2.RC1", [Ruling.HOLDS, Ruling.BROKEN]),
        ("2.9.0", "2.9.0", "77.0", [Ruling.HOLDS, Ruling.UNDECIDED]),
        ("2.9.0", "2.9.0", "7.0.T10", [Ruling.HOLDS, Ruling.UNDECIDED]),
        (None, "2.9.0", "8.5.0", [Ruling.UNDECIDED, Ruling.UNDECIDED]),
    ],
)
def test_ascend(torch_npu: str | None, torch: str, cann: str, rulings: list[Ruling]) -> None:
    software: dict[str, str | None] = {"torch": torch, "torch_npu": torch_npu, "cann": cann}
    assert [ruling for ruling, _ in _rulings(software, stack="ascend", vendor="Huawei")] == rulings


def test_compatibility_lists_of_an_installation_are_a_rule() -> None:
    properties = {"compatibility": {"driver_and_firmware": False, "driver_and_cann": None}}
    found = [ruling for ruling, _ in _rulings({}, stack="ascend", vendor="Huawei", properties=properties)]
    assert found == [Ruling.BROKEN, Ruling.UNDECIDED]


def test_versions_as_vendors_write_them() -> None:
    assert str(version("6.3.42134-a9a80e791")) == "6.3.42134"
    assert version("8.2.RC1") == version("8.2rc1")
    assert version("V2.1") is not None
    assert version("7.0.T10") is None
    assert version(None) is None


def test_every_rule_names_its_source_and_can_be_read() -> None:
    assert all(rule.source for rule in MINIMUMS)
    assert all(rule.source for rule in DENIED)
    assert all(version(pair.release) is not None and all(map(version, pair.versions)) for pair in PAIRS)


def test_a_package_that_hides_devices_from_torch_is_warned_of() -> None:
    installed = _rulings({}, stack="rocm", vendor="AMD", properties={"amdsmi": "7.1.1"})
    assert {ruling for ruling, _ in installed} == {Ruling.ADVISORY, Ruling.HOLDS}
    assert any("amdsmi 7.1.1 is installed" in text for _, text in installed)
    assert {ruling for ruling, _ in _rulings({}, stack="rocm", vendor="AMD", properties={"amdsmi": None})} == {Ruling.HOLDS}
    assert _rulings({}, properties={}) == []


def _on(day: str, **software: str | None) -> dict[str, tuple[Ruling, str]]:
    facts = AcceleratorFacts("cuda:0", "cuda", 0, "cuda", "NVIDIA", None, software=software, properties={"amdsmi": None})
    found = judge(facts, day=day)
    assert all(item.as_of for item in found if "nccl" in item.rule or "cuda" in item.rule)
    return {f"{item.rule}{'' if item.ruling is not Ruling.BROKEN else ' (broken)'}": (item.ruling, item.text) for item in found}


def test_a_table_that_has_ended_vouches_for_nothing() -> None:
    fine = {"cuda": "13.0", "driver": "580.65.06", "cuda_driver_api": "13.0", "nccl": "2.29.7"}
    assert {ruling for ruling, _ in _on(CUDA_DRIVERS.until, **fine).values()} == {Ruling.HOLDS}
    late = _on("2031-01-01", **fine)
    assert {ruling for ruling, _ in late.values()} == {Ruling.UNDECIDED}
    assert all(f"the table is of 2026-11-{'30' if 'amdsmi' in text else '23'}" in text for _, text in late.values())


def test_what_was_known_to_be_bad_is_bad_beyond_the_tables_end() -> None:
    late = _on("2031-01-01", nccl="2.18.1", cuda="13.0", driver="550.54.15", cuda_driver_api="12.4")
    assert late["nccl is not a release known to be bad (broken)"][0] is Ruling.BROKEN
    assert late["cuda >=13,<14 needs driver >=580 (broken)"][0] is Ruling.BROKEN


def test_rules_that_follow_from_how_things_work_do_not_end() -> None:
    facts = AcceleratorFacts("cuda:0", "cuda", 0, "cuda", "NVIDIA", None, software={"driver": "590.48.01", "driver_library": "590.48.01"})
    assert [(item.ruling, item.as_of) for item in judge(facts, day="2031-01-01")] == [(Ruling.HOLDS, None)]
