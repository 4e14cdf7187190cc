"""Remote hosts of a run: their accelerators are listed through the command that reaches them.

readiness must be installed there, in the same version. No service of ours listens: whoever can start a command on that host,
by ssh or a scheduler, can have its accelerators take part. While ranks of several hosts work together, their libraries of
collectives listen on each other's network, as in every job: gloo takes whoever connects there for a rank.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import selectors
import shlex
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from readiness import __version__, accelerators
from readiness.accelerators import remote_devices
from readiness.accelerators.remote_devices import Host, on_host
from readiness.datamodel import AcceleratorFacts
from readiness.distributed.rendezvous import interface_of, own_address
from readiness.documents import files, schema
from readiness.engine.discovery import LIMIT_S
from readiness.errors import UsageError
from readiness.host.identity import Identity, identity, same_place
from readiness.isolation.forkserver import LARGEST_MESSAGE_BYTES

#: How Python is started on another host: `{host}` is its name, `{python}` the path of this interpreter.
REACH = "ssh -o BatchMode=yes {host} {python}"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:-]{0,199}")
_ID = re.compile(r"[a-z]{1,20}:[0-9]{1,6}")
_MOST_HOSTS = 64
_SEEN_S = 60.0
#: More than this is no list of accelerators: sixteen take some 60 KiB. And as much of what was printed is told.
_MOST_BYTES, _MOST_WORDS = 8 * 2**20, 4096
#: The rest of a message is for the accelerators of this host, and for settings.
_MOST_DESCRIPTION_BYTES = LARGEST_MESSAGE_BYTES * 3 // 4


@dataclass(frozen=True, slots=True)
class HostOptions:
    """Options about other hosts: their names, the command that reaches them, and this host's address.

    `shared` is a folder that all hosts are said to see.
    """

    names: tuple[str, ...]
    reach: str = REACH
    address: str | None = None
    shared: Path | None = None

    def hosts(self) -> tuple[Host, ...]:
        """Return the hosts. Raises UsageError for an invalid command, name or address."""
        for name in self.names:
            if not _NAME.fullmatch(name):
                raise UsageError(f"{name!r} is not the name of a host", place="--host", remedy="write it as for ssh: node2")
        if len(set(self.names)) < len(self.names) or len(self.names) > _MOST_HOSTS:
            raise UsageError(
                f"a host is named twice, or more than {_MOST_HOSTS} are named",
                place="--host",
                remedy="name each other host once",
            )
        own = None if self.address is None else _own(self.address)
        return tuple(Host(name, self._command(name), own or _address_for(name)) for name in self.names)

    def _command(self, name: str) -> tuple[str, ...]:
        try:
            words = shlex.split(self.reach)
        except ValueError as problem:
            raise UsageError(
                f"{self.reach!r} is not a command: {problem}", place="--reach", remedy=f"write it like {REACH!r}"
            ) from None
        command = tuple(word.replace("{host}", name).replace("{python}", sys.executable) for word in words)
        if other := [word for word in words if re.search(r"\{(?!host\}|python\})[\w.:!\[\]<>^=+-]*\}", word)]:
            what = f"{other[0][:100]!r}: unknown name in braces"
            raise UsageError(what, place="--reach", remedy=f"write it like {REACH!r}")
        if not any("{host}" in word for word in words) and len(self.names) > 1:
            raise UsageError(
                f"{self.reach!r} reaches the same host for every name", place="--reach", remedy="include {host}"
            )
        if not command:
            raise UsageError("the command is empty", place="--reach", remedy=f"write it like {REACH!r}")
        return command


def _own(address: str) -> str:
    """Resolve the address of this host, given as a number or a name."""
    try:
        found = str(socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)[0][4][0])
        interface_of(found)
    except (OSError, UnicodeError) as problem:
        raise UsageError(
            f"{address[:100]!r} is not this host's: {problem}",
            place="--address",
            remedy="give the address by which the other hosts reach this one; `ip addr` lists what it has",
        ) from None
    return found


def _address_for(name: str) -> str:
    """Guess the address by which a host of this name reaches this one."""
    try:
        return own_address(name.rpartition("@")[2])
    except (OSError, UnicodeError) as problem:
        raise UsageError(
            f"the address by which {name} reaches this host is unknown: {problem}",
            place="--host",
            remedy="give this host's address in the network of all hosts: --address ADDRESS",
        ) from None


def discover_remote(options: HostOptions, limit_s: float = LIMIT_S) -> tuple[AcceleratorFacts, ...]:
    """Return all accelerators of the other hosts. Raises UsageError for a host that cannot take part or answer."""
    hosts = options.hosts()
    with ThreadPoolExecutor(max(len(hosts), 1)) as side_by_side:
        found = list(side_by_side.map(partial(_look, limit_s=limit_s), hosts))
    _refuse_one_twice(hosts, [machine for _, machine in found])
    if options.shared is not None:
        _must_see(hosts, options.shared)
    every = tuple(on_host(host, facts) for host, (own, _) in zip(hosts, found, strict=True) for facts in own)
    _refuse_too_many(every)
    return every


def _refuse_too_many(found: Sequence[AcceleratorFacts]) -> None:
    """Raise UsageError if the description of all accelerators does not fit into one message to a worker."""
    leads = {facts.stack: facts for facts in reversed(found)}
    size = sum(len(json.dumps(remote_devices.delta_encode(facts, leads[facts.stack]))) for facts in found)
    if size > _MOST_DESCRIPTION_BYTES:
        raise UsageError(
            f"the {len(found)} accelerators of other hosts take {size >> 10} KiB to describe; "
            f"the maximum is {_MOST_DESCRIPTION_BYTES >> 10} KiB",
            place="--host",
            remedy="name fewer hosts, or fewer in each run",
        )


def _refuse_one_twice(hosts: Sequence[Host], machines: Sequence[Identity]) -> None:
    """Raise UsageError for a host under two names: its chips would count twice."""
    known: list[tuple[str, Identity]] = [("this host", identity())]
    for host, machine in zip(hosts, machines, strict=True):
        for name, other in known:
            if same_place(machine, other):
                remedy = "name each other host once, and not the one that the run is on"
                raise UsageError(f"{host.name} is {name}", place="--host", remedy=remedy)
        known.append((host.name, machine))


def _look(host: Host, limit_s: float) -> tuple[list[AcceleratorFacts], Identity]:
    """Return another host's accelerators and identity, from `readiness devices` there."""
    text = _run(host, ["-m", "readiness", "devices", "-f", "json"], None, limit_s)
    try:
        answer = files.parse_json(text)
        if (problem := schema.first_problem("devices", answer)) is not None:
            raise ValueError(f"{problem.path_text}: {problem.message}")
        found = remote_devices.accelerators_from_json(answer["accelerators"])
        for facts in found:
            if not _is_known(facts):
                raise ValueError(f"{facts.id} is not an accelerator that this version knows")
    except (ValueError, RecursionError) as problem:
        why = "nested too deeply" if isinstance(problem, RecursionError) else str(problem)[:200]
        raise UsageError(
            f"{host.name} answers {text[:80]!r}, which is not a list of accelerators ({why})",
            place="--host",
            remedy=f"see the output of: {shlex.join(host.command)} -m readiness devices -f json",
        ) from None
    version, machine = answer.get("version"), answer.get("machine", {})
    if version != __version__:
        raise UsageError(
            f"{host.name} has readiness {version or 'of an earlier version'}, this host {__version__}",
            place="--host",
            remedy="install the same version on all hosts",
        )
    return list(found), machine


def _is_known(facts: AcceleratorFacts) -> bool:
    """Return whether a rank there would use its name. Other hosts do not list simulated ones."""
    named = (facts.id, facts.kind) == (f"{facts.kind}:{facts.index}", facts.id.partition(":")[0])
    return named and _ID.fullmatch(facts.id) is not None and facts.stack in accelerators.NAMES


def _must_see(hosts: Sequence[Host], folder: Path) -> None:
    """Check that every host sees what this one has just written, and that other users cannot replace it."""
    _refuse_open_to_others(folder)
    word = secrets.token_hex(16)
    try:
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".readiness-") as file:
            file.write(word)
            file.flush()
            for host in hosts:
                seen = _run(host, ["-"], f"print(open({str(Path(file.name).resolve())!r}).read())", _SEEN_S)
                if seen.strip() != word:
                    raise UsageError(f"{host.name} sees other content in {folder}", place="--shared", remedy=_SHARED)
    except OSError as problem:
        raise UsageError(f"{folder} cannot be written to: {problem}", place="--shared", remedy=_SHARED) from None


_SHARED = "name a folder on a file system that all hosts have mounted at the same place"


def _refuse_open_to_others(folder: Path) -> None:
    """Refuse a folder that others may write: torch's checkpoints contain pickles, which can run code when loaded."""
    with contextlib.suppress(OSError):  # it is not there: told soon
        found = folder.stat()
        others, sticky = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH), found.st_mode & stat.S_ISVTX
        if found.st_uid not in (0, os.geteuid()) or (others and not sticky):
            raise UsageError(
                f"other users may replace files in {folder}",
                place="--shared",
                remedy="name a folder that only you may write to: mkdir -m 700 in it creates one",
            )


def _run(host: Host, arguments: Sequence[str], program: str | None, limit_s: float) -> str:
    try:
        code, output, words = _done([*host.command, *arguments], (program or "").encode(), limit_s)
    except (OSError, ValueError) as problem:
        raise _unreachable(host, str(problem)) from None
    if code != 0:
        if program is not None:
            raise UsageError(f"{host.name} does not see the folder: {words}", place="--shared", remedy=_SHARED)
        raise _unreachable(host, f"exit code {code}: {words or 'no output'}")
    return output


def _done(command: Sequence[str], given: bytes, limit_s: float) -> tuple[int, str, str]:
    """Run a command with limits; return its exit code, output, and the end of its standard error.

    Raises OSError where it cannot be started or does not end in time, and ValueError where it says more than a list of
    accelerators can be.
    """
    deadline = time.monotonic() + limit_s
    output, words = bytearray(), bytearray()
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(given)  # less than a pipe holds
        with process.stdout, process.stderr, selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ, output)
            selector.register(process.stderr, selectors.EVENT_READ, words)
            while selector.get_map():
                for key, _ in selector.select(max(deadline - time.monotonic(), 0.0)):
                    if not (content := os.read(key.fd, 1 << 16)):
                        selector.unregister(key.fileobj)
                    key.data.extend(content)
                del words[:-_MOST_WORDS]
                if len(output) > _MOST_BYTES:
                    raise ValueError(f"its answer is larger than {_MOST_BYTES >> 20} MiB")
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"not finished within {limit_s:g} s")
            code = process.wait(max(deadline - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"not finished within {limit_s:g} s") from None
    finally:
        process.kill()
        process.wait()
    return code, output.decode(errors="replace"), " ".join(words.decode(errors="replace").split())[-300:]


def _unreachable(host: Host, why: str) -> UsageError:
    command = shlex.join([*host.command, "-m", "readiness", "devices"])
    return UsageError(
        f"{host.name} cannot be examined: {why}",
        place="--host",
        remedy=f"install readiness there; this command must work without a prompt: {command}",
    )
