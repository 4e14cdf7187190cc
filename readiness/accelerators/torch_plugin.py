"""Base class of stacks that come as a plug-in of torch. Imports a plug-in only when it is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from readiness.accelerators import sysfs, torch_build, vendor_id
from readiness.accelerators.base import OutOfReachError, Stack
from readiness.datamodel import AcceleratorFacts


class PluginStack(Stack):
    """A device type that exists once its plug-in has been imported, with a namespace much like `torch.cuda`.

    vendor          the maker of every device that this plug-in drives
    distribution    the plug-in's name as it is installed
    """

    vendor: str
    distribution: str
    machine = Path("/")
    fork_safe = False  # the plug-in may open the device or start threads while it is being imported

    def absence(self) -> str | None:
        """The plug-in is not installed, or there is no torch. Raises OutOfReachError."""
        if torch_build.installed() is None:
            return "torch is not installed"
        assert self.plugin is not None
        reason = torch_build.missing_module(self.plugin)
        if reason is not None and sysfs.any_node(self.nodes, self.machine):
            raise OutOfReachError(f"{reason}, though its driver is loaded")
        return reason

    def module(self) -> Any:
        """The namespace that the plug-in has put into torch. Raises RuntimeError where it has not."""
        import torch

        found = getattr(torch, self.kind, None)
        if found is None:
            raise RuntimeError(f"{self.plugin} was imported, but torch still has no namespace {self.kind!r}")
        return found

    def discover(self) -> Iterator[AcceleratorFacts]:
        """The devices that the plug-in counts.

        Raises what the plug-in raises, and RuntimeError where it counts none of those that the driver has made.
        """
        module = self.module()
        software = self.software()
        count = int(module.device_count())
        if count == 0:
            self.refuse_none(self.machine)
        for index in range(count):
            name = self.device_name(module, index)
            properties, problems = self.device_properties(module, index)
            memory = getattr(properties, "total_memory", None)
            yield AcceleratorFacts(
                id=f"{self.kind}:{index}",
                kind=self.kind,
                index=index,
                stack=self.name,
                vendor=vendor_id.decide({"plug-in": self.vendor, "name": vendor_id.of_name(name)}),
                model=name,
                serial=_text(getattr(properties, "uuid", None)),
                memory_bytes=int(memory) if isinstance(memory, int | float) else None,
                software=dict(software),
                properties={**self.surroundings(), **problems},
            )

    def device_name(self, module: Any, index: int) -> str | None:
        """Return the device's name as reported by the plug-in."""
        return _text(module.get_device_name(index))

    def device_properties(self, module: Any, index: int) -> tuple[object, dict[str, str]]:
        """The plug-in's properties of the device, and why there are none where it offers none."""
        try:
            return module.get_device_properties(index), {}
        except Exception as problem:  # noqa: BLE001 - a plug-in without them is usable all the same; it is told
            return None, {"device_properties_refused": f"{type(problem).__name__}: {problem}"}

    def software(self) -> Mapping[str, str | None]:
        """The components of this stack and their versions, None where a version could not be read."""
        build = torch_build.installed()
        return {
            "torch": None if build is None else build.version,
            self.distribution.replace("-", "_"): torch_build.distribution_version(self.distribution),
        }

    def surroundings(self) -> Mapping[str, Any]:
        """Return further facts of the machine, for the properties of each device."""
        return {}


def _text(value: object) -> str | None:
    return str(value) if value not in (None, "") else None
