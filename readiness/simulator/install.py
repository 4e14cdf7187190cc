"""Make this process ready for a simulated chip: device type, kernels, autocast, collectives, files.

PyTorch knows one device type for out-of-tree devices and renames it once; what is registered stays for the life of the
process, and only the chip behind it can be changed. So: one process, one chip, and never in a process that looks at real
accelerators (the simulated one becomes `torch.accelerator`), nor in one that has computed a gradient before: PyTorch's
engine counts the devices when it computes the first.
"""

from __future__ import annotations

import warnings

import torch

from readiness.simulator import attention, autocast, collectives, composites, serialization, torch_module, torch_patches
from readiness.simulator.device import SimulatedDevice
from readiness.simulator.kernels import KIND, Interpreter
from readiness.simulator.machine_file import Chip


class UnavailableError(Exception):
    """The installed PyTorch does not support devices written in Python."""


class _Current:
    """The current simulated chip, for which what is registered once does the work."""

    device: SimulatedDevice


_current = _Current()
_kept: list[object] = []  # registrations end with their objects


def install(chip: Chip, number: int, seed: int = 0) -> SimulatedDevice:
    """Make chip `number` of a chip file this process's device `sim:0`. May be called again with another chip.

    Raises UnavailableError where PyTorch is older than its devices written in Python (2.9).
    """
    torch.set_num_threads(1)  # several chips share the host: threads that wait for each other would eat it up
    device = SimulatedDevice(chip, number, seed)
    _current.device = device
    torch_module.use(device)
    if not _kept:
        register()
    interpreter = _kept[0]
    assert isinstance(interpreter, Interpreter)
    interpreter.chip = device
    interpreter.take_lists_whole((lambda name: any(device.faults_of(name))) if device.faults else None)
    serialization.register_distributed(_current)
    return device


def installed() -> SimulatedDevice | None:
    """Return the simulated device of this process, or None."""
    return getattr(_current, "device", None) if _kept else None


def register() -> None:
    """Register device type and kernels, for whichever chip is installed in this process or in one that is forked from it.

    Raises UnavailableError.
    """
    from torch.utils import backend_registration

    set_up = getattr(backend_registration, "_setup_privateuseone_for_python_backend", None)
    if set_up is None:
        raise UnavailableError(f"torch {torch.__version__} cannot take a device written in Python; 2.9 and later can")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kernels of collectives replace those that torch has for such devices
        set_up(KIND, backend_module=torch_module.make())
        interpreter = Interpreter()
        interpreter.register()
        _kept.append(interpreter)
        _kept.append(attention.register())
        _kept.append(composites.register())
        _kept.append(torch_patches.close(_current))
        _kept.append(autocast.register(_current))
        _kept.append(collectives.register(_current))
        serialization.register(_current)
