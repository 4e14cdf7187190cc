"""Mixed precision by torch's own switch."""

from __future__ import annotations

from collections.abc import Iterator

from readiness.accelerators.base import Accelerator
from readiness.check_registry import check
from readiness.datamodel import Measurement, Row, Yield


@check(
    "driver.autocast",
    title="Mixed precision by autocast works",
    measures={"supported": "1", "autocast_errors": "1", "relative_error": "1"},
    typical_s=0.3,
    catches=("wrong-dtype",),
    least={"rows": 1, "features": 1},
)
def autocast(
    accelerator: Accelerator, *, dtypes: tuple[str, ...] = ("bfloat16", "float16"), rows: int = 64, features: int = 96
) -> Iterator[Yield]:
    """Does `torch.autocast` compute in the lower precision, give gradients of the parameters' dtype, and switch off again?

    Nearly every training script relies on it. `supported` tells whether autocast accepts the dtype at all;
    `autocast_errors` counts results and gradients of another dtype than they should have and steps that raised;
    `relative_error` is the Frobenius norm of a linear layer's deviation from float64 over that of the float64 result,
    worst of forward and gradients, infinite where NaN or infinity appear.
    """
    import torch

    from readiness.probes.driver.autocast import relative_error, try_autocast

    for name in dtypes:
        dtype = getattr(torch, name)
        generator = accelerator.generator("autocast", name)
        inputs = torch.randn(rows, features, generator=generator)
        weight = torch.randn(features, features, generator=generator) / features**0.5
        trial = try_autocast(accelerator.device, dtype, inputs, weight)
        accelerator.synchronize()
        yield Measurement("supported", int(trial.refusal is None), {"dtype": name})
        if trial.refusal is not None:
            yield Row({"dtype": name, "refused": trial.refusal})
            continue
        for problem in trial.problems:
            yield Row({"dtype": name, "problem": problem})
        yield Measurement("autocast_errors", len(trial.problems), {"dtype": name})
        errors = [relative_error(found, wanted) for found, wanted in trial.pairs]
        if errors:
            yield Measurement("relative_error", max(errors), {"dtype": name}, samples=len(errors))
