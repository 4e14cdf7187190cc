"""Rendezvous: how ranks find each other, through a file on one machine or a TCP store between hosts.

What the store listens on is never more than the loopback interface (`readiness.distributed.remote.store_forwarding`). What
libraries of collectives listen on for each other's ranks is bound to the loopback interface where all ranks are on this
machine, and to the network of the run where they are on several: gloo takes whoever connects there for a rank.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import socket
import sys
from typing import Any

from readiness.distributed.types import LOOPBACK

_CLONE_NEWNET = 0x40000000
#: Of the arguments of a TCPStore that follow `is_master`, which one is the socket that it is to listen with.
_MASTER_LISTEN_FD = 4


def enter(namespace: str) -> None:
    """Move this thread, and its future threads and children, into a network namespace (its path). Raises OSError.

    Sockets that are open stay where they were made; a namespace is to its processes what a host is.
    """
    descriptor = os.open(namespace, os.O_RDONLY)
    try:
        if sys.platform != "linux" or ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {namespace}")
    finally:
        os.close(descriptor)


def bind(interface: str | None) -> None:
    """Bind gloo and NCCL to this network interface, or to the loopback interface for None.

    A choice of the user's stands where the ranks stay on this machine, and for NCCL everywhere. Other vendors' libraries
    listen where they choose to.
    """
    if interface is not None:
        os.environ["GLOO_SOCKET_IFNAME"] = interface
        os.environ.setdefault("NCCL_SOCKET_IFNAME", interface)
        return
    with contextlib.suppress(OSError):
        loopback = interface_of(LOOPBACK)
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", f"={loopback}")  # this very one, none whose name begins so


def own_address(towards: str) -> str:
    """Return this host's address as seen from another host (a name or an address). Raises OSError."""
    family, kind, protocol, _, target = socket.getaddrinfo(towards, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(target)  # of a datagram socket: nothing is sent, the kernel looks for the way
        return str(probe.getsockname()[0])


def interface_of(address: str) -> str:
    """Return the network interface with this address. Raises OSError if there is none."""
    import psutil

    for name, addresses in psutil.net_if_addrs().items():
        if any(own.address == address for own in addresses):
            return name
    raise OSError(f"no network interface of this host has the address {address}")


def listener(address: str, port: int = 0) -> socket.socket:
    """Open a socket that listens at this address only, on a free port by default. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family, backlog=socket.SOMAXCONN)


def serve_stores_at_their_address() -> None:
    """Make every TCPStore that this process serves from now on listen at its given address only.

    By itself it listens on all interfaces, whatever address it is given, and takes everybody's orders; it listens at one
    address only if it is handed a socket that does. Needed where others than we make the stores, as torchrun.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    store: Any = TCPStore
    make = store.__init__

    @functools.wraps(make)
    def at_its_address(
        this: Any, host_name: str, port: int, world_size: int | None = None, is_master: bool = False, *rest: Any,
        **named: Any,
    ) -> None:
        if is_master and named.get("master_listen_fd") is None and len(rest) < _MASTER_LISTEN_FD:
            with listener(host_name, port) as socket_:
                port = socket_.getsockname()[1]
                named["master_listen_fd"] = socket_.detach()
        make(this, host_name, port, world_size, is_master, *rest, **named)

    store.__init__ = at_its_address


def store(place: str, world_size: int, serves: int = -1) -> Any:
    """Open the store at a path, or at `tcp://ADDRESS:PORT/ATTEMPT`; the rank that serves it passes the listening socket.

    Each attempt has names of its own in it: what an earlier world left there is no address of a rank that lives.
    """
    import torch.distributed as dist

    if not place.startswith("tcp://"):
        return dist.FileStore(place, -1)  # type: ignore[attr-defined]
    (address, port), attempt = served_at(place)
    socket_ = serves if serves >= 0 else None
    served = dist.TCPStore(address, port, world_size, socket_ is not None, master_listen_fd=socket_)  # type: ignore[attr-defined]
    return dist.PrefixStore(attempt, served)  # type: ignore[attr-defined]


def served_at(place: str) -> tuple[tuple[str, int], str]:
    """Parse `tcp://ADDRESS:PORT/ATTEMPT` into address, port and attempt."""
    where, _, attempt = place.removeprefix("tcp://").partition("/")
    address, _, port = where.rpartition(":")
    return (address, int(port)), attempt
