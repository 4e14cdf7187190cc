"""Cost of a process for every check: forked from the forkserver, against a fresh interpreter.

Run by hand: `python benchmarks/isolation.py`. Both kinds do the same job, a look at the versions of the stack, in
turn in one run; the named alternative is a fresh interpreter per check, which imports torch each time.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from readiness import accelerators, check_registry
from readiness.datamodel import Status
from readiness.documents.assessment import facts_to_json
from readiness.isolation.worker_pool import WorkerPool

ROUNDS = 7
CHECK = "driver.stack"


def main() -> None:
    """Time both kinds of worker in turn and print medians and their ratio."""
    check = check_registry.discover()[CHECK]
    facts = facts_to_json(next(iter(accelerators.stack("cpu").discover())))
    request = {
        "job": "check", "check": check.id, "file": check.function.__code__.co_filename, "accelerator": facts,
        "peers": [facts], "seed": 7, "settings": dict(check.settings),
    }  # fmt: skip
    total: dict[bool, list[float]] = {True: [], False: []}
    work: list[float] = []  # of forked ones: a fresh interpreter finds everything cold
    begun = time.perf_counter()
    with WorkerPool() as pool:
        for number in range(ROUNDS + 1):
            for fork in (True, False):
                started = time.perf_counter()
                worker = pool.start(request, fork=fork, limit_s=120)
                while not worker.ended:
                    pool.poll(0.005)
                assert worker.end is not None, worker.log_tail
                assert worker.end.status is Status.MEASURED, worker.end
                if number == 0 and fork:
                    print(f"preparing (once a run): {time.perf_counter() - begun:.2f} s")
                if number:
                    total[fork].append(time.perf_counter() - started)
                    if fork:
                        work.append(worker.seconds)
    forked, fresh = statistics.median(total[True]), statistics.median(total[False])
    print(f"one {CHECK}, of which about {statistics.median(work):.3f} s is the check itself")
    print(f"  forked from the prepared process {forked:8.3f} s")
    print(f"  in a fresh interpreter           {fresh:8.3f} s")
    print(f"  ratio                            {fresh / forked:8.1f} x")


if __name__ == "__main__":
    main()
