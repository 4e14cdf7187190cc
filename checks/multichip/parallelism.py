"""Every way to train one model on several chips against training it on one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness.accelerators.base import Accelerator
from readiness.check_registry import Scope, check
from readiness.datamodel import Cost, Yield


@check(
    "multichip.parallelism",
    title="Every way to train on several chips matches training on one",
    measures={
        "supported": "1", "loss_difference": "1", "gradient_norm_difference": "1", "replicas_differ": "1",
        "parameter_difference": "1", "chip_difference": "1", "completed": "1",
    },
    cost=Cost.MINUTES,
    typical_s=20.0,
    limit_s=900.0,
    scope=Scope.GROUP,
    alone=True,
    catches=("collective-corrupt", "collective-mismatch", "rank-exit", "hang"),
    least={"steps": 1, "patience_s": 1},
)  # fmt: skip
def parallelism(
    accelerator: Accelerator,
    *,
    ranks: int = 0,
    modes: Sequence[str] = (
        "ddp", "ddp+zero", "fsdp", "hsdp", "tensor", "sequence", "fsdp+tensor", "pipeline-gpipe", "pipeline-1f1b",
        "pipeline-interleaved", "pipeline-dualpipe-v", "ddp+pipeline", "expert-deepseek", "expert-qwen", "fsdp+expert",
        "pipeline+expert", "context-ring", "context-gather",
    ),
    optimizers: Sequence[str] = ("sgd", "adamw"),
    dtypes: Sequence[str] = ("float32",),
    steps: int = 6,
    patience_s: float = 30.0,
) -> Iterator[Yield]:  # fmt: skip
    """Does a model train the same whether its batch, parameters, matrices, layers, experts or sequences are divided?

    Or its optimizer's state, or several of them at once. Each way to divide the work goes through other code and other
    collectives, and its mistakes are silent: a sum for a mean, a norm's gradient that is never summed, tokens that come
    back to the wrong place. A small transformer (with experts chosen DeepSeek-V3's or Qwen3's way) trains on each chip
    alone, and then by each of the `modes` on all.

    Labels: `mode`, `optimizer`, `dtype`, and those of `multichip.collectives`. `loss_difference` and
    `gradient_norm_difference` (norms in float64) are the worst relative differences over all steps from one chip.
    `replicas_differ` counts the steps after which ranks that should hold the same parameters differ in any bit, the
    putting together of divided ones at the end included. `parameter_difference` is the worst element at the end, over its
    parameter's root mean square, under SGD alone: AdamW makes roundoff large. `chip_difference` is how far the worst chip
    by itself is from float64 on the host, and names it. `supported` is 0 where the stack refuses a mode, `completed` 0
    where a rank died, hung or raised. A mode that wants more ranks than there are, or that the simulator cannot do, is
    not measured: a row says why.
    """
    from readiness.probes.parallelism.parent import ParallelTraining
    from readiness.probes.ranks_common.rank_check import placed

    training = ParallelTraining(accelerator, (yield from placed(accelerator, ranks)), steps, patience_s)
    yield from training.run(modes, dtypes, optimizers)
    yield from training.chips()
