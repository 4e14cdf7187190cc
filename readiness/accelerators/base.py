"""Interface of a stack to the engine, and the `Accelerator` that a check receives: one protocol for all devices.

Nothing here imports torch before a method needs it: the command line lists checks and stacks without it.
"""

from __future__ import annotations

import importlib
import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from readiness.accelerators import sysfs
from readiness.datamodel import AcceleratorFacts

if TYPE_CHECKING:
    import torch

    from readiness.accelerators.interconnect import Links
    from readiness.accelerators.pcie import Slot
    from readiness.accelerators.rated_figures import Rated
    from readiness.accelerators.readers.contract import Reading
    from readiness.accelerators.readers.kernel_log import Event
    from readiness.accelerators.run_timeline import RunTimeline


class OutOfReachError(Exception):
    """The driver of a stack's devices is loaded, and what it takes to reach them from torch is not installed."""


#: What such a variable begins with where it is to leave no device; the word is Slurm's.
_NO_DEVICE = ("", "-1", "nodevfiles", "none", "void")

#: Ways to divide training that call `fully_shard`.
FULLY_SHARDED_MODES = ("fsdp", "hsdp", "fsdp+tensor", "fsdp+expert")


class Stack(ABC):
    """The software that drives one make of accelerator. One subclass per file of this package.

    name                    its own name: `cuda` and `rocm` are two stacks although both call their devices `cuda:N`
    kind                    the device type in torch and in ids
    plugin                  the module that must be imported before torch knows the device, None where torch knows it
    collective_backend      what `torch.distributed.init_process_group` is given; None where the stack has none
    fork_safe               whether a process that has imported torch, but touched no device, may fork workers for it
    asynchronous            whether calls may return before the device has done its work
    connect_timeout_s       how much longer a first call of a kind between its devices may take: libraries look for ways
    cooldown_s              for how long its devices cannot be used together again after a process that did was killed
    root                    where the files of the kernel begin; tests bring their own
    host_backed             whether its devices are the host's memory: whatever is imported before a fork, they survive it
    needs_torch             whether its devices can be listed with torch only
    makers                  whose management tools and libraries may speak of its devices
    nodes                   globs below /dev that its driver makes
    hiding                  variables of the environment that choose which devices a process sees
    unsupported_ops         operators of PyTorch's database that say nothing about a device of this stack, and why
    unsupported_reductions  reductions of a dtype, as `prod bfloat16`, that its collective library lacks, and how one knows;
                            its own word may come too late, and end the rank
    unsupported_modes       the same for ways to train on several chips (`multichip.parallelism`)
    """

    name: str
    kind: str
    plugin: str | None = None
    collective_backend: str | None = None
    fork_safe: bool = True
    asynchronous: bool = True
    connect_timeout_s: float = 60.0  # 55 s on eight B200: github.com/NVIDIA/nccl/issues/1646
    cooldown_s: float = 0.0
    root: Path = Path("/")
    host_backed: bool = False
    needs_torch: bool = True
    makers: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    hiding: tuple[str, ...] = ()
    unsupported_ops: Mapping[str, str] = {}
    unsupported_reductions: Mapping[str, str] = {}

    @property
    def unsupported_modes(self) -> Mapping[str, str]:
        """Ways to divide training that the software here lacks, whatever the device, each with the reason."""
        return {}

    @property
    def from_forkserver(self) -> bool:
        """True if its workers may be forked from the forkserver, which has imported torch and no plug-in."""
        return self.fork_safe and self.plugin is None

    @abstractmethod
    def discover(self) -> Iterator[AcceleratorFacts]:
        """The devices of this stack on this machine. Called in a worker, torch imported. May raise: then none is usable."""

    def absence(self) -> str | None:
        """Return why this stack cannot be here, found without importing torch; None if only torch can tell.

        Raises OutOfReachError where its devices are here and torch has no way to them.
        """
        return None

    def hides_all(self) -> bool:
        """Return whether a variable of the environment hides every device on purpose: it names none, or -1 before any."""
        chosen = (os.environ[name].partition(",")[0].strip().lower() for name in self.hiding if name in os.environ)
        return any(first in _NO_DEVICE for first in chosen)

    def refuse_none(self, root: Path, query: Callable[[], object] = lambda: None) -> None:
        """Raise RuntimeError if the stack counts no device although its driver has made some and nothing hides them.

        `query` is called first, to raise the driver's own reason if there is one.
        """
        if self.hides_all() or not sysfs.any_node(self.nodes, root):
            return
        query()
        chosen = "".join(f"; {name} is {os.environ[name]!r}" for name in self.hiding if name in os.environ)
        raise RuntimeError(f"its driver is loaded, but torch finds no device{chosen}")

    def enter(self, facts: AcceleratorFacts, seed: int) -> None:  # noqa: ARG002
        """Make this process ready to use a device, torch imported: here, import the plug-in. `seed` is the run's."""
        if self.plugin is not None:
            importlib.import_module(self.plugin)

    def process_facts(self, facts: AcceleratorFacts) -> Mapping[str, Any]:  # noqa: ARG002
        """Return what this process's work on a device adds to the environment of its evidence."""
        return {}

    def torch_device(self, facts: AcceleratorFacts) -> torch.device:
        """Return torch's name of this device in a process that has entered it."""
        import torch

        return torch.device(self.kind, facts.index)

    def sharing(self, facts: AcceleratorFacts) -> int:  # noqa: ARG002
        """Return how many devices, this one included, compute on the same silicon: a simulator's all run on the host."""
        return 1

    def ranks_share(self, facts: AcceleratorFacts) -> bool:  # noqa: ARG002
        """Return whether the vendor's collective library allows several ranks on one device; most require a device for
        each.
        """
        return False

    def rated(self, facts: AcceleratorFacts) -> Rated | None:
        """Return what this model of device is sold as; None if nobody has written it down."""
        from readiness.accelerators import rated_figures

        return rated_figures.of_model(facts.model)

    def counters(self, facts: AcceleratorFacts) -> Mapping[str, int] | None:  # noqa: ARG002
        """The vendor's cumulative fault counters of this device now; None where it offers none."""
        return None

    def sensors(self, facts: AcceleratorFacts) -> Mapping[str, float]:  # noqa: ARG002
        """Readings of this device that change with load, each with its unit in its name; empty where none can be had."""
        return {}

    def reading(self, facts: AcceleratorFacts) -> Reading | None:
        """Read the device's state from the vendor's management tools and libraries; None if there are none for it.

        Each source is read in a process of its own, with a time limit: one that blocks or crashes costs itself.
        """
        from readiness.accelerators.readers.gather import of_device

        return of_device(facts, self.makers, self.hiding, self.root)

    def fault_events(self, facts: AcceleratorFacts, since: float) -> Sequence[Event]:
        """Return the faults of this device that the host's logs name since then (epoch). Raises SourceError."""
        from readiness.accelerators.readers import kernel_log

        return kernel_log.of_device(facts, since, self.root)

    def throttle_reasons(self, facts: AcceleratorFacts) -> Sequence[str] | None:  # noqa: ARG002
        """Return the reasons for which the device is throttled now, read within milliseconds; None if unknown."""
        return None

    def links(self, facts: AcceleratorFacts) -> Links | None:  # noqa: ARG002
        """Return the state of this device's links to others; None if it has none or it is unknown."""
        return None

    def slot(self, facts: AcceleratorFacts) -> Slot | None:
        """Return the state of this device's slot; None if the kernel does not report it."""
        from readiness.accelerators import pcie

        return pcie.read(facts.properties.get("pci_address"), self.root)

    def module(self) -> Any:
        """The device's namespace in torch (`torch.cuda`, `torch.npu`, ...)."""
        import torch

        return torch.get_device_module(self.kind)

    def synchronize(self, device: torch.device) -> None:
        """Wait until the device has finished all work."""
        synchronize = getattr(self.module(), "synchronize", None)
        if synchronize is not None:
            synchronize(device)

    def memory(self, device: torch.device) -> tuple[int, int] | None:
        """Free and total memory of the device in bytes; None where the stack does not tell."""
        info = getattr(self.module(), "mem_get_info", None)
        if info is None:
            return None
        free, total = info(device)
        return int(free), int(total)

    def release(self) -> None:
        """Give cached memory back to the device."""
        empty = getattr(self.module(), "empty_cache", None)
        if empty is not None:
            empty()


class Accelerator:
    """The device under test as a check holds it.

    `facts` say who it is, `peers` which accelerators a check of group scope may use (itself included), `seed` the run's
    seed. `kept` is a file that outlives the check, for one that declares `recount`; None where no journal is kept.
    `shared` is a folder that all hosts of the run see, None where there is none or but one host. `timeline` is known to the
    last checks of a run. All random data come from `generator`, so that the same seed repeats the run.
    """

    def __init__(
        self,
        facts: AcceleratorFacts,
        stack: Stack,
        *,
        seed: int = 0,
        peers: Sequence[AcceleratorFacts] = (),
        kept: Path | None = None,
        shared: Path | None = None,
        timeline: RunTimeline | None = None,
    ) -> None:
        self.facts = facts
        self.stack = stack
        self.seed = seed
        self.peers = tuple(peers) or (facts,)
        self.kept = kept
        self.shared = shared
        self.timeline = timeline

    @property
    def id(self) -> str:
        """The user's name of the device: `cpu:0`, `cuda:3`."""
        return self.facts.id

    @property
    def device(self) -> torch.device:
        """The device in torch, in a process that has entered it."""
        return self.stack.torch_device(self.facts)

    def enter(self) -> None:
        """Make this process ready to use the device; torch has been imported."""
        self.stack.enter(self.facts, self.seed)

    def generator(self, *labels: object) -> torch.Generator:
        """A fresh generator on the CPU, seeded from the run's seed and these labels.

        Inputs are drawn on the CPU and moved, so that every device gets the same values.
        """
        import torch

        text = "/".join(map(str, (self.seed, *labels)))
        return torch.Generator().manual_seed(zlib.crc32(text.encode()))

    def synchronize(self) -> None:
        """Wait until the device has finished all work."""
        self.stack.synchronize(self.device)

    def is_usable(self) -> bool:
        """True if the device still takes data and gives it back in this process: an error of some devices stays for good."""
        import torch

        sent = torch.arange(8)
        try:
            back = sent.to(self.device).cpu()
            self.synchronize()
        except Exception:  # noqa: BLE001 - whatever it raises, it does not work
            return False
        return bool(torch.equal(back, sent))

    def memory(self) -> tuple[int, int] | None:
        """Free and total memory in bytes; None where the stack does not tell."""
        return self.stack.memory(self.device)

    def rated(self) -> Rated | None:
        """What this model of device is sold as; None where it is not known."""
        return self.stack.rated(self.facts)

    def sensors(self) -> Mapping[str, float]:
        """Temperature, power, clocks and the like now, each with its unit in its name; empty where none can be read."""
        return self.stack.sensors(self.facts)

    def release(self) -> None:
        """Give cached memory back to the device."""
        self.stack.release()

    def counters(self) -> Mapping[str, int] | None:
        """The vendor's cumulative fault counters now; None where it offers none."""
        return self.stack.counters(self.facts)

    def reading(self) -> Reading | None:
        """Read the device's state from the vendor's management tools and libraries; None if there are none for it."""
        return self.stack.reading(self.facts)

    def fault_events(self, since: float) -> Sequence[Event]:
        """Return the faults of this device that the host's logs name since then (epoch). Raises SourceError."""
        return self.stack.fault_events(self.facts, since)

    def throttle_reasons(self) -> Sequence[str] | None:
        """Return the reasons for which the device is throttled now; None if unknown."""
        return self.stack.throttle_reasons(self.facts)
