"""What comes through pipes in pieces, and connections that are carried over them."""

from __future__ import annotations

import encodings.idna  # noqa: F401 - connecting asks for it, and another user may not read where Python lies
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from readiness.distributed import rendezvous
from readiness.distributed.json_lines import Lines
from readiness.distributed.remote.store_forwarding import Forwarding, FromRanks, ToStore, of_this_user
from readiness.distributed.types import Json
from readiness.host.temp_dirs import bounded_file
from readiness.probes.bandwidth import transport_baseline
from tests.support import listeners
from tests.support.listeners import watching


def test_lines_are_put_together_however_they_are_cut() -> None:
    whole = b"one\n\ntwo and more\nthree\nrest"
    for size in range(1, len(whole) + 1):
        lines = Lines()
        found = [line for at in range(0, len(whole), size) for line in lines.take(whole[at : at + size])]
        assert found == [b"one", b"", b"two and more", b"three"]
        assert lines.take(b"\n") == [b"rest"]


def test_a_line_without_an_end_is_refused_and_lines_of_any_number_are_not() -> None:
    lines = Lines(longest_bytes=2**20)
    for _ in range(64):
        assert len(lines.take(b"x" * 2**15 + b"\n" + b"x" * 2**15)) == 1
    for _ in range(15):
        assert lines.take(b"x" * 2**16) == []
    with pytest.raises(ValueError, match="more than 1 MiB without a newline"):
        lines.take(b"x" * 2**16)


def test_the_time_that_pieces_take_grows_with_what_came() -> None:
    """Copies of all that came before, with each piece, would be 2 * 10^11 bytes."""
    lines = Lines()
    for _ in range(2**19):
        assert lines.take(b"x" * 60) == []
    (line,) = lines.take(b"\n")
    assert len(line) == 60 * 2**19


class Ends:
    """Both ends of what carries a store, with what each says handed to the other by a thread."""

    def __init__(self) -> None:
        self.listener = rendezvous.listener("127.0.0.1")
        self.place = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}/1-1"
        self.selector = selectors.DefaultSelector()
        self.there, self.here = FromRanks(self.selector), ToStore(self.selector, self.place)
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._carry)
        self.thread.start()

    def _carry(self) -> None:
        while not self.over.is_set():
            for key, _ in self.selector.select(0.01):
                end: Forwarding = key.data
                self._hand(end.ready(key.fileobj), self.here if end is self.there else self.there)

    def _hand(self, message: Json | None, to: Forwarding) -> None:
        while message is not None:
            message, to = to.take(*message["store"]), self.there if to is self.here else self.here

    def close(self) -> None:
        self.over.set()
        self.thread.join()
        self.there.close()
        self.here.close()
        self.selector.close()
        self.listener.close()


@pytest.fixture(scope="module", autouse=True)
def _first_store() -> None:
    """The library under the first store of a process keeps a pipe for good."""
    listener = rendezvous.listener("127.0.0.1")
    rendezvous.store(f"tcp://127.0.0.1:{listener.getsockname()[1]}/0", 1, listener.detach())


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.close()


def test_a_store_is_reached_through_what_is_carried(ends: Ends) -> None:
    serving = threading.Thread(target=lambda: stores.append(rendezvous.store(ends.place, 2, ends.listener.detach())))
    stores: list[Any] = []
    serving.start()
    remote = rendezvous.store(ends.there.place(ends.place), 2)
    serving.join()
    (here,) = stores
    here.set("from here", "a")
    assert remote.get("from here") == b"a"
    remote.set("from there", b"\0\n" * 100_000)
    assert here.get("from there") == b"\0\n" * 100_000
    assert remote.add("count", 2) == 2
    assert here.add("count", 3) == 5
    stores.clear()
    del here, remote, serving  # they hold sockets


def test_a_store_that_is_gone_ends_the_connections_to_it(ends: Ends) -> None:
    ends.listener.close()
    address, _ = rendezvous.served_at(ends.there.place(ends.place))
    with socket.create_connection(address, 100) as opened:
        opened.sendall(b"a question")
        assert opened.recv(100) == b""


@pytest.mark.parametrize("content", ["?", "ü", 7, None, "AAA"])
def test_what_is_no_content_is_refused(ends: Ends, content: str) -> None:
    with pytest.raises(ValueError, match="not base64"):
        ends.here.take(1, content)


def test_other_users_are_identified_by_the_kernels_table(tmp_path: Path) -> None:
    with rendezvous.listener("127.0.0.1") as listener:
        port = listener.getsockname()[1]
        for address in ("127.0.0.1", "::ffff:127.0.0.1"):  # as Python, and as torch connects
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as opened:
                opened.connect((address, port))
                own = opened.getsockname()[1]
                assert of_this_user(own, port)
                assert not of_this_user(own + 1, port)
                tables = {name: Path("/proc/self/net", name).read_text() for name in ("tcp", "tcp6")}
                for name, text in tables.items():
                    lines = [line.split() for line in text.splitlines()]
                    for fields in lines[1:]:
                        fields[7] = "4711"
                    (tmp_path / name).write_text("\n".join(map(" ".join, lines)) + "\n")
                assert not of_this_user(own, port, tmp_path)
    assert of_this_user(1, 2, tmp_path / "nowhere"), "where the kernel does not tell, everybody is believed"


def test_a_closed_connection_belongs_to_no_user(tmp_path: Path) -> None:
    """The kernel then says that it is root's."""
    heading = "sl local_address rem_address st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode"
    for inode, own in (("0", False), ("77", True)):
        line = f"0: 0100007F:0001 0100007F:0002 06 0:0 00:0 0 0 0 {inode}"
        (tmp_path / "tcp").write_text(f"{heading}\n{line}\n")
        (tmp_path / "tcp6").write_text(f"{heading}\n")
        assert of_this_user(1, 2, tmp_path) is own


def test_a_connection_of_another_user_is_closed(ends: Ends) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    address, _ = rendezvous.served_at(ends.there.place(ends.place))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which the child does without
        child = os.fork()
    if child == 0:
        answer = b"none"
        try:
            os.setuid(4711)
            with socket.create_connection(address, 100) as opened:
                opened.sendall(b"an order for the store")
                answer = opened.recv(100)
        except ConnectionError:  # reset, or a broken pipe where it was closed before anything was sent
            answer = b""
        finally:
            os._exit(0 if answer == b"" else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    ends.listener.settimeout(0.2)
    with pytest.raises(TimeoutError):  # nothing of it has come to where the store is
        ends.listener.accept()


def test_a_raw_connection_needs_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever else connects first, says nothing or something else, or leaves."""
    word = bytes(range(8))
    monkeypatch.setattr(transport_baseline, "_WORD_S", 0.5)
    with (
        rendezvous.listener("127.0.0.1") as listener,
        socket.create_connection(listener.getsockname()) as silent,
        socket.create_connection(listener.getsockname()) as guessing,
        socket.create_connection(listener.getsockname()) as leaving,
        socket.create_connection(listener.getsockname()) as right,
    ):
        guessing.sendall(bytes(8))
        leaving.close()
        right.sendall(word)
        with transport_baseline._accepted(listener, word) as found:
            assert found.getpeername() == right.getsockname()
        assert silent.recv(1) == b""
    with rendezvous.listener("127.0.0.1") as listener, pytest.MonkeyPatch.context() as patch:
        patch.setattr(transport_baseline, "CONNECT_S", 0.1)
        with pytest.raises(TimeoutError):
            transport_baseline._accepted(listener, word)


def test_what_another_process_prints_is_kept_within_bounds() -> None:
    with bounded_file("words", 2**20) as file:
        code = "import os\nfor _ in range(64): os.write(1, b'x' * 2**16)"
        done = subprocess.run([sys.executable, "-c", code], stdout=file, stderr=subprocess.PIPE, check=False)
        assert done.returncode != 0
        assert b"Operation not permitted" in done.stderr
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 2**20


def test_stores_are_served_at_their_address_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    store_of: Any = dist.TCPStore  # type: ignore[attr-defined]
    monkeypatch.setattr(store_of, "__init__", store_of.__init__)  # put back afterwards
    rendezvous.serve_stores_at_their_address()
    for options in ({}, {"multi_tenant": True}, {"use_libuv": False}):
        store = store_of("127.0.0.1", 0, is_master=True, wait_for_workers=False, **options)
        other = store_of("127.0.0.1", store.port, is_master=False)
        other.set("key", "value")
        assert store.get("key") == b"value"
        with socket.socket(socket.AF_INET6) as opened:
            opened.settimeout(5)
            with pytest.raises(OSError, match="refused"):
                opened.connect(("::1", store.port))
        del store, other


def test_listeners_are_found_with_their_addresses() -> None:
    code = (
        "import socket, time; "
        "kept = [socket.create_server(('127.0.0.1', 0)), socket.create_server(('', 0)), "
        "socket.create_server(('::', 0), family=socket.AF_INET6), socket.create_server(('::1', 0), family=socket.AF_INET6)]; "
        "udp = socket.socket(type=socket.SOCK_DGRAM); udp.bind(('0.0.0.0', 0)); print('there', flush=True); time.sleep(60)"
    )
    with (
        watching() as watch,
        subprocess.Popen([sys.executable, "-c", code], env=watch.environment, stdout=subprocess.PIPE) as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        deadline = time.monotonic() + 50
        while len(watch.seen) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
    assert {(found.kind, found.address) for found in watch.seen} == {
        ("tcp", "127.0.0.1"), ("tcp", "0.0.0.0"), ("tcp6", "::"), ("tcp6", "::1"), ("udp", "0.0.0.0"),
    }  # fmt: skip
    assert {found.address for found in watch.reachable} == {"0.0.0.0", "::"}


def test_a_failed_watch_reports_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "listening", lambda networks: 1 / 0)
    watch = listeners.Watch()
    watch.start()
    time.sleep(0.1)
    with pytest.raises(RuntimeError, match="nobody looked"):
        watch.stop()
