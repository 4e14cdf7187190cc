"""Strict precision for comparisons, whatever the environment allows otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

#: Switches that let products of float32 be computed with fewer bits, or sums of low precision be kept in low precision.
#: Paths below torch; those that a build does not have are passed over.
_SHORTCUTS = (
    "backends.cudnn.allow_tf32",  # on by default: for convolutions, and what is made of them
    "backends.cuda.matmul.allow_bf16_reduced_precision_reduction",
    "backends.cuda.matmul.allow_fp16_reduced_precision_reduction",
    "backends.cuda.matmul.allow_fp16_accumulation",
    "npu.matmul.allow_hf32",
    "backends.mlu.matmul.allow_tf32",
    "backends.mudnn.allow_tf32",
)


@contextlib.contextmanager
def strict_precision() -> Iterator[None]:
    """Disable TF32, its like and reduced accumulation within the block; restore them afterwards."""
    before = torch.get_float32_matmul_precision()
    restore: list[tuple[object, str, object]] = []
    torch.set_float32_matmul_precision("highest")
    try:
        for path in _SHORTCUTS:
            owner, name = _owner(path)
            value = getattr(owner, name, None) if owner is not None else None
            if value is not None and value is not False:
                with contextlib.suppress(AttributeError, RuntimeError):  # a build may have the name and not the switch
                    setattr(owner, name, False)
                    restore.append((owner, name, value))
        yield
    finally:
        for owner, name, value in reversed(restore):
            setattr(owner, name, value)
        torch.set_float32_matmul_precision(before)


def _owner(path: str) -> tuple[object | None, str]:
    *parents, name = path.split(".")
    owner: object | None = torch
    for parent in parents:
        owner = getattr(owner, parent, None)
    return owner, name
