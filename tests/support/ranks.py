"""What tests of ranks share: proof that nothing is left of a world, and the fault to plant."""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest
import torch
import torch.distributed as dist

from readiness.distributed import tcp_fault_injection
from readiness.distributed.rank_monitor import RankMonitor
from tests.support import command_server

Collective = Callable[..., Any]
#: A byte for each rank that is forked from this process, which it shares with it: 1 once the rank has come to its planted fault.
_REACHED = mmap.mmap(-1, 64)


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """After the block there are no more children and no more open files in this process than before.

    The server of command lines may have been started in the block.
    """
    this = psutil.Process()
    with contextlib.suppress(psutil.Error):
        children = set(_descendants(this.pid))
        files = this.num_fds() - command_server.open_files()
    yield
    deadline = time.monotonic() + 10  # whoever has been told to end may be waiting for a processor
    while (left := _left(this, children, files)) and time.monotonic() < deadline:
        gc.collect()  # of what stands in a circle, files as well
        time.sleep(0.05)
    assert not left, left


def _left(this: psutil.Process, children: set[int], files: int) -> list[object]:
    """What there is beyond these children and so many open files."""
    known = {*children, *command_server.processes()}
    left: list[object] = [f"process {pid}" for pid in _descendants(this.pid) if pid not in known]
    now = this.num_fds() - command_server.open_files()
    return left if now <= files else [*left, f"{now - files} more open files"]


def _descendants(pid: int) -> list[int]:
    """Children of a process and theirs. The kernel lists them, where psutil must look at every process of the machine."""
    if not Path("/proc/thread-self/children").exists():  # a kernel that was built without it
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return [*found, *(further for child in found for further in _descendants(child))]


def wait_for_end(pids: list[int], seconds: float = 60.0) -> list[int]:
    """Those of the processes that are still there after at most so many seconds (a dead one not yet reaped is gone)."""

    def there(pid: int) -> bool:
        try:
            return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    deadline = time.monotonic() + seconds
    while (left := list(filter(there, pids))) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def kill_oneself() -> NoReturn:
    """As the kernel or a driver would."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def with_a_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums as on NCCL: nothing is raised where one is overdue, the process is ended after the watchdog has written."""
    healthy = dist.all_reduce

    def watched(*arguments: Any, **options: Any) -> Any:
        try:
            return healthy(*arguments, **options)
        except RuntimeError:
            print(f"[Rank {dist.get_rank()}] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=9)", flush=True)
            time.sleep(4 * int(os.environ["TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC"]) / 1000)
            os.abort()

    monkeypatch.setattr(dist, "all_reduce", watched)


def stop_oneself() -> None:
    """As a debugger or a frozen control group would."""
    os.kill(os.getpid(), signal.SIGSTOP)


def end_slowly() -> NoReturn:
    """As a process whose connections are gone long before it is: the others are told first."""
    for descriptor, _, _ in tcp_fault_injection.connections():
        with socket.socket(fileno=os.dup(descriptor)) as opened:
            opened.shutdown(socket.SHUT_RDWR)
    time.sleep(1.5)
    kill_oneself()


def reached() -> None:
    """Tell the process that this rank was forked from that it has come to its planted fault."""
    _REACHED[dist.get_rank()] = 1


def hang() -> NoReturn:
    """Never come back."""
    if dist.is_initialized():
        reached()
    threading.Event().wait()
    raise AssertionError


def patient_until_the_fault(monkeypatch: pytest.MonkeyPatch, ranks: int = 1) -> None:
    """Until so many ranks have come to their planted fault, nothing counts as standing still, however slow this machine is."""
    healthy = RankMonitor.tick
    _REACHED[:] = bytes(len(_REACHED))

    def tick(monitor: RankMonitor, *arguments: Any) -> None:
        healthy(monitor, *arguments)
        if _REACHED[:].count(1) < ranks:
            monitor.count_from(time.monotonic())

    monkeypatch.setattr(RankMonitor, "tick", tick)


def fail() -> NoReturn:
    """Raise what is nobody else's doing."""
    raise ArithmeticError("the matrix unit gave up")


def leave() -> NoReturn:
    """Go without a word, as a library that calls exit."""
    os._exit(0)


def at_call(name: str, number: int, rank: int, fault: Callable[[], object], monkeypatch: Any) -> None:
    """From the given call of `torch.distributed.NAME` on (the first is 1), the given rank runs into the fault before it."""
    healthy: Collective = getattr(dist, name)
    calls = [0]

    def faulty(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if dist.get_rank() == rank and calls[0] >= number:
            fault()
        return healthy(*arguments, **options)

    monkeypatch.setattr(dist, name, faulty)


def corrupt(name: str, number: int, rank: int, monkeypatch: Any, spoil: Callable[[torch.Tensor], object]) -> None:
    """After the given call of `torch.distributed.NAME`, the given rank finds its buffer spoilt."""
    healthy: Collective = getattr(dist, name)
    calls = [0]

    def faulty(tensor: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        result = healthy(tensor, *arguments, **options)
        if dist.get_rank() == rank and calls[0] == number:
            spoil(tensor)
        return result

    monkeypatch.setattr(dist, name, faulty)


def pids_in(folder: Path, number: int, seconds: float = 200.0) -> list[int]:
    """The ids that so many ranks wrote into files of this folder; waits until all of them have."""
    deadline = time.monotonic() + seconds
    while len(found := sorted(folder.glob("*.pid"))) < number and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(found) == number, found
    return [int(file.stem) for file in found]


def hang_between(one: int, other: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What these two ranks send each other never arrives."""
    healthy = dist.recv

    def recv(tensor: torch.Tensor, source: int, *arguments: Any) -> Any:
        return hang() if {dist.get_rank(), source} == {one, other} else healthy(tensor, source, *arguments)

    monkeypatch.setattr(dist, "recv", recv)


def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """In `multichip.recovery`, saves, deaths and the end follow each other as ever, with fewer steps between.

    For what does not depend on their number.
    """
    every = 3
    numbers = {"SAVE_EVERY": every, "KILL_AT_STEP": 2 * every + 1, "KILL_DURING_SAVE_AT_STEP": 3 * every, "STEPS": 3 * every + 2}
    for name, number in numbers.items():
        monkeypatch.setattr(f"readiness.probes.recovery.parent.{name}", number)


def without_transfers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that neither sends nor receives."""

    def missing(*arguments: Any, **options: Any) -> None:
        raise NotImplementedError("send on this device")

    monkeypatch.setattr(dist, "send", missing)
    monkeypatch.setattr(dist, "recv", missing)
