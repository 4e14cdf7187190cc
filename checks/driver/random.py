"""The device's random numbers."""

from __future__ import annotations

from collections.abc import Iterator

from readiness.accelerators.base import Accelerator
from readiness.check_registry import check
from readiness.datamodel import Measurement, Row, Yield


@check(
    "driver.random",
    title="Random numbers repeat from a seed and have the right distribution",
    measures={"generator_supported": "1", "reproducibility_failures": "1", "moment_error": "standard errors"},
    typical_s=0.5,
    catches=("wrong-random",),
    least={"numbers": 1024},
)
def random(accelerator: Accelerator, *, numbers: int = 1 << 18) -> Iterator[Yield]:
    """Does the same seed give the same numbers, and are they distributed as they should be?

    A training run can only be repeated, resumed or debugged if its random numbers can, and dropout with a wrong rate
    trains another model. `reproducibility_failures` counts broken promises of the default generator and of one made for
    the device: same seed same numbers, another seed others, a restored state continues, dropout repeats.
    `moment_error` is the largest deviation of a distribution's moments from theory, in standard errors (label
    `distribution`): about 3 by chance alone, infinite where a number is not finite or outside its range.
    """
    from readiness.probes.driver.rng import moment_errors, promises

    kept, refusal = promises(accelerator, numbers)
    for source, promise, holds in kept:
        yield Row({"generator": source, "promise": promise, "kept": holds})
    yield Measurement("generator_supported", int(refusal is None))
    if refusal is not None:
        yield Row({"generator": "of its own", "refused": refusal})
    if kept:
        yield Measurement("reproducibility_failures", sum(not holds for _, _, holds in kept), samples=len(kept))
    for distribution, error, moments in moment_errors(accelerator, numbers):
        yield Row({"distribution": distribution, **moments})
        if error is not None:
            yield Measurement("moment_error", error, {"distribution": distribution}, samples=numbers)
