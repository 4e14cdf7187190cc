"""Speed of convolutions, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Measure, Yield, check
from readiness.probes.throughput import product_measures

_REMEDY = "The rows give each shape's rate: update the stack, try memory in channels-last order, or report it to the vendor."


@check(
    "throughput.convolution",
    title="Speed of convolutions",
    measures={
        "timed_share": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of the operations that could be timed: the device has these convolutions and holds them.",
            title="Convolutions run {phase} in {dtype}",
            why="Rates of a part say nothing of the rest.",
            remedy="The rows name what was refused: update the stack, or report it to the vendor.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "tflops": Measure(
            "TFLOP/s", better=Better.HIGHER,
            meaning=(
                "Operations of four convolutions of ResNet-50 and of a vision transformer over the sum of their median "
                "times; its spread is what another run may differ by."
            ),
            title="Convolutions are fast enough {phase} in {dtype}",
            why="Models of pictures spend most of their time in them.",
            remedy=_REMEDY,
            action=Action.CONTACT_VENDOR,
        ),
        "best_tflops": product_measures.BEST_TFLOPS,
        "gbps": Measure(
            "GB/s", better=Better.HIGHER,
            meaning="Bytes that these calls read at least over the sum of their median times.",
            why="Narrow convolutions are bound by memory.",
            remedy=_REMEDY,
            action=Action.CONTACT_VENDOR,
        ),
        "share_of_rated": Measure(
            "1", better=Better.HIGHER,
            meaning="tflops over the rate of products that this model of device is sold with; nothing if none is on record.",
            title="Convolutions reach a fair share of the rating {phase} in {dtype}",
            why="A convolution is a product of matrices in another order.",
            remedy=_REMEDY,
            action=Action.CONTACT_VENDOR,
        ),
        "share_of_host": product_measures.share_of_host("Convolutions are as fast as the host's own"),
    },
    typical_s=1.5,
    limit_s=180.0,
    alone=True,
    least={"budget_s": 0.001, "batch": 1, "narrow_batch": 1},
)  # fmt: skip
def convolution(
    accelerator: Accelerator,
    *,
    dtypes: tuple[str, ...] = ("float32", "bfloat16"),
    batch: int = 64,
    narrow_batch: int = 2,
    budget_s: float = 0.8,
) -> Iterator[Yield]:
    """Times convolutions forward and backward: 7 x 7, 3 x 3 and 1 x 1 of ResNet-50, and the patches of a vision transformer.

    Random pictures, `batch` at once, of which as many sets take turns as no cache holds; gradients of input and weights.
    On the CPU and on simulated chips narrow ones of the same kinds. Results are read.

    Labels: `phase` (forward, backward), `kind`, `dtype`.
    """
    from readiness.probes.throughput import convolutions, products
    from readiness.probes.throughput.timing import on_host, settle

    narrow = on_host(accelerator)
    chosen = list(convolutions.calls(tuple(dtypes), narrow_batch if narrow else batch, narrow=narrow))
    settled = settle(accelerator)
    yield from products.measurements(accelerator, list(products.measure(accelerator, chosen, budget_s=budget_s)), settled)
