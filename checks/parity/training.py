"""A small transformer's training against float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness import Accelerator, Action, Better, Cost, Measure, Measurement, Row, Yield, check


@check(
    "parity.training",
    title="A small transformer trains as it does in float64",
    measures={
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="1 where the transformer trains at all.",
            title="A training step works in {dtype}",
            why="Autograd, autocast, optimizer and allocator meet in a training step.",
            remedy="Update the stack; report the rows to the vendor.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "gradient_error": Measure(
            "1", better=Better.LOWER,
            meaning="First step's worst parameter: root mean square deviation of its gradient over that of the reference.",
            title="Gradients of a whole model are right in {dtype}",
            why="Operators that pass one by one can still fail together.",
            remedy="Compare the parameters in the rows one by one; look for operators that operators.sweep found wrong.",
            action=Action.CONTACT_VENDOR,
        ),
        "loss_difference": Measure(
            "1", better=Better.LOWER,
            meaning="Worst relative deviation of the loss over all steps.",
            title="The training loss follows the reference in {dtype}",
            why="A curve that leaves the reference in thirty steps is another model in a million.",
            remedy="Compare the parameters in the rows one by one; look for operators that operators.sweep found wrong.",
            action=Action.CONTACT_VENDOR,
        ),
        "loss_decreased": Measure(
            "1", better=Better.LOWER,
            meaning="Mean loss of the last three steps over the first loss.",
            title="Training brings the loss down in {dtype}",
            why="A loss that does not fall shows that gradients do not arrive.",
            remedy="Look for operators without a gradient in operators.sweep.",
            action=Action.CONTACT_VENDOR,
        ),
    },
    cost=Cost.SECONDS,
    typical_s=2.0,
    catches=("wrong-result", "wrong-gradient", "nan"),
    least={"steps": 1},
)
def training(
    accelerator: Accelerator, *, dtypes: Sequence[str] = ("float32", "bfloat16"), steps: int = 30
) -> Iterator[Yield]:
    """Trains a small transformer and compares its gradients and its loss curve with float64 on the host.

    Operators that pass one by one can still fail together: autograd, autocast, the optimizer and the allocator meet
    here. Same weights, same data, gradient descent with momentum (an adaptive optimizer would hide a gradient that is
    wrong by a factor). float32 is trained as it is; a lower dtype through autocast with parameters in float32.

    Labels: `dtype`, `precision` (full, autocast).
    """
    import torch

    from readiness import numerics, strict_precision, unsupported_as_reason
    from readiness.probes.parity import train_and_decode, transformer
    from readiness.probes.parity.reference_cases import dtype_named

    draw = accelerator.generator("training")
    model = transformer.build(draw)
    batches = [transformer.text(draw, model.size.vocabulary, 6, 33) for _ in range(steps)]
    start = model.state_dict()
    reference = train_and_decode.train(transformer.copy(start, torch.float64), batches, torch.device("cpu"))
    for name in dtypes:
        dtype = dtype_named(name)
        full = dtype.itemsize >= 4
        labels = {"dtype": name, "precision": "full" if full else "autocast"}
        with strict_precision(), unsupported_as_reason() as refusal:
            ready = transformer.copy(start, dtype if full else torch.float32)
            training_run = train_and_decode.train(ready, batches, accelerator.device, autocast=None if full else dtype)
        yield Measurement("supported", int(refusal.reason is None), labels)
        if refusal.reason is not None:
            yield Row({**labels, "refused": refusal.reason})
            continue
        errors = {
            key: numerics.relative_error(training_run.gradients[key], want) for key, want in reference.gradients.items()
        }
        for key, error in errors.items():
            yield Row({**labels, "parameter": key, "gradient_error": error})
        yield Row({
            "shape": "training/1", **labels, "losses": training_run.losses, "reference_losses": reference.losses,
        })  # fmt: skip
        worst = max(errors, key=errors.__getitem__)
        yield Measurement("gradient_error", max(errors.values()), labels, samples=len(errors), about=f"gradient of {worst}")
        difference = train_and_decode.loss_difference(training_run, reference)
        yield Measurement("loss_difference", difference, labels, samples=steps)
        yield Measurement("loss_decreased", train_and_decode.decrease(training_run), labels, samples=steps)
