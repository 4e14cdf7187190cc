"""Huawei's Ascend NPUs, through torch_npu. Their collective backend is called `hccl`, as Habana's is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from readiness.accelerators import ascend_install
from readiness.accelerators.rated_figures import Rated
from readiness.accelerators.readers import device_matching, gather
from readiness.accelerators.readers.contract import Reading
from readiness.accelerators.readers.gather import Gathered
from readiness.accelerators.torch_plugin import PluginStack
from readiness.datamodel import AcceleratorFacts


class Ascend(PluginStack):
    """Stack of Huawei's Ascend: torch_npu adds the device type `npu`; versions of driver, firmware and CANN are in files."""

    name = "ascend"
    makers = ("Huawei",)
    kind = "npu"
    plugin = "torch_npu"
    distribution = "torch-npu"
    vendor = "Huawei"
    nodes = ("davinci[0-9]*", "davinci_manager")
    hiding = ("ASCEND_RT_VISIBLE_DEVICES",)
    collective_backend = "hccl"
    unsupported_reductions = dict.fromkeys(("prod bfloat16", "prod int16"), "HCCL: CheckReduceDataType, for 910B and 910_93")
    cooldown_s = 10.0  # EJ0001 before that: github.com/hiyouga/LlamaFactory/issues/3839

    def __init__(self, installation: Path = ascend_install.ROOT) -> None:
        self.installation = installation

    def discover(self) -> Iterator[AcceleratorFacts]:
        """Return the devices that the plug-in counts, with the identity that the management library or tool reports.

        Raises what the plug-in raises.
        """
        found = list(super().discover())
        seen = self._gather() if found else Gathered()
        for facts in found:
            own = device_matching.of_device(seen.devices, facts, self.hiding)
            yield facts if own is None else _identified(facts, own)

    def counters(self, facts: AcceleratorFacts) -> Mapping[str, int] | None:
        """Memory and link errors that the management library or tool counts; None where neither does."""
        own = self._own(facts)
        return None if own is None else _counters(own)

    def sensors(self, facts: AcceleratorFacts) -> Mapping[str, float]:
        """Temperature, power and clock now."""
        own = self._own(facts)
        if own is None:
            return {}
        hottest = max((own.value("temperatures_c") or {}).values(), default=None)
        readings = {
            "temperature_c": hottest, "power_w": own.value("power_w"),
            "clock_mhz": (own.value("clocks_mhz") or {}).get("aicore"),
        }  # fmt: skip
        return {name: float(value) for name, value in readings.items() if value is not None}

    def _own(self, facts: AcceleratorFacts) -> Reading | None:
        return device_matching.of_device(self._gather().devices, facts, self.hiding)

    def _gather(self) -> Gathered:
        return gather.gather(vendors=self.makers, root=self.root, glance_limit_s=gather.PATIENT_LIMIT_S)

    def software(self) -> Mapping[str, str | None]:
        """torch, torch_npu, driver, firmware and CANN."""
        return {**super().software(), **self._files().software()}

    def surroundings(self) -> Mapping[str, Any]:
        """Return whether driver, firmware and CANN list each other as compatible."""
        return {"compatibility": self._files().compatibility()}

    def rated(self, facts: AcceleratorFacts) -> Rated | None:
        """What the host's own platform file says of the chip, else what is known of its model."""
        return ascend_install.rated(_home(), facts.model, self.installation) or super().rated(facts)

    def _files(self) -> ascend_install.AscendFiles:
        return ascend_install.read(self.installation, _home())


def _home() -> str | None:
    """Return the folder of the CANN in use."""
    return next((value for name in ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME") if (value := os.environ.get(name))), None)


def _identified(facts: AcceleratorFacts, own: Reading) -> AcceleratorFacts:
    address, versions = own.value("pci_address"), own.value("versions") or {}
    versions = {**versions, "firmware": own.value("firmware")}
    return replace(
        facts,
        software={name: version or versions.get(name) for name, version in facts.software.items()},
        serial=own.value("serial") or facts.serial,
        memory_bytes=facts.memory_bytes or own.value("memory_total_bytes"),
        properties={**facts.properties, "pci_address": address, "npu_id": own.index, "management": list(own.sources)},
        counters=_counters(own),
    )


def _counters(own: Reading) -> dict[str, int] | None:
    counted = {**(own.value("memory_errors") or {}), **(own.value("link_errors") or {})}
    return {name: int(count) for name, count in counted.items() if isinstance(count, int | float)} or None


STACK = Ascend()
