"""Runs on all nodes of a cluster: who is asked, what came of it, what is asked again after a restart. Knows no engine.

An engine (`Engine`) lists nodes and starts tasks on them; `readiness.fleet.ray_engine` is one. All deadlines are kept here:
an engine may take a frozen node for alive.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from readiness.documents import files
from readiness.errors import BadFileError, UsageError
from readiness.fleet.node_run import Event
from readiness.fleet.store import Expected
from readiness.host.identity import host_name

_SCHEMA = "readiness.fleet-run/1"
_LARGEST_BYTES = 64 * 2**20
#: A node of which nothing is heard for so long beyond its run's own limit is taken for frozen.
GRACE_S = 90.0
_PERIOD_S = 0.2
_LIST_PERIOD_S = 5.0


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a cluster by the engine's id, and its host's name."""

    id: str
    name: str


class Task(Protocol):
    """A run on a node. `events` returns what is new, without waiting; raises NodeLostError where the node is gone."""

    def events(self) -> list[Event]: ...

    def cancel(self) -> None: ...


class Engine(Protocol):
    """What lists nodes that are alive and starts runs on them; closing it ends what still runs."""

    def nodes(self) -> list[Node]: ...

    def start(self, node: Node, arguments: Sequence[str], kept: Mapping[str, bytes], limit_s: float) -> Task: ...

    def close(self) -> None: ...


class NodeLostError(Exception):
    """The node, or the process of the engine on it, is gone; the text says how."""


@dataclass(slots=True)
class Result:
    """What came of one host. `state` is `done` or `failed`, with the reason."""

    host: str
    state: str
    reason: str = ""


@dataclass(slots=True)
class _Running:
    node: Node
    task: Task
    last_event: float
    deadline: float
    output: list[str] = field(default_factory=list)
    limit: bool = False


class Folder:
    """The folder of a fleet's run: hosts/NAME.json, journals/NAME/, expected.txt and what was asked (fleet-run.json)."""

    def __init__(self, folder: Path, arguments: Sequence[str]) -> None:
        """Open or make it. Raises UsageError where it holds a run with other arguments, or cannot be written."""
        self.folder = folder
        self.file = folder / "fleet-run.json"
        try:
            (folder / "hosts").mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise UsageError(
                f"the results cannot be kept there: {problem.strerror or problem}", place=str(folder),
                remedy="name a folder in which you may write",
            ) from None  # fmt: skip
        if self.file.exists():
            self._refuse_other(arguments)
        else:
            files.write_atomically(self.file, json.dumps({"schema": _SCHEMA, "arguments": list(arguments)}, indent=1) + "\n")

    def _refuse_other(self, arguments: Sequence[str]) -> None:
        document = files.read_json(self.file, largest_bytes=_LARGEST_BYTES)
        if not isinstance(document, dict) or document.get("schema") != _SCHEMA:
            raise BadFileError("not a fleet's run", place=str(self.file), remedy="name another folder")
        if document.get("arguments") != list(arguments):
            raise UsageError(
                f"the run in this folder was asked for with {' '.join(map(str, document.get('arguments', [])))[:200]!r}",
                place=str(self.folder), remedy="ask for the same, or name another folder",
            )  # fmt: skip

    def done(self) -> set[str]:
        """Return the hosts whose result is here."""
        return {file.stem for file in (self.folder / "hosts").glob("*.json")}

    def is_done(self, host: str) -> bool:
        """Return whether this host's result is here."""
        return (self.folder / "hosts" / f"{host}.json").exists()

    def keep(self, host: str, name: str, content: bytes) -> None:
        """Keep a host's assessment, else its summary: a file whole or not at all."""
        target = self.folder / "hosts" / f"{host}.json"
        if name == "assessment.json" or not target.exists():
            files.write_bytes_atomically(target, content)

    def add_to_journal(self, host: str, name: str, offset: int, content: bytes) -> None:
        """Write a part of a host's journal at its place."""
        folder = self.folder / "journals" / host
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / Path(name).name
        with file.open("r+b" if file.exists() else "xb") as stream:
            stream.seek(offset)
            stream.write(content)
            stream.truncate()

    def journal(self, host: str) -> dict[str, bytes]:
        """Return the journal of a run that did not come to its end, to go on with."""
        folder = self.folder / "journals" / host
        kept = {}
        for file in sorted(folder.glob("[!.]*.json*")) if folder.is_dir() else ():
            with contextlib.suppress(BadFileError):
                kept[file.name] = files.read_bytes(file, largest_bytes=_LARGEST_BYTES)
        return kept

    def expect(self, results: Iterable[Result], set_aside: Iterable[Expected]) -> None:
        """Write the list of hosts for `fleet merge --expect`: those that failed have their reason in it."""
        lines = [f"{one.host} {one.state} {one.reason}".rstrip() for one in set_aside]
        for result in results:
            state = "expected" if result.state == "done" else "failed"
            lines.append(f"{result.host} {state} {' '.join(result.reason.split())[:300]}".rstrip())
        files.write_atomically(self.folder / "expected.txt", "".join(f"{line}\n" for line in sorted(lines)))


def run(
    engine: Engine,
    folder: Folder,
    arguments: Sequence[str],
    *,
    limit_s: float,
    wait_s: float = 0.0,
    expected: Iterable[str] = (),
    on_event: Callable[[str, str], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Result]:
    """Run on every node, once each; return what came of each host, also of `expected` ones that never joined.

    Nodes that join while others work are asked too, and for `wait_s` after the last one has ended. Hosts whose result is in
    the folder are left alone; a run that was cut off goes on with its journal. `on_event` gets a host and a line about it.
    """
    def notify(host: str, text: str) -> None:
        if on_event is not None:
            on_event(host, text)

    results = {host: Result(host, "done") for host in folder.done()}
    running: dict[str, _Running] = {}
    requested: set[str] = set()
    listed = -_LIST_PERIOD_S
    idle_since = clock()
    while True:
        now = clock()
        if now - listed >= _LIST_PERIOD_S:
            listed = now
            for node in engine.nodes():
                host = host_name(node.name)
                if node.id in requested or host in results or host in running:
                    continue
                requested.add(node.id)
                task = engine.start(node, arguments, folder.journal(host), limit_s)
                running[host] = _Running(node, task, now, now + limit_s + GRACE_S)
                notify(host, "started")
        for host, one in list(running.items()):
            result = _looked_at(host, one, folder, now, notify)
            if result is not None:
                del running[host]
                results[host] = result
                notify(host, result.state if not result.reason else f"{result.state}: {result.reason}")
        if running:
            idle_since = now
        elif now - idle_since >= wait_s:
            break
        sleep(_PERIOD_S)
    for host in expected:
        results.setdefault(host, Result(host, "failed", "it never joined the cluster"))
    return sorted(results.values(), key=lambda result: result.host)


def _looked_at(
    host: str, one: _Running, folder: Folder, now: float, on_event: Callable[[str, str], None]
) -> Result | None:
    """Take in what is new of a host; return its result once there is one."""
    try:
        events = one.task.events()
    except NodeLostError as problem:
        return Result(host, "failed", f"the node was lost: {problem}")
    for event in events:
        one.last_event = now
        result = _taken(host, one, folder, event, on_event)
        if result is not None:
            return result
    if now > one.deadline:
        one.task.cancel()
        return Result(host, "failed", f"nothing was heard of it for {now - one.last_event:.0f} s, and its time was up")
    return None


def _taken(
    host: str, one: _Running, folder: Folder, event: Event, on_event: Callable[[str, str], None]
) -> Result | None:
    match event:
        case ("output", str(line)):
            one.output = [*one.output[-20:], line]
            on_event(host, line)
        case ("journal", str(name), int(offset), bytes(content)):
            folder.add_to_journal(host, name, offset, content)
        case ("file", str(name), bytes(content)):
            folder.keep(host, name, content)
        case ("limit", *_):
            one.limit = True
        case ("end", *rest):
            return _result(host, one, folder, rest[0] if rest else None)
    return None


def _result(host: str, one: _Running, folder: Folder, code: Any) -> Result:
    late = "; it was stopped at its time limit" if one.limit else ""
    if folder.is_done(host):
        return Result(host, "done", late.removeprefix("; "))
    last = f": {one.output[-1]}" if one.output else ""
    return Result(host, "failed", f"readiness ended with {code} and wrote no assessment{last}{late}")
