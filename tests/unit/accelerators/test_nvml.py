"""NVML: matched by address or UUID, read as far as it answers, absent without harm."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from readiness.accelerators import nvml
from readiness.accelerators.fault_counters import kind_of
from readiness.accelerators.interconnect import Links
from tests.unit.accelerators import fake_nvml
from tests.unit.accelerators.fake_nvml import UUID, NVMLError


def test_all_fields_of_a_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml.make())
    reading = nvml.read(UUID, "0000:17:00.0")
    assert reading.matched_by == "PCI address"
    assert (reading.serial, reading.driver, reading.library) == ("1650000000000", "590.48.01", "13.590.48.01")
    assert (reading.memory_bytes, reading.mig, reading.ecc) == (80 * 2**30, False, True)
    assert reading.counters == {
        "ecc_corrected_volatile": 0, "ecc_corrected_aggregate": 1, "ecc_uncorrected_volatile": 10,
        "ecc_uncorrected_aggregate": 11, "remapped_rows_corrected": 1, "remapped_rows_uncorrected": 2,
        "remapped_rows_pending": 0, "remapped_rows_failure": 0, "pcie_replays": 3, "nvlink_replays": 1,
        "nvlink_recoveries": 3, "nvlink_crc_flit_errors": 5, "nvlink_crc_data_errors": 7,
    }  # fmt: skip
    assert reading.refused == {
        "retired_pages_single_bit": "Not Supported", "retired_pages_double_bit": "Not Supported",
        "retired_pages_pending": "Not Supported",
    }  # fmt: skip
    assert nvml.counters(UUID, None) == reading.counters
    assert nvml.links(UUID, None) == Links(2)


def speed(mbps: int, refused: tuple[int, ...] = ()) -> Any:
    """What each link carries, by the fields that are not refused: 164 is of one link, 90 of all alike."""

    def answer(_: object, queried: Any) -> Any:
        return [
            SimpleNamespace(nvmlReturn=3 * (field in refused), value=SimpleNamespace(uiVal=mbps + scope if field == 164 else mbps))
            for field, scope in queried
        ]

    return answer


@pytest.mark.parametrize(
    ("state", "found"), [(lambda _, link: 1 if link < 18 else None, 18), (lambda _, link: 0 if link < 18 else None, 0), (lambda *_: None, None)]
)
@pytest.mark.parametrize(
    ("answer", "each"),
    [(speed(26562), None), (speed(26562, refused=(164,)), 26.562), (speed(0), None), (speed(25000, refused=(164, 90)), None), (NVMLError("Not Supported"), None)],
)
def test_links_are_counted_as_far_as_there_are_any(state: Any, found: int | None, answer: Any, each: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(device: object, number: int) -> int:
        state_value = state(device, number)
        if state_value is None:
            raise NVMLError("Invalid Argument")
        return int(state_value)

    module = fake_nvml.make(nvmlDeviceGetNvLinkState=link, nvmlDeviceGetFieldValues=answer)
    module.NVML_FI_DEV_NVLINK_GET_SPEED, module.NVML_FI_DEV_NVLINK_SPEED_MBPS_COMMON = 164, 90
    monkeypatch.setitem(sys.modules, "pynvml", module)
    links = nvml.links(UUID, "0000:17:00.0")
    assert (None if links is None else links.up) == found
    if links is not None and found and each:
        assert links.gbps == pytest.approx(found * each)
    elif links is not None and not callable(answer):
        assert links.gbps is None
    assert ("nvlink_replays" in nvml.counters(UUID, None)) == bool(found)


@pytest.mark.parametrize(("uuid", "address"), [(UUID, None), (f"GPU-{UUID}", None), (UUID, "0000:99:00.0")])
def test_the_uuid_serves_where_the_address_does_not(
    monkeypatch: pytest.MonkeyPatch, uuid: str, address: str | None
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml.make())
    assert nvml.read(uuid, address).matched_by == "UUID"


def test_another_device_is_not_taken_for_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml.make(uuids=(), addresses=()))
    with pytest.raises(nvml.Unavailable, match="NVML has no such device"):
        nvml.read(UUID, "0000:17:00.0")
    with pytest.raises(nvml.Unavailable, match="neither UUID nor PCI address"):
        nvml.read(None, None)


def test_a_device_that_answers_nothing_costs_its_readings_only(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = NVMLError("GPU is lost")
    honest = fake_nvml.make()
    names = [name for name in vars(honest) if name.startswith("nvmlDeviceGet") and "Handle" not in name]
    refusals: dict[str, Any] = dict.fromkeys(names, refusal)
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml.make(**refusals))
    reading = nvml.read(UUID, None)
    assert (reading.uuid, reading.memory_bytes, reading.driver) == (None, None, "590.48.01")
    assert reading.counters == {}
    assert set(reading.refused.values()) == {"GPU is lost"}


@pytest.mark.parametrize("ecc", [[0, 0], NVMLError("Not Supported")])
def test_memory_whose_errors_nobody_watches_has_no_count_of_them(monkeypatch: pytest.MonkeyPatch, ecc: Any) -> None:
    refused = NVMLError("Not Supported")
    nvml_made = fake_nvml.make(nvmlDeviceGetEccMode=ecc, nvmlDeviceGetTotalEccErrors=refused, nvmlDeviceGetRemappedRows=(0, 0, 0, 0))
    monkeypatch.setitem(sys.modules, "pynvml", nvml_made)
    assert not [name for name in nvml.counters(None, "0000:17:00.0") if kind_of(name) != "other"]


def test_the_library_is_shut_down_even_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    fake = fake_nvml.make(uuids=(), addresses=(), nvmlShutdown=lambda: log.append("shut down"))
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    with pytest.raises(nvml.Unavailable):
        nvml.read(UUID, None)
    assert log == ["shut down"]


def test_without_the_library_the_reason_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(nvml.Unavailable, match="cannot be imported"):
        nvml.read(UUID, None)


def test_a_library_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    mismatch = NVMLError("Driver/library version mismatch")
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml.make(nvmlInit=mismatch))
    with pytest.raises(nvml.Unavailable, match="version mismatch"):
        nvml.read(UUID, None)


def test_the_installed_library_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    pynvml = pytest.importorskip("pynvml")
    monkeypatch.setattr(pynvml, "_LoadNvmlLibrary", lambda: (_ for _ in ()).throw(pynvml.NVMLError(12)))
    with pytest.raises(nvml.Unavailable, match="does not start"):
        nvml.read(UUID, None)


@pytest.mark.parametrize(
    ("kinds", "addresses", "peers"),
    [([0, 0, 0, 0], [b"0000:18:00.0", b"0000:18:00.0", b"0000:19:00.0", b"0000:19:00.0"], 2), ([2, 2, 2, 2], [], None), ([0, 2, 0, 0], [b"a"] * 4, None), ([], [], None)],
)
def test_links_that_go_straight_to_other_devices_name_them(kinds: list[int], addresses: list[bytes], peers: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    module = fake_nvml.make(
        nvmlDeviceGetNvLinkState=lambda _, link: [1, 1, 1, 1][link],
        nvmlDeviceGetNvLinkRemoteDeviceType=lambda _, link: kinds[link],
        nvmlDeviceGetNvLinkRemotePciInfo=lambda _, link: SimpleNamespace(busId=addresses[link]),
    )
    module.NVML_NVLINK_DEVICE_TYPE_GPU = 0
    monkeypatch.setitem(sys.modules, "pynvml", module)
    links = nvml.links(UUID, None)
    assert links is not None
    assert (links.up, links.peers) == (4, peers)
