"""Training that is killed, and goes on from what it had saved."""

from __future__ import annotations

from collections.abc import Iterator

from readiness.accelerators.base import Accelerator
from readiness.check_registry import Scope, check
from readiness.datamodel import Cost, Yield


@check(
    "multichip.recovery",
    title="Training that is killed goes on as if it had never stopped",
    measures={
        "resume_mismatches": "1",
        "state_mismatches": "1",
        "broken_refused": "1",
        "reshard_difference": "1",
        "recovery_s": "s",
        "completed": "1",
    },
    cost=Cost.SECONDS,
    typical_s=12.0,
    limit_s=300.0,
    scope=Scope.GROUP,
    alone=True,
    catches=("checkpoint-corrupt", "collective-mismatch", "rank-exit", "hang"),
    least={"patience_s": 1},
)
def recovery(accelerator: Accelerator, *, ranks: int = 0, patience_s: float = 30.0) -> Iterator[Yield]:
    """Does training on several ranks survive the death of one, twice in a row, to the very last bit?

    A thousand chips lose one every few hours: what is not restored exactly is lost then. A small transformer trains with
    AdamW through DistributedDataParallel and saves itself by torch.distributed.checkpoint. One rank is killed in the
    middle of a step, the next group resumes, one of its ranks is killed while saving, and a third group resumes from the
    last checkpoint that is complete.

    `resume_mismatches` counts the losses, of every step and rank, that are not those of a run that never stopped: to the
    bit, or where two such runs differ, by ten times as much. `state_mismatches` counts tensors of model and optimizer
    that a rank did not load as they were saved. `broken_refused` is 1 where every rank refuses a checkpoint whose label
    `broken` tells what happened to it. With labels `from` and `to`, a checkpoint went to another number of ranks:
    `reshard_difference` is the worst relative difference of the loss from then on. `recovery_s` is the time from a death
    to the end of the first new step. Label `mode`: `data parallel`, and `fully sharded` where the stack can.
    `completed` is 0 when a rank died that was not to die, hung or raised. Labels `ranks`, `chips`, `world` as in
    `multichip.collectives`. Ranks of other hosts take part where there is a folder that all hosts see (`--shared`).
    """
    from readiness.host.temp_dirs import scratch
    from readiness.probes.ranks_common.rank_check import placed
    from readiness.probes.recovery import parent

    placement = yield from placed(accelerator, ranks, here=accelerator.shared is None)
    with scratch(accelerator.shared) as folder:
        yield from parent.RecoveryRun(accelerator, placement, folder, patience_s).recovery()
