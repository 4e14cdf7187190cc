"""Mixed precision by torch's own switch."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Measure, Measurement, Row, Yield, check


@check(
    "driver.autocast",
    title="Mixed precision by autocast works",
    measures={
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="1 where autocast accepts the dtype at all.",
            title="Mixed precision by autocast is supported",
            why="Mixed precision is how nearly every model is trained.",
            remedy="Use a stack whose plug-in supports torch.autocast in bfloat16.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "autocast_errors": Measure(
            "1", better=Better.LOWER,
            meaning="Results and gradients of another dtype than they should have, and steps that raised.",
            title="Autocast puts every operator into the right dtype",
            why="An operator that autocast leaves in the wrong dtype loses precision or speed without an error.",
            remedy="Update the plug-in; the rows name the operators.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "list_errors": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Operators of PyTorch's published lists whose output has another dtype than its list says: the lower one, "
                "float32, or the widest of the inputs."
            ),
            title="Autocast follows PyTorch's published lists",
            why=(
                "A loss or a norm that autocast leaves in 16 bits loses precision without an error; a product that it "
                "leaves in 32 costs twice the time."
            ),
            remedy="Cast the inputs of the operators in the rows by hand; update the plug-in.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "relative_error": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Worst deviation of a linear layer and its gradients from float64, as a Frobenius norm over that of the "
                "reference; infinite where NaN or infinity appear."
            ),
            title="Autocast in {dtype} keeps the digits that it should",
            why="A result far from float64 in the precision of every training step trains another model.",
            remedy="Train in the full precision; report the row to the vendor.",
            action=Action.CONTACT_VENDOR,
        ),
    },
    typical_s=0.3,
    catches=("wrong-dtype",),
    least={"rows": 1, "features": 1},
)
def autocast(
    accelerator: Accelerator, *, dtypes: tuple[str, ...] = ("bfloat16", "float16"), rows: int = 64, features: int = 96
) -> Iterator[Yield]:
    """Checks that `torch.autocast` lowers the precision, keeps gradients in the parameters' dtype, and switches off again.

    Nearly every training script relies on it. A linear layer of `features` values takes a batch of `rows`. Each operator of
    PyTorch's published lists is called once, and the dtype of its output compared with what the list says: the list of the
    CPU for CPUs, that of CUDA and XPU for GPUs, for other stacks what all lists have in common.

    Labels: `dtype`.
    """
    import torch

    from readiness.probes.driver.autocast import relative_error, try_autocast
    from readiness.probes.driver.autocast_lists import try_lists

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
        listed = list(try_lists(accelerator.device, accelerator.stack.name, dtype, generator))
        accelerator.synchronize()
        for one in listed:
            if one.wrong or one.refusal:
                yield Row({"dtype": name, "operator": one.operator, "list": one.fate.value, "inputs": one.inputs,
                           "output": one.found or None, "wanted": one.wanted, "refused": one.refusal or None})  # fmt: skip
        taken = [one for one in listed if not one.refusal]
        if taken:
            wrong = [one for one in taken if one.wrong]
            about = "; ".join(
                f"not in {fate.value}: {', '.join(dict.fromkeys(one.operator for one in wrong if one.fate is fate))}"
                for fate in dict.fromkeys(one.fate for one in wrong)
            )
            count = len(dict.fromkeys(one.operator for one in wrong))
            yield Measurement("list_errors", count, {"dtype": name}, samples=len(taken), about=about or None)
