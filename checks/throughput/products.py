"""Speed of the products that the profile's model makes, at its own sizes: matrices, experts, convolutions."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Skip, Yield, check, workload_schema
from readiness.probes.throughput import product_measures


@check(
    "throughput.products",
    title="Speed of the model's products at its own sizes",
    measures=product_measures.measures("products"),
    typical_s=4.0,
    limit_s=180.0,
    alone=True,
    vet=workload_schema.vet,
    least={"budget_s": 0.001},
)
def products(accelerator: Accelerator, *, workload: str = "", budget_s: float = 2.0) -> Iterator[Yield]:
    """Times every product of the workload: of matrices, of groups of experts, and convolutions, at the model's own sizes.

    The calls are those that the trace of the workload recorded, with their counts and their strides; on the CPU and on
    simulated chips those of its reduced model. Random inputs, of which as many sets take turns as no cache holds; rows are
    dealt to experts in equal parts; results are read. Decoding one token is bound by memory: there bytes count.

    Labels: `phase` (training, prefill, decode), `kind` (matrices, experts, convolution), `dtype`.
    """
    from readiness.probes.throughput import products as probe

    if not workload:
        raise Skip("the profile names no workload")
    loaded = workload_schema.load(workload_schema.find(workload))
    yield from probe.of_model(accelerator, loaded, ("matrices", "experts", "convolution"), budget_s=budget_s)
