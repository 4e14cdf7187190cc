"""The software between torch and the device: is it all there, and does it fit together?"""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Measure, Measurement, Row, Yield, check


@check(
    "driver.stack",
    title="The software stack is complete and fits together",
    measures={
        "versions_found": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of the stack's components whose version could be read.",
            title="Every version of the driver stack can be read",
            why="A component whose version cannot be read cannot be compared, reported to its vendor or reproduced.",
            remedy="Make the vendor's management library or files readable to this user, in the container too.",
            action=Action.CHECK_CONFIG,
        ),
        "inconsistencies": Measure(
            "1", better=Better.LOWER,
            meaning="Rules about versions that are broken.",
            title="Driver, runtime and plug-in fit together",
            why=(
                "A driver too old for its runtime, or a plug-in made for another torch, fails late and in ways that "
                "look like something else."
            ),
            remedy="Install the versions that the broken rule names; the rows of driver.stack say which.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "undecided_rules": Measure(
            "1", better=Better.LOWER,
            meaning="Rules about versions for which a version was missing, or whose table has ended.",
            title="Every rule about versions can be decided",
            why="A rule whose versions could not be read, or whose table is too old, was not checked.",
            remedy="Make the vendor's library and files readable, in the container too; update readiness for newer tables.",
            action=Action.CHECK_CONFIG,
        ),
        "advisories": Measure(
            "1", better=Better.LOWER,
            meaning="Installed releases that are known to be bad in circumstances that the row names.",
            title="No release with known trouble is installed",
            why="Some releases are known to hang or corrupt under circumstances that the row names.",
            remedy="Move to the release that the row names.",
            action=Action.UPDATE_SOFTWARE,
        ),
    },
    typical_s=0.1,
    catches=("version",),
)
def stack(accelerator: Accelerator) -> Iterator[Yield]:
    """Reads every component's version and compares it with known rules about versions that fit together.

    A driver that is too old for its runtime, a plug-in made for another torch or a collectives library with a known
    defect costs days later and a look now.
    """
    import torch

    from readiness import version_rules

    facts = accelerator.facts
    for component, version in facts.software.items():
        yield Row({"component": component, "version": version})
    if facts.software:
        found = sum(version is not None for version in facts.software.values())
        yield Measurement("versions_found", found / len(facts.software), samples=len(facts.software))
    capability = getattr(torch.backends.cpu, "get_cpu_capability", lambda: None)()
    judged = version_rules.judge(facts, capability)
    for item in judged:
        yield Row({"rule": item.rule, "ruling": item.ruling.value, "why": item.text, "source": item.source,
                   "as_of": item.as_of})  # fmt: skip
    for name, ruling in (
        ("inconsistencies", version_rules.Ruling.BROKEN),
        ("undecided_rules", version_rules.Ruling.UNDECIDED),
        ("advisories", version_rules.Ruling.ADVISORY),
    ):
        yield Measurement(name, sum(item.ruling is ruling for item in judged), samples=len(judged))
