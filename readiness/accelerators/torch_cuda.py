"""Base class of stacks whose devices are `torch.cuda`: NVIDIA's, AMD's, and those that imitate one of them."""

from __future__ import annotations

import platform
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from readiness.accelerators import sysfs, torch_build, vendor_id
from readiness.accelerators.base import OutOfReachError, Stack
from readiness.datamodel import AcceleratorFacts


@dataclass(slots=True)
class VendorFacts:
    """Facts of a device from the vendor's own sources, in addition to torch's. `vendor` is the vendor that they name,
    if any.
    """

    vendor: str | None = None
    serial: str | None = None
    software: dict[str, str | None] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)
    counters: Mapping[str, int] | None = None


class CudaNamespace(Stack):
    """A stack whose devices are `cuda:N` in torch. `readiness.accelerators.vendor_id` finds whose they are by evidence."""

    kind = "cuda"
    collective_backend = "nccl"
    collectives = "nccl"
    hiding = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    @abstractmethod
    def builds(self, build: torch_build.TorchBuild) -> bool | None:
        """Return whether this torch was built for this stack; None if its text does not say."""

    @abstractmethod
    def query_vendor(self, uuid: str | None, address: str | None, maker: str | None) -> VendorFacts:
        """Return the facts from vendor's library and kernel of the device with this UUID and PCI address. Never raises."""

    def absence(self) -> str | None:
        """Torch was built for something else, or the driver has made no device node. Raises OutOfReachError."""
        build = torch_build.installed()
        if build is None:
            return "torch is not installed"
        if self.builds(build) is False:
            reason = f"torch {build.version} was not built for {self.name.upper()}"
            if sysfs.any_node(self.nodes, self.root):
                raise OutOfReachError(f"{reason}, though its driver is loaded")
            return reason
        # Imitators create device nodes of their own: for their builds only torch knows whether a device is there.
        # So it is under Windows and its subsystem for Linux (/dev/dxg), which hands every maker's devices on.
        nodes_are_decisive = platform.system() == "Linux" and build.maker is None and not sysfs.any_node(("dxg",), self.root)
        if nodes_are_decisive and not sysfs.any_node(self.nodes, self.root):
            return f"its driver has no device node (/dev/{self.nodes[0]}): there is no device, or its driver is not loaded"
        return None

    def discover(self) -> Iterator[AcceleratorFacts]:
        """The devices that `torch.cuda` counts.

        Raises RuntimeError where the driver is loaded and nothing hides the devices, yet torch cannot open any.
        """
        import torch

        build = torch_build.installed() or torch_build.TorchBuild(torch.__version__)
        if not self._is_mine():
            return
        count = torch.cuda.device_count()
        if count == 0:
            self.refuse_none(self.root, torch.cuda.init)  # it raises with the driver's reason, where counting only warns
        for index in range(count):
            yield self._facts(index, build.maker)

    def _is_mine(self) -> bool:
        import torch

        hip = getattr(torch.version, "hip", None) is not None
        return hip == (self.name == "rocm")

    def _facts(self, index: int, maker: str | None) -> AcceleratorFacts:
        import torch

        properties = torch.cuda.get_device_properties(index)
        name = str(properties.name)
        uuid = getattr(properties, "uuid", None)
        address = sysfs.pci_address(properties)
        pci, raw = sysfs.pci_vendor(address, self.root)
        vendor_facts = self.query_vendor(None if uuid is None else str(uuid), address, maker)
        witnesses = {"build": maker, "name": vendor_id.of_name(name), "pci": pci, "vendor_library": vendor_facts.vendor}
        return AcceleratorFacts(
            id=f"{self.kind}:{index}",
            kind=self.kind,
            index=index,
            stack=self.name,
            vendor=vendor_id.decide(witnesses),
            model=name,
            serial=vendor_facts.serial or (None if uuid is None else str(uuid)),
            memory_bytes=int(properties.total_memory),
            software={"torch": str(torch.__version__), self.collectives: _collectives(), **vendor_facts.software},
            properties={
                "uuid": None if uuid is None else str(uuid),
                "pci_address": address,
                "pci_vendor_id": raw,
                "vendor_witnesses": {witness: vendor for witness, vendor in witnesses.items() if vendor is not None},
                "capability": f"{properties.major}.{properties.minor}",
                "processors": getattr(properties, "multi_processor_count", None),
                **vendor_facts.properties,
            },
            counters=vendor_facts.counters,
        )


def _collectives() -> str | None:
    import torch

    try:
        return ".".join(map(str, torch.cuda.nccl.version()))  # type: ignore[no-untyped-call]
    except (AttributeError, RuntimeError, TypeError):  # built without it
        return None
