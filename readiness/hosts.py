"""Further hosts of a run: they are looked at through the command that reaches them, and join with what they have.

readiness must be installed there, in the same version. Nothing listens: whoever can start a command on that host, by ssh or
a scheduler, can have its accelerators take part.
"""

from __future__ import annotations

import json
import re
import secrets
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from readiness import __version__, accelerators
from readiness.assessment import facts_from_json
from readiness.discovery import LIMIT_S
from readiness.errors import UsageError
from readiness.machine import Identity, identity, same_place
from readiness.model import AcceleratorFacts
from readiness.peers import Host, at
from readiness.ranks.network import interface_of, own_address

#: How Python is started on another host: `{host}` is its name, `{python}` the path of this interpreter.
REACH = "ssh -o BatchMode=yes {host} {python}"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:-]{0,199}")
_ID = re.compile(r"[a-z]{1,20}:[0-9]{1,6}")
_MOST_HOSTS = 64
_SEEN_S = 60.0


@dataclass(frozen=True, slots=True)
class Joining:
    """What the command line says of other hosts: their names, how to reach them, and where this one is reached from there.

    `shared` is a folder that all hosts are said to see.
    """

    names: tuple[str, ...]
    reach: str = REACH
    address: str | None = None
    shared: Path | None = None

    def hosts(self) -> tuple[Host, ...]:
        """The hosts. Raises UsageError for what cannot be a command, a name or an address."""
        for name in self.names:
            if not _NAME.fullmatch(name):
                raise UsageError(f"{name!r} is no name of a host", place="--host", remedy="write it as ssh knows it: node2")
        if len(set(self.names)) < len(self.names) or len(self.names) > _MOST_HOSTS:
            raise UsageError(
                f"hosts are named twice, or more than {_MOST_HOSTS}", place="--host", remedy="name each further host once"
            )
        own = None if self.address is None else _own(self.address)
        return tuple(Host(name, self._command(name), own or _address_for(name)) for name in self.names)

    def _command(self, name: str) -> tuple[str, ...]:
        try:
            words = shlex.split(self.reach)
        except ValueError as problem:
            raise UsageError(
                f"{self.reach!r} is no command: {problem}", place="--reach", remedy=f"write it like {REACH!r}"
            ) from None
        command = tuple(word.replace("{host}", name).replace("{python}", sys.executable) for word in words)
        if other := [word for word in words if re.search(r"\{(?!host\}|python\})[\w.:!\[\]<>^=+-]*\}", word)]:
            what = f"{other[0][:100]!r}: nothing stands for what is in braces"
            raise UsageError(what, place="--reach", remedy=f"write it like {REACH!r}")
        if not any("{host}" in word for word in words) and len(self.names) > 1:
            raise UsageError(
                f"{self.reach!r} reaches the same host whatever its name", place="--reach", remedy="put {host} into it"
            )
        if not command:
            raise UsageError("the command is empty", place="--reach", remedy=f"write it like {REACH!r}")
        return command


def _own(address: str) -> str:
    """The address of this host, given as a number or a name."""
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
    """The address by which a host of this name reaches this one, as far as this one can tell."""
    try:
        return own_address(name.rpartition("@")[2])
    except (OSError, UnicodeError) as problem:
        raise UsageError(
            f"how {name} reaches this host is not known: {problem}",
            place="--host",
            remedy="give this host's address in the network of all hosts: --address ADDRESS",
        ) from None


def join(joining: Joining, limit_s: float = LIMIT_S) -> tuple[AcceleratorFacts, ...]:
    """All accelerators of the other hosts. Raises UsageError for a host that cannot take part, or says nothing in time."""
    hosts = joining.hosts()
    with ThreadPoolExecutor(max(len(hosts), 1)) as side_by_side:
        found = list(side_by_side.map(partial(_look, limit_s=limit_s), hosts))
    _refuse_one_twice(hosts, [machine for _, machine in found])
    if joining.shared is not None:
        _must_see(hosts, joining.shared)
    return tuple(at(host, facts) for host, (own, _) in zip(hosts, found, strict=True) for facts in own)


def _refuse_one_twice(hosts: Sequence[Host], machines: Sequence[Identity]) -> None:
    """The same chips under two names would count for two."""
    known: list[tuple[str, Identity]] = [("this host", identity())]
    for host, machine in zip(hosts, machines, strict=True):
        for name, other in known:
            if same_place(machine, other):
                remedy = "name each further host once, and not the one that the run is on"
                raise UsageError(f"{host.name} is {name}", place="--host", remedy=remedy)
        known.append((host.name, machine))


def _look(host: Host, limit_s: float) -> tuple[list[AcceleratorFacts], Identity]:
    """What another host has and which machine it is, as `readiness devices` tells it there."""
    text = _run(host, ["-m", "readiness", "devices", "-f", "json"], None, limit_s)
    try:
        told = json.loads(text)
        version = told.get("version")
        found = [facts_from_json(facts) for facts in told["accelerators"]]
        machine = {str(key): str(value) for key, value in told.get("machine", {}).items()}
        if not all(facts.stack in accelerators.NAMES and _ID.fullmatch(facts.id) for facts in found):
            raise ValueError("no accelerators that this version knows")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise UsageError(
            f"{host.name} answers {text[:80]!r}, which is no list of accelerators",
            place="--host",
            remedy=f"see what this says: {shlex.join(host.command)} -m readiness devices -f json",
        ) from None
    if version != __version__:
        raise UsageError(
            f"{host.name} has readiness {version or 'of an earlier version'}, this host {__version__}",
            place="--host",
            remedy="install the same version on all hosts",
        )
    return found, machine


def _must_see(hosts: Sequence[Host], folder: Path) -> None:
    """Every host must find there what this one has just written."""
    word = secrets.token_hex(16)
    try:
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".readiness-") as file:
            file.write(word)
            file.flush()
            for host in hosts:
                seen = _run(host, ["-"], f"print(open({str(Path(file.name).resolve())!r}).read())", _SEEN_S)
                if seen.strip() != word:
                    raise UsageError(f"{host.name} sees something else in {folder}", place="--shared", remedy=_SHARED)
    except OSError as problem:
        raise UsageError(f"{folder} cannot be written to: {problem}", place="--shared", remedy=_SHARED) from None


_SHARED = "name a folder on a file system that all hosts have mounted at the same place"


def _run(host: Host, arguments: Sequence[str], program: str | None, limit_s: float) -> str:
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if program is None else {"input": program}
    try:
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [*host.command, *arguments],
            capture_output=True, text=True, errors="replace", timeout=limit_s, check=False, **given,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise _unreachable(host, str(problem)) from None
    if done.returncode != 0:
        words = " ".join(done.stderr.split())[-300:]
        if program is not None:
            raise UsageError(f"{host.name} does not see the folder: {words}", place="--shared", remedy=_SHARED)
        raise _unreachable(host, f"exit code {done.returncode}: {words or 'no words'}")
    return done.stdout


def _unreachable(host: Host, why: str) -> UsageError:
    command = shlex.join([*host.command, "-m", "readiness", "devices"])
    return UsageError(
        f"{host.name} cannot be looked at: {why}",
        place="--host",
        remedy=f"install readiness there; this must work without a question: {command}",
    )
