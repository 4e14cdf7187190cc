"""readiness: can this accelerator train our model, can it serve it, and if not, what stands in the way?

What the author of a check imports is here, and in `readiness.probes` what the checks of a topic measure with; all else is
the engine. Declare a check with `check`, its measurements with `Measure` (`Better`, `Action`), its cost and kind with
`Cost`, `Scope` and `Phase`. It is handed an `Accelerator` (`AcceleratorFacts` say what it is), yields `Measurement`,
`Row` and `Note`, and raises `Skip` where there is nothing to measure.

Imported when first used, since they need torch or start processes: `strict_precision` (no TF32 while something is
compared), `unsupported_as_reason` (a refusal of the device as a reason), `Strictness` (how strictly results are
compared), `fingerprint` (the bits of tensors as a number), `temp_dir` (a folder that is removed with the check),
`place`, `Placement` and `run_ranks` (groups of ranks), `host_of` (whose accelerator it is), `fault_counters`,
`device_health`, `version_rules` and `workload_schema` (what drivers count, what is wrong with a device, which versions
fit, what models call).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from readiness.lazy_names import lazy_names

if TYPE_CHECKING:
    from readiness.accelerators import fault_counters, version_rules
    from readiness.accelerators.base import Accelerator
    from readiness.accelerators.readers import health as device_health
    from readiness.accelerators.remote_devices import host_of
    from readiness.check_registry import Phase, Scope, Skip, check
    from readiness.datamodel import AcceleratorFacts, Action, Better, Cost, Measure, Measurement, Note, Row, Yield
    from readiness.distributed import Placement, place, run_ranks
    from readiness.host.temp_dirs import scratch, temp_dir
    from readiness.numerics import Strictness, fingerprint
    from readiness.numerics.strict_precision import strict_precision
    from readiness.numerics.unsupported import unsupported_as_reason
    from readiness.tracing import workload_schema

__version__ = "0.1.0"

__all__ = [
    "Accelerator",
    "AcceleratorFacts",
    "Action",
    "Better",
    "Cost",
    "Measure",
    "Measurement",
    "Note",
    "Phase",
    "Placement",
    "Row",
    "Scope",
    "Skip",
    "Strictness",
    "Yield",
    "__version__",
    "check",
    "device_health",
    "fault_counters",
    "fingerprint",
    "host_of",
    "place",
    "run_ranks",
    "scratch",
    "strict_precision",
    "temp_dir",
    "unsupported_as_reason",
    "version_rules",
    "workload_schema",
]

#: Where the names are. Each is imported when it is first used: the command line must not pay for what it does not need.
_PLACES = {
    "Accelerator": "accelerators.base",
    "AcceleratorFacts": "datamodel",
    "Action": "datamodel",
    "Better": "datamodel",
    "Cost": "datamodel",
    "Measure": "datamodel",
    "Measurement": "datamodel",
    "Note": "datamodel",
    "Phase": "check_registry",
    "Placement": "distributed",
    "Row": "datamodel",
    "Scope": "check_registry",
    "Skip": "check_registry",
    "Strictness": "numerics",
    "Yield": "datamodel",
    "check": "check_registry",
    "device_health": "accelerators.readers.health:",
    "fault_counters": "accelerators.fault_counters:",
    "fingerprint": "numerics",
    "host_of": "accelerators.remote_devices",
    "place": "distributed",
    "run_ranks": "distributed",
    "scratch": "host.temp_dirs",
    "strict_precision": "numerics.strict_precision",
    "temp_dir": "host.temp_dirs",
    "unsupported_as_reason": "numerics.unsupported",
    "version_rules": "accelerators.version_rules:",
    "workload_schema": "tracing.workload_schema:",
}

__getattr__ = lazy_names(globals(), _PLACES)
