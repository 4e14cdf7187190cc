"""A decoder written as its maker publishes such models: a configuration and weights in safetensors, for serving engines.

Grouped-query attention with dense layers or with experts (Llama, Qwen3). Only workers import this: it imports torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from readiness.memory_fit.architecture import LatentAttention
from readiness.probes.model import decoder
from readiness.probes.model.decoder import Decoder, Plan
from readiness.tracing import shrink_config

Tensor = torch.Tensor
#: Engines have kernels for heads of these widths, not for those of the narrowest models.
_HEAD = 64
#: What our decoder computes with, whatever the configuration says: see `transformer.angles` and `transformer.Norm`.
_ROPE_THETA, _EPS = 10000.0, 1e-6
_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
_NAMES = {
    "attention.query": "self_attn.q_proj", "attention.key": "self_attn.k_proj", "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj", "attention.query_norm": "self_attn.q_norm",
    "attention.key_norm": "self_attn.k_norm", "attention_norm": "input_layernorm", "feed_norm": "post_attention_layernorm",
    "feed.gate": "mlp.gate_proj", "feed.up": "mlp.up_proj", "feed.down": "mlp.down_proj", "feed.router": "mlp.gate",
}  # fmt: skip


def configuration(config: Mapping[str, Any], *, narrow: bool, layers: int | None = None) -> dict[str, Any]:
    """Return the configuration of a model to serve: narrow, or with the true widths and so many layers."""
    found = shrink_config.reduced(shrink_config.thinned(config)) if narrow else dict(config)
    if narrow:
        found["head_dim"] = _HEAD
        found["num_hidden_layers"] = min(found["num_hidden_layers"], 2)
    elif layers is not None:
        found["num_hidden_layers"] = layers
    for name in ("rope_scaling", "layer_types"):
        found.pop(name, None)
    found |= {"rope_theta": _ROPE_THETA, "rms_norm_eps": _EPS, "torch_dtype": "bfloat16", "dtype": "bfloat16"}
    found["rope_parameters"] = {"rope_type": "default", "rope_theta": _ROPE_THETA}
    return found


def plan(config: Mapping[str, Any]) -> Plan | None:
    """Return the narrow model of a configuration; None if its layers are of a kind that is not written here."""
    if "architectures" not in config:
        return None
    found = decoder.plan(configuration(config, narrow=True), reduced=False, usable_bytes=None)
    if found is None or isinstance(found.architecture.attention, LatentAttention):
        return None
    return None if any(getattr(feed, "shared_width", 0) for feed in found.architecture.feeds) else found


def weights(model: Decoder) -> Iterator[tuple[str, Tensor]]:
    """Yield each weight by the name that it has in published models."""
    for name, weight in model.state_dict().items():
        parts = name.split(".")
        if parts[0] == "layers":
            yield f"model.layers.{parts[1]}.{_in_layer(parts[2:])}", weight
        else:
            yield {"embedding.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight",
                   "head.weight": "lm_head.weight"}[name], weight  # fmt: skip


def _in_layer(parts: list[str]) -> str:
    if parts[:2] == ["feed", "experts"]:
        return f"mlp.experts.{parts[2]}.{parts[3]}_proj.weight"
    return f"{_NAMES['.'.join(parts[:-1])]}.{parts[-1]}"


def write(folder: Path, config: Mapping[str, Any], model: Decoder | None) -> None:
    """Write a model into a folder: its configuration, and its weights unless the engine is to make some itself."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(dict(config)))
    if model is None:
        return
    tied = bool(config.get("tie_word_embeddings"))
    named = {name: weight.cpu().contiguous() for name, weight in weights(model) if not (tied and name == "lm_head.weight")}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, weight in named.items():
        header[name] = {
            "dtype": _DTYPES[weight.dtype], "shape": list(weight.shape), "data_offsets": [end, end + weight.nbytes]
        }  # fmt: skip
        end += weight.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for weight in named.values():
            plain: Any = weight.flatten().view(torch.uint8).numpy()
            file.write(plain.tobytes())
