"""Architecture of a decoder as counts of parameters and activations, read from a workload's configuration.

Read by what a configuration holds, not by the model's name: latent attention where there is a `kv_lora_rank`, experts where
there is a number of them. What cannot be read so has no architecture; whether it was read right shows in the number of
parameters, which each workload states as the traced model had it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: A tensor that attention keeps for its gradient in float32, whatever the dtype: the logarithm of each row's sum.
_FLOAT32_BYTES = 4
#: By how much the number of parameters read from the configuration may differ from the stated one.
_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class Split:
    """Parameters of a part: those that tensor parallelism divides, and those that each of its chips has whole."""

    divided: int
    whole: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.divided + self.whole

    def on_chip(self, tensor: int) -> float:
        """Return the parameters on each of so many chips."""
        return self.divided / tensor + self.whole


@dataclass(frozen=True, slots=True)
class Attention:
    """Attention in which query heads share key heads, all alike if there are as many of both.

    `normalised` is true where queries and keys pass a norm of each head; `bias` where projections have one.
    """

    hidden: int
    heads: int
    key_heads: int
    head: int
    normalised: bool
    bias: bool

    @property
    def parameters(self) -> Split:
        """Projections, and the norms of heads."""
        widths = (self.heads + 2 * self.key_heads) * self.head
        biases = (widths + self.hidden) if self.bias else 0
        return Split(self.hidden * (widths + self.heads * self.head) + biases, 2 * self.head if self.normalised else 0)

    @property
    def products(self) -> int:
        """Multiplications of a token with weights."""
        return self.hidden * (2 * self.heads + 2 * self.key_heads) * self.head

    @property
    def score_width(self) -> int:
        """Multiplications of a token with each token before it: a product of queries and keys, and one with values."""
        return 2 * self.heads * self.head

    @property
    def kept(self) -> int:
        """Elements that the gradient of a token needs, besides the input: queries, keys, values, the result."""
        normalised = (self.heads + self.key_heads) * self.head if self.normalised else 0
        return normalised + (2 * self.heads + 2 * self.key_heads) * self.head

    @property
    def kept_float32(self) -> int:
        """Elements that the gradient of a token needs in float32 in any case."""
        return self.heads + (self.heads + self.key_heads if self.normalised else 0)

    def cached(self, tensor: int = 1) -> float:
        """Return the elements of a token's cache on each of so many chips; a key head is divided no further."""
        return 2 * self.key_heads * self.head / min(tensor, self.key_heads)

    @property
    def cache_text(self) -> str:
        """The cache of a token in a layer, as a formula."""
        return f"2 x {self.key_heads} heads x {self.head}"


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Attention whose keys and values pass a narrow layer, which alone is cached (MLA)."""

    hidden: int
    heads: int
    query_rank: int | None
    key_rank: int
    plain: int
    turned: int
    value: int

    @property
    def parameters(self) -> Split:
        """Projections up and out are divided, those down to a latent are not."""
        query = self.heads * (self.plain + self.turned)
        up = (self.query_rank or self.hidden) * query + self.key_rank * self.heads * (self.plain + self.value)
        down = (self.hidden * self.query_rank + self.query_rank) if self.query_rank else 0
        down += self.hidden * (self.key_rank + self.turned) + self.key_rank
        return Split(up + self.heads * self.value * self.hidden, down)

    @property
    def products(self) -> int:
        """Multiplications of a token with weights."""
        query = self.heads * (self.plain + self.turned)
        down = self.hidden * self.query_rank if self.query_rank else 0
        key = self.hidden * (self.key_rank + self.turned) + self.key_rank * self.heads * (self.plain + self.value)
        return down + (self.query_rank or self.hidden) * query + key + self.heads * self.value * self.hidden

    @property
    def score_width(self) -> int:
        """Multiplications of a token with each token before it."""
        return self.heads * (self.plain + self.turned + self.value)

    @property
    def kept(self) -> int:
        """Elements that the gradient of a token needs, besides the input: latents, queries, keys, values, the result."""
        latents = 2 * (self.query_rank or 0) + 2 * self.key_rank + self.turned
        return latents + self.heads * (2 * (self.plain + self.turned) + 2 * self.value)

    @property
    def kept_float32(self) -> int:
        """Elements that the gradient of a token needs in float32 in any case."""
        return self.heads + 2

    def cached(self, tensor: int = 1) -> float:  # noqa: ARG002 - each chip has the whole latent
        """Return the elements of a token's cache on each of so many chips."""
        return self.key_rank + self.turned

    @property
    def cache_text(self) -> str:
        """The cache of a token in a layer, as a formula."""
        return f"({self.key_rank} + {self.turned})"


@dataclass(frozen=True, slots=True)
class Dense:
    """Gated feed-forward: three matrices."""

    hidden: int
    width: int

    @property
    def parameters(self) -> Split:
        """All are divided."""
        return Split(3 * self.hidden * self.width, 0)

    @property
    def experts(self) -> int:
        """Parameters of experts: none."""
        return 0

    @property
    def products(self) -> int:
        """Multiplications of a token with weights."""
        return 3 * self.hidden * self.width

    @property
    def kept(self) -> int:
        """Elements that the gradient of a token needs: the gate, its activation, the other half, and their product."""
        return 4 * self.width

    @property
    def working(self) -> int:
        """Elements of a token at once where nothing is kept for gradients."""
        return 3 * self.width

    @property
    def kept_float32(self) -> int:
        """None."""
        return 0


@dataclass(frozen=True, slots=True)
class Experts:
    """Experts of which a few work on each token, and those that work on all."""

    hidden: int
    width: int
    count: int
    chosen: int
    shared_width: int

    @property
    def parameters(self) -> Split:
        """The shared expert is divided, the router is not; of the rest see `experts`."""
        return Split(3 * self.hidden * self.shared_width, self.hidden * self.count)

    @property
    def experts(self) -> int:
        """Parameters of the experts that are chosen from."""
        return 3 * self.hidden * self.width * self.count

    @property
    def products(self) -> int:
        """Multiplications of a token with weights: with those of its experts alone."""
        return 3 * self.hidden * (self.width * self.chosen + self.shared_width) + self.hidden * self.count

    @property
    def kept(self) -> int:
        """Elements that the gradient of a token needs: of each chosen expert the input, the halves and the result."""
        return self.chosen * (2 * self.hidden + 4 * self.width) + 4 * self.shared_width

    @property
    def working(self) -> int:
        """Elements of a token at once where nothing is kept for gradients."""
        return self.chosen * (self.hidden + 3 * self.width) + 3 * self.shared_width

    @property
    def kept_float32(self) -> int:
        """Scores of the router."""
        return 2 * self.count


Feed = Dense | Experts


@dataclass(frozen=True, slots=True)
class Architecture:
    """Decoder: an embedding, `feeds` (one for each layer) behind `attention`, and a head, which may be the embedding."""

    hidden: int
    vocabulary: int
    attention: Attention | LatentAttention
    feeds: tuple[Feed, ...]
    tied: bool
    positions: int | None

    @property
    def layers(self) -> int:
        """How many there are."""
        return len(self.feeds)

    @property
    def experts(self) -> int:
        """The number of experts in a layer that has most; 0 if none has any."""
        return max((feed.count for feed in self.feeds if isinstance(feed, Experts)), default=0)

    @property
    def embedding(self) -> int:
        """Parameters of the embedding."""
        return self.vocabulary * self.hidden

    @property
    def head(self) -> int:
        """Parameters of the head: none of its own if it is the embedding."""
        return 0 if self.tied else self.embedding

    def layer(self, feed: Feed) -> Split:
        """Return the parameters of a layer without its experts."""
        attention, other = self.attention.parameters, feed.parameters
        return Split(attention.divided + other.divided, attention.whole + other.whole + 2 * self.hidden)

    @property
    def parameters(self) -> int:
        """All parameters."""
        layers = sum(self.layer(feed).total + feed.experts for feed in self.feeds)
        return layers + self.embedding + self.head + self.hidden

    @property
    def token_products(self) -> int:
        """Multiplications of a token with weights, in one pass forward; the embedding is looked up."""
        return sum(self.attention.products + feed.products for feed in self.feeds) + self.embedding

    def kept(self, feed: Feed, element_bytes: float) -> float:
        """Return the bytes that the gradient of a token needs of a layer: also both residuals, and both norms' results."""
        elements = 4 * self.hidden + self.attention.kept + feed.kept
        return elements * element_bytes + (self.attention.kept_float32 + feed.kept_float32 + 2) * _FLOAT32_BYTES

    def working(self, feed: Feed) -> int:
        """Return the elements that a layer works on for each token where nothing is kept for gradients."""
        return 2 * self.hidden + max(self.attention.kept, feed.working)


def read(model: Mapping[str, Any]) -> Architecture | None:
    """Return the architecture of a workload's model; None if it is no decoder that can be read."""
    config = model.get("config", {})
    try:
        found = decoder(config)
    except (KeyError, TypeError, ZeroDivisionError):
        return None
    stated = model.get("parameters")
    if not isinstance(stated, int) or stated <= 0 or abs(found.parameters - stated) > _TOLERANCE * stated:
        return None
    return found


def decoder(config: Mapping[str, Any]) -> Architecture:
    """Return the decoder of a configuration. Raises KeyError or TypeError if it does not say enough."""
    hidden, layers = _whole(config, "hidden_size"), _whole(config, "num_hidden_layers")
    tied = config.get("tie_word_embeddings", True) is True  # as transformers has it where nothing is said
    return Architecture(
        hidden=hidden,
        vocabulary=_whole(config, "vocab_size"),
        attention=_attention(config, hidden),
        feeds=tuple(_feeds(config, hidden, layers)),
        tied=tied,
        positions=_whole(config, "max_position_embeddings") if "max_position_embeddings" in config else None,
    )


def _attention(config: Mapping[str, Any], hidden: int) -> Attention | LatentAttention:
    heads = _whole(config, "num_attention_heads")
    if config.get("kv_lora_rank"):
        return LatentAttention(
            hidden, heads, config.get("q_lora_rank") and _whole(config, "q_lora_rank"), _whole(config, "kv_lora_rank"),
            _whole(config, "qk_nope_head_dim"), _whole(config, "qk_rope_head_dim"), _whole(config, "v_head_dim"),
        )  # fmt: skip
    head = _whole(config, "head_dim") if config.get("head_dim") else hidden // heads
    keys = _whole(config, "num_key_value_heads") if config.get("num_key_value_heads") else heads
    # Norms of heads have no key of their own in a configuration.
    normalised = str(config.get("model_type", "")).startswith("qwen3")
    return Attention(hidden, heads, keys, head, normalised, bool(config.get("attention_bias")))


def _feeds(config: Mapping[str, Any], hidden: int, layers: int) -> Sequence[Feed]:
    dense = Dense(hidden, _whole(config, "intermediate_size"))
    counted = next((key for key in ("n_routed_experts", "num_experts", "num_local_experts") if config.get(key)), None)
    if counted is None:
        return [dense] * layers
    width = _whole(config, "moe_intermediate_size") if "moe_intermediate_size" in config else dense.width
    shared = config.get("shared_expert_intermediate_size") or width * (config.get("n_shared_experts") or 0)
    experts = Experts(hidden, width, _whole(config, counted), _whole(config, "num_experts_per_tok"), int(shared))
    first, step = config.get("first_k_dense_replace") or 0, config.get("decoder_sparse_step") or 1
    plain = config.get("mlp_only_layers") or ()
    return [
        dense if index < first or index in plain or (index + 1) % step else experts for index in range(layers)
    ]


def _whole(config: Mapping[str, Any], key: str) -> int:
    value = config[key]
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise TypeError(key)
    return value
