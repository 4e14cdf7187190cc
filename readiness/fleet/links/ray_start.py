"""Runs of trials by a Ray cluster: on the node that leads a trial; it reaches the others by the command, as ever."""

from __future__ import annotations

from collections.abc import Sequence

from readiness.fleet.coordinator import Node, NodeLostError, Task
from readiness.fleet.node_run import Event
from readiness.fleet.ray_engine import RayEngine
from readiness.host.identity import host_name


class RayStart:
    """Starts runs on nodes by the names of their hosts."""

    def __init__(self, address: str) -> None:
        """Connect. Raises UsageError where Ray is missing or the cluster cannot be reached."""
        self._engine = RayEngine(address)

    def __call__(self, host: str, arguments: Sequence[str], limit_s: float) -> Task:
        """Start a run; one on a host that the cluster does not have is lost at once."""
        nodes: dict[str, Node] = {host_name(node.name): node for node in self._engine.nodes()}
        if host not in nodes:
            return _NoNode()
        return self._engine.start(nodes[host], arguments, {}, limit_s)

    def close(self) -> None:
        """Leave the cluster."""
        self._engine.close()


class _NoNode:
    def events(self) -> list[Event]:
        raise NodeLostError("no node of the cluster has this name")

    def cancel(self) -> None:
        """Nothing runs."""
