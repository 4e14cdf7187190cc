"""Whether the profile's model fits into the device's memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from readiness import Accelerator, Action, Better, Measure, Measurement, Row, Skip, Yield, check, workload_schema


def vet(settings: Mapping[str, Any]) -> None:
    """Raises UsageError where a profile names a workload, a layout or a dtype that does not exist."""
    from readiness.memory_fit import plan

    if name := settings.get("workload"):
        workload = workload_schema.load(workload_schema.find(name))
        plan.refuse_impossible(workload, plan.Settings.of(settings), "settings of model.fit")


@check(
    "model.fit",
    title="The model fits into the memory of as many devices as the profile plans with",
    measures={
        "needed_share": Measure(
            "1", better=Better.LOWER,
            meaning="Memory needed on the chip that needs most, over the share of the device's memory that a job gets.",
            why="A model that does not fit into the chips' memory cannot be trained or served on them.",
            remedy=(
                "The rows show each part with its arithmetic; `readiness fit` tries other numbers of chips and layouts."
            ),
            action=Action.ADD_HARDWARE,
        ),
        "needed_gib": Measure(
            "GiB", better=Better.LOWER,
            meaning="Memory needed on the chip that needs most.",
            why="It is what `needed_share` compares with the device's memory.",
            remedy="Divide the model over more chips, recompute activations, or use narrower dtypes.",
            action=Action.ADD_HARDWARE,
        ),
        "fewest_chips": Measure(
            "1", better=Better.LOWER,
            meaning="The fewest chips with this device's memory on which the model fits; above eight, whole hosts of eight.",
            why="It is the least that must be bought.",
            remedy="Use chips with more memory, or narrower dtypes.",
            action=Action.ADD_HARDWARE,
        ),
        "largest_batch": Measure(
            "1", better=Better.HIGHER,
            meaning="Sequences, or conversations, that a replica works on at once before memory is full.",
            why="Chips are busy with large batches alone.",
            remedy="Divide the model over more chips, or recompute activations.",
            action=Action.ADD_HARDWARE,
        ),
        "longest_sequence": Measure(
            "1", better=Better.HIGHER,
            meaning="Tokens of one sequence before memory is full.",
            why="Longer texts can be neither trained nor served.",
            remedy="Divide the model or the sequence over more chips, or keep the cache in a narrower dtype.",
            action=Action.ADD_HARDWARE,
        ),
    },
    typical_s=0.3,
    vet=vet,
)
def fit(
    accelerator: Accelerator,
    *,
    workload: str = "",
    training_chips: int = 1,
    training_tensor: int = 0,
    training_pipeline: int = 0,
    training_expert: int = 0,
    training_sharding: str = "parameters",
    training_dtype: str = "bfloat16",
    optimizer: str = "adamw",
    training_batch: int = 1,
    training_length: int = 0,
    recompute: bool = True,
    serving_chips: int = 1,
    serving_tensor: int = 0,
    serving_pipeline: int = 0,
    serving_expert: int = 0,
    serving_dtype: str = "bfloat16",
    cache_dtype: str = "bfloat16",
    serving_batch: int = 1,
    serving_length: int = 0,
    usable_share: float = 0.95,
) -> Iterator[Yield]:
    """Reckons the memory that training and serving the model need on each chip, and compares the device's with it.

    A model that does not fit is a certain blocker, and the only one that can be told without running anything. Bytes of
    parameters, gradients, the optimizer's state, activations and the KV cache follow from the workload's configuration and
    the layout that the profile plans: `training_chips` chips of which `training_tensor` share each matrix,
    `training_pipeline` stages hold layers, `training_expert` chips hold different experts, and replicas divide what
    `training_sharding` says; serving likewise. 0 leaves a number to be chosen: the plainest layout that fits. A length of 0
    is that of the workload. Nothing runs on the device; its memory is what its stack reports.

    Labels: `use` (training, inference).
    """
    from readiness.probes.model import memory

    settings = {
        "training_chips": training_chips, "training_tensor": training_tensor, "training_pipeline": training_pipeline,
        "training_expert": training_expert, "training_sharding": training_sharding, "training_dtype": training_dtype,
        "optimizer": optimizer, "training_batch": training_batch, "training_length": training_length,
        "recompute": recompute, "serving_chips": serving_chips, "serving_tensor": serving_tensor,
        "serving_pipeline": serving_pipeline, "serving_expert": serving_expert, "serving_dtype": serving_dtype,
        "cache_dtype": cache_dtype, "serving_batch": serving_batch, "serving_length": serving_length,
        "usable_share": usable_share,
    }  # fmt: skip
    if not workload:
        raise Skip("the profile names no workload whose model could fit")
    total = memory.of_device(accelerator)
    if total is None:
        raise Skip("the stack does not report how much memory the device has")
    yield Row({"workload": workload, "memory_bytes": total, "usable_share": usable_share})
    for found in memory.fits(workload, settings, total):
        yield from memory.rows(found)
        here = {"use": found.use.value}
        yield Measurement("needed_share", found.share, here, about=memory.summary(found))
        yield Measurement("needed_gib", found.estimate.bytes / 2**30, here)
        if found.fewest is not None:
            yield Measurement("fewest_chips", found.fewest.chips, here)
        if found.largest_batch is not None:
            yield Measurement("largest_batch", found.largest_batch, here)
        if found.longest is not None:
            yield Measurement("longest_sequence", found.longest, here)
