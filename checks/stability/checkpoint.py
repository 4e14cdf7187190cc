"""Saving and going on from what was saved."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Cost, Measure, Measurement, Row, Yield, check


@check(
    "stability.checkpoint",
    title="Training continues from a checkpoint as if it had never stopped",
    measures={
        "resume_mismatches": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Tensors, random numbers and losses that differ after loading or at the end from training that never "
                "stopped."
            ),
            title="Training continues exactly from a checkpoint",
            why="Long runs are restarted many times; one that continues from another state trains another model.",
            remedy="Save tensors on the host and contiguous; update the plug-in and report the tensor that is named.",
            action=Action.CONTACT_VENDOR,
        ),
        "wrong_tensors": Measure(
            "1", better=Better.LOWER,
            meaning="Tensors that came back with another byte, shape, dtype or device.",
            title="Saved tensors are loaded unchanged to the {target}",
            why="A tensor loaded with other values corrupts the model without an error.",
            remedy="Save tensors on the host and contiguous; update the plug-in and report the tensor that is named.",
            action=Action.CONTACT_VENDOR,
        ),
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of the tensors and states that could be saved and loaded.",
            title="Checkpoints can be saved and loaded",
            why="A model that cannot be saved and loaded cannot be trained for long.",
            remedy="Save tensors on the host; update the plug-in.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "memory_growth_bytes": Measure(
            "bytes per save", better=Better.LOWER,
            meaning="Memory that a save never frees.",
            title="Saving checkpoints leaks no {memory} memory",
            why="A run saves hundreds of times; memory that each save keeps ends it days later.",
            remedy="Save from a separate process; update the plug-in.",
            action=Action.UPDATE_SOFTWARE,
        ),
    },
    cost=Cost.SECONDS,
    typical_s=2.0,
    limit_s=120.0,
    catches=("checkpoint-corrupt", "leak"),
    least={"before": 1, "after": 1, "saves": 3},
)
def checkpoint(accelerator: Accelerator, *, before: int = 4, after: int = 5, saves: int = 12) -> Iterator[Yield]:
    """Saves, loads and continues a training, and compares its weights with those of one that never stopped.

    Long runs are restarted many times. A checkpoint that loses the layout of a tensor or a part of the optimizer's state
    loads without an error and spoils the model afterwards. A small transformer trains with AdamW for `before` steps, is
    saved, and trains `after` steps more, once going on and once from the file in a fresh model and optimizer. And
    tensors that are hard to save (transposed, behind an offset, in shared memory, empty, ...) go through a file. At last
    the same 8 MiB are saved `saves` times. Where two uninterrupted runs differ, a resumed one may differ by ten times as
    much as the worst of those does; it is not judged where that is as far as training moves most parameters.

    Labels: `part` (training, tensors), `target` of loading (device, host), `memory` (host, device) of what saves keep.
    """
    import torch

    from readiness import unsupported_as_reason
    from readiness.probes.stability.checkpoint_memory_growth import growths
    from readiness.probes.stability.checkpoints import resume, round_trip

    with unsupported_as_reason() as refusal:
        resumed = resume(accelerator, before, after)
    yield Measurement("supported", int(refusal.reason is None), {"part": "training"}, about=refusal.reason)
    if refusal.reason is None:
        found = {**{f"{name} after loading": words for name, words in resumed.after_loading.items()}, **resumed.at_the_end}
        yield Row({"repeats": resumed.repeats, "doubt": resumed.doubt, "compared": resumed.compared, "differing": found})
        about = f"{next(iter(found))} {next(iter(found.values()))}; {len(found)} in all" if found else None
        if found or resumed.doubt is None:
            yield Measurement("resume_mismatches", len(found), samples=resumed.compared, about=about)
    for where, target in (("device", accelerator.device), ("host", torch.device("cpu"))):
        returned = round_trip(accelerator, target, (NotImplementedError, RuntimeError, TypeError))
        labels = {"part": "tensors", "target": where}
        yield Row({**labels, "wrong": returned.wrong, "refused": returned.refused})
        share = 1 - len(returned.refused) / returned.count
        first = next(iter(returned.refused.items()), None)
        yield Measurement("supported", share, labels, samples=returned.count, about=first and f"{first[0]}: {first[1]}")
        if share > 0:
            about = "; ".join(f"{name}: {words}" for name, words in returned.wrong.items())[:300] or None
            yield Measurement("wrong_tensors", len(returned.wrong), labels, samples=returned.count, about=about)
    with unsupported_as_reason():  # what cannot be saved was told above
        for memory, growth in growths(accelerator, saves).items():
            about = f"each save of 8 MiB keeps {growth / 2**20:.3g} MiB of the {memory}'s memory"
            yield Measurement("memory_growth_bytes", growth, {"memory": memory}, samples=saves, about=about)
