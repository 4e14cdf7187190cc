"""Start-up time of the command line, against the cheapest alternative.

Run by hand: `python benchmarks/startup.py`. Prints medians of interleaved runs and their ratios.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 9

COMMANDS = {
    "python -c pass (the floor)": ("-c", "pass"),
    "import typer alone": ("-c", "import typer"),
    "import torch alone": ("-c", "import torch"),
    "readiness --help": ("-m", "readiness", "--help"),
    "readiness list": ("-m", "readiness", "list"),
    "readiness explain general": ("-m", "readiness", "explain", "general"),
}


def main() -> None:
    """Time every command in turn, several rounds, and print a table."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, arguments in COMMANDS.items():
            begun = time.perf_counter()
            subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - begun)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    torch = medians["import torch alone"]
    print(f"{'command':32} {'median s':>9} {'x import torch':>15}")
    for name, median in medians.items():
        print(f"{name:32} {median:9.3f} {median / torch:15.2f}")


if __name__ == "__main__":
    main()
