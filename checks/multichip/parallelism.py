"""Every way to train one model on several chips, compared with training it on one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness import Accelerator, Action, Better, Cost, Measure, Scope, Yield, check


@check(
    "multichip.parallelism",
    title="Every way to train on several chips matches training on one",
    measures={
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="0 where the stack refuses the mode.",
            why="A way to divide the work that the stack refuses is one less to fit a model with.",
            remedy="Divide the work another way; update torch and the plug-in.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "loss_difference": Measure(
            "1", better=Better.LOWER,
            meaning="Worst relative difference of the loss from that of one chip, over all steps.",
            title="Divided training with AdamW gives one chip's losses",
            why=(
                "Models are trained with AdamW; it divides each gradient by its own size, so that roundoff grows and a "
                "wrong factor hides."
            ),
            remedy="Compare the gradients of one step on one chip and on all, parameter by parameter.",
            action=Action.GATHER_EVIDENCE,
        ),
        "gradient_norm_difference": Measure(
            "1", better=Better.LOWER,
            meaning="Worst relative difference of the gradient's norm (in float64) from that of one chip, over all steps.",
            why=(
                "A sum in place of a mean, or a norm's gradient that is never summed, hides in the loss and shows in the "
                "norm."
            ),
            remedy="Compare the gradients of one step on one chip and on all, parameter by parameter.",
            action=Action.GATHER_EVIDENCE,
        ),
        "replicas_differ": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Steps after which ranks that should hold the same parameters differ in any bit, the putting together of "
                "divided ones at the end included."
            ),
            title="Replicas of divided training stay equal in every bit",
            why=(
                "One flipped bit changes no loss visibly, and from there on two ranks train different "
                "models."
            ),
            remedy="Suspect the chip that is named, and its links; look for parameters that are not synchronised.",
            action=Action.REPLACE,
        ),
        "parameter_difference": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Worst element of a parameter at the end, over the parameter's root mean square; under SGD alone, as "
                "AdamW makes roundoff large."
            ),
            title="Divided training gives the parameters of one chip",
            why=(
                "A part of the model that only one rank holds has no copy that could disagree with it: it must be what "
                "one chip would have."
            ),
            remedy="The reason names parameter, rank and chip: suspect that chip, or how the part is put together.",
            action=Action.GATHER_EVIDENCE,
        ),
        "chip_difference": Measure(
            "1", better=Better.LOWER,
            meaning="How far the worst chip by itself is from float64 on the host; it is named.",
            title="All chips compute divided training equally",
            why=(
                "One chip that computes differently from the rest corrupts the training of all, and no collective is to "
                "blame."
            ),
            remedy="Run the checks of operators and parity on the chip that is named; take it out of service.",
            action=Action.REPLACE,
        ),
        "completed": Measure(
            "1", better=Better.HIGHER,
            meaning="0 where a rank died, hung or raised.",
            title="Every way to divide training completes",
            why="A way to divide the work that hangs or dies at its fourth step trains no model.",
            remedy=(
                "The rows name mode, step, rank and chip: update the library of collectives, or divide the work another "
                "way."
            ),
            action=Action.CONTACT_VENDOR,
        ),
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
        "ddp", "ddp-accumulating", "ddp-static", "ddp-unused", "ddp+zero", "fsdp", "hsdp", "tensor", "sequence",
        "fsdp+tensor", "pipeline-gpipe", "pipeline-1f1b",
        "pipeline-interleaved", "pipeline-dualpipe-v", "ddp+pipeline", "expert-deepseek", "expert-qwen", "fsdp+expert",
        "pipeline+expert", "context-ring", "context-gather",
    ),
    optimizers: Sequence[str] = ("sgd", "adamw"),
    dtypes: Sequence[str] = ("float32",),
    steps: int = 6,
    patience_s: float = 30.0,
) -> Iterator[Yield]:  # fmt: skip
    """Trains a small transformer by each way to divide the work over chips, and compares it with training on one chip.

    Its batch, parameters, matrices, layers, experts, sequences or its optimizer's state are divided, or several of them
    at once. Each way goes through other code and other collectives, and its mistakes are silent: a sum for a mean, a
    norm's gradient that is never summed, tokens that come back to the wrong place. The transformer (with experts chosen
    DeepSeek-V3's or Qwen3's way) trains on each chip alone, and then by each of the `modes` on all. A mode that wants
    more ranks than there are, or that the simulator cannot do, is not measured: a row says why.

    Labels: `mode`, `optimizer`, `dtype`; others as in `multichip.collectives`.
    """
    from readiness.probes.parallelism.parent import ParallelTraining
    from readiness.probes.ranks_common.rank_check import placed

    training = ParallelTraining(accelerator, (yield from placed(accelerator, ranks)), steps, patience_s)
    yield from training.run(modes, dtypes, optimizers)
    yield from training.chips()
