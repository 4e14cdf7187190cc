"""Seconds and memory of merging and reporting fleets, by their size, against `json.loads` of the same files.

Run by hand: `python -m benchmarks fleet [HOSTS ...]`. Made-up hosts of eight accelerators with two hundred figures each, one
in a hundred files broken. Seconds of the clock with all processes; memory is the largest of the processes that were waited
for. The last lines say what each part would take for a hundred thousand hosts at the pace of the largest size.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support import fleets

SIZES = (100, 1_000, 10_000)
_PLANNED = 100_000


def made(folder: Path, count: int) -> int:
    """Write a file for each host; one in a hundred is cut off. Return their bytes."""

    def hosts() -> Iterator[dict[str, Any]]:
        pattern = fleets.host("node-0", 1)
        for number in range(count):
            summary = fleets.host(f"node-{number}", 1) if number < 200 else _another(pattern, number)
            yield summary

    fleets.write(folder, hosts())
    for number in range(0, count, 100):
        file = folder / f"node-{number}.json"
        file.write_text(file.read_text()[:-100])
    return sum(file.stat().st_size for file in folder.iterdir())


def _another(pattern: dict[str, Any], number: int) -> dict[str, Any]:
    """Return the pattern under another name, its values shifted a little: values made anew take longer than merging."""
    share = 1 + (number % 997) * 1e-5
    items = [
        item | {"serial": f"node-{number}-{place}", "values": [value * share for value in item["values"]]}
        for place, item in enumerate(pattern["accelerators"])
    ]
    return pattern | {"host": pattern["host"] | {"name": f"node-{number}"}, "accelerators": items}


def timed(command: Sequence[str]) -> tuple[float, float]:
    """Run a command; return its seconds and the MiB of its largest process."""
    started = time.perf_counter()
    text = (
        "import resource, subprocess, sys; "
        "subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", text, *command], capture_output=True, text=True, check=True)
    return time.perf_counter() - started, int(done.stdout) / 1024


def parsed(folder: Path) -> float:
    """Return the seconds of parsing all files' JSON alone, in this process."""
    started = time.perf_counter()
    for file in folder.iterdir():
        try:
            json.loads(file.read_text())
        except ValueError:
            continue
    return time.perf_counter() - started


def main() -> None:
    """Print a table."""
    sizes = [int(text) for text in sys.argv[1:]] or SIZES
    own = [sys.executable, "-m", "readiness", "fleet"]
    print(f"{'hosts':>8} {'files':>9} {'json.loads':>11} {'merge':>9} {'again':>9} {'table':>9} {'html':>9} {'database':>9}")
    last: tuple[int, list[float]] | None = None
    for size in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder, database = Path(name, "hosts"), Path(name, "fleet.sqlite")
            total = made(folder, size)
            loads = parsed(folder)
            steps = [
                timed([*own, "merge", str(folder), "-o", str(database), "-q"]),
                timed([*own, "merge", str(folder), "-o", str(database), "-q"]),
                timed([*own, "report", str(database)]),
                timed([*own, "report", str(database), "-f", f"html={name}/fleet.html", "-q"]),
            ]
            shown = " ".join(f"{seconds:6.1f} s" + " " for seconds, _ in steps)
            stored = database.stat().st_size
        print(f"{size:8} {total / 2**20:5.0f} MiB {loads:9.1f} s {shown} {stored / 2**20:5.0f} MiB", flush=True)
        print(f"{'':8} largest process: {', '.join(f'{memory:.0f} MiB' for _, memory in steps)}", flush=True)
        last = size, [seconds for seconds, _ in steps]
    if last is not None:
        size, seconds = last
        steps_named = zip(("merge", "again", "table", "html"), seconds, strict=True)
        planned = ", ".join(f"{name} {value * _PLANNED / size:.0f} s" for name, value in steps_named)
        print(f"{_PLANNED} hosts at this pace: {planned}")
    print(f"this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
