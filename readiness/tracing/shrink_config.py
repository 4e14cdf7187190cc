"""Reduction of a model configuration to fewer and narrower layers. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]

#: Layers that are enough to meet every kind of layer, where the configuration does not say which is which.
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_THIN = 4
#: What becomes smaller, and how small at most. Head counts keep their grouping, widths stay multiples of 16.
_SMALLER: Mapping[str, int] = {
    "hidden_size": 128, "n_embd": 128, "d_model": 128, "intermediate_size": 208, "moe_intermediate_size": 80,
    "shared_expert_intermediate_size": 80, "d_ff": 208, "n_inner": 208, "vocab_size": 1024, "num_experts": 16,
    "n_routed_experts": 16, "num_local_experts": 16, "head_dim": 32, "kv_lora_rank": 48, "q_lora_rank": 64,
    "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 24, "image_size": 64, "moe_topk": 4,
    "num_experts_per_tok": 4,
}  # fmt: skip
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_KEY_HEADS = "num_key_value_heads"
_FEW_HEADS = 8


def fills(name: str) -> bool:
    """True if a default of this name can be reduced; a head's width follows from others."""
    return name in (*_SMALLER, *_HEADS, *_LAYERS, _KEY_HEADS) and name != "head_dim"


def thinned(config: Config) -> dict[str, Any]:
    """Return the configuration with the fewest layers that contain every kind of layer."""
    dense = config.get("first_k_dense_replace")
    layers = _THIN if not isinstance(dense, int) or isinstance(dense, bool) else max(dense + 1, 2)
    found = dict(config)
    for name in _LAYERS:
        if isinstance(found.get(name), int) and found[name] > layers:
            found = _shorten_lists(found, found[name], layers) | {name: layers}
    return found


def reduced(config: Config) -> dict[str, Any]:
    """Return the configuration with fewer and narrower layers, heads and experts.

    What is not known by name stays. Whether the result can be built is for the model to say.
    """
    found = dict(config)
    heads = next((found[name] for name in _HEADS if isinstance(found.get(name), int)), None)
    for name, most in _SMALLER.items():
        if isinstance(found.get(name), int) and not isinstance(found[name], bool):
            found[name] = min(found[name], most)
    if heads:
        few = min(heads, _FEW_HEADS)
        for name in _HEADS:
            if name in found:
                found[name] = few
        if isinstance(found.get(_KEY_HEADS), int):
            found[_KEY_HEADS] = max(few * found[_KEY_HEADS] // heads, min(found[_KEY_HEADS], 2))
    experts = found.get("n_routed_experts")
    if isinstance(found.get("n_group"), int) and isinstance(experts, int):
        found["n_group"] = min(found["n_group"], 4)
        found["topk_group"] = min(found.get("topk_group", 2), 2)
    return found


def _shorten_lists(config: dict[str, Any], before: int, after: int) -> dict[str, Any]:
    """Shorten lists with one entry per layer, such as `layer_types`, to the number of layers."""
    return {
        name: value[:after] if isinstance(value, list) and len(value) == before else value for name, value in config.items()
    }
