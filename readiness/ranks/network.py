"""How ranks find and reach each other: through a file on one machine, or over TCP where they are on several hosts."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import sys
from typing import Any

from readiness.ranks.values import LOOPBACK

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

    A choice of the user's stands where the ranks stay on this machine, and for NCCL everywhere.
    """
    if interface is not None:
        os.environ["GLOO_SOCKET_IFNAME"] = interface
        os.environ.setdefault("NCCL_SOCKET_IFNAME", interface)
        return
    with contextlib.suppress(OSError):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface_of(LOOPBACK))


def own_address(towards: str) -> str:
    """The address of this host from which another one (a name or an address) is reached. Raises OSError."""
    family, kind, protocol, _, target = socket.getaddrinfo(towards, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as asking:
        asking.connect(target)  # of a datagram socket: nothing is sent, the kernel looks for the way
        return str(asking.getsockname()[0])


def interface_of(address: str) -> str:
    """The network interface that has this address. Raises OSError where none has."""
    import psutil

    for name, known in psutil.net_if_addrs().items():
        if any(own.address == address for own in known):
            return name
    raise OSError(f"no network interface of this host has the address {address}")


def free_port(address: str) -> int:
    """A port that nobody has now. Whoever takes it before it is used makes the world fail to come up, and no more."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as found:
        found.bind((address, 0))
        return int(found.getsockname()[1])


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
