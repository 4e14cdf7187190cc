"""NVIDIA's GPUs, and the devices of other makers whose torch presents them as CUDA: those are never called NVIDIA's."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Mapping, Sequence

from packaging.version import Version

from readiness.accelerators import nvml, sysfs, version_rules
from readiness.accelerators.interconnect import Links
from readiness.accelerators.torch_build import TorchBuild
from readiness.accelerators.torch_cuda import CudaNamespace, VendorFacts
from readiness.datamodel import AcceleratorFacts

_SHARES_SINCE = Version("2.30")


class Cuda(CudaNamespace):
    """`torch.cuda` on CUDA, joined with NVML where the device is NVIDIA's."""

    name = "cuda"
    makers = ("NVIDIA", "MetaX", "Iluvatar")
    #: The control node of a discrete device, and those of Tegra.
    nodes = ("nvidiactl", "nvidia[0-9]*", "nvhost-*", "nvgpu", "nvmap")

    def builds(self, build: TorchBuild) -> bool | None:
        """Built against CUDA, or against something that imitates it."""
        if build.runtime("hip") is not None:
            return False
        if build.runtime("cuda") is not None or build.maker is not None:
            return True
        return False if "cuda" in build.names else None

    def query_vendor(self, uuid: str | None, address: str | None, maker: str | None) -> VendorFacts:
        """Return NVML's reading and the kernel module's version; neither for a foreign build of torch."""
        import torch

        vendor_facts = VendorFacts(software={"cuda": getattr(torch.version, "cuda", None), "driver": None})
        if maker is not None:
            vendor_facts.properties["nvml"] = f"not read: this torch was built by {maker}"
            return vendor_facts
        module, kind = sysfs.nvidia_kernel_module(self.root)
        vendor_facts.software |= {"driver": module, "cuda_driver_api": _driver_api(), "cudnn": _cudnn()}
        vendor_facts.properties["kernel_module"] = kind
        try:
            reading = nvml.read(uuid, address)
        except nvml.Unavailable as reason:
            vendor_facts.properties["nvml"] = str(reason)
            vendor_facts.software["driver_library"] = sysfs.loaded_library("libcuda", self.root)
            return vendor_facts
        vendor_facts.vendor = "NVIDIA"
        vendor_facts.serial = reading.serial or reading.uuid
        vendor_facts.software["driver"] = module or reading.driver
        # NVML's own version has CUDA's major number in front of the driver's.
        vendor_facts.software["driver_library"] = reading.library.partition(".")[2] or None if reading.library else None
        if module is None and sysfs.any_node(("dxg",), self.root):
            # Under Windows' subsystem for Linux the driver is Windows', and its library for Linux has a number of its own
            # (github.com/microsoft/WSL/issues/11277).
            del vendor_facts.software["driver_library"]
        vendor_facts.software["firmware"] = reading.firmware
        vendor_facts.counters = dict(reading.counters) or None
        vendor_facts.properties |= {
            "nvml": f"matched by {reading.matched_by}",
            "nvml_refused": dict(reading.refused),
            "nvml_memory_bytes": reading.memory_bytes,
            "mig": reading.mig,
            "ecc": reading.ecc,
        }
        return vendor_facts

    def counters(self, facts: AcceleratorFacts) -> Mapping[str, int] | None:
        """NVML's fault counters now; None where they could not be read when the device was found, or now."""
        if facts.counters is None:
            return None
        try:
            return nvml.counters(facts.properties.get("uuid"), facts.properties.get("pci_address")) or None
        except nvml.Unavailable:
            return None

    def sensors(self, facts: AcceleratorFacts) -> Mapping[str, float]:
        """NVML's temperature, power and clock now; what it refuses is absent."""
        try:
            return nvml.sensors(facts.properties.get("uuid"), facts.properties.get("pci_address"))
        except nvml.Unavailable:
            return {}

    def throttle_reasons(self, facts: AcceleratorFacts) -> Sequence[str] | None:
        """Return NVML's throttle reasons."""
        try:
            return nvml.throttle_reasons(facts.properties.get("uuid"), facts.properties.get("pci_address"))
        except nvml.Unavailable:
            return None

    def links(self, facts: AcceleratorFacts) -> Links | None:
        """Its NVLinks, as NVML sees them."""
        try:
            return nvml.links(facts.properties.get("uuid"), facts.properties.get("pci_address"))
        except nvml.Unavailable:
            return None

    def ranks_share(self, facts: AcceleratorFacts) -> bool:
        """Return whether NCCL lets ranks share a GPU: from 2.30 on, if NCCL_MULTI_RANK_GPU_ENABLE is set.

        Earlier versions raise an error (`Duplicate GPU detected`). The user must set the variable: without CUDA's
        multi-process service such ranks take turns, and may be slow.
        Source: NVIDIA/nccl, src/init.cc.
        """
        found = version_rules.version(facts.software.get("nccl"))
        enabled = os.environ.get("NCCL_MULTI_RANK_GPU_ENABLE", "0").strip() not in ("", "0")
        return enabled and found is not None and found >= _SHARES_SINCE


def _driver_api() -> str | None:
    """The newest CUDA that the driver's library serves; with a compatibility package it is newer than the module."""
    # Asked of the library itself: what torch had for it was private, and torch 2.11 has it no more.
    number = ctypes.c_int(0)
    for name in ("libcuda.so.1", "nvcuda.dll"):
        with contextlib.suppress(OSError, AttributeError):
            if ctypes.CDLL(name).cuDriverGetVersion(ctypes.byref(number)) == 0 and number.value > 0:
                return f"{number.value // 1000}.{number.value % 1000 // 10}"
    return None


def _cudnn() -> str | None:
    import torch

    try:
        number: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    except RuntimeError:  # it raises where the library found is older than the one torch was built with
        return None
    if number is None:
        return None
    major, rest = divmod(number, 10_000 if number >= 90_000 else 1_000)
    return f"{major}.{rest // 100}.{rest % 100}"


STACK = Cuda()
