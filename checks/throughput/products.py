"""Speed of the products that the profile's model makes, at its own sizes: matrices, experts, convolutions, attention."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from readiness import Accelerator, Action, Better, Measure, Skip, Yield, check, workload_schema

_REMEDY = "The rows give each call's sizes and rate: report the slow ones to the vendor; pad sizes to multiples of 128."


def vet(settings: Mapping[str, Any]) -> None:
    """Raises UsageError where a profile names a workload that is none."""
    if name := settings.get("workload"):
        workload_schema.load(workload_schema.find(name))


def _measures(what: str) -> dict[str, Measure]:
    return {
        "timed_share": Measure(
            "1", better=Better.HIGHER,
            meaning=f"Share of the operations of the model's {what} that could be timed: the device has and holds them.",
            title=f"The model's {what} run in {{phase}}",
            why="Rates of a part say nothing of the rest.",
            remedy="The rows name what was refused: update the stack, or report it to the vendor.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "tflops": Measure(
            "TFLOP/s", better=Better.HIGHER,
            meaning=(
                f"Operations of all {what} that the model makes in a phase, each as often as it makes it, over the sum of "
                "their median times; its spread is the distance between the quartiles."
            ),
            title=f"The model's {what} are fast enough in {{phase}}",
            why="Square products promise more than a model's own sizes give.",
            remedy=_REMEDY,
            action=Action.CONTACT_VENDOR,
        ),
        "best_tflops": Measure(
            "TFLOP/s", better=Better.HIGHER,
            meaning="The same over the sum of their shortest times.",
            why="What lies between median and best is lost to something that comes and goes.",
            remedy="Look for what else uses the device or the host.",
            action=Action.CHECK_CONFIG,
        ),
        "gbps": Measure(
            "GB/s", better=Better.HIGHER,
            meaning="Bytes that these calls read at least (weights, inputs, cache) over the sum of their median times.",
            why="A single token is bound by memory, not by products.",
            remedy=_REMEDY,
            action=Action.CONTACT_VENDOR,
        ),
        "share_of_rated": Measure(
            "1", better=Better.HIGHER,
            meaning="tflops over the rate that this model of device is sold with; nothing where none is on record.",
            title=f"The model's {what} reach a fair share of the rating in {{phase}}",
            why="A chip that gives a fraction of what it was bought for costs as many times more.",
            remedy=_REMEDY,
            action=Action.CONTACT_VENDOR,
        ),
        "share_of_bandwidth": Measure(
            "1", better=Better.HIGHER,
            meaning="gbps of single tokens over the memory's rated bandwidth; nothing where none is on record.",
            title=f"Decoding's {what} read memory near its rating",
            why="Each token of one conversation reads all weights once: this share is the share of the tokens.",
            remedy=_REMEDY,
            action=Action.CONTACT_VENDOR,
        ),
        "share_of_host": Measure(
            "1", better=Better.HIGHER,
            meaning=(
                "Time on the host over that on a device of the host's memory, in turns; nothing on a busy host, nor on "
                "devices of their own silicon."
            ),
            title=f"The model's {what} are as fast as the host's",
            why="It is the only rating of a device that computes with the host's cores.",
            remedy="Look for what the device does besides.",
            action=Action.CONTACT_VENDOR,
        ),
    }  # fmt: skip


@check(
    "throughput.products",
    title="Speed of the model's products at its own sizes",
    measures=_measures("products"),
    typical_s=4.0,
    limit_s=180.0,
    alone=True,
    vet=vet,
    least={"budget_s": 0.001},
)
def products(accelerator: Accelerator, *, workload: str = "", budget_s: float = 2.0) -> Iterator[Yield]:
    """Times every product of the workload: of matrices, of groups of experts, and convolutions, at the model's own sizes.

    The calls are those that the trace of the workload recorded, with their counts and their strides; on the CPU and on
    simulated chips those of its reduced model. Random inputs, of which as many sets take turns as no cache holds; rows are
    dealt to experts in equal parts; results are read. Decoding one token is bound by memory: there bytes count.

    Labels: `phase` (training, prefill, decode), `kind` (matrices, experts, convolution), `dtype`.
    """
    yield from _timed(accelerator, workload, ("matrices", "experts", "convolution"), budget_s)


@check(
    "throughput.attention",
    title="Speed of the model's attention at its own lengths",
    measures=_measures("attention"),
    typical_s=1.5,
    limit_s=180.0,
    alone=True,
    vet=vet,
    least={"budget_s": 0.001},
)
def attention(accelerator: Accelerator, *, workload: str = "", budget_s: float = 0.8) -> Iterator[Yield]:
    """Times the attention of the workload forward and backward, and of one token over all that came before.

    The calls are those that the trace recorded, at the workload's length and heads; on the CPU and on simulated chips those
    of its reduced model. Of a causal mask half of the operations count; a backward pass counts two and a half times the
    forward one. The stack chooses its kernel, fused or not.

    Labels: `phase` (forward, backward, prefill, decode), `kind`, `dtype`.
    """
    yield from _timed(accelerator, workload, ("attention",), budget_s)


def _timed(accelerator: Accelerator, workload: str, kinds: tuple[str, ...], budget_s: float) -> Iterator[Yield]:
    from readiness.probes.throughput import products as probe
    from readiness.probes.throughput.timing import settle

    if not workload:
        raise Skip("the profile names no workload")
    loaded = workload_schema.load(workload_schema.find(workload))
    chosen = probe.of_workload(accelerator, loaded, kinds)
    if not chosen:
        raise Skip(f"{workload} calls no {' or '.join(kinds)}")
    settled = settle(accelerator)
    yield from probe.measurements(accelerator, list(probe.measure(accelerator, chosen, budget_s=budget_s)), settled)
