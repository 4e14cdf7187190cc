"""Training steps of the profile's model."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Cost, Measure, Measurement, Row, Skip, Yield, check, workload_schema


@check(
    "model.training",
    title="Training steps of the model: time, tokens a second, utilisation",
    measures={
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="1 where the model's training step runs at all.",
            title="A training step of the model runs",
            why="Operators that are right one by one must still make a step together.",
            remedy="The row names the error: update the stack, or report it to the vendor.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "step_s": Measure(
            "s", better=Better.LOWER,
            meaning="Time of a training step, forward, backward and AdamW, of the model that the row describes; its median.",
            why="It is the time that training is made of.",
            remedy="Compare with another device of the same kind, and with an earlier run.",
            action=Action.GATHER_EVIDENCE,
        ),
        "tokens_per_s": Measure(
            "1/s", better=Better.HIGHER,
            meaning="Tokens of a batch over the median time of a step.",
            why="It says how long a training takes.",
            remedy="Use faster chips, or plan with more of them.",
            action=Action.ADD_HARDWARE,
        ),
        "tflops": Measure(
            "TFLOP/s", better=Better.HIGHER,
            meaning="Operations that the model needs in a step (a row shows their arithmetic) over its median time.",
            why="It compares models of different sizes on one device.",
            remedy="Look at which operators take the time, with the vendor's profiler.",
            action=Action.CONTACT_VENDOR,
        ),
        "utilisation": Measure(
            "1", better=Better.HIGHER,
            meaning="Model FLOP utilisation: the model's operations a second over the rated peak, if that is known.",
            title="Training keeps a fair share of the rated speed busy",
            why="What a chip is sold as and a training step does not reach must be bought as more chips.",
            remedy="Look at which operators take the time; use fused kernels, a compiler, larger batches.",
            action=Action.CONTACT_VENDOR,
        ),
        "share_of_host": Measure(
            "1", better=Better.HIGHER,
            meaning=(
                "Time of a step on the host over that on a device of the host's memory, in turns; nothing on a busy host, "
                "nor on devices of their own silicon."
            ),
            title="A training step is as fast as the host's own",
            why="It is the only rating of a device that computes with the host's cores.",
            remedy="Look for what the device does besides.",
            action=Action.CONTACT_VENDOR,
        ),
        "compiled_supported": Measure(
            "1", better=Better.HIGHER,
            meaning="1 where torch.compile compiles the step; nothing where it was not tried.",
            title="A training step of the model can be compiled",
            why="A compiler fuses what single calls read and write again: without one a chip gives less of what it has.",
            remedy="Update the stack or its backend of torch.compile; train call by call until then.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "compiled_step_s": Measure(
            "s", better=Better.LOWER,
            meaning="Time of a compiled training step, forward, backward and AdamW; its median.",
            why="It is the time that training is made of where it is compiled.",
            remedy="Compare with another device of the same kind, and with an earlier run.",
            action=Action.GATHER_EVIDENCE,
        ),
        "compiled_speedup": Measure(
            "1", better=Better.HIGHER,
            meaning="Median time of a step call by call over that of a compiled one.",
            title="Compiling makes a training step no slower",
            why="A compiler that makes steps slower is no use.",
            remedy="Report it to the maker of the stack's backend of torch.compile.",
            action=Action.CONTACT_VENDOR,
        ),
        "compiled_loss_error": Measure(
            "1", better=Better.LOWER,
            meaning="Relative deviation of the compiled loss from that of the same weights and text call by call.",
            title="The compiled model has the same loss",
            why="A model that is fast and computes something else trains something else.",
            remedy="Train call by call; report it to the maker of the stack's backend of torch.compile.",
            action=Action.CONTACT_VENDOR,
        ),
        "peak_memory_gib": Measure(
            "GiB", better=Better.LOWER,
            meaning="Most memory that the process had on the device, as its stack counts it.",
            why="It is what `model.fit` reckons.",
            remedy="Recompute activations, or divide the model over more chips.",
            action=Action.ADD_HARDWARE,
        ),
    },
    cost=Cost.SECONDS,
    typical_s=5.0,
    limit_s=180.0,
    alone=True,
    vet=workload_schema.vet,
    least={"batch": 1, "length": 1, "budget_s": 0.01},
)
def training(
    accelerator: Accelerator,
    *,
    workload: str = "",
    dtype: str = "bfloat16",
    batch: int = 1,
    length: int = 2048,
    narrow_batch: int = 2,
    narrow_length: int = 64,
    budget_s: float = 2.0,
    compiled: bool = True,
    compile_narrow: bool = False,
) -> Iterator[Yield]:
    """Times training steps of the profile's model: forward, backward and AdamW, products in `dtype`, states in float32.

    Rates of single operators promise more than a model gets. The model is a plain one in torch of the workload's
    configuration, with as many true layers as 60 % of the free memory hold (and fewer experts where not one layer's fit),
    `batch` texts of `length` random tokens; on the CPU and on simulated chips narrow layers of every kind. Of the operations
    that the model needs a row shows the arithmetic; over the time, and over the rated peak, they are the utilisation.
    Fused kernels and several chips are not used: it is what a model gets that nobody has tuned. With `compiled` the training
    goes on through torch.compile, where the stack has a backend; narrow layers only with `compile_narrow`.

    Labels: `dtype`.
    """
    import torch

    from readiness import unsupported_as_reason
    from readiness.probes.model import steps
    from readiness.probes.throughput.rate_baselines import beside_host, uses_tf32
    from readiness.probes.throughput.timing import settle

    if not workload:
        raise Skip("the profile names no workload")
    plan = steps.chosen_model(accelerator, workload_schema.load(workload_schema.find(workload)).model.get("config", {}))
    if plan is None:
        raise Skip(f"{workload} is no decoder whose configuration can be read")
    own = accelerator.device.type != "cpu" and not accelerator.stack.host_backed
    batch, length = (batch, length) if own else (narrow_batch, narrow_length)
    here = {"dtype": dtype}
    with unsupported_as_reason() as refusal:
        work = steps.training(accelerator, plan, getattr(torch, dtype), batch, length)
        settled = settle(accelerator)
        timed = steps.steps(work, budget_s=budget_s, least=5)
    yield Measurement("supported", int(refusal.reason is None), here, about=refusal.reason)
    if refusal.reason is not None:
        yield Row({"model": plan.described, "refused": refusal.reason})
        return
    operations, arithmetic = steps.step_operations(plan, batch, length)
    yield Row({"model": f"{workload}: {plan.described}", "parameters": plan.architecture.parameters, "batch": batch,
               "length": length, "steps": len(timed.seconds), "fastest": min(timed.seconds), "slowest": max(timed.seconds),
               "waited": timed.waited, **settled.cells(), "first_loss": work.losses[0], "last_loss": work.losses[-1],
               "arithmetic": arithmetic})  # fmt: skip
    if timed.busy and not own:
        yield Row({"step_s": "not known: other work keeps the host busy", "waited": timed.waited})
    else:
        tflops = operations / timed.median / 1e12
        yield Measurement("step_s", timed.median, here, spread=timed.spread_s,
                          samples=len(timed.seconds))  # fmt: skip
        yield Measurement("tokens_per_s", batch * length / timed.median, here, samples=len(timed.seconds))
        yield Measurement("tflops", tflops, here, samples=len(timed.seconds))
        rated = accelerator.rated()
        if rated is not None and (peak := rated.rate(dtype, tf32=uses_tf32())) is not None:
            about = f"{arithmetic} in {timed.median:.4g} s, of {peak:.4g} TFLOP/s; rated: {rated.source}"
            yield Measurement("utilisation", tflops / peak, here, samples=len(timed.seconds), about=about)
    if compiled and (own or compile_narrow):
        yield from steps.compiled_measurements(work, timed, here, budget_s=budget_s, known=own)
    elif compiled:
        yield Row({"compiled": "not measured: compiling narrow layers takes longer than they tell"})
    if (peak_bytes := steps.peak_bytes(accelerator)) is not None:
        yield Measurement("peak_memory_gib", peak_bytes / 2**30, here)
    if accelerator.stack.host_backed and accelerator.device.type != "cpu":
        host = steps.training(accelerator, plan, getattr(torch, dtype), batch, length, torch.device("cpu"))
        beside = beside_host(work.step, host.step, accelerator.synchronize)
        if beside.busy:
            yield Row({"share_of_host": "not known: other work keeps the host busy", "waited": beside.waited})
        else:
            yield Measurement("share_of_host", beside.share, here)
