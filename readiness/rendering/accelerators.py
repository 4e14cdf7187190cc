"""Descriptions of accelerators."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from readiness.datamodel import PLANTED_ACTED, AcceleratorAssessment, AcceleratorFacts, Assessment
from readiness.rendering.text import clean, memory

#: In place of verdicts, and beside them.
NOTHING_ASSESSED = "No accelerator was assessed, so nothing is known."
STOPPED_EARLY = "This run was stopped early: what was not measured counts as unknown."


def device(item: AcceleratorAssessment) -> str:
    """Return `NVIDIA H20, 96 GiB`: the accelerator as far as it is known."""
    facts = item.facts
    vendor, model = clean(facts.vendor or "", 100), clean(facts.model or "", 200)
    # GenuineIntel and Intel(R) Xeon(R) repeat the vendor; Acme and A1 do not.
    words = re.findall(r"[^\W\d_]{3,}", model.casefold())
    if vendor and model and not any(word in vendor.casefold() for word in words):
        model = f"{vendor} {model}"
    return ", ".join(part for part in (model or vendor or "unknown model", memory(facts.memory_bytes)) if part)


def unlisted_stacks(assessment: Assessment) -> dict[str, str]:
    """Return by stack a sentence for people about accelerators that could not be listed."""
    return {
        stack: f"its accelerators could not be listed and are not assessed: {reason}"
        for stack, reason in failed_stacks(assessment).items()
    }


def failed_stacks(assessment: Assessment) -> dict[str, str]:
    """Return the present stacks whose accelerators could not be listed, with the reason; these were not assessed."""
    failed = assessment.host.get("failed_stacks")
    if not isinstance(failed, Mapping):
        return {}
    return {clean(stack, 100): clean(reason) for stack, reason in failed.items()}


def joined(assessment: Assessment) -> str:
    """Return ` with 8 accelerators of node2 and node3` for a run on several hosts; empty for one host."""
    hosts = list(dict.fromkeys(clean(item.host, 60) for item in assessment.joined))
    if not hosts:
        return ""
    number = len(assessment.joined)
    return f" with {number} accelerator{'s' if number > 1 else ''} of {', '.join(hosts)}"


def earlier(assessment: Assessment) -> list[str]:
    """Return `26 checks from the run of 2026-11-23T10:00:00Z`: evidence reused from earlier runs."""
    runs: dict[str, set[str]] = {}
    for item in assessment.accelerators:
        for evidence in item.evidence:
            if evidence.earlier is not None:
                runs.setdefault(clean(evidence.earlier, 40), set()).add(evidence.check)
    return [
        f"{len(checks)} check{'s' if len(checks) > 1 else ''} from the run of {started}"
        for started, checks in sorted(runs.items())
    ]


def software(item: AcceleratorAssessment) -> str:
    """Return `torch 2.9.1, driver 570.86`; a missing version is marked."""
    return ", ".join(
        f"{clean(name, 60)} {clean(version, 60) if version else '(version unknown)'}"
        for name, version in item.facts.software.items()
    )


def simulated(facts: AcceleratorFacts) -> str | None:
    """Return the notice for a simulated chip, shown with every verdict on it; None for a real accelerator.

    `simulated chip example: a rehearsal, not a measurement of a product`; a chip with a source rehearses reported trouble.
    """
    if not facts.properties.get("simulated"):
        return None
    chip = facts.properties.get("chip")
    chip = chip if isinstance(chip, Mapping) else {"name": chip}
    name = clean(chip.get("name") or chip.get("title") or "without a name", 60)
    reported = " of reported trouble" if chip.get("source") or facts.properties.get("source") else ""
    return f"simulated chip {name}: a rehearsal{reported}, not a measurement of a product"


def simulated_chips(assessment: Assessment) -> dict[str, str]:
    """Return the notices about simulated chips, each with the names of its accelerators."""
    found: dict[str, list[str]] = {}
    for item in assessment.accelerators:
        if (chip := simulated(item.facts)) is not None:
            found.setdefault(chip, []).append(item.facts.id)
    return {chip: names(ids) for chip, ids in found.items()}


def planted_defects(assessment: Assessment) -> dict[str, str]:
    """Return how often each planted defect acted on a call in all checks, by the notice about its simulated chip.

    `1 missing acted 12 times, 2 nan never`. Defects of which no call is counted (links, versions) are left out.
    """
    counts: dict[str, dict[str, int]] = {}
    counted: set[tuple[str, str, tuple[str, ...]]] = set()
    for item in assessment.accelerators:
        if (chip := simulated(item.facts)) is None:
            continue
        for evidence in item.evidence:
            acted = evidence.environment.get(PLANTED_ACTED)
            took_part = evidence.accelerators or (item.facts.id,)
            if not isinstance(acted, Mapping) or (chip, evidence.check, took_part) in counted:
                continue  # what several chips did together stands with each of them
            counted.add((chip, evidence.check, took_part))
            totals = counts.setdefault(chip, {})
            for name, times in acted.items():
                totals[clean(name, 60)] = totals.get(clean(name, 60), 0) + (times if isinstance(times, int) else 0)
    return {
        chip: ", ".join(f"{name} {f'acted {times:,} times' if times else 'never'}" for name, times in totals.items())
        for chip, totals in counts.items() if totals
    }  # fmt: skip


def names(ids: Sequence[str], show: Callable[[str], str] = lambda id: clean(id, 40)) -> str:
    """Join names: `sim:0, sim:1, sim:3`; four or more in a row as `npu:0 to npu:6`."""
    runs: list[list[str]] = []
    for id in ids:
        if runs and _next(runs[-1][-1]) == id:
            runs[-1].append(id)
        else:
            runs.append([id])
    return ", ".join(
        part
        for run in runs
        for part in ([f"{show(run[0])} to {show(run[-1])}"] if len(run) > 3 else map(show, run))
    )


def _next(id: str) -> str | None:
    kind, colon, index = id.rpartition(":")
    return f"{kind}:{int(index) + 1}" if colon and index.isascii() and index.isdecimal() and len(index) < 10 else None
