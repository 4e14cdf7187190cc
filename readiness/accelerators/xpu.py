"""Intel's GPUs, which torch supports by itself. A tool called xpu-smi proves nothing: another vendor's has the same name."""

from __future__ import annotations

from collections.abc import Iterator

from readiness.accelerators import sysfs, torch_build, vendor_id
from readiness.accelerators.base import Stack
from readiness.datamodel import AcceleratorFacts


class Xpu(Stack):
    """`torch.xpu`, on Level Zero and SYCL."""

    name = "xpu"
    makers = ("Intel",)
    kind = "xpu"
    collective_backend = "xccl"
    fork_safe = False  # whether an untouched Level Zero survives a fork has not been seen

    def absence(self) -> str | None:
        """Torch was built without it."""
        build = torch_build.installed()
        if build is None:
            return "torch is not installed"
        if "xpu" in build.names and build.runtime("xpu") is None:
            return f"torch {build.version} was built without XPU"
        return None

    def discover(self) -> Iterator[AcceleratorFacts]:
        """The devices that `torch.xpu` counts.

        Raises RuntimeError where it counts none beside one in a slot that drives no screen (class 0380), as those for data
        centres do, and has its kernel driver. Of others nobody can tell whether torch should see them: they stand in most
        processors.
        """
        import torch

        count = torch.xpu.device_count()
        devices = sysfs.pci_devices("8086", "0380", ("xe", "i915"), self.root) if count == 0 else []
        unseen = [address for address in devices if not address.startswith("0000:00:")]  # that is the processor itself
        if unseen:
            raise RuntimeError(f"its driver is loaded ({', '.join(unseen)}), but torch finds no device")
        for index in range(count):
            properties = torch.xpu.get_device_properties(index)
            name = str(properties.name)
            address = sysfs.pci_address(properties)
            pci, raw = sysfs.pci_vendor(address, self.root)
            uuid = getattr(properties, "uuid", None)
            yield AcceleratorFacts(
                id=f"xpu:{index}",
                kind=self.kind,
                index=index,
                stack=self.name,
                vendor=vendor_id.decide({"name": vendor_id.of_name(name), "pci": pci}),
                model=name,
                serial=None if uuid is None else str(uuid),
                memory_bytes=int(properties.total_memory),
                software={
                    "torch": torch.__version__,
                    "xpu": getattr(torch.version, "xpu", None),
                    "driver": getattr(properties, "driver_version", None),
                    "kernel_driver": sysfs.module_version("xe", "i915"),
                },
                properties={
                    "platform": getattr(properties, "platform_name", None), "pci_address": address, "pci_vendor_id": raw,
                },
            )


STACK = Xpu()
