"""False alarms of timed checks in runs of the tool: rates, load, pace, links and bandwidth of healthy simulated chips.

    python benchmarks/timed_checks.py [RUNS] [PROFILE]

Each run judges one chip by its rates, its steadiness under load and its pace, and three chips by what they exchange, with a
load of eight seconds. What fails there is a false alarm; what the host's business made unknown is none. A line for each run
with the load of the machine, then what failed how often.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_PROFILE = """schema = "readiness.profile/1"
name = "{name}-short"
title = "{name} with a short load"
extends = ["{name}"]
uses = ["training", "inference"]

[settings."stability.load"]
seconds = 8.0
"""
_CHIPS = 'schema = "readiness.chip/1"\nname = "three"\ntitle = "Three healthy chips"\nchips = 3\nmemory_gib = 2\n'
#: What each machine is judged by.
_JUDGED = {
    "sim:healthy": "throughput or stability.load or stability.pace",
    "sim:{chips}": "multichip.links or multichip.bandwidth",
}  # fmt: skip


def run(folder: Path, device: str, choice: str, seed: int) -> tuple[Counter[str], list[str]]:
    """Run the tool once; return how often each outcome came for what was measured, and what failed."""
    out = folder / "assessment.json"
    subprocess.run(
        [sys.executable, "-m", "readiness", "run", "--seed", str(seed), "--profile", str(folder / "short.toml"),
         "--device", device, "-k", choice, "-f", f"json={out}", "-q"],
        cwd=ROOT, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    document: dict[str, Any] = json.loads(out.read_text())
    out.unlink()
    outcomes, failed = Counter[str](), set[str]()
    for item in document["accelerators"]:
        done = {piece["check"] for piece in item["evidence"] if piece["status"] != "skipped"}
        for finding in item["findings"]:
            if finding["check"] in done:
                outcomes[finding["outcome"]] += 1
                failed |= {finding["requirement"]} if finding["outcome"] == "fail" else set()
    return outcomes, sorted(failed)


def main() -> None:
    """Run, judge and print."""
    runs, name = int(sys.argv[1]) if len(sys.argv) > 1 else 5, sys.argv[2] if len(sys.argv) > 2 else "qwen3-dense"
    alarms: Counter[str] = Counter()
    alarmed = 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "short.toml").write_text(_PROFILE.format(name=name))
        (folder / "chips.toml").write_text(_CHIPS)
        for seed in range(1, runs + 1):
            outcomes, failed = Counter[str](), list[str]()
            for device, choice in _JUDGED.items():
                some, names = run(folder, device.format(chips=folder / "chips.toml"), choice, seed)
                outcomes, failed = outcomes + some, failed + names
            alarms.update(failed)
            alarmed += bool(failed)
            print(
                f"run {seed:2}: failed {', '.join(failed) or 'nothing'}; {outcomes['pass']} passed, {outcomes['unknown']} "
                f"unknown, load {os.getloadavg()[0]:.0f}", flush=True,
            )  # fmt: skip
    counted = ", ".join(f"{requirement} in {count}" for requirement, count in alarms.most_common()) or "nothing"
    print(f"{alarmed} of {runs} runs failed something under {name}: {counted}")


if __name__ == "__main__":
    main()
