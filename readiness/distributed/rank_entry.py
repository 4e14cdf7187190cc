"""Entry point of a rank process: sets it up, runs the function, and cleans up.

Signals keep their default actions here: a rank that is blocked in C runs no Python handler, and must still be endable.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import resource
import selectors
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

from readiness.accelerators.base import Accelerator
from readiness.distributed import flight_recorder, rendezvous, tcp_info
from readiness.distributed.json_lines import write_message
from readiness.distributed.rank_messages import encode_report
from readiness.distributed.signed_objects import sign_objects
from readiness.distributed.status_board import StatusBoard
from readiness.distributed.types import Json, RankContext, RankFunction
from readiness.host import disk
from readiness.host.gc_pause import without_collection
from readiness.host.process_control import die_with_parent

#: Seconds between two heartbeats of a rank.
HEARTBEAT_S = 0.1
_report_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class RankPlan:
    """All parameters with which a rank is started; see `RankContext` and `Network`.

    `orders`, `reports` and `log` are its open file descriptors, which `start_rank` fills in. `serves` is that of the socket
    with which the store of the group is to listen, for the rank that serves it, else -1. `secret` is known to the group's
    ranks alone, in hexadecimal digits.
    """

    function: RankFunction
    rank: int
    world_size: int
    accelerator: Accelerator
    settings: Any
    backend: str
    store: str
    interface: str | None
    namespace: str | None
    timeout_s: float
    threads: int
    secret: str
    short_watchdog_dumps: bool = False
    addresses: Sequence[str] = ()
    clock_s: float = 0.0
    doubt_s: float = 0.0
    parent: int = -1
    orders: int = -1
    reports: int = -1
    log: int = -1
    serves: int = -1


def detach(parent: int, log: int) -> None:
    """Detach this process from its parent, except that it dies with the parent."""
    with contextlib.suppress(PermissionError):  # a fresh interpreter was started as the leader of its own session
        os.setsid()
    die_with_parent()
    if os.getppid() != parent:  # it went between our start and the call above
        os._exit(1)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(nothing)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False, errors="replace")  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, errors="replace")  # noqa: SIM115
    faulthandler.disable()
    faulthandler.enable(file=2)
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)
    gc.freeze()  # what the parent left to its collector is the parent's: its finalisers must not run twice


def serve(plan: RankPlan, board: StatusBoard) -> NoReturn:
    """Join the group, run the function, report, and leave when ordered to. Never returns."""
    code = 1
    try:
        leave = threading.Event()
        threading.Thread(target=_handle_orders, args=(plan, board, leave), daemon=True).start()
        try:
            _work(plan, board)
        except BaseException as problem:  # noqa: BLE001 - whatever it raises is evidence
            with contextlib.suppress(Exception):  # an exception's own words may raise
                traceback.print_exc()
            _report(plan, {"raised": disk.describe(problem, f"{type(problem).__name__}: {_first_line(problem)}")})
        else:
            _report(plan, {"finished": True})
            leave.wait()  # a rank that leaves early looks like a dead peer to the others
            _leave_group()
            code = 0
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)  # no destructor of a group that may be broken, nothing of the parent's at exit


def _work(plan: RankPlan, board: StatusBoard) -> None:
    with without_collection():
        import torch
        import torch.distributed as dist

    torch.set_num_threads(plan.threads)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # ranks are made to die, with a device's memory mapped
    # A level that the user has set would check every call, and hide what a stack does without; who needs one sets it.
    dist.set_debug_level(dist.DebugLevel.OFF)  # type: ignore[attr-defined]
    flight_recorder.enable()
    if plan.short_watchdog_dumps:
        flight_recorder.shorten_watchdog_dumps()  # the watchdog of all groups reads it once, when the first one is made
    plan.accelerator.enter()  # a forked rank is in its parent's process, which has another chip
    context = RankContext(
        plan.rank, plan.world_size, plan.accelerator, plan.settings, board, plan.addresses, plan.clock_s, plan.doubt_s
    )
    _report(plan, {"ready": True})
    with context.step("joining the group"):
        store = rendezvous.store(plan.store, plan.world_size, plan.serves)
        if plan.namespace is not None:
            rendezvous.enter(plan.namespace)
        rendezvous.bind(plan.interface)
        set_current_device(context.accelerator)
        sign_objects(bytes.fromhex(plan.secret))
        dist.init_process_group(
            plan.backend,
            store=store,
            rank=plan.rank,
            world_size=plan.world_size,
            timeout=timedelta(seconds=plan.timeout_s),
        )
    for report in plan.function(context) or ():
        _report(plan, encode_report(report))


def set_current_device(accelerator: Accelerator) -> None:
    """Make the accelerator's device the current one of this process, if the stack has such a notion."""
    if accelerator.device.index is not None:
        choose = getattr(accelerator.stack.module(), "set_device", None)
        if choose is not None:
            choose(accelerator.device)


def _leave_group() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def _handle_orders(plan: RankPlan, board: StatusBoard, leave: threading.Event) -> None:
    """Write heartbeats and wait for orders. At the end of the pipe the parent is dead, and this process ends."""
    selector = selectors.DefaultSelector()
    selector.register(plan.orders, selectors.EVENT_READ)
    while True:
        board.heartbeat(plan.rank)
        if not selector.select(HEARTBEAT_S):
            continue
        match os.read(plan.orders, 1):
            case b"L":
                leave.set()
            case b"W":
                _report(plan, {"tcp": tcp_info.tcp_report()})
            case b"F":
                _report(plan, {"tcp": tcp_info.tcp_report()})
                # By a thread: a recorder that asks a busy device may wait for it. It may hold the interpreter meanwhile,
                # so it is asked only where ranks are about to be ended.
                threading.Thread(target=_report_last_call, args=(plan,), daemon=True).start()
            case _:
                os.kill(os.getpid(), signal.SIGKILL)


def _report_last_call(plan: RankPlan) -> None:
    _report(plan, {"last_call": flight_recorder.last_call()})


def _report(plan: RankPlan, message: Json) -> None:
    with _report_lock:  # the thread that handles orders reports as well
        write_message(plan.reports, message)


def _first_line(problem: BaseException) -> str:
    lines = str(problem).strip().splitlines()
    return lines[0][:300] if lines else ""
