"""Descriptions of accelerators in a worker's request: only what differs from the one it leads; those of other hosts.

A message to a worker is limited in size, and a simulated machine's chips all carry the same description. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from readiness.datamodel import AcceleratorFacts

if TYPE_CHECKING:
    from readiness.accelerators.base import Accelerator

#: No machine has more.
MOST_ACCELERATORS = 4096
#: The property that names another host, and what an accelerator of an assessment has beside its description.
_HOST = "host"
_NOTHING_MEASURED: dict[str, Any] = {"evidence": [], "findings": [], "verdicts": {}}


def accelerator_to_json(accelerator: Accelerator) -> dict[str, Any]:
    """Return what a process in a fresh interpreter needs to work with the same accelerator under the same seed."""
    from readiness.documents.assessment import facts_to_json

    return {"accelerator": facts_to_json(accelerator.facts), "seed": accelerator.seed}


def accelerator_from_json(request: Mapping[str, Any]) -> Accelerator:
    """The inverse of `accelerator_to_json`; other keys of the request are left alone."""
    from readiness import accelerators
    from readiness.accelerators.base import Accelerator
    from readiness.documents.assessment import facts_from_json

    facts = facts_from_json(request["accelerator"])
    return Accelerator(facts, accelerators.stack(facts.stack), seed=request["seed"])


def delta_encode(facts: AcceleratorFacts, lead: AcceleratorFacts) -> dict[str, Any]:
    """Return the entries of `facts_to_json` that differ from those of `lead`: peers of one make differ in little."""
    from readiness.documents.assessment import facts_to_json

    document, common = facts_to_json(facts), facts_to_json(lead)
    own = {key: value for key, value in document.items() if value != common[key]}
    if "properties" in own and document["properties"].keys() == common["properties"].keys():
        known = common["properties"]
        own["properties"] = {key: value for key, value in own["properties"].items() if value != known[key]}
        own["properties_like"] = True
    return own


def delta_decode(document: Mapping[str, Any], lead: Mapping[str, Any]) -> AcceleratorFacts:
    """The inverse of `delta_encode`; `lead` as JSON."""
    from readiness.documents.assessment import facts_from_json

    properties = document.get("properties", {})
    if document.get("properties_like", "properties" not in document):
        properties = lead["properties"] | properties
    return facts_from_json({**lead, **document, "properties": properties})


def accelerators_from_json(documents: Any) -> tuple[AcceleratorFacts, ...]:
    """Return the accelerators in a file or another host's answer, each in the form of the assessment's schema.

    Raises ValueError for anything else, for one that occurs twice, and for one that says where it is: that is known
    from the command line alone.
    """
    from readiness.documents import schema
    from readiness.documents.assessment import facts_from_json

    if not isinstance(documents, list) or len(documents) > MOST_ACCELERATORS:
        raise ValueError(f"not a list of at most {MOST_ACCELERATORS} accelerators")
    found: dict[str, AcceleratorFacts] = {}
    for number, document in enumerate(documents):
        assessed = document | _NOTHING_MEASURED if isinstance(document, dict) else document
        if (problem := schema.first_problem("assessment", assessed, "accelerator")) is not None:
            raise ValueError(f"accelerator {number}: {problem.path_text}: {problem.message}")
        facts = facts_from_json(document)
        if facts.id in found:
            raise ValueError(f"the accelerator {facts.id} occurs twice")
        if _HOST in facts.properties:
            raise ValueError(f"the accelerator {facts.id} names a host")
        found[facts.id] = facts
    return tuple(found.values())


@dataclass(frozen=True, slots=True)
class Host:
    """Another host that takes part in a run.

    `command` is what starts Python there (`ssh -o BatchMode=yes node2 /usr/bin/python3`), `address` how this host is
    reached from there.
    """

    name: str
    command: tuple[str, ...]
    address: str


def on_host(host: Host, facts: AcceleratorFacts) -> AcceleratorFacts:
    """Return an accelerator of another host under this run's name for it: `node2/cuda:0`."""
    properties = {**facts.properties, _HOST: {**asdict(host), "command": list(host.command)}}
    return replace(facts, id=f"{host.name}/{facts.id}", properties=properties)


def host_of(facts: AcceleratorFacts) -> Host | None:
    """The other host that an accelerator is on; None where that is this one."""
    host = facts.properties.get(_HOST)
    return None if host is None else Host(host["name"], tuple(host["command"]), host["address"])
