"""How ranks find and reach each other: through a file on one machine, or over TCP where they are on several hosts."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

_CLONE_NEWNET = 0x40000000


def enter(namespace: str) -> None:
    """Move this thread, and what it will start, into a network namespace (its path). Raises OSError.

    Must come before the process opens its first socket; a namespace is to its processes what a host is.
    """
    descriptor = os.open(namespace, os.O_RDONLY)
    try:
        if sys.platform != "linux" or ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {namespace}")
    finally:
        os.close(descriptor)


def bind(interface: str | None) -> None:
    """Have gloo use this interface; with None the loopback, since all ranks are on this machine.

    A choice of the user's stands where the ranks stay on this machine.
    """
    import psutil

    if interface is not None:
        os.environ["GLOO_SOCKET_IFNAME"] = interface
        return
    for name, addresses in psutil.net_if_addrs().items():
        if any(address.address == "127.0.0.1" for address in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            return


def store(place: str, rank: int, world_size: int) -> Any:
    """The store at a path, or at `tcp://ADDRESS:PORT/ATTEMPT`, which the first rank then serves.

    Each attempt has names of its own in it: what an earlier world left there is no address of a rank that lives.
    """
    import torch.distributed as dist

    if not place.startswith("tcp://"):
        return dist.FileStore(place, -1)  # type: ignore[attr-defined]
    where, _, attempt = place.removeprefix("tcp://").partition("/")
    address, _, port = where.rpartition(":")
    served = dist.TCPStore(address, int(port), world_size, is_master=rank == 0)  # type: ignore[attr-defined]
    return dist.PrefixStore(attempt, served)  # type: ignore[attr-defined]
