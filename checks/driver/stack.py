"""The software between torch and the device: is it all there, and does it fit together?"""

from __future__ import annotations

from collections.abc import Iterator

from readiness.accelerators.base import Accelerator
from readiness.check_registry import check
from readiness.datamodel import Measurement, Row, Yield


@check(
    "driver.stack",
    title="The software stack is complete and fits together",
    measures={"versions_found": "1", "inconsistencies": "1", "undecided_rules": "1", "advisories": "1"},
    typical_s=0.1,
    catches=("version",),
)
def stack(accelerator: Accelerator) -> Iterator[Yield]:
    """Can every component's version be read, and do the versions fit together?

    A driver that is too old for its runtime, a plug-in made for another torch or a collectives library with a known
    defect costs days later and a look now. `versions_found` is the share of the stack's components whose version could
    be read; `inconsistencies` counts rules that are broken, `undecided_rules` those for which a version was missing,
    `advisories` releases that are bad in the circumstances which the row names.
    """
    import torch

    from readiness.accelerators.version_rules import Ruling, judge

    facts = accelerator.facts
    for component, version in facts.software.items():
        yield Row({"component": component, "version": version})
    if facts.software:
        found = sum(version is not None for version in facts.software.values())
        yield Measurement("versions_found", found / len(facts.software), samples=len(facts.software))
    capability = getattr(torch.backends.cpu, "get_cpu_capability", lambda: None)()
    judged = judge(facts, capability)
    for item in judged:
        yield Row({"rule": item.rule, "ruling": item.ruling.value, "why": item.text, "source": item.source})
    for name, ruling in (
        ("inconsistencies", Ruling.BROKEN),
        ("undecided_rules", Ruling.UNDECIDED),
        ("advisories", Ruling.ADVISORY),
    ):
        yield Measurement(name, sum(item.ruling is ruling for item in judged), samples=len(judged))
