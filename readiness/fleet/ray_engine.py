"""Nodes and tasks of a Ray cluster (extra `fleet`). Ray only places: on each node runs the ordinary `readiness run`.

Tasks are pinned to their node, take no processor in Ray's books and are never tried again by Ray: a probe that runs twice
unseen would measure a device that it has used before. Ray's authentication is off by default: use it in networks that you
trust.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from readiness.errors import UsageError
from readiness.fleet import node_run
from readiness.fleet.coordinator import Node, NodeLostError
from readiness.fleet.node_run import Event
from readiness.optional_imports import optional

#: One piece of news may be on its way for so long; what is lost is told by Ray as an error, not by waiting.
_FETCH_S = 30.0
#: So much news of a node at a time, so that none keeps the others waiting.
_MOST_EVENTS = 200


class RayEngine:
    """A cluster. `local` is one on this machine; `auto` and HOST:PORT are running ones."""

    def __init__(self, address: str) -> None:
        """Connect. Raises UsageError where Ray is missing or the cluster cannot be reached."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or Ray hides all GPUs from tasks that take none
        with optional("fleet", "a fleet's run", place="fleet"):
            ray: Any = importlib.import_module("ray")
        self._ray: Any = ray
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=None)
        except (ConnectionError, RuntimeError, ValueError, OSError) as problem:
            raise UsageError(
                f"the cluster cannot be reached: {str(problem).splitlines()[0][:300]}", place=f"--address {address}",
                remedy="start one with `ray start --head`, or give local, auto or HOST:PORT",
            ) from None  # fmt: skip
        ray.cloudpickle.register_pickle_by_value(node_run)  # a node may have another version of readiness
        self._assess = ray.remote(num_cpus=0, max_retries=0)(node_run.assess)

    def nodes(self) -> list[Node]:
        """Return the nodes that are alive, by the names of their hosts; a second node of a host has its number behind it."""
        found: list[Node] = []
        names: set[str] = set()
        for node in sorted(self._ray.nodes(), key=lambda node: str(node["NodeID"])):
            if not node["Alive"]:
                continue
            name = str(node["Labels"].get("readiness.host") or node["NodeManagerHostname"])
            name = name if name not in names else f"{name}-{str(node['NodeID'])[:8]}"
            names.add(name)
            found.append(Node(str(node["NodeID"]), name))
        return found

    def start(self, node: Node, arguments: Sequence[str], kept: Mapping[str, bytes], limit_s: float) -> RayTask:
        """Start a run on a node."""
        strategies: Any = importlib.import_module("ray.util.scheduling_strategies")
        pinned = strategies.NodeAffinitySchedulingStrategy(node.id, soft=False)
        stream = self._assess.options(scheduling_strategy=pinned, num_returns="streaming").remote(
            node.name, list(arguments), dict(kept), limit_s
        )
        return RayTask(self._ray, stream)

    def close(self) -> None:
        """Leave the cluster; what still runs of ours ends with it."""
        self._ray.shutdown()


class RayTask:
    """A run on a node, as a stream of its events."""

    def __init__(self, ray: Any, stream: Any) -> None:
        self._ray = ray
        self._stream = stream
        self._lost: str | None = None

    def events(self) -> list[Event]:
        """Return what is new, without waiting for more. Raises NodeLostError once all that came before was returned."""
        found: list[Event] = []
        try:
            while len(found) < _MOST_EVENTS:
                ready, _ = self._ray.wait([self._stream], timeout=0, fetch_local=False)
                if not ready:
                    break
                found.append(self._ray.get(next(self._stream), timeout=_FETCH_S))
        except StopIteration:
            self._lost = "its run ended without saying how"
        except self._ray.exceptions.GetTimeoutError:
            self._lost = f"its answer did not arrive within {_FETCH_S:.0f} s"
        except self._ray.exceptions.RayError as problem:
            self._lost = f"{type(problem).__name__}: {str(problem).strip().splitlines()[0][:200]}"
        if self._lost is not None and not found:
            raise NodeLostError(self._lost)
        return found

    def cancel(self) -> None:
        """End it, whatever it does."""
        self._ray.cancel(self._stream, force=True)
