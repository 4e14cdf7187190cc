"""Training through torch.compile."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Cost, Measure, Measurement, Row, Yield, check


@check(
    "parity.compiled",
    title="Training through torch.compile is the training call by call",
    measures={
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="1 where the stack compiles forward and backward pass and the optimizer's step.",
            title="Training steps can be compiled by torch.compile",
            why="A month of training call by call is right, and slower.",
            remedy="Train call by call; update the plug-in.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "loss_error": Measure(
            "1", better=Better.LOWER,
            meaning="Largest relative deviation of a step's loss from that of the same step call by call.",
            title="Compiled training has the losses of training call by call",
            why="A compiled optimizer that is wrong from the third step on trains another model without an error.",
            remedy="Train call by call; report the rows to the vendor.",
            action=Action.CONTACT_VENDOR,
        ),
        "weight_error": Measure(
            "1", better=Better.LOWER,
            meaning="Largest relative deviation of a parameter after the last step, as a Frobenius norm.",
            title="Compiled training ends with the weights of eager training",
            why="A compiled optimizer that is wrong from the third step on trains another model without an error.",
            remedy="Train call by call; report the rows to the vendor.",
            action=Action.CONTACT_VENDOR,
        ),
        "recompiles": Measure(
            "1", better=Better.LOWER,
            meaning="Graphs that were compiled after the first step, though all steps have one shape.",
            title="Steps of one shape are compiled once",
            why="A step that is compiled again and again is slower than none that is compiled.",
            remedy="Look for what changes from step to step with TORCH_LOGS=recompiles.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "graph_breaks": Measure(
            "1", better=Better.LOWER,
            meaning="Places at which tracing had to stop and continue.",
            title="A training step is traced without a break",
            why="Each break costs time, and is where defects of compiled optimizers were seen.",
            remedy="Look for their reasons with TORCH_LOGS=graph_breaks.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "first_step_s": Measure(
            "s", better=Better.LOWER,
            meaning="Duration of the first step, which compiles.",
            title="A training step is compiled in time",
            why="Every restart pays for it.",
            remedy="Keep the compiler's cache between runs.",
            action=Action.CHECK_CONFIG,
        ),
        "step_ratio": Measure(
            "1", better=Better.LOWER,
            meaning="Duration of a later compiled step over the same call by call, medians; tiny steps, so no benchmark.",
            title="Compiled steps are no slower than steps call by call",
            why="Steps are compiled to be quicker; these are tiny, and show overhead more than speed.",
            remedy="Measure the real model both ways before you compile it.",
            action=Action.GATHER_EVIDENCE,
        ),
    },
    cost=Cost.MINUTES,
    typical_s=60.0,
    limit_s=300.0,
    catches=("wrong-compiled",),
    least={"steps": 3},
)
def compiled(accelerator: Accelerator, *, backend: str = "inductor", steps: int = 5) -> Iterator[Yield]:
    """Trains a decoder layer for `steps` steps of AdamW through torch.compile and call by call, and compares them.

    Loss, backward pass and the optimizer's step are compiled by `backend`. The first time takes a minute and more on a slow
    host: profiles ask for it where it is worth that.
    """
    import statistics

    from readiness.probes.parity import compiled as probe

    found = probe.compare(accelerator, backend, steps)
    yield Measurement("supported", int(found.refusal is None), about=found.refusal)
    if found.refusal is not None or found.compiled is None or found.eager is None:
        yield Row({"backend": backend, "refused": found.refusal})
        return
    errors = found.loss_errors
    for step, error in enumerate(errors):
        yield Row({"step": step, "loss": found.compiled.losses[step], "call_by_call": found.eager.losses[step],
                   "error": error, "seconds": round(found.compiled.seconds[step], 4)})  # fmt: skip
    yield Measurement("loss_error", max(errors), samples=steps, about=f"step {errors.index(max(errors))}")
    yield Measurement("weight_error", found.weight_error, samples=len(found.eager.weights))
    yield Measurement("recompiles", found.recompiles, samples=found.graphs)
    yield Measurement("graph_breaks", found.breaks)
    yield Measurement("first_step_s", found.compiled.seconds[0])
    later = [statistics.median(one.seconds[1:]) for one in (found.compiled, found.eager)]
    yield Measurement("step_ratio", later[0] / later[1])
