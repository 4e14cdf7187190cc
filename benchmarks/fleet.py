"""Seconds and memory of all parts of a fleet, by its size; merging against `json.loads` of the same files.

Run by hand: `python benchmarks/fleet.py [HOSTS ...]`. Made-up hosts of eight accelerators with two hundred figures each; of
a hundred files one is cut off, one there twice, one of an old form, and what is merged is counted. Seconds of the clock
with all processes, and their seconds of the processors, which other work on the machine changes less; memory is the largest
of the processes that were waited for. `runs` is the coordinator of `fleet run` with an engine that answers at once, each
host's file written and forced to disk; `links` all decisions of `fleet links` with one host in a thousand bad, and how many
rounds and trials that takes; both of the processor. The last lines say what each part would take for a hundred thousand
hosts at the pace of the largest size.
"""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from readiness.fleet import coordinator, store
from readiness.fleet.links import attribution
from tests.support import fleets

SIZES = (100, 1_000, 10_000)
_PLANNED = 100_000


def made(folder: Path, count: int) -> int:
    """Write a file for each host; of a hundred one is cut off, one there twice, one of an old form. Return their bytes."""

    def hosts() -> Iterator[dict[str, Any]]:
        pattern = fleets.host("node-0", 1)
        for number in range(count):
            summary = fleets.host(f"node-{number}", 1) if number < 200 else _another(pattern, number)
            yield summary

    fleets.write(folder, hosts())
    for number in range(0, count, 100):
        cut, twice, old = (folder / f"node-{number + place}.json" for place in range(3))
        cut.write_text(cut.read_text()[:-100])
        (folder / f"copy-{number}.json").write_text(twice.read_text())
        old.write_text(json.dumps(json.loads(old.read_text()) | {"schema": "readiness.host/0"}))
    return sum(file.stat().st_size for file in folder.iterdir())


def _another(pattern: dict[str, Any], number: int) -> dict[str, Any]:
    """Return the pattern under another name, its values shifted a little: values made anew take longer than merging."""
    share = 1 + (number % 997) * 1e-5
    items = [
        item | {"serial": f"node-{number}-{place}", "values": [value * share for value in item["values"]]}
        for place, item in enumerate(pattern["accelerators"])
    ]
    return pattern | {"host": pattern["host"] | {"name": f"node-{number}"}, "accelerators": items}


def timed(command: Sequence[str]) -> tuple[float, float, float]:
    """Run a command; return its seconds, those of the processors, and the MiB of its largest process."""
    started = time.perf_counter()
    text = (
        "import resource, subprocess, sys; "
        "subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); "
        "found = resource.getrusage(resource.RUSAGE_CHILDREN); print(found.ru_utime + found.ru_stime, found.ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", text, *command], capture_output=True, text=True, check=True)
    processor_s, memory = done.stdout.split()
    return time.perf_counter() - started, float(processor_s), int(memory) / 1024


def parsed(folder: Path) -> float:
    """Return the seconds of parsing all files' JSON alone, in this process."""
    started = time.perf_counter()
    for file in folder.iterdir():
        try:
            json.loads(file.read_text())
        except ValueError:
            continue
    return time.perf_counter() - started


class _AtOnce:
    """An engine whose nodes answer at once, with the same summary."""

    def __init__(self, count: int) -> None:
        self.listed = [coordinator.Node(str(number), f"node-{number}") for number in range(count)]
        self.content = json.dumps(fleets.host("node-0", 1)).encode()

    def nodes(self) -> list[coordinator.Node]:
        return self.listed

    def start(self, *_: object) -> _AtOnceTask:
        return _AtOnceTask(self.content)

    def close(self) -> None:
        """Nothing is open."""


class _AtOnceTask:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def events(self) -> list[tuple[object, ...]]:
        return [("output", "ready"), ("file", "host.json", self.content), ("end", 0)]

    def cancel(self) -> None:
        """Nothing runs."""


def counted(database: Path) -> tuple[int, int]:
    """Return how many files and how many runs a database has."""
    with contextlib.closing(store.open_store(database, create=False)) as connection:
        found = (connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("file", "run"))
        return next(found), next(found)


def coordinated(folder: Path, count: int) -> float:
    """Return the seconds of the processor in which the coordinator takes in the results of so many hosts."""
    engine: Any = _AtOnce(count)
    started = time.process_time()
    results = coordinator.run(engine, coordinator.Folder(folder, []), [], limit_s=60.0)
    assert sum(result.state == "done" for result in results) == count
    return time.process_time() - started


def decided(count: int) -> tuple[float, int, int]:
    """Return the seconds of all decisions between hosts, the rounds and the trials; the right hosts must be named."""
    hosts = tuple(f"node-{number:06}" for number in range(count))
    bad = set(hosts[:: 1_000])
    plan = attribution.Plan(hosts, group_size=0)
    results: list[attribution.Result] = []
    rounds, seconds = 0, 0.0
    while True:
        started = time.process_time()
        trials = attribution.next_round(plan, results)
        seconds += time.process_time() - started
        if not trials:
            break
        rounds += 1
        outcomes = (attribution.Outcome.GOOD, attribution.Outcome.BAD)
        results += [attribution.Result(trial, outcomes[bool(bad & set(trial.hosts))]) for trial in trials]
    started = time.process_time()
    assert set(attribution.conclude(plan, results).bad_hosts) == bad
    return seconds + time.process_time() - started, rounds, len(results)


def main() -> None:
    """Print a table."""
    sizes = [int(text) for text in sys.argv[1:]] or SIZES
    own = [sys.executable, "-m", "readiness", "fleet"]
    print(
        f"{'hosts':>8} {'files':>9} {'json.loads':>11} {'merge':>9} {'again':>9} {'table':>9} {'html':>9} {'parquet':>9} "
        f"{'runs':>9} {'links':>9} {'database':>9}"
    )
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
                timed([*own, "report", str(database), "-f", f"parquet={name}/fleet.parquet", "-q"]),
            ]
            parquet = Path(name, "fleet.parquet").stat().st_size
            assert counted(database) == (size // 100 * 101, size - 2 * (size // 100)), "files and runs that were merged"
            shutil.rmtree(folder)
            runs = coordinated(Path(name, "runs"), size)
            links, rounds, trials = decided(size)
            steps += [(runs, runs, 0.0), (links, links, 0.0)]
            shown = " ".join(f"{seconds:6.1f} s" + " " for seconds, _, _ in steps)
            stored = database.stat().st_size
        print(f"{size:8} {total / 2**20:5.0f} MiB {loads:9.1f} s {shown} {stored / 2**20:5.0f} MiB", flush=True)
        processors = " ".join(f"{seconds:6.1f} s" + " " for _, seconds, _ in steps)
        memories = ", ".join(f"{memory:.0f} MiB" for _, _, memory in steps if memory)
        print(f"{'':8} {'of the processors':>21} {processors}")
        print(
            f"{'':8} largest process: {memories}; Parquet {parquet / 2**20:.0f} MiB; between hosts {rounds} rounds, "
            f"{trials} trials", flush=True,
        )  # fmt: skip
        last = size, [seconds for _, seconds, _ in steps]
    if last is not None:
        size, seconds = last
        steps_named = zip(("merge", "again", "table", "html", "parquet", "runs", "links"), seconds, strict=True)
        planned = ", ".join(f"{name} {value * _PLANNED / size:.0f} s" for name, value in steps_named)
        print(f"{_PLANNED} hosts, seconds of the processors at this pace: {planned}")
    print(f"this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
