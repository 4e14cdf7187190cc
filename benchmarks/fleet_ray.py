"""`readiness fleet run` on four nodes of a local Ray cluster: one is killed, hangs or joins late, or the command is killed.

Run by hand (extra `fleet`): `python benchmarks/fleet_ray.py [SCENARIO ...]`: plain, kill, hang, late, driver. Three short
checks on the CPU of each node. A line for each scenario: who is done, who failed and why, seconds; the exit code is 1
where a node is not accounted for as it must be.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ARGUMENTS = ("-p", "smoke", "-d", "cpu", "-k", "driver.random or driver.copies or driver.streams")
#: How many nodes must be done, and how many must have failed.
EXPECTED = {"plain": (4, 0), "kill": (3, 1), "hang": (3, 1), "late": (5, 0), "driver": (4, 0)}


class Command:
    """The command under test, and what it has said."""

    def __init__(self, address: str, folder: Path, wait: str, limit: str = "20m") -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(folder / "state")}
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "readiness", "fleet", "run", "-o", str(folder / "run"), "--address", address, "-v",
             "--limit", limit, "--wait", wait, "--", *ARGUMENTS],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(self.process.stdout)

    def wait_for(self, word: str, count: int) -> None:
        """Wait until this many lines have the word."""
        while sum(word in line for line in self.lines) < count and self.process.poll() is None:
            time.sleep(0.1)

    def end(self) -> int:
        """Wait until it ends; return its exit code."""
        code = self.process.wait()
        self.reader.join()
        return code


def tried(name: str, folder: Path) -> bool:
    """Try a scenario; return whether every node is accounted for."""
    ray: Any = importlib.import_module("ray.cluster_utils")
    started = time.perf_counter()
    cluster = ray.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
    frozen: list[int] = []
    try:
        limit = "3m" if name == "hang" else "20m"  # of a busy machine
        command = Command(cluster.address, folder, "30s" if name == "late" else "1s", limit)
        command.wait_for("started", 4)
        time.sleep(4)
        if name == "kill":
            cluster.remove_node(nodes[0], allow_graceful=False)
        elif name == "late":
            cluster.add_node(num_cpus=1)
        elif name == "hang":
            raylet = nodes[0].all_processes["raylet"][0].process.pid
            children = subprocess.run(["pgrep", "-P", str(raylet)], capture_output=True, text=True, check=False).stdout
            frozen = [raylet, *map(int, children.split())]
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)
        elif name == "driver":
            command.process.kill()
            command.end()
            command = Command(cluster.address, folder, "1s")
        code = command.end()
    finally:
        for pid in frozen:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGCONT)
        cluster.shutdown()
    listed = (folder / "run" / "expected.txt").read_text().splitlines()
    failed = [line for line in listed if line.split()[1] == "failed"]
    done = sorted(file.stem for file in (folder / "run" / "hosts").glob("*.json"))
    right = (len(done), len(failed)) == EXPECTED[name]
    why = f"; failed: {failed[0][:160]}" if failed else ""
    print(
        f"{name:8} {'as it must be' if right else 'WRONG'}: {len(done)} done, {len(failed)} failed, exit code {code}, "
        f"{time.perf_counter() - started:.0f} s{why}", flush=True,
    )  # fmt: skip
    if not right:
        print(json.dumps({"lines": command.lines[-40:], "expected": listed}, indent=1))
    return right


def main() -> int:
    """Try the scenarios that are named, else all."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = str(ROOT)
    right = True
    for name in sys.argv[1:] or EXPECTED:
        with tempfile.TemporaryDirectory() as folder:
            right &= tried(name, Path(folder))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
