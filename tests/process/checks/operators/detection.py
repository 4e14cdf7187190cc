"""What of twelve defects in each operator of a workload is caught: `python -m tests.process.checks.operators.detection [WORKLOAD ...]`.

Each defect is planted in one kernel of a simulated chip, and `operators.workload` plays the records that reach that
kernel. It is caught where an operator's outcome is what the defect makes of it. A kernel that the defect cannot change
(a view has no elements of its own, whole numbers have no bfloat16) is told apart: nothing is wrong with that chip.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from readiness.simulator.machine_file import Chip
from tests.support.simulator import chip, defect, inside

FLAGSHIPS = ("qwen3-8b", "qwen3-235b-a22b", "deepseek-v3")


@dataclass(frozen=True, slots=True)
class Plant:
    """One of the twelve: what it is called, its kind, and the outcomes that catch it."""

    name: str
    kind: str
    severity: float | None = None
    options: tuple[tuple[str, Any], ...] = ()
    outcomes: tuple[str, ...] = ("wrong", "missing")

    def on(self, kernel: str) -> Chip:
        """A chip with this defect in one kernel."""
        return chip(defect(self.kind, kernel, severity=self.severity, options=dict(self.options)), memory_gib=2.0)


PLANTS = (
    Plant("missing kernel", "missing", outcomes=("missing",)),
    Plant("1 % in one element", "one-element", 1e-2),
    Plant("one NaN", "nan"),
    Plant("rounded to bfloat16", "rounded-result"),
    Plant("sums in bfloat16", "narrow-sums"),
    Plant("wrong gradient", "wrong-gradient", 1e-2),
    Plant("ignored strides", "ignore-strides"),
    Plant("ignored offset", "ignore-offset"),
    Plant("wrong tail of 8", "wrong-tail"),
    Plant("nondeterminism", "nondeterministic", 1e-2, outcomes=("nondeterministic", "wrong")),
    Plant("SIGSEGV", "crash", outcomes=("crash",)),
    Plant("hang", "hang", outcomes=("hang",)),
)

#: Kinds that act on floating results: where a kernel has none, nothing is wrong with it.
_ON_FLOATS = ("one-element", "nan", "rounded-result", "wrong-tail", "nondeterministic", "narrow-sums")
#: A hang is a hang after so long, in a chip that computes as fast as the host.
_CALL_LIMIT_S = 1.0
_PLENTY_S = 3600.0
NOTHING = "nothing is wrong with it"


def table(workload: str, seed: int, only: Sequence[str] = ()) -> list[dict[str, str]]:
    """For each operator in each dtype, each defect: what became of it. Two processes: those that fork compute no gradient."""
    result = inside(chip(memory_gib=8.0), partial(_mild, workload, seed, tuple(only)), limit_s=7200.0)
    fatal = inside(chip(memory_gib=8.0), partial(_fatal, workload, seed, result["kernels"]), limit_s=7200.0)
    return [*result["rows"], *fatal]


def _prepared(workload: str, seed: int) -> tuple[Any, Any, Any, Any]:
    """The accelerator, the workload, its parts, and the chip at work in this process."""
    import torch

    from readiness import accelerators
    from readiness.accelerators.base import Accelerator
    from readiness.datamodel import AcceleratorFacts
    from readiness.probes.model_operators import replay
    from readiness.simulator.install import installed
    from readiness.tracing import workload_schema

    torch.set_num_threads(1)
    torch.set_warn_always(True)
    facts = AcceleratorFacts(id="sim:0", kind="sim", index=0, stack="sim", vendor=None, model=None)
    accelerator = Accelerator(facts, accelerators.stack("sim"), seed=seed)
    loaded = workload_schema.load(workload_schema.find(workload))
    return accelerator, loaded, replay.op_groups(loaded), installed()


def _play(accelerator: Any, loaded: Any, group: Any) -> Any:
    from readiness.probes.model_operators import replay_sizes
    from readiness.probes.model_operators.replay import Replayer

    budget = replay_sizes.DeviceBudget(2.0**31, 1.0, 1e9, 1e9)
    return Replayer(accelerator, loaded, group, budget, lambda *_: None, time.monotonic() + _PLENTY_S).replay_group(large=False)


def _mild(workload: str, seed: int, only: Sequence[str]) -> Any:
    """All defects that leave the process alive; and the kernels of each part, for those that do not."""
    import torch

    accelerator, loaded, op_groups, device = _prepared(workload, seed)
    rows, kernels = [], []
    for index, group in enumerate(op_groups):
        if only and group.name.removeprefix("aten::") not in only:
            continue
        seen = _unhandled(device, partial(_play, accelerator, loaded, group))
        forward, backward = _chosen(group.name, seen, False), _chosen(group.name, seen, True)
        kernels.append([index, forward])
        for plant in PLANTS:
            if plant.kind in ("crash", "hang"):
                continue
            kernel = backward if plant.kind == "wrong-gradient" else forward
            if kernel is None or (plant.kind in _ON_FLOATS and not (seen.get((kernel, False)) or seen.get((kernel, True)))):
                rows.append(_row(workload, group, plant, NOTHING, "no kernel computes" if kernel is None else "no floats"))
                continue
            changed = _arm(device, plant, kernel, seed)
            result = _play(accelerator, loaded, group)
            device.faults.clear()
            caught = result.outcome.value in plant.outcomes or result.outcome.value == "nondeterministic"
            word = "caught" if caught else "missed" if changed else NOTHING
            rows.append(_row(workload, group, plant, word, f"{kernel}: {result.outcome.value} {result.explained}"[:200]))
    torch.set_warn_always(False)
    return {"rows": rows, "kernels": kernels}


def _fatal(workload: str, seed: int, kernels: Sequence[Any]) -> Any:
    """Crashes and hangs, in processes forked from one that has computed no gradient."""
    from readiness.probes.model_operators import replay_supervisor
    from readiness.tracing import workload_schema

    accelerator, loaded, op_groups, device = _prepared(workload, seed)
    rows = []
    for index, kernel in kernels:
        for plant in PLANTS:
            if plant.kind not in ("crash", "hang"):
                continue
            if kernel is None:
                rows.append(_row(workload, op_groups[index], plant, NOTHING, "no kernel computes"))
                continue
            _arm(device, plant, kernel, seed)
            ((_, result),) = replay_supervisor.run(
                accelerator, loaded, workload_schema.find(workload), op_groups=[op_groups[index]], budget_s=60.0, large_s=0.0,
                call_limit_s=_CALL_LIMIT_S, fork_safe=True
            )
            word = "caught" if result.outcome.value in plant.outcomes else "missed"
            rows.append(_row(workload, op_groups[index], plant, word, f"{kernel}: {result.outcome.value} {result.explained}"[:200]))
    return rows


def _row(workload: str, group: Any, plant: Plant, word: str, detail: str) -> dict[str, str]:
    return {"workload": workload, "operator": group.label, "defect": plant.name, "outcome": word, "detail": detail}


def _unhandled(device: Any, play: Any) -> dict[tuple[str, bool], bool]:
    """The kernels that reach the chip meanwhile: by name and whether in a gradient; whether they give floats."""
    import torch

    seen: dict[tuple[str, bool], bool] = {}
    true_call = device.call

    def call(name: str, operator: Any, arguments: Any, keywords: Any, given: Any) -> Any:
        result = operator(*arguments, **keywords)
        leaves = result if isinstance(result, list | tuple) else [result]
        leaves = [*leaves, *(arguments[0] if name.startswith("aten::_foreach") else [])]
        floats = any(isinstance(item, torch.Tensor) and item.is_floating_point() and item.numel() for item in leaves)
        key = name, torch._C._current_autograd_node() is not None
        seen[key] = seen.get(key, False) or floats
        return result

    device.call = call
    try:
        play()
    finally:
        device.call = true_call
    return seen


def _chosen(name: str, seen: dict[tuple[str, bool], bool], backward: bool) -> str | None:
    """The operator's own kernel where it has one, else the first of those that compute for it."""
    if (name, backward) in seen:
        return name
    known = [kernel for kernel, late in seen if late is backward and not kernel.startswith(("layout::", "memory::", "copy::"))]
    floats = [kernel for kernel in known if seen[kernel, backward]]
    return next(iter([*floats, *known]), None)


def _arm(device: Any, plant: Plant, kernel: str, seed: int) -> list[bool]:
    """Plant a defect in one kernel. What is given back is filled once it has changed anything."""
    import torch

    from readiness.simulator.faults import kinds
    from readiness.simulator.injection import ActiveFault

    changed: list[bool] = []
    given = plant.on(kernel).defects[0]
    device.faults[:] = [ActiveFault(given, kinds()[given.kind], 0, seed)]
    device._faults_by_name.clear()
    true_inject = _TRUE.setdefault("inject", ActiveFault.inject)

    def leaves(call: Any) -> list[Any]:
        found = [*call.arguments, *call.keywords.values(), call.results]
        flat = [item for value in found for item in (value if isinstance(value, list | tuple) else [value])]
        return [item.clone() for item in flat if isinstance(item, torch.Tensor)]

    def inject(self: Any, call: Any, chip_at_work: Any) -> None:
        if changed:
            true_inject(self, call, chip_at_work)
            return
        before = leaves(call)
        try:
            true_inject(self, call, chip_at_work)
        except BaseException:
            changed.append(True)
            raise
        after = leaves(call)
        if len(before) != len(after) or any(
            one.shape != other.shape or not torch.equal(one.nan_to_num(12345.0) if one.is_floating_point() else one,
                                                        other.nan_to_num(12345.0) if other.is_floating_point() else other)
            for one, other in zip(before, after, strict=True)
        ):
            changed.append(True)

    setattr(ActiveFault, "inject", inject)  # noqa: B010 - a method is replaced
    return changed


_TRUE: dict[str, Any] = {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table's sums and its misses; 1 where less than 99 of 100 defects are caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.process.checks.operators.detection", description=__doc__)
    parser.add_argument("workloads", nargs="*", default=FLAGSHIPS)
    parser.add_argument("--only", action="append", default=[], help="operators, as mm or mul.Tensor")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args(arguments)
    rows = []
    for workload in options.workloads or FLAGSHIPS:
        start = time.monotonic()
        rows += table(workload, options.seed, options.only)
        print(f"{workload}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    print("| defect | caught | missed | nothing is wrong |\n|---|---:|---:|---:|")
    for plant in PLANTS:
        counts = Counter(row["outcome"] for row in rows if row["defect"] == plant.name)
        print(f"| {plant.name} | {counts['caught']} | {counts['missed']} | {counts[NOTHING]} |")
    counts = Counter(row["outcome"] for row in rows)
    share = counts["caught"] / max(counts["caught"] + counts["missed"], 1)
    print(f"| together | {counts['caught']} | {counts['missed']} | {counts[NOTHING]} |\n\n{share:.2%} caught; the misses:")
    for row in rows:
        if row["outcome"] == "missed":
            print(f"- {row['workload']}, {row['operator']}, {row['defect']}: {row['detail']}")
    return 0 if share >= 0.99 else 1


if __name__ == "__main__":
    sys.exit(main())
