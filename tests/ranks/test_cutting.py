"""Connections that are cut, mended and lossy: what TCP makes of it, between two sockets of this process."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator

import pytest

from readiness.ranks import cutting

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has such filters")

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
        with near, far:
            near.settimeout(0.3)
            far.settimeout(0.3)
            yield near, far


def receive(end: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        found += end.recv(count - len(found))
    return found


def test_the_connections_of_this_process_are_found(pair: Pair) -> None:
    near, far = pair
    found = {fd: ports for fd, *ports in cutting.connections()}
    assert found[near.fileno()] == [near.getsockname()[1], far.getsockname()[1]]
    assert found[far.fileno()] == [far.getsockname()[1], near.getsockname()[1]]


def test_nothing_passes_a_cut_until_it_is_mended(pair: Pair) -> None:
    near, far = pair
    near.sendall(b"before")
    assert receive(far, 6) == b"before"
    cutting.cut([far.fileno()])
    near.sendall(b"into the void")
    with pytest.raises(TimeoutError):
        far.recv(1)
    cutting.mend([far.fileno()])
    far.settimeout(10)
    assert receive(far, 13) == b"into the void"


def test_what_is_lost_by_chance_comes_again_and_right(pair: Pair) -> None:
    near, far = pair
    far.settimeout(30)
    cutting.lose([far.fileno()], 0.3)
    content = bytes(range(256)) * 40
    for _ in range(30):
        near.sendall(content)
        assert receive(far, len(content)) == content


def test_losing_nothing_is_harmless(pair: Pair) -> None:
    near, far = pair
    cutting.lose([far.fileno()], 0.0)
    near.sendall(b"all of it")
    assert receive(far, 9) == b"all of it"
