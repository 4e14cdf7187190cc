"""Training steps and serving of a workload's model, timed. Only workers import this: it imports torch."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from readiness.accelerators.base import Accelerator
from readiness.datamodel import Measurement, Row, Yield
from readiness.host import memory as host_memory
from readiness.numerics.unsupported import describe, is_of_compiler, is_out_of_memory, is_unsupported
from readiness.probes.model import decoder
from readiness.probes.model.decoder import Decoder, Plan
from readiness.probes.parity.train_and_decode import Decodes, lowered
from readiness.probes.throughput import timing
from readiness.probes.throughput.rate_baselines import Beside, beside_host
from readiness.probes.throughput.timing import Settled, Timing

Tensor = torch.Tensor
#: Share of the device's free memory that the model and its training may take.
_SHARE = 0.6
#: Steps before any is timed: kernels are chosen, pools filled, moments made.
_WARM_UP = 2


def chosen_model(accelerator: Accelerator, config: Any) -> Plan | None:
    """Return the model to run: narrow on devices of the host's memory, else as many true layers as fit."""
    narrow = accelerator.device.type == "cpu" or accelerator.stack.host_backed
    reading = accelerator.memory()
    free = _SHARE * reading[0] if reading is not None else None
    if free is None and not narrow:
        free = _SHARE * (accelerator.facts.memory_bytes or host_memory.available())
    return decoder.plan(config, reduced=narrow, usable_bytes=free)


@dataclass(slots=True)
class Training:
    """Training steps on one device: AdamW over float32 parameters, products in `dtype` by autocast."""

    accelerator: Accelerator
    plan: Plan
    model: Decoder
    dtype: torch.dtype
    tokens: Tensor
    optimizer: Any = None
    losses: list[float] = field(default_factory=list)
    loss_of: Any = None

    def step(self) -> None:
        """Run one step; reading the loss makes all of it necessary."""
        self.optimizer.zero_grad(set_to_none=True)
        with lowered(self.tokens.device, None if self.dtype == torch.float32 else self.dtype):
            loss = (self.loss_of or self.model.loss)(self.tokens)
        loss.backward()
        self.optimizer.step()
        self.losses.append(float(loss.detach()))


def training(
    accelerator: Accelerator, plan: Plan, dtype: torch.dtype, batch: int, length: int, device: torch.device | None = None
) -> Training:
    """Return training of the model on the device, or on another; nothing has run."""
    device = device or accelerator.device
    generator = accelerator.generator("model", "training")
    tokens = torch.randint(plan.architecture.vocabulary, (batch, length + 1), generator=generator)
    model = decoder.build(plan, generator, device, torch.float32)
    found = Training(accelerator, plan, model, dtype, tokens.to(device))
    found.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    return found


def steps(work: Training, *, budget_s: float, least: int, most: int = 200) -> Timing:
    """Time steps one by one after a warm-up. Raises what the device raises."""
    for _ in range(_WARM_UP):
        work.step()
    clock = timing.clock_of(work.accelerator)
    return timing.sampled(lambda: clock(work.step), budget_s=budget_s, least=least, most=most)


@dataclass(frozen=True, slots=True)
class Compiled:
    """Steps of the same training through torch.compile: their times, what the first took, or why there are none."""

    timing: Timing | None = None
    first_s: float = 0.0
    loss_error: float = 0.0
    refusal: str | None = None
    settled: Settled = field(default_factory=Settled)


def compiled_steps(work: Training, *, budget_s: float, least: int, backend: str = "inductor") -> Compiled:
    """Go on with the training through the compiler. Raises what is no refusal, nor the compiler's own failure.

    The loss of the step before is compared with that of the same weights and text, compiled: it must be the same but for
    rounding.
    """
    import torch._dynamo

    torch._dynamo.reset()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            work.loss_of = torch.compile(work.model.loss, backend=backend)
            with torch.no_grad(), lowered(work.tokens.device, None if work.dtype == torch.float32 else work.dtype):
                plain, compiled = float(work.model.loss(work.tokens)), float(work.loss_of(work.tokens))
            began = time.perf_counter()
            work.step()
            first_s = time.perf_counter() - began
            settled = timing.settle(work.accelerator)
            found = steps(work, budget_s=budget_s, least=least)
    except Exception as problem:  # compilers raise their own kinds
        if is_unsupported(problem) or is_of_compiler(problem):
            return Compiled(refusal=describe(problem))
        raise
    finally:
        work.loss_of = None
        torch._dynamo.reset()
    return Compiled(found, first_s, abs(compiled - plain) / abs(plain), settled=settled)


def compiled_measurements(
    work: Training, eager: Timing, here: Mapping[str, str], *, budget_s: float, known: bool
) -> Iterator[Yield]:
    """Yield compiled steps beside the same steps call by call; `known` if a busy host does not matter."""
    through = compiled_steps(work, budget_s=budget_s, least=5)
    yield Measurement("compiled_supported", int(through.refusal is None), here, about=through.refusal)
    timing_of = through.timing
    if timing_of is None:
        yield Row({"compiled": "refused", "reason": through.refusal})
        return
    yield Measurement("compiled_loss_error", through.loss_error, here)
    yield Row({"compiled_first_s": through.first_s, "compiled_steps": len(timing_of.seconds), "fastest": timing_of.best,
               "slowest": max(timing_of.seconds), "waited": timing_of.waited, **through.settled.cells()})  # fmt: skip
    if known or not (eager.busy or timing_of.busy):
        yield Measurement("compiled_step_s", timing_of.median, here, samples=len(timing_of.seconds))
        yield Measurement("compiled_speedup", eager.median / timing_of.median, here)


def step_operations(plan: Plan, batch: int, length: int) -> tuple[float, str]:
    """Return the operations of one training step that the model needs, and their arithmetic; recomputing is none of it."""
    architecture = plan.architecture
    weights = architecture.token_products
    scores = architecture.layers * architecture.attention.score_width * (length + 1) / 2
    total = 6.0 * batch * length * (weights + scores)
    text = (
        f"6 x {batch} x {length:,} tokens x ({weights:,} products with weights + {architecture.layers} layers x "
        f"{architecture.attention.score_width:,} x {(length + 1) / 2:g} of attention) = {total:.4g} operations"
    )
    return total, text


def peak_bytes(accelerator: Accelerator) -> int | None:
    """Return the most memory that this process has had on the device; None if the stack does not tell."""
    read = getattr(accelerator.stack.module(), "max_memory_allocated", None)
    try:
        return None if read is None or accelerator.device.type == "cpu" else int(read(accelerator.device))
    except (RuntimeError, TypeError, NotImplementedError):
        return None


@dataclass(frozen=True, slots=True)
class Served:
    """Prefill and decoding of one batch: times of prompts and of single tokens, and how the device came to rest before."""

    batch: int
    prompt: int
    prefill: Timing
    decode: Timing
    settled: Settled = field(default_factory=Settled)


@torch.no_grad()
def serve(accelerator: Accelerator, model: Decodes, prompt: Tensor, count: int, *, rounds: int) -> Served:
    """Serve a batch of prompts (B, T) several times: read them, then decode `count` tokens greedily, one at a time."""
    clock, first, singles = timing.clock_of(accelerator), list[float](), list[float]()

    def conversation() -> None:
        state: list[Any] = []
        first.append(clock(partial(_extend, state, model, prompt, None)))
        logits, cache = state
        given = logits[:, -1].argmax(-1, keepdim=True)
        for _ in range(count):
            answer: list[Any] = []
            singles.append(clock(partial(_extend, answer, model, given, cache)))
            logits, cache = answer
            given = logits[:, -1].argmax(-1, keepdim=True)

    settled = timing.settle(accelerator)
    conversation()  # warms up
    first.clear()
    singles.clear()
    began, waited = time.perf_counter(), timing.waited_s()
    for _ in range(rounds):
        conversation()
    share = (timing.waited_s() - waited) / max(time.perf_counter() - began, 1e-9)
    return Served(prompt.shape[0], prompt.shape[1], Timing(tuple(first), share), Timing(tuple(singles), share), settled)


def _extend(found: list[Any], model: Decodes, tokens: Tensor, cache: decoder.Cache | None) -> None:
    """Add logits and cache to a list: what is timed must leave its results somewhere."""
    found.extend(model(tokens, cache))


#: Share of the free memory that the largest batch is meant to take, and the most conversations that are tried.
_BATCH_SHARE, _MOST_BATCH = 0.8, 1024


def largest_batch(accelerator: Accelerator, plan: Plan, length: int, bytes_of: int) -> int:
    """Return how many conversations of this length ought to fit, a power of two; 0 where the stack reports no memory.

    Each has its cache twice, as every token copies it into a longer one, and while its prompt is read the logits of all its
    places, and what one layer works with.
    """
    reading = accelerator.memory()
    if reading is None:
        return 0
    architecture = plan.architecture
    widest = max(getattr(feed, "width", 0) * getattr(feed, "chosen", 1) for feed in architecture.feeds)
    each = length * bytes_of * (
        2 * architecture.layers * architecture.attention.cached() + architecture.vocabulary
        + 4 * architecture.hidden + 3 * widest
    )  # fmt: skip
    fitting = min(int(_BATCH_SHARE * reading[0] / each), _MOST_BATCH)
    return 1 << (fitting.bit_length() - 1) if fitting > 0 else 0


def serve_largest(
    accelerator: Accelerator, model: Decodes, prompts: Tensor, tokens: int, batch: int
) -> Served | None:
    """Serve so many conversations at once, half as many whenever memory runs out; None if not even one fits.

    `prompts` take turns among them.
    """

    def serving(batch: int) -> Served:
        accelerator.release()
        some = prompts[torch.arange(batch) % len(prompts)].to(accelerator.device)
        return serve(accelerator, model, some, tokens, rounds=1)

    return halved(serving, batch)


def halved(serving: Callable[[int], Served], batch: int) -> Served | None:
    """Call with so many conversations, with half as many whenever memory runs out; None if not even one fits."""
    while batch:
        try:
            return serving(batch)
        except (RuntimeError, MemoryError) as problem:
            if not is_out_of_memory(problem):
                raise
        batch //= 2  # out of the handler: its traceback holds the tensors that did not fit
    return None


@torch.no_grad()
def largest_measurements(
    accelerator: Accelerator, model: Decoder, plan: Plan, prompts: Tensor, tokens: int
) -> Generator[Yield, None, Served | None]:
    """Yield times of as many conversations as fit, and how many they are; a row where that cannot be known.

    Returns them; None where there are none.
    """
    if timing.on_host(accelerator):
        yield Row({"largest_batch": "not measured: narrow layers say nothing of the model's memory"})
        return None
    length = prompts.shape[1] + tokens
    itemsize = next(model.parameters()).itemsize
    batch = largest_batch(accelerator, plan, length, itemsize)
    one = serve_largest(accelerator, model, prompts, tokens, batch)
    if one is None:
        yield Row({"largest_batch": "not measured: not one fits, or the stack reports no memory"})
        return None
    yield Measurement("largest_batch", one.batch, about=f"{plan.described}, texts of {length} tokens")
    yield from served_measurements(one, known=True, label="largest")
    return one


def latencies(prefill: Timing, decode: Timing, labels: Mapping[str, str], *, prefix: str = "") -> Iterator[Measurement]:
    """Yield median and 99th percentile of the time to the first token and between tokens; `prefix` starts their names."""
    for name, timed in (("first_token_ms", prefill), ("between_tokens_ms", decode)):
        for quantile, share in (("p50", 0.5), ("p99", 0.99)):
            value = 1e3 * timed.quantile(share)
            yield Measurement(prefix + name, value, {**labels, "quantile": quantile}, samples=len(timed.seconds))


def served_measurements(served: Served, *, known: bool, label: str | None = None) -> Iterator[Yield]:
    """Yield times and rates of a batch; a row instead if a busy host makes them unknown."""
    here = {"batch": label or str(served.batch)}
    if not known:
        yield Row({**here, "pace": "not known: other work keeps the host busy"})
        return
    yield from latencies(served.prefill, served.decode, here)
    phases = (("prefill", served.batch * served.prompt, served.prefill), ("decode", served.batch, served.decode))
    for phase, count, timed in phases:
        yield Measurement("tokens_per_s", count / timed.median, {**here, "phase": phase}, samples=len(timed.seconds))


@torch.no_grad()
def served_beside_host(
    accelerator: Accelerator, model: Decoder, host: Decoder, prompt: Tensor
) -> Iterator[tuple[str, Beside]]:
    """Yield for prefill and decoding the device's time beside the host's, taken in turns."""
    here = prompt.to(accelerator.device)
    yield "prefill", beside_host(lambda: model(here), lambda: host(prompt), accelerator.synchronize)
    caches = model(here)[1], host(prompt)[1]
    yield "decode", beside_host(
        lambda: model(here[:, -1:], caches[0]), lambda: host(prompt[:, -1:], caches[1]), accelerator.synchronize
    )
