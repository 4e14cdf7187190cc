"""Speed of matrix products."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Measure, Measurement, Row, Yield, check


@check(
    "throughput.matmul",
    title="Speed of matrix products",
    measures={
        "tflops": Measure(
            "TFLOP/s", better=Better.HIGHER,
            meaning="Median rate of a product of square matrices; its spread is what another run may differ by.",
            title="Matrix products are fast enough for the model",
            why="Most of a transformer's time goes into matrix products.",
            remedy="Use faster chips, or plan with more of them.",
            action=Action.ADD_HARDWARE,
        ),
        "share_of_rated": Measure(
            "1", better=Better.HIGHER,
            meaning="Median rate over the one that this model of device is sold with; nothing where none is on record.",
            title="Products reach a fair share of their rating in {dtype}",
            why="A chip that gives a fraction of what it was bought for costs as many times more.",
            remedy="Compare clocks, power limit and temperature with a neighbour's; update the stack; ask the vendor.",
            action=Action.CONTACT_VENDOR,
        ),
        "share_of_host": Measure(
            "1", better=Better.HIGHER,
            meaning=(
                "Best time of a product on the host over that on a device of the host's memory, in turns; nothing on a busy "
                "host, nor on devices of their own silicon."
            ),
            title="Products are as fast as the host's own in {dtype}",
            why="It is the only rating of a device that computes with the host's cores.",
            remedy="Look for what the device does besides.",
            action=Action.CONTACT_VENDOR,
        ),
        "timer_ratio": Measure(
            "1",
            meaning="Time of a batch of products by the device's own events over that by the host's clock, median of three.",
            title="The device's clock agrees with the host's ({dtype})",
            why="Every published rate rests on the device's events: where they run slow, it is faster than its silicon.",
            remedy="Time by the host's clock, with a synchronisation at both ends; report the difference to the vendor.",
            action=Action.CONTACT_VENDOR,
        ),
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="0 where the device refuses the dtype.",
            why="Nearly all the work of a model is matrix products.",
            remedy="Use a device and a stack that multiply in {dtype}.",
            action=Action.REPLACE,
        ),
    },
    typical_s=2.5,
    alone=True,
    least={"budget_s": 0.001, "largest": 1},
)
def matmul(
    accelerator: Accelerator,
    *,
    dtypes: tuple[str, ...] = ("float32", "bfloat16"),
    budget_s: float = 0.6,
    largest: int = 8192,
) -> Iterator[Yield]:
    """Times products of square matrices.

    Most of a transformer's time is spent here. The size doubles from 256 until one product takes a twentieth of
    `budget_s`, or `largest` is reached; random matrices, each product the input of the next, so that none can be left
    out. The rate is held against the rated one of this model, where that is known: far below it is a poor bargain, above it
    suspect. Time is that of the device's own events where the host's clock agrees with it, else the host's.

    Labels: `dtype`.
    """
    import torch

    from readiness.probes.throughput import rate_baselines
    from readiness.probes.throughput.gemm import product_chain, timed
    from readiness.probes.throughput.timing import clock_of, settle

    rated, device, clock = accelerator.rated(), accelerator.device, clock_of(accelerator)

    for name in dtypes:
        size, chain = 256, None
        try:
            while True:
                chain = product_chain(accelerator, getattr(torch, name), size)
                chain.step()
                if 2 * size > largest or clock(chain.step) > budget_s / 20:
                    break
                size *= 2
            settled = settle(accelerator)
            timing = timed(accelerator, chain, budget_s=budget_s)
            checksum = chain.checksum()
        except (RuntimeError, NotImplementedError, TypeError) as problem:
            yield Measurement("supported", 0, {"dtype": name})
            yield Row({"dtype": name, "size": size, "refused": f"{type(problem).__name__}: {problem}"})
            continue
        yield Measurement("supported", 1, {"dtype": name})
        yield Row({"dtype": name, "size": size, "seconds": timing.median, "fastest": min(timing.seconds),
                   "slowest": max(timing.seconds), "checksum": checksum, "clock": timing.clock, **settled.cells(),
                   **timing.unsteady(),
                   "precision": torch.get_float32_matmul_precision()})  # fmt: skip
        work = 2.0 * size**3
        yield Measurement(
            "tflops", timing.rate(work) / 1e12, {"dtype": name},
            spread=timing.spread(work) / 1e12, samples=len(timing.seconds),
        )  # fmt: skip
        tf32 = device.type == "cuda" and rate_baselines.uses_tf32()
        if rated is not None and (peak := rated.rate(name, tf32=tf32)) is not None:
            here = f"{timing.rate(work) / 1e12:.4g} of {peak:.4g} TFLOP/s at {size} x {size}; rated: {rated.source}"
            spread = timing.spread(work) / 1e12 / peak
            yield Measurement("share_of_rated", timing.rate(work) / 1e12 / peak, {"dtype": name}, spread=spread, about=here)
        ratio = rate_baselines.timer_ratio(accelerator, chain.step, timing.median) if device.type != "cpu" else None
        if ratio is not None:
            about = f"{name}: the device's events count {ratio:.3g} of the time by the host's clock"
            yield Measurement("timer_ratio", ratio, {"dtype": name}, about=about)
        if device.type != "cpu" and accelerator.stack.host_backed:
            beside = rate_baselines.products_beside_host(accelerator, getattr(torch, name), largest)
            if beside.busy:
                unknown = "not known: other work keeps the host busy"
                yield Row({"dtype": name, "share_of_host": unknown, "waited": beside.waited})
            else:
                took = f"{1e3 * beside.device_s:.3g} ms, {1e3 * beside.host_s:.3g} ms on the host"
                about = f"a product in {name}: {took}"
                yield Measurement("share_of_host", beside.share, {"dtype": name}, about=about)
