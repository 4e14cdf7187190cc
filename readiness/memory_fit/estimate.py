"""Bytes on the chip that needs most, for training and for serving, each with its arithmetic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from readiness.datamodel import Use
from readiness.memory_fit.architecture import Architecture, Dense, Feed
from readiness.memory_fit.layout import BYTES, SCALES, Layout, Optimizer, Sharding

#: Of each logit: its value in the model's dtype, its logarithm of softmax in float32, and the gradient of that.
_LOGIT_FLOAT32_BYTES = 8
#: Tokens of prompts that are worked on at once: longer ones are read in pieces (vLLM's default in 2025).
PREFILL_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class Term:
    """A part of the memory: its bytes on a chip, and how they come about."""

    name: str
    bytes: float
    formula: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """Memory of the chip that needs most. `notes` say what its terms are made of."""

    use: Use
    layout: Layout
    terms: tuple[Term, ...]
    notes: tuple[str, ...] = ()

    @property
    def bytes(self) -> float:
        """The sum of its terms."""
        return sum(term.bytes for term in self.terms)


@dataclass(frozen=True, slots=True)
class Model:
    """What is spread out: `parameters` in all, an architecture if it could be read, else activations from the trace."""

    name: str
    parameters: int
    architecture: Architecture | None
    traced_activations: float = 0.0
    traced_batch: int = 1
    traced_length: int = 1


@dataclass(frozen=True, slots=True)
class Training:
    """How a model is trained. `batch` are the sequences that a replica works on at once."""

    dtype: str = "bfloat16"
    optimizer: Optimizer = Optimizer.ADAMW
    batch: int = 1
    length: int = 4096
    recompute: bool = True


@dataclass(frozen=True, slots=True)
class Serving:
    """How a model is served. `batch` are the conversations of a replica, `length` the tokens of each."""

    dtype: str = "bfloat16"
    cache_dtype: str = "bfloat16"
    batch: int = 1
    length: int = 4096


@dataclass(frozen=True, slots=True)
class _Stage:
    """The part of a model on one stage of a pipeline: parameters of one chip before they are sharded."""

    index: int
    feeds: tuple[Feed, ...]
    others: float
    experts: float
    ends: float
    largest: float
    has_head: bool

    def sharded(self, layout: Layout, depth: int) -> tuple[float, str]:
        """Return the parameters on a chip and their formula, where what is `depth` deep is sharded."""
        deep = layout.sharding.depth >= depth
        shards, expert_shards = (layout.data, layout.expert_shards) if deep else (1, 1)
        text = _divided(self.others, shards)
        if self.experts:
            text = f"({text} + experts {_divided(self.experts, expert_shards)})"
        return self.others / shards + self.experts / expert_shards, text


def training(model: Model, how: Training, layout: Layout) -> Estimate:
    """Return the memory of the chip that needs most."""
    if model.architecture is None:
        return _traced_training(model, how, layout)
    best: Estimate | None = None
    for stage in _stages(model.architecture, layout):
        found = Estimate(
            Use.TRAINING, layout, tuple(_training_terms(model.architecture, how, layout, stage)),
            tuple(_kept_notes(model.architecture, stage.feeds, BYTES[how.dtype])),
        )  # fmt: skip
        if best is None or found.bytes > best.bytes:
            best = found
    assert best is not None, "a model has layers"
    return best


def _training_terms(architecture: Architecture, how: Training, layout: Layout, stage: _Stage) -> Iterator[Term]:
    yield from _state(how, layout, stage)
    yield from _activations(architecture, how, layout, stage)


def _state(how: Training, layout: Layout, stage: _Stage) -> Iterator[Term]:
    size = BYTES[how.dtype]
    count, text = stage.sharded(layout, Sharding.PARAMETERS.depth)
    yield Term("parameters", count * size, f"{text} parameters x {size:g} bytes ({how.dtype})")
    count, text = stage.sharded(layout, Sharding.GRADIENTS.depth)
    yield Term("gradients", count * size, f"{text} parameters x {size:g} bytes ({how.dtype})")
    count, text = stage.sharded(layout, Sharding.OPTIMIZER.depth)
    moments, what = how.optimizer.moments
    master = how.optimizer.master(how.dtype)
    each = f"({master} + {moments}) bytes (a copy in float32, {what})" if master else f"{moments} bytes ({what})"
    yield Term("optimizer state", count * (moments + master), f"{text} parameters x {each}")
    if layout.sharding is Sharding.PARAMETERS and layout.data > 1:
        whole = max(stage.ends, stage.largest)
        yield Term(
            "gathered parameters", (2 * whole + stage.largest) * size,
            f"the largest part and its gradient, and a layer: (2 x {whole:,.0f} + {stage.largest:,.0f}) x {size:g} bytes",
        )  # fmt: skip


def _activations(architecture: Architecture, how: Training, layout: Layout, stage: _Stage) -> Iterator[Term]:
    size, tokens = BYTES[how.dtype], how.batch * how.length
    in_flight = layout.pipeline - stage.index
    kinds = Counter(stage.feeds)
    batch = f"{how.batch} x {how.length:,} tokens"
    flight = f" x {in_flight} batches under way" if in_flight > 1 else ""
    over = _over(layout.tensor)
    largest = max(architecture.kept(feed, size) for feed in kinds) if kinds else 0.0
    if how.recompute:
        held = len(stage.feeds) * architecture.hidden * size
        text = f"{batch} x {len(stage.feeds)} layers x {architecture.hidden:,} x {size:g} bytes{flight}{over}"
        yield Term("activations", held * tokens * in_flight / layout.tensor, f"inputs of layers: {text}")
    else:
        each = sum(count * architecture.kept(feed, size) for feed, count in kinds.items())
        parts = " + ".join(f"{count} x {architecture.kept(feed, size):,.0f}" for feed, count in kinds.items())
        yield Term("activations", each * tokens * in_flight / layout.tensor, f"{batch} x ({parts} bytes){flight}{over}")
    logits = architecture.vocabulary * (size + _LOGIT_FLOAT32_BYTES) if stage.has_head else 0.0
    again = largest if how.recompute else 0.0
    if logits > again:
        text = f"{batch} x {architecture.vocabulary:,} logits x ({size:g} + {_LOGIT_FLOAT32_BYTES}) bytes{over}"
        yield Term("loss", logits * tokens / layout.tensor, text)
    elif again:
        yield Term("recomputed layer", again * tokens / layout.tensor, f"{batch} x {again:,.0f} bytes{over}")


def _kept_notes(architecture: Architecture, feeds: Sequence[Feed], size: float) -> Iterator[str]:
    attention = architecture.attention
    for feed in dict.fromkeys(feeds):
        kind = "a dense layer" if isinstance(feed, Dense) else f"a layer of experts, {feed.chosen} of {feed.count} a token"
        yield (
            f"kept of {kind} for each token: {size:g} bytes x (4 x {architecture.hidden:,} of residuals and norms + "
            f"{attention.kept:,} of attention + {feed.kept:,} of feed-forward) + 4 bytes x "
            f"{attention.kept_float32 + feed.kept_float32 + 2:,} = {architecture.kept(feed, size):,.0f} bytes"
        )


def serving(model: Model, how: Serving, layout: Layout) -> Estimate:
    """Return the memory of the chip that needs most: weights, the cache, and the work on a piece of a prompt."""
    architecture = model.architecture
    if architecture is None:
        size = BYTES[how.dtype]
        text = f"{model.parameters:,} parameters{_over(layout.tensor)} x {size:g} bytes ({how.dtype})"
        return Estimate(Use.INFERENCE, layout, (Term("parameters", model.parameters * size / layout.tensor, text),))
    best: Estimate | None = None
    for stage in _stages(architecture, layout):
        found = Estimate(Use.INFERENCE, layout, tuple(_serving_terms(architecture, how, layout, stage)))
        if best is None or found.bytes > best.bytes:
            best = found
    assert best is not None, "a model has layers"
    return best


def _serving_terms(architecture: Architecture, how: Serving, layout: Layout, stage: _Stage) -> Iterator[Term]:
    size, narrow = BYTES[how.dtype], how.dtype in SCALES
    wide = 0.0
    if narrow:  # embedding and head stay in 16 bits in every published checkpoint of fewer
        ends = (architecture.embedding if stage.index == 0 else 0) + (architecture.head if stage.has_head else 0)
        wide = ends / layout.tensor
        size += SCALES[how.dtype]
    count = stage.others + stage.experts
    text = f"{count - wide:,.0f} parameters x {size:.5g} bytes ({how.dtype}{', scales included' if narrow else ''})"
    text += f" + {wide:,.0f} of embedding and head x 2 bytes" if wide else ""
    yield Term("parameters", (count - wide) * size + wide * 2, text)
    attention, cache_size = architecture.attention, BYTES[how.cache_dtype]
    over = round(attention.cached() / attention.cached(layout.tensor))
    yield Term(
        "KV cache", how.batch * how.length * len(stage.feeds) * attention.cached(layout.tensor) * cache_size,
        f"{how.batch} x {how.length:,} tokens x {len(stage.feeds)} layers x {attention.cache_text} x "
        f"{cache_size:g} bytes ({how.cache_dtype}){_over(over)}",
    )  # fmt: skip
    tokens = min(how.batch * how.length, PREFILL_TOKENS)
    each = 2 * max(architecture.working(feed) for feed in stage.feeds)
    logits = architecture.vocabulary * 4 if stage.has_head else 0
    yield Term(
        "work", (tokens * each + how.batch * logits) / layout.tensor,
        f"({tokens:,} tokens of prompts x {each:,} bytes in a layer + {how.batch} x {logits:,} bytes of logits)"
        f"{_over(layout.tensor)}",
    )  # fmt: skip


def _traced_training(model: Model, how: Training, layout: Layout) -> Estimate:
    """Estimate of a model of which only the number of parameters and the trace are known."""
    stage = _Stage(0, (), model.parameters / layout.tensor, 0.0, model.parameters / layout.tensor, 0.0, False)
    share = how.batch / model.traced_batch
    text = f"at most {model.traced_activations:,.0f} bytes that operators of the trace keep"
    if share != 1:
        text += f" x {how.batch} / {model.traced_batch} (the traced batch)"
    over = _over(layout.tensor)
    held = Term("activations", model.traced_activations * share / layout.tensor, text + over)
    return Estimate(Use.TRAINING, layout, (*_state(how, layout, stage), held))


def _stages(architecture: Architecture, layout: Layout) -> Iterator[_Stage]:
    """Yield the stages of a pipeline that may need most: the first, one of the longest that follow, and the last."""
    counts = _layers_of_stages(architecture.layers, layout.pipeline)
    starts = [sum(counts[:index]) for index in range(layout.pipeline)]
    seen: set[tuple[tuple[Feed, ...], bool, bool]] = set()
    for index, (start, count) in enumerate(zip(starts, counts, strict=True)):
        feeds, first, last = architecture.feeds[start : start + count], index == 0, index == layout.pipeline - 1
        if (feeds, first, last) in seen:
            continue  # a later one of the same layers has fewer batches under way
        seen.add((feeds, first, last))
        kinds = Counter(feeds)
        ends = (architecture.embedding if first else 0) + (architecture.hidden + architecture.head if last else 0)
        if last and not first and architecture.tied:
            ends += architecture.embedding  # a copy, whose gradients are added up
        layers = {feed: architecture.layer(feed).on_chip(layout.tensor) for feed in kinds}
        dealt = {feed: feed.experts / layout.expert for feed in kinds}
        yield _Stage(
            index, feeds, ends / layout.tensor + sum(count * layers[feed] for feed, count in kinds.items()),
            sum(count * dealt[feed] for feed, count in kinds.items()),
            ends / layout.tensor, max((layers[feed] + dealt[feed] for feed in kinds), default=0.0), last,
        )  # fmt: skip


def _layers_of_stages(layers: int, stages: int) -> list[int]:
    """Deal layers to stages; those too many go to the middle, as the ends have an embedding or a head besides."""
    each, rest = divmod(layers, stages)
    counts = [each] * stages
    order = sorted(range(stages), key=lambda index: (index in (0, stages - 1), index))
    for index in order[:rest]:
        counts[index] += 1
    return counts


def _over(count: int) -> str:
    return f" / {count}" if count > 1 else ""


def _divided(count: float, over: int) -> str:
    return f"{count:,.0f}{_over(over)}"
