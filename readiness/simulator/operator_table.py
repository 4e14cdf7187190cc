"""Table of the operators that reach the simulated device, for the PyTorch that is installed.

`python -m readiness.simulator.operator_table > readiness/simulator/operator_names.txt`; `operator_names` reads it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from readiness.simulator import collectives, composites, kernels
from readiness.simulator.call import Call


def lines() -> Iterator[str]:
    """Return the lines of the file for the installed PyTorch."""
    def registered(key: str) -> set[str]:
        return set(torch._C._dispatch_get_registrations_for_dispatch_key(key))

    composite = ("CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional", "CompositeImplicitAutograd")
    apart = {name for key in composite for name in registered(key)}
    here = {name for name in registered("CPU") if name.startswith("aten::")}
    own = {f"aten::{name}" for name in (*kernels.METADATA, *kernels.OWN)}
    here |= {"aten::convolution", "aten::convolution_backward"} | {f"aten::{name}" for name in kernels.list_operators()}
    every = {name for name in torch._C._dispatch_get_all_op_names() if name.startswith("aten::")}
    here |= every - apart  # without a kernel anywhere: the device is asked all the same
    here -= own | {f"aten::{name}" for name in composites.NAMES}
    yield f"# torch {torch.__version__.partition('+')[0]}"
    for name in sorted(here | {f"c10d::{name}" for name in collectives.NAMES}):
        arguments = _arguments(name)
        if arguments is not None:
            yield f"{name} {' '.join(arguments)}".rstrip()
    for name in sorted(registered("AutocastCPU")):
        if name.startswith("aten::"):
            yield f"autocast::{name.removeprefix('aten::')}"
    yield from sorted(f"-{name}" for name in every - here)


def _arguments(name: str) -> list[str] | None:
    schema = Call(name, [], {}).schema
    return None if schema is None else [argument.name for argument in schema.arguments]


if __name__ == "__main__":
    print("\n".join(lines()))
