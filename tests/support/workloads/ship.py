"""The shipped workloads made anew: `python -m tests.support.workloads.ship`. With the same torch and transformers, the same bytes.

Their configurations lie in `tests/resources/configs/`, as the models' authors publish them; what is heard depends on nothing else.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from readiness.tracing import model_config, model_loading, record_workload, workload_schema
from tests.support.paths import RESOURCES

CONFIGS = RESOURCES / "configs"
TITLES = {
    "qwen3-8b": "Qwen3-8B", "qwen3-32b": "Qwen3-32B", "qwen3-235b-a22b": "Qwen3-235B-A22B, mixture of experts",
    "deepseek-v3": "DeepSeek-V3, latent attention and mixture of experts", "llama-3.1-8b": "Llama 3.1 8B",
    "vit-large": "ViT-L/16, a vision transformer", "dit-xl-2": "DiT-XL/2, a diffusion transformer",
}  # fmt: skip
_IMAGES = 32


def make(name: str) -> bytes:
    """The file of one workload."""
    if name == "dit-xl-2":
        sources = model_loading.of_function("tests.support.workloads.diffusion:dit", length=_IMAGES, dtype=torch.bfloat16)
        batch = _IMAGES
    else:
        config = model_config.read(CONFIGS / f"{name}.json")
        batch = _IMAGES if name.startswith("vit") else 1
        sources, _ = model_loading.sources(config, batch=batch, length=4096, dtype=torch.bfloat16, place=name, reduced=False)
    recorded = record_workload.record(sources, name=name, title=TITLES[name], batch=batch, note=lambda text: print(f"{name}: {text}"))
    return workload_schema.dumps(recorded)


def main(chosen: Sequence[str]) -> int:
    for name in chosen or TITLES:
        start = time.monotonic()
        packed = make(name)
        file = Path("profiles") / "workloads" / f"{name}{workload_schema.SUFFIX}"
        file.write_bytes(packed)
        found = workload_schema.load(file)
        print(f"{name}: {len(found.operators)} operators, {len(found.records)} records, {len(packed)} bytes, {time.monotonic() - start:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
