"""What a worker is told of the accelerators beside the one it leads: their host, and of equal ones only what differs.

A message to a worker is limited in size, and a simulated machine's chips all carry the same description. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from readiness.assessment import facts_from_json, facts_to_json
from readiness.model import AcceleratorFacts


def unlike(facts: AcceleratorFacts, lead: AcceleratorFacts) -> dict[str, Any]:
    """What `facts_to_json` says of these and not of `lead`: peers of one make differ in little."""
    document, common = facts_to_json(facts), facts_to_json(lead)
    own = {key: value for key, value in document.items() if value != common[key]}
    if "properties" in own and document["properties"].keys() == common["properties"].keys():
        known = common["properties"]
        own["properties"] = {key: value for key, value in own["properties"].items() if value != known[key]}
        own["properties_like"] = True
    return own


def like(document: Mapping[str, Any], lead: Mapping[str, Any]) -> AcceleratorFacts:
    """The inverse of `unlike`; `lead` as JSON."""
    properties = document.get("properties", {})
    if document.get("properties_like", "properties" not in document):
        properties = lead["properties"] | properties
    return facts_from_json({**lead, **document, "properties": properties})


@dataclass(frozen=True, slots=True)
class Host:
    """Another host that takes part in a run.

    `command` is what starts Python there (`ssh -o BatchMode=yes node2 /usr/bin/python3`), `address` how this host is
    reached from there.
    """

    name: str
    command: tuple[str, ...]
    address: str


def at(host: Host, facts: AcceleratorFacts) -> AcceleratorFacts:
    """An accelerator of another host as this run knows it: `node2/cuda:0`."""
    properties = {**facts.properties, "host": {**asdict(host), "command": list(host.command)}}
    return replace(facts, id=f"{host.name}/{facts.id}", properties=properties)


def host_of(facts: AcceleratorFacts) -> Host | None:
    """The other host that an accelerator is on; None where that is this one."""
    told = facts.properties.get("host")
    return None if told is None else Host(told["name"], tuple(told["command"]), told["address"])
