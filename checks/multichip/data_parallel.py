"""Training on several ranks against training on one."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Cost, Measure, Note, Scope, Yield, check


@check(
    "multichip.data_parallel",
    title="Data-parallel training matches one process",
    measures={
        "loss_difference": Measure(
            "1", better=Better.LOWER,
            meaning="Worst relative difference of the loss from that of one process, over all steps.",
            title="Data-parallel training gives the losses of one chip",
            why="The same global batch on two ranks must give the losses of one.",
            remedy="Compare the gradients of one step on one and on two ranks.",
            action=Action.GATHER_EVIDENCE,
        ),
        "gradient_norm_difference": Measure(
            "1", better=Better.LOWER,
            meaning="Worst relative difference of the gradient's norm from that of one process, over all steps.",
            title="Data-parallel training gives the gradients of one chip",
            why="A sum in place of a mean hides in the loss and shows in the norm.",
            remedy="Compare the gradients of one step on one and on two ranks.",
            action=Action.GATHER_EVIDENCE,
        ),
        "replicas_differ": Measure(
            "1", better=Better.LOWER,
            meaning="Steps after which the ranks' parameters are not the same in every bit.",
            title="Data-parallel replicas stay equal in every bit",
            why="Replicas that drift apart train several models at once.",
            remedy="Look for parameters that are not synchronised; suspect a chip that corrupts silently.",
            action=Action.REPLACE,
        ),
        "completed": Measure(
            "1", better=Better.HIGHER,
            meaning="0 where a rank died, hung or raised.",
            title="Data-parallel training completes",
            why="Data-parallel training is how every larger model is trained.",
            remedy="The rows name rank and operation: run the vendor's link test, update the library of collectives.",
            action=Action.CONTACT_VENDOR,
        ),
    },
    cost=Cost.SECONDS,
    typical_s=2.0,
    limit_s=300.0,
    scope=Scope.GROUP,
    alone=True,
    catches=("collective-corrupt", "collective-mismatch", "rank-exit", "hang"),
    least={"steps": 1, "patience_s": 1},
)
def data_parallel(
    accelerator: Accelerator, *, ranks: int = 0, steps: int = 20, patience_s: float = 30.0
) -> Iterator[Yield]:
    """Trains a small transformer on several ranks and compares its curve with that of one process and the same batch.

    Gradients that are summed instead of averaged, one parameter left out of the exchange, a stale bucket: such faults
    raise no error and hide behind a loss that still falls. The transformer is trained in float32 with momentum through
    DistributedDataParallel.

    Labels: as in `multichip.collectives`.
    """
    from readiness import Placement, run_ranks
    from readiness.probes.data_parallel.measurements import training
    from readiness.probes.data_parallel.rank import Settings, rank_main
    from readiness.probes.ranks_common.measurements import completion
    from readiness.probes.ranks_common.rank_check import placed

    placement = yield from placed(accelerator, ranks)
    settings = Settings(steps, parts=len(placement.ranks))
    one_process = Placement(placement.ranks[:1])
    for title, where in (("one process", one_process), (placement.scope, placement)):
        yield Note(f"training: {title}")
        outcome = run_ranks(rank_main, accelerator, where, settings, patience_s=patience_s, limit_s=120.0)
        if outcome.failure is not None:
            break
        if where is one_process:
            reference = outcome
    else:
        yield from training(reference, outcome, placement)
    yield from completion(outcome, where, placement.labels)
