"""Simulated chips that answer at the interface of libdcmi: read as an Ascend is, with whatever their library gets wrong."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from readiness.accelerators import sim
from readiness.accelerators.base import Accelerator
from readiness.accelerators.readers import ascend_dcmi, dcmi_bindings, gather
from readiness.accelerators.readers.contract import Reading, State
from readiness.accelerators.readers.simulated_dcmi import ChipState, SimulatedLibrary
from readiness.accelerators.readers.tool_runner import SourceError
from readiness.simulator import machine_file, validation
from readiness.simulator.faults import kinds
from readiness.simulator.machine_file import Chip, Condition, Defect
from tests.process.accelerators.readers.support import actions, faults
from tests.support import run_check, value
from tests.support.simulator import inside


def readings(*chips: ChipState) -> list[Reading]:
    """What the reader of Ascends says of these chips."""
    return ascend_dcmi.read(dcmi_bindings.initialised(SimulatedLibrary(chips)))


def with_fault(function: str, **fault: Any) -> Reading:
    (reading,) = readings(ChipState("tried", "SIM-0", driver="24.1.0", faults={function: fault}))
    return reading


def test_every_question_of_the_reader_is_answered() -> None:
    first, second = readings(
        ChipState("one", "SIM-0", driver="24.1.0", temperature_c=51.0, power_w=180.5, utilisation_percent=70.0,
                  memory_used_bytes=3 << 20, corrected=4, link_errors=2, link_retries=9),
        ChipState("two", "SIM-1", health=2, codes=(0x80E18005,), uncorrected=1, network=3),
    )  # fmt: skip
    assert first.sources == ("libdcmi (interface 2)",)
    assert (first.index, second.index) == (0, 1)
    expected = {
        "model": "Ascend one", "serial": "SIM-0", "health": "OK", "fault_codes": [], "temperatures_c": {"hbm": 51, "chip": 51},
        "power_w": 180.5, "clocks_mhz": {"hbm": 1600, "aicore": 1800}, "utilisation_percent": 70,
        "memory_used_bytes": 3 << 20, "memory_total_bytes": 2**30, "links": {"network": "success"},
        "link_errors": {"hccs_crc_errors": 2, "hccs_retries": 9}, "processes": [], "mode": {"hbm_ecc": "on"},
        "versions": {"driver": "24.1.0", "dcmi": "24.1.0"},
    }  # fmt: skip
    assert {name: first.value(name) for name in expected} == expected
    assert first.value("memory_errors")["hbm_corrected_volatile"] == 4
    assert first.field("pci_address").state is State.ABSENT
    assert not faults(first)
    assert actions(second) == {"reset-device", "check-config"}
    assert {"link network: unreachable", "the vendor says 'Alarm'"} <= {finding.text for finding in faults(second)}


@pytest.mark.parametrize(
    ("function", "field"),
    [
        ("get_device_health", "health"), ("get_device_errorcode_v2", "fault_codes"), ("get_device_chip_info_v2", "model"),
        ("get_device_ecc_info", "memory_errors"), ("get_device_hbm_info", "memory_total_bytes"), ("get_device_power_info", "power_w"),
        ("get_device_frequency", "clocks_mhz"), ("get_device_utilization_rate", "utilisation_percent"),
        ("get_device_network_health", "links"), ("get_device_info", "link_errors"), ("get_device_resource_info", "processes"),
        ("get_card_elabel_v2", "serial"), ("get_device_pcie_info_v2", "pci_address"),
    ],
)
@pytest.mark.parametrize(("answer", "state"), [(-8010, State.UNREADABLE), (-8255, State.ABSENT)])
def test_a_function_that_fails_costs_its_field(function: str, field: str, answer: int, state: State) -> None:
    reading = with_fault(function, answer=answer)
    found = reading.field(field)
    # For want of a label the number of the die is asked for, which this library does not have.
    assert found.state is (State.ABSENT if function == "get_card_elabel_v2" else state)
    assert found.reason
    assert not faults(reading)


def test_functions_that_a_defect_may_be_about_are_those_that_the_library_has() -> None:
    library = SimulatedLibrary([ChipState("tried")])
    for function in validation.LIBRARY_FUNCTIONS:
        assert getattr(library, f"dcmiv2_{dcmi_bindings.SECOND_NAMES.get(function, function)}")
    assert set(validation.LIBRARY_FIGURES) < set(validation.LIBRARY_FUNCTIONS)
    fields = {"get_device_health": "health", "get_device_temperature": "temperatures_c", "get_device_power_info": "power_w",
              "get_device_frequency": "clocks_mhz", "get_device_utilization_rate": "utilisation_percent",
              "get_device_network_health": "links"}  # fmt: skip
    assert set(fields) == set(validation.LIBRARY_FIGURES)
    for function, field in fields.items():  # the figure arrives
        assert with_fault(function, value=7).field(field) != with_fault(function, value=5).field(field)


@pytest.mark.parametrize(
    ("function", "figure", "field"),
    [("get_device_power_info", 65535, "power_w"), ("get_device_temperature", -1000, "temperatures_c"), ("get_device_health", 4, "health"),
     ("get_device_utilization_rate", 2**32 - 1, "utilisation_percent"), ("get_device_frequency", 2**31, "clocks_mhz")],
)  # fmt: skip
def test_a_figure_that_cannot_be_is_unreadable(function: str, figure: int, field: str) -> None:
    found = with_fault(function, value=figure).field(field)
    if field != "temperatures_c":  # that of the memory is there
        assert found.state is State.UNREADABLE, found
    assert figure not in (found.value, *(found.value or {} if isinstance(found.value, dict) else {}).values())


def test_a_library_without_a_device_and_one_that_names_another() -> None:
    with pytest.raises(SourceError, match="lists no device"):
        dcmi_bindings.initialised(SimulatedLibrary([]))
    library = dcmi_bindings.initialised(SimulatedLibrary([ChipState("tried")]))
    with pytest.raises(dcmi_bindings.RefusedError, match="invalid device"):
        library.call("get_device_power_info", ctypes.c_int(1), ctypes.byref(ctypes.c_int()))


def test_a_call_that_never_returns_is_killed_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "PATIENT_LIMIT_S", 1.0)
    hangs = Defect("management-library", set={"function": "get_device_temperature", "hangs": True})
    (facts,) = sim.facts(Chip("tried", "a chip of the tests", management="libdcmi", defects=(hangs,)))
    reading = sim.STACK.reading(facts)
    assert not reading.health_is_known
    assert not reading.sources
    assert "was killed" in reading.problems["simulated libdcmi"]


def story() -> list[Accelerator]:
    return [Accelerator(facts, sim.STACK, seed=7) for facts in sim.facts(machine_file.find("ascend-as-reported", kinds()))]


def test_the_story_shows_what_its_management_library_cannot_say() -> None:
    first, second, _, fourth = (run_check("driver.health", accelerator) for accelerator in story())
    assert value(first, "fields_read") > value(second, "fields_read")
    rows = {row["field"]: row for row in second.rows if "field" in row}
    assert rows["health"]["state"] == "unreadable"
    assert "-8010" in str(rows["health"]["why"])
    assert rows["power_w"]["state"] == "absent"
    assert rows["fault_codes"]["source"] == "libdcmi (interface 2)"
    assert value(fourth, "faults", action="check-config") == 3  # the word, the code of the port, the state of the network
    assert value(fourth, "fatal_faults") == 0


def test_counts_heat_and_memory_of_a_chip_at_work_are_reported() -> None:
    made = Chip(
        "tried", "a chip of the tests", management="libdcmi", memory_gib=0.5,
        defects=(Defect("counter", set={"corrected": 3}), Defect("slow", op=("mm",), when=Condition(temperature=1000.0))),
    )  # fmt: skip

    def run() -> Any:
        import torch

        kept = torch.ones(2**24, device="sim")
        for _ in range(50):
            kept[:1000].mul(2)
        (facts,) = sim.facts(made)
        return sim.STACK.reading(facts).to_json()

    reading = Reading.from_json(inside(made, run))
    assert reading.value("memory_errors")["hbm_corrected_volatile"] == 3
    assert reading.value("memory_used_bytes") == 64 << 20
    assert reading.value("temperatures_c")["chip"] >= 45
