"""The system in the fields of MLPerf's system description, as far as the run saw it; the rest is for people to state.

The fields are those that MLCommons' submission checker asks of `systems/NAME.json` (mlcommons/inference,
tools/submission/submission_checker/constants.py), with those of which it refuses an answer like "N/A".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from readiness.datamodel import Assessment
from readiness.documents import files
from readiness.errors import BadFileError, did_you_mean
from readiness.rendering.text import clean, memory

FIELDS = (
    "division", "submitter", "status", "system_name", "number_of_nodes", "host_processor_model_name",
    "host_processors_per_node", "host_processor_core_count", "host_memory_capacity", "host_storage_capacity",
    "host_storage_type", "accelerators_per_node", "accelerator_model_name", "accelerator_memory_capacity", "framework",
    "operating_system", "system_type", "other_software_stack", "host_processor_frequency", "host_processor_caches",
    "host_memory_configuration", "host_processor_interconnect", "host_networking", "host_networking_topology",
    "accelerator_frequency", "accelerator_host_interconnect", "accelerator_interconnect",
    "accelerator_interconnect_topology", "accelerator_memory_configuration", "accelerator_on-chip_memories", "cooling",
    "hw_notes", "sw_notes", "host_network_card_count", "system_type_detail",
)  # fmt: skip
#: Fields for which "N/A" is no answer.
MEANINGFUL = frozenset({
    "division", "submitter", "system_type", "status", "system_name", "number_of_nodes", "host_processor_model_name",
    "host_processors_per_node", "host_processor_core_count", "host_memory_capacity", "host_memory_configuration",
    "host_storage_capacity", "host_storage_type", "host_networking", "host_network_card_count", "host_networking_topology",
    "accelerators_per_node", "accelerator_model_name", "accelerator_memory_capacity", "accelerator_host_interconnect",
    "accelerator_memory_configuration", "accelerator_interconnect", "cooling", "framework", "operating_system",
    "other_software_stack",
})  # fmt: skip
#: Further fields, where the power was measured.
POWER_FIELDS = (
    "power_management", "filesystem", "boot_firmware_version", "management_firmware_version", "other_hardware",
    "number_of_type_nics_installed", "nics_enabled_firmware", "nics_enabled_os", "nics_enabled_connected",
    "network_speed_mbit", "power_supply_quantity_and_rating_watts", "power_supply_details", "disk_drives",
    "disk_controllers", "system_power_only",
)  # fmt: skip
_NO_ANSWER = re.compile(r"\s*(?:n\.?/?a\.?|none|unknown|tbd|todo|-*|not applicable|\?+)\s*", re.IGNORECASE)
_LARGEST_FILE_BYTES, _LONGEST_VALUE = 2**20, 2000
NOT_STATED = "not stated"


def read(file: Path) -> dict[str, str]:
    """Read a person's statements, in the form of MLPerf's JSON. Raises BadFileError for an unknown field and an empty
    answer.
    """
    document = files.read_json(file, largest_bytes=_LARGEST_FILE_BYTES)
    if not isinstance(document, dict):
        raise BadFileError("it is no JSON object", place=str(file), remedy="give MLPerf's system description")
    found: dict[str, str] = {}
    for name, value in document.items():
        if name not in FIELDS and name not in POWER_FIELDS:
            hint = did_you_mean(name, (*FIELDS, *POWER_FIELDS))
            raise BadFileError(
                f"MLPerf's system description has no field {clean(name, 60)!r}", place=str(file),
                remedy=f"{hint}docs/packs.md lists the fields",
            )
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise BadFileError(f"{name}: it is no text and no number", place=str(file), remedy="write it as a text")
        text = clean(value, _LONGEST_VALUE)
        if name in MEANINGFUL and _NO_ANSWER.fullmatch(text):
            raise BadFileError(
                f"{name}: {text!r} is no answer, and this field needs one", place=str(file),
                remedy="say what it is, or leave the field out: the pack then says that it is not stated",
            )
        found[name] = text
    return found


def described(assessment: Assessment, stated: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return every field with its value and its source: `measured` by the run, `stated` by a person, or `not stated`."""
    seen = _seen(assessment)
    found = {}
    for name in (*FIELDS, *(name for name in POWER_FIELDS if name in stated)):
        value, origin = (stated[name], "stated") if name in stated else (seen.get(name, ""), "measured")
        found[name] = {"value": value, "from": origin} if value else {"value": "", "from": NOT_STATED}
    return found


def _seen(assessment: Assessment) -> dict[str, str]:
    host, facts = assessment.host, [item.facts for item in assessment.accelerators]
    packages = host.get("packages")
    packages = packages if isinstance(packages, Mapping) else {}
    nodes = {one.id.rpartition("/")[0] for one in facts} | {joined.host for joined in assessment.joined}
    software = {
        f"{name} {version}" for one in facts for name, version in one.software.items() if version and name != "torch"
    }
    torch = next((version for one in facts if (version := one.software.get("torch"))), packages.get("torch"))
    found = {
        "number_of_nodes": str(max(len(nodes), 1)) if facts else "",
        "host_processor_model_name": _one(host.get("processor") or host.get("cpu")),
        "host_memory_capacity": memory(host["memory_bytes"]) if isinstance(host.get("memory_bytes"), int) else "",
        "accelerators_per_node": str(len(facts)) if len({one.id.rpartition("/")[0] for one in facts}) == 1 else "",
        "accelerator_model_name": _one(*(" ".join(filter(None, (one.vendor, one.model))) for one in facts)),
        "accelerator_memory_capacity": _one(*(memory(one.memory_bytes) for one in facts)),
        "framework": f"PyTorch {torch}" if torch else "",
        "operating_system": _one(host.get("system")),
        "other_software_stack": ", ".join(sorted(software)),
    }
    if any(one.kind == "cpu" for one in facts) and not found["host_processor_model_name"]:
        found["host_processor_model_name"] = _one(*(one.model for one in facts if one.kind == "cpu"))
    return {name: clean(value, _LONGEST_VALUE) for name, value in found.items()}


def _one(*values: Any) -> str:
    """The values without repetition; cores of a container are not the host's, so nothing is guessed."""
    return ", ".join(dict.fromkeys(str(value) for value in _words(values)))


def _words(values: Iterable[Any]) -> Iterable[Any]:
    return (value for value in values if value not in (None, ""))
