"""The device's random numbers."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Measure, Measurement, Row, Yield, check


@check(
    "driver.random",
    title="Random numbers repeat from a seed and have the right distribution",
    measures={
        "generator_supported": Measure(
            "1", better=Better.HIGHER,
            meaning="1 where a generator can be made for the device.",
            why="Dropout and sampling that repeat need a generator on the device.",
            remedy="Draw random numbers on the host; update the plug-in.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "reproducibility_failures": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Broken promises: same seed, same numbers; another seed, others; a restored state continues; dropout "
                "repeats."
            ),
            title="Random numbers repeat from their seed",
            why="A run can be repeated, resumed or debugged only if its random numbers can.",
            remedy="Update the plug-in; until then draw random numbers on the host.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "moment_error": Measure(
            "standard errors", better=Better.LOWER,
            meaning=(
                "Largest deviation of a distribution's moments from theory; about 3 by chance alone, infinite for a "
                "number out of range."
            ),
            title="Random numbers have the right distribution",
            why="Dropout, initialisation and sampling with a wrong distribution train another model and sample other text.",
            remedy="Update the plug-in; until then draw random numbers on the host.",
            action=Action.UPDATE_SOFTWARE,
        ),
    },
    typical_s=0.5,
    catches=("wrong-random",),
    least={"numbers": 1024},
)
def random(accelerator: Accelerator, *, numbers: int = 1 << 18) -> Iterator[Yield]:
    """Draws random numbers twice from the same seed, and compares their distribution with theory.

    A training run can be repeated, resumed or debugged only if its random numbers can, and dropout with a wrong rate
    trains another model. The default generator and one made for the device are tried.

    Labels: `distribution` of `moment_error`.
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
