"""Tensor parallel training: matrices are sharded, with sequence parallelism the norms in between as well."""

from __future__ import annotations

from typing import Any

from readiness.probes.parallelism.model import Decoder


def parallelize(model: Decoder, mesh: Any, *, sequence: bool) -> None:
    """Shard a model by columns where a block begins and by rows where it ends; with `sequence`, norms as well."""
    from torch.distributed.tensor import Replicate, Shard
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        PrepareModuleInput,
        RowwiseParallel,
        SequenceParallel,
        parallelize_module,
    )

    stream = Shard(1) if sequence else Replicate()
    model.gathered = mesh.size() if sequence else 1
    for block in model.blocks.values():
        plan: dict[str, Any] = {
            "attention.query": ColwiseParallel(),
            "attention.key": ColwiseParallel(),
            "attention.value": ColwiseParallel(),
            "attention.output": RowwiseParallel(output_layouts=stream),
            "gate": ColwiseParallel(),
            "up": ColwiseParallel(),
            "down": RowwiseParallel(output_layouts=stream),
        }
        if sequence:
            whole = ColwiseParallel(input_layouts=Shard(1))
            plan |= {
                "attention_norm": SequenceParallel(),
                "feed_norm": SequenceParallel(),
                "attention": PrepareModuleInput(
                    input_layouts=(Shard(1), None, None), desired_input_layouts=(Replicate(), None, None)
                ),
                "gate": whole,
                "up": whole,
            }
        parallelize_module(block, mesh, plan)
        block.attention.heads //= mesh.size()  # type: ignore[union-attr]
        block.attention.key_heads //= mesh.size()  # type: ignore[union-attr]
    ends: dict[str, Any] = {
        "embedding": RowwiseParallel(input_layouts=Replicate(), output_layouts=stream),
        "head": ColwiseParallel(input_layouts=stream, output_layouts=Replicate()),
    }
    parallelize_module(model, mesh, ends | ({"norm": SequenceParallel()} if sequence else {}))
