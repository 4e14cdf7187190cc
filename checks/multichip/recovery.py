"""Training that is killed, and goes on from what it had saved."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Cost, Measure, Scope, Yield, check


@check(
    "multichip.recovery",
    title="Killed training continues as if it had never stopped",
    measures={
        "resume_mismatches": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Losses, of every step and rank, that are not those of a run that never stopped, to the bit or as far as "
                "two such runs may differ."
            ),
            title="Resumed training equals unbroken training",
            why="What a restart does not restore exactly is lost at every restart, without an error.",
            remedy=(
                "Compare the state after loading with that which was saved: state_mismatches and its rows name tensor and "
                "rank."
            ),
            action=Action.GATHER_EVIDENCE,
        ),
        "state_mismatches": Measure(
            "1", better=Better.LOWER,
            meaning="Tensors of model and optimizer that a rank did not load as they were saved.",
            why="A lost optimizer state trains on, and worse, without an error.",
            remedy="Save tensors on the host, in float32; update the plug-in.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "broken_refused": Measure(
            "1", better=Better.HIGHER,
            meaning="1 where every rank refuses a checkpoint that is broken in this way.",
            why="A partial checkpoint that is accepted corrupts the run.",
            remedy="Resume only from checkpoints whose .metadata exists; update torch.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "reshard_difference": Measure(
            "1", better=Better.LOWER,
            meaning="Worst relative difference of the loss after a checkpoint went to another number of ranks.",
            title="Training resumes on another number of ranks",
            why="After a failure there are often fewer chips than before.",
            remedy="Load with the same number of ranks; update torch.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "recovery_s": Measure(
            "s", better=Better.LOWER,
            meaning="Seconds from a death to the end of the first new step.",
            title="Training comes back quickly",
            why="Every restart costs the whole job this long, besides the steps since the last checkpoint.",
            remedy=(
                "Look at the rows: how long until the death was noticed, until the state was loaded, until the first "
                "step."
            ),
            action=Action.GATHER_EVIDENCE,
        ),
        "completed": Measure(
            "1", better=Better.HIGHER,
            meaning="0 where a rank died that was not to die, hung or raised.",
            why="A job of a thousand chips is restarted every few hours: a restart that fails or hangs is an outage.",
            remedy="The rows name rank and operation: check what the dead processes left behind, and at the driver.",
            action=Action.CONTACT_VENDOR,
        ),
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
    """Kills a rank of a training job twice, and compares the resumed training with one that never stopped, to the bit.

    A thousand chips lose one every few hours: what is not restored exactly is lost then. A small transformer trains with
    AdamW through DistributedDataParallel and saves itself by torch.distributed.checkpoint. One rank is killed in the
    middle of a step, the next group resumes, one of its ranks is killed while saving, and a third group resumes from the
    last checkpoint that is complete. Where two runs that never stopped differ, resumed ones may differ by ten times as
    much. Ranks of other hosts take part where there is a folder that all hosts see (`--shared`).

    Labels: `mode` (`data parallel`, and `fully sharded` where the stack can); `broken` (what happened to a checkpoint);
    `from` and `to` (ranks that saved and ranks that loaded); `ranks`, `chips` and `world` as in `multichip.collectives`.
    """
    from readiness import temp_dir
    from readiness.probes.ranks_common.rank_check import placed
    from readiness.probes.recovery import parent

    placement = yield from placed(accelerator, ranks, here=accelerator.shared is None)
    with temp_dir(accelerator.shared) as folder:
        yield from parent.RecoveryRun(accelerator, placement, folder, patience_s).recovery()
