"""Connections that are cut, mended and lossy: what TCP makes of it, between two sockets of this process."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator

import pytest

from readiness.distributed import tcp_fault_injection, tcp_info

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has such filters")

Pair = tuple[socket.socket, socket.socket]
#: What TCP may take to send once more what was lost several times: it waits twice as long each time.
LONG_S = 240.0


@pytest.fixture
def pair() -> Iterator[Pair]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
        with near, far:
            near.settimeout(LONG_S)
            far.settimeout(LONG_S)
            yield near, far


def receive(end: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        found += end.recv(count - len(found))
    return found


def test_the_connections_of_this_process_are_found(pair: Pair) -> None:
    near, far = pair
    found = {fd: ports for fd, *ports in tcp_fault_injection.connections()}
    assert found[near.fileno()] == [near.getsockname()[1], far.getsockname()[1]]
    assert found[far.fileno()] == [far.getsockname()[1], near.getsockname()[1]]


def test_nothing_passes_a_cut_until_it_is_mended(pair: Pair) -> None:
    near, far = pair
    near.sendall(b"before")
    assert receive(far, 6) == b"before"
    tcp_fault_injection.cut([far.fileno()])
    near.sendall(b"into the void")
    far.settimeout(0.3)
    with pytest.raises(TimeoutError):
        far.recv(1)
    tcp_fault_injection.restore([far.fileno()])
    far.settimeout(LONG_S)
    assert receive(far, 13) == b"into the void"


def test_a_closed_connection_does_not_prevent_restoring_others(pair: Pair) -> None:
    near, far = pair
    gone = socket.socket()
    closed = gone.fileno()
    gone.close()  # as a library does whose peer has left
    tcp_fault_injection.cut([far.fileno()])
    near.sendall(b"late")
    tcp_fault_injection.restore([closed, far.fileno()])
    assert receive(far, 4) == b"late"


def test_randomly_dropped_segments_are_retransmitted(pair: Pair) -> None:
    near, far = pair
    tcp_fault_injection.drop_share([far.fileno()], 0.3)
    content = bytes(range(256)) * 40
    for _ in range(10):
        near.sendall(content)
        assert receive(far, len(content)) == content


def test_losing_nothing_is_harmless(pair: Pair) -> None:
    near, far = pair
    tcp_fault_injection.drop_share([far.fileno()], 0.0)
    near.sendall(b"all of it")
    assert receive(far, 9) == b"all of it"


def test_unanswered_connections_are_reported_with_both_ranks(pair: Pair) -> None:
    near, far = pair
    ends = [near.getsockname()[1], far.getsockname()[1]]
    near.sendall(b"all is well")
    assert receive(far, 11) == b"all is well"
    assert ends not in tcp_info.tcp_report()["unanswered"]
    tcp_fault_injection.cut([far.fileno()])
    near.sendall(b"into the void")
    deadline = time.monotonic() + 120
    while ends not in tcp_info.tcp_report()["unanswered"] and time.monotonic() < deadline:
        time.sleep(0.05)
    told = tcp_info.tcp_report()
    assert ends in told["unanswered"]
    assert ends[::-1] not in told["unanswered"]  # the other end has sent nothing
    by_rank = {4: {"ends": [ends], "unanswered": [ends]}, 7: {"ends": [ends[::-1]], "unanswered": []}}
    assert tcp_info.dead_links(by_rank) == {(4, 7)}
    assert tcp_info.dead_links({4: by_rank[4]}) == set()  # whose the other end is, nobody has told


def test_a_wire_that_loses_segments_has_them_sent_again(pair: Pair) -> None:
    near, far = pair
    tcp_fault_injection.drop_share([far.fileno()], 0.25)
    for _ in range(100):
        near.sendall(b"x" * 1000)
        receive(far, 1000)
        (mine,) = [one for one in tcp_info.tcp_connections() if one.local_port == near.getsockname()[1]]
        if mine.retransmissions > 0:
            break
    assert mine.retransmissions > 0
    assert 0 < mine.round_trip_s < 10
