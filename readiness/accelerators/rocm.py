"""AMD's GPUs under ROCm, which torch presents as `cuda`; and the devices of other makers that run on a fork of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from readiness.accelerators import interconnect, sysfs, torch_build, version_rules
from readiness.accelerators.interconnect import Links
from readiness.accelerators.torch_build import TorchBuild
from readiness.accelerators.torch_cuda import CudaNamespace, VendorFacts
from readiness.datamodel import AcceleratorFacts


class Rocm(CudaNamespace):
    """`torch.cuda` on HIP, joined with what the amdgpu driver shows below /sys."""

    name = "rocm"
    makers = ("AMD", "Hygon")
    collectives = "rccl"
    nodes = ("kfd",)

    def builds(self, build: TorchBuild) -> bool | None:
        """Built against HIP."""
        if build.runtime("hip") is not None:
            return True
        return False if "hip" in build.names else None

    def discover(self) -> Iterator[AcceleratorFacts]:
        """The devices that torch counts. Raises RuntimeError, and names the package that is known to hide them."""
        try:
            yield from super().discover()
        except RuntimeError as problem:
            if (version := torch_build.distribution_version("amdsmi")) is not None:
                raise RuntimeError(f"{problem}; {version_rules.amdsmi_text(version)}") from problem
            raise

    def query_vendor(self, uuid: str | None, address: str | None, maker: str | None) -> VendorFacts:  # noqa: ARG002
        """Driver, ROCm, serial, firmware and error counts from the kernel's files."""
        import torch

        vendor_facts = VendorFacts(
            software={
                "hip": getattr(torch.version, "hip", None),
                "driver": sysfs.module_version("amdgpu", root=self.root),
                "rocm": sysfs.read_text(self.root / "opt/rocm/.info/version"),
            },
            counters=sysfs.ras_counters(address, self.root),
        )
        vendor_facts.properties["amdsmi"] = torch_build.distribution_version("amdsmi")
        if address is not None:
            folder = self.root / "sys/bus/pci/devices" / address
            vendor_facts.serial = sysfs.read_text(folder / "serial_number") or sysfs.read_text(folder / "unique_id")
            if firmware := sysfs.read_text(folder / "vbios_version"):
                vendor_facts.software["firmware"] = firmware
        return vendor_facts

    def counters(self, facts: AcceleratorFacts) -> Mapping[str, int] | None:
        """The driver's error counts now; None where it keeps none for this device."""
        return sysfs.ras_counters(facts.properties.get("pci_address"), self.root)

    def links(self, facts: AcceleratorFacts) -> Links | None:
        """Its XGMI links, as the kernel's driver lists them."""
        return interconnect.xgmi(facts.properties.get("pci_address"), self.root)


STACK = Rocm()
