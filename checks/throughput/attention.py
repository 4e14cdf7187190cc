"""Speed of the attention of the profile's model, at its own lengths."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Skip, Yield, check, workload_schema
from readiness.probes.throughput import product_measures


@check(
    "throughput.attention",
    title="Speed of the model's attention at its own lengths",
    measures=product_measures.measures("attention"),
    typical_s=1.5,
    limit_s=180.0,
    alone=True,
    vet=workload_schema.vet,
    least={"budget_s": 0.001},
)
def attention(accelerator: Accelerator, *, workload: str = "", budget_s: float = 0.8) -> Iterator[Yield]:
    """Times the attention of the workload forward and backward, and of one token over all that came before.

    The calls are those that the trace recorded, at the workload's length and heads; on the CPU and on simulated chips those
    of its reduced model. Of a causal mask half of the operations count; a backward pass counts two and a half times the
    forward one. The stack chooses its kernel, fused or not.

    Labels: `phase` (forward, backward, prefill, decode), `kind`, `dtype`.
    """
    from readiness.probes.throughput import products as probe

    if not workload:
        raise Skip("the profile names no workload")
    loaded = workload_schema.load(workload_schema.find(workload))
    yield from probe.of_model(accelerator, loaded, ("attention",), budget_s=budget_s)
