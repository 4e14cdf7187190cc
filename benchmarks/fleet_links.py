"""Hosts on one machine, by network namespaces, with links that lose, delay or throttle: does `fleet links` name them?

Run by hand, as root: `python benchmarks/fleet_links.py [SCENARIO ...]`. Each host is a namespace with a TAP device of its
own; a process of this script carries frames between them as a switch does, and spoils those of one link or one host. The
hosts share this machine's cores, so that one trial is made at a time. A line for each scenario: what was planted, what was
named, rounds and seconds; the exit code is 1 where something else was named.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import random
import select
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from readiness.distributed import rendezvous
from tests.system.hosts import wire

HOSTS = 4
ADDRESSES = tuple(f"10.203.0.{number + 1}" for number in range(HOSTS))
#: One check with little of everything: what is spoilt here shows in a second. The limits are those of `general`.
PROFILE = """
schema = "readiness.profile/1"
name = "links"
title = "Two hosts over a network"
uses = ["training"]

[settings."multichip.bandwidth"]
bytes = [8, 65536]
samples = 3
block_mib = 0.25
most_mib = 1.0
tail_calls = 150
budget_s = 2.0

[[group]]
check = "multichip.bandwidth"
level = "must"
where = { world = "all" }
require = [
  { id = "bandwidth-complete", measure = "completed", equals = 1 },
  { id = "bandwidth-right", measure = "wrong_results", at_most = 0 },
  { id = "collectives-without-tail", measure = "tail_ratio", where = { host = "excluded" }, at_most = 30 },
]
"""


@dataclass(frozen=True)
class Spoilt:
    """What happens to frames: a share is lost, all are late, and so many bytes pass in a second (0: all)."""

    loss: float = 0.0
    delay_s: float = 0.0
    bytes_per_s: float = 0.0


GOOD = Spoilt()
Links = Mapping[frozenset[int], Spoilt]


def link(one: int, other: int, spoilt: Spoilt) -> Links:
    """The link between two hosts."""
    return {frozenset((one, other)): spoilt}


def host(number: int, spoilt: Spoilt) -> Links:
    """All links of a host."""
    return {frozenset((number, other)): spoilt for other in range(HOSTS) if other != number}


SCENARIOS: dict[str, tuple[Links, dict[str, list[object]]]] = {
    "healthy": ({}, {}),
    "lossy link": (link(0, 2, Spoilt(loss=0.3)), {"bad_links": [[ADDRESSES[0], ADDRESSES[2]]]}),
    "slow link": (link(1, 3, Spoilt(bytes_per_s=2e6)), {"bad_links": [[ADDRESSES[1], ADDRESSES[3]]]}),
    "late link": (link(0, 1, Spoilt(delay_s=0.05)), {"bad_links": [[ADDRESSES[0], ADDRESSES[1]]]}),
    "lossy host": (host(2, Spoilt(loss=0.3)), {"bad_hosts": [ADDRESSES[2]]}),
    "slow host": (host(1, Spoilt(bytes_per_s=2e6)), {"bad_hosts": [ADDRESSES[1]]}),
    "cut link": (link(2, 3, Spoilt(loss=1.0)), {"bad_links": [[ADDRESSES[2], ADDRESSES[3]]]}),
}
NAMED = ("bad_hosts", "unsteady_hosts", "bad_links", "divided", "bad_groups")


@contextlib.contextmanager
def network(folder: Path, spoilt: Links) -> Iterator[None]:
    """Make the hosts; `folder/ADDRESS` is the namespace of each. All is gone with this process."""
    with contextlib.ExitStack() as stack:
        holders = [wire._start(stack, wire._hold) for _ in ADDRESSES]
        for address, holder in zip(ADDRESSES, holders, strict=True):
            (folder / address).symlink_to(f"/proc/{holder}/ns/net")
        ready, writer = os.pipe()
        stack.callback(os.close, ready)
        namespaces = [f"/proc/{holder}/ns/net" for holder in holders]
        wire._start(stack, lambda _: carry(namespaces, spoilt, writer), ready_by_itself=True)
        os.close(writer)
        assert os.read(ready, 1) == b"r", "the network could not be made"
        yield


def carry(namespaces: list[str], spoilt: Links, writer: int) -> None:
    """Be the switch, until killed: take every frame to the host of its address, or to all."""
    devices = []
    hardware = []
    for number, (namespace, address) in enumerate(zip(namespaces, ADDRESSES, strict=True)):
        rendezvous.enter(namespace)
        devices.append(wire._tap())
        own = bytes((2, 0, 0, 0, 0, number + 1))
        hardware.append(own)
        text = ":".join(f"{byte:02x}" for byte in own)
        subprocess.run(["ip", "link", "set", wire.DEVICE, "address", text], check=True)
        subprocess.run(["ip", "addr", "add", f"{address}/24", "dev", wire.DEVICE], check=True)
        subprocess.run(["ip", "link", "set", wire.DEVICE, "mtu", "1500", "up"], check=True)
    os.write(writer, b"r")
    chance = random.Random(7)
    waiting: list[tuple[float, int, int, bytes]] = []
    free_at: dict[tuple[int, int], float] = {}
    count = 0
    while True:
        left_s = max(waiting[0][0] - time.monotonic(), 0.0) if waiting else None
        ready, _, _ = select.select(devices, [], [], left_s)
        now = time.monotonic()
        for device in ready:
            source = devices.index(device)
            for frame in wire._frames(device):
                for target in range(len(devices)):
                    if target == source or (frame[:6] in hardware and frame[:6] != hardware[target]):
                        continue
                    kind = spoilt.get(frozenset((source, target)), GOOD)
                    if chance.random() < kind.loss:
                        continue
                    due = now + kind.delay_s
                    if kind.bytes_per_s:
                        begins = max(now, free_at.get((source, target), 0.0))
                        if begins - now > 0.2:  # the queue is full
                            continue
                        due = free_at[source, target] = begins + len(frame) / kind.bytes_per_s
                    count += 1
                    heapq.heappush(waiting, (due, count, target, frame))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, target, frame = heapq.heappop(waiting)
            with contextlib.suppress(BlockingIOError, OSError):
                os.write(devices[target], frame)


def tried(name: str, folder: Path) -> bool:
    """Try a scenario; return whether the right things were named."""
    spoilt, expected = SCENARIOS[name]
    (folder / "links.toml").write_text(PROFILE)
    options = ("--profile", str(folder / "links.toml"), "-d", "cpu", "-k", "multichip.bandwidth")
    (folder / "hosts.txt").write_text("".join(f"{address}\n" for address in ADDRESSES))
    started = time.perf_counter()
    database = folder / "fleet.sqlite"
    environment = ["env", f"PYTHONPATH={Path.cwd()}", "OMP_NUM_THREADS=1"]
    reach = shlex.join(["nsenter", f"--net={folder}/{{host}}", *environment, "{python}"])
    own = [sys.executable, "-m", "readiness", "fleet"]
    with network(folder, spoilt):
        done = subprocess.run(
            [*own, "links", str(database), "--hosts", str(folder / "hosts.txt"), "--reach", reach, "--at-once", "1",
             "--limit", "5m", "--", *options], check=False,
        )  # fmt: skip
    report = subprocess.run([*own, "report", str(database), "-f", "json"], capture_output=True, text=True, check=False)
    between = json.loads(report.stdout)["between_hosts"]
    named = {key: between[key] for key in NAMED if between[key]}
    right = named == expected
    print(
        f"{name:12} {'as planted' if right else 'WRONG'}: {named or 'nobody'}; {len(between['rounds'])} rounds, "
        f"{len(between['trials'])} trials, {time.perf_counter() - started:.0f} s, exit code {done.returncode}", flush=True,
    )  # fmt: skip
    if keep := os.environ.get("KEEP"):
        Path(keep, f"{name.replace(' ', '-')}.sqlite").write_bytes(database.read_bytes())
    return right


def main() -> int:
    """Try the scenarios that are named, else all."""
    if (why := wire.refusal()) is not None:
        print(f"this machine permits no hosts by network namespaces: {why}")
        return 2
    right = True
    for name in sys.argv[1:] or SCENARIOS:
        with tempfile.TemporaryDirectory() as folder:
            right &= tried(name, Path(folder))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
