"""False alarms of pace: checks of a simulated chip again and again with short settings, judged under a profile.

    python benchmarks/false_alarms.py [RUNS] [CHIP] [PROFILE]

A healthy chip (the default) ought to fail nothing, whatever else the host does; a requirement whose figure the host's own
business made unknown is neither passed nor failed. A line for each run: what failed, how many passed, how many are unknown;
then each share of the host's pace, from the lowest to the highest.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

#: Checks and settings that keep a run short.
CHECKS: dict[str, dict[str, Any]] = {
    "throughput.matmul": {"dtypes": ("float32",), "budget_s": 0.05, "largest": 1024},
    "throughput.memory": {"device_mib": 16, "budget_s": 0.05},
    "throughput.products": {"budget_s": 0.1},
    "throughput.attention": {"budget_s": 0.05},
    "throughput.stream": {"device_mib": 16, "budget_s": 0.1},
    "throughput.launch": {"budget_s": 0.05},
    "throughput.allocator": {"mib": 4, "budget_s": 0.05},
    "model.training": {"budget_s": 0.1},
    "model.serving": {"tokens": 4, "rounds": 1},
}
_OF_MODEL = ("throughput.products", "throughput.attention", "model.training", "model.serving")


def main() -> None:
    """Run, judge and print."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    name = sys.argv[2] if len(sys.argv) > 2 else "healthy"
    profile_name = sys.argv[3] if len(sys.argv) > 3 else "qwen3-dense"
    from readiness import accelerators, check_registry
    from readiness.accelerators.base import Accelerator
    from readiness.accelerators.sim import facts
    from readiness.datamodel import Outcome
    from readiness.engine import worker
    from readiness.judging.judge import judge
    from readiness.profile import loader
    from readiness.simulator import machine_file
    from readiness.simulator.faults import kinds
    from readiness.simulator.install import install

    machine = machine_file.load(machine_file.names()[name], set(kinds()))
    install(machine, 0, 7)
    checks = check_registry.discover()
    profile = loader.load(profile_name, checks)
    workload = profile.settings["model.training"]["workload"]
    chip, alarms = facts(machine)[0], 0
    shares: dict[str, list[float]] = defaultdict(list)
    for seed in range(1, runs + 1):
        began = time.perf_counter()
        accelerator = Accelerator(chip, accelerators.stack("sim"), seed=seed)
        seen = []
        for id, settings in CHECKS.items():
            more = {"workload": workload} if id in _OF_MODEL else {}
            seen.append(worker.collect(checks[id], accelerator, **settings, **more))
        findings = [item for item in judge(profile, chip, seen).findings if item.check in CHECKS]
        outcomes = [item.outcome for item in findings]
        failed = sorted({item.requirement for item in findings if item.outcome is Outcome.FAIL})
        alarms += bool(failed)
        for evidence in seen:
            for item in evidence.measurements:
                if item.name in ("share_of_host", "timer_ratio"):
                    shares[f"{evidence.check} {item.name} {' '.join(item.labels.values())}"].append(float(item.value))
        print(
            f"run {seed:2}: failed {', '.join(failed) or 'nothing'}; {outcomes.count(Outcome.PASS)} passed, "
            f"{outcomes.count(Outcome.UNKNOWN)} unknown, {time.perf_counter() - began:.0f} s", flush=True,
        )  # fmt: skip
    print(f"{alarms} of {runs} runs of {name} failed something under {profile_name}")
    for what, values in sorted(shares.items()):
        print(f"  {what}: {min(values):.2f} to {max(values):.2f} in {len(values)} of {runs} runs")


if __name__ == "__main__":
    main()
