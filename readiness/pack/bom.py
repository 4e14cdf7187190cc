"""The bill of materials of the systems in a pack as CycloneDX 1.7: software as components, hardware as devices."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping
from typing import Any

from readiness.datamodel import AcceleratorFacts
from readiness.documents.strict_json import Json
from readiness.pack.contents import Core, Subject, sha256
from readiness.rendering.text import clean, memory

SPEC = "1.7"
#: Components of a stack that are no libraries.
_TYPES = {"driver": "device-driver", "kernel_driver": "device-driver", "firmware": "firmware", "vbios": "firmware"}
_FRAMEWORKS = frozenset({"torch", "mindspore", "paddle", "jax"})


def bom(core: Core) -> Json:
    """One document for all assessments: each is a subject of its own. The same pack gives the same document."""
    digest = sha256("".join(sha256(subject.content) for subject in core.subjects).encode())
    components = [_system(subject) for subject in core.subjects]
    tool = core.pack["tool"]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.7.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "version": 1,
        "metadata": {
            "timestamp": max(subject.assessment.started for subject in core.subjects),
            "lifecycles": [{"phase": "operations"}],
            "tools": {"components": [{"type": "application", "name": "readiness", "version": tool["version"]}]},
            "properties": [
                {"name": "readiness:scope", "value": "what the run saw: devices under test, their drivers, Python packages"}
            ],
        },
        "components": components,
        "dependencies": [
            {"ref": component["bom-ref"], "dependsOn": [inner["bom-ref"] for inner in component["components"]]}
            for component in components
        ],
        "compositions": [{"aggregate": "incomplete", "assemblies": [component["bom-ref"] for component in components]}],
    }


def _system(subject: Subject) -> Json:
    assessment = subject.assessment
    parts = list({part["bom-ref"]: part for part in _devices(subject) + _software(subject)}.values())
    return {
        "type": "platform",
        "bom-ref": subject.name,
        "name": _text(assessment.host.get("name") or subject.name),
        "description": f"the machine of {subject.path}",
        "components": parts,
    }


def _devices(subject: Subject) -> list[Json]:
    """Return one device for each accelerator with a serial number; those without one together, with their number."""
    items = [item.facts for item in subject.assessment.accelerators]
    matching = Counter(_kind(facts) for facts in items if not facts.serial)
    found, seen = [], set()
    for facts in items:
        if facts.serial:
            found.append(_device(subject, facts, 1, facts.id))
        elif _kind(facts) not in seen:
            seen.add(_kind(facts))
            found.append(_device(subject, facts, matching[_kind(facts)], facts.id))
    return found


def _kind(facts: AcceleratorFacts) -> tuple[object, ...]:
    return facts.stack, facts.vendor, facts.model, facts.memory_bytes


def _device(subject: Subject, facts: AcceleratorFacts, quantity: int, id: str) -> Json:
    properties = {
        "cdx:device:quantity": str(quantity),
        "cdx:device:function": "processor" if facts.kind == "cpu" else "accelerator",
        "cdx:device:location": id,
        "cdx:device:serialNumber": facts.serial or "",
        "readiness:memory": memory(facts.memory_bytes),
        "readiness:simulated": "true" if facts.properties.get("simulated") else "",
    }
    ref, model = f"{subject.name}/{_text(id)}", _text(facts.model or "unknown model")
    device: Json = {"type": "device", "bom-ref": ref, "name": model}
    if facts.vendor:
        device["manufacturer"] = {"name": _text(facts.vendor)}
    device["properties"] = [{"name": name, "value": _text(value)} for name, value in properties.items() if value]
    return device


def _software(subject: Subject) -> list[Json]:
    versions: dict[tuple[str, str], set[str]] = {}
    for item in subject.assessment.accelerators:
        for name, version in item.facts.software.items():
            versions.setdefault((name, version or ""), set()).add(item.facts.id)
    packages = subject.assessment.host.get("packages")
    for name, version in (packages if isinstance(packages, Mapping) else {}).items():
        versions.setdefault((str(name), str(version or "")), set())
    found = [_component(subject, name, version, ids) for (name, version), ids in sorted(versions.items())]
    host = subject.assessment.host
    if system := host.get("system"):
        found.append({"type": "operating-system", "bom-ref": f"{subject.name}/system", "name": _text(system)})
    if python := host.get("python"):
        found.append({"type": "platform", "bom-ref": f"{subject.name}/python", "name": "Python", "version": _text(python)})
    return found


def _component(subject: Subject, name: str, version: str, ids: set[str]) -> Json:
    kind = _TYPES.get(name, "framework" if name in _FRAMEWORKS else "library")
    component: Json = {"type": kind, "bom-ref": f"{subject.name}/{_text(name)}@{_text(version)}", "name": _text(name)}
    if version:
        component["version"] = _text(version)
    if ids:
        component["properties"] = [{"name": "readiness:drives", "value": _text(", ".join(sorted(ids)))}]
    return component


def _text(value: Any) -> str:
    return clean(value, 500) or "unknown"
