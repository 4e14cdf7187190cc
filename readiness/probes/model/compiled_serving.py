"""Decoding through torch.compile beside the same call by call: tokens, logits, times.

Layers are compiled, a graph for all of a kind: a whole model takes minutes to compile. Embedding, last norm and head are
not. Only workers import this: it imports torch.
"""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from readiness.accelerators.base import Accelerator
from readiness.datamodel import Measurement, Row, Yield
from readiness.numerics import on_host
from readiness.numerics.unsupported import describe, is_of_compiler, is_out_of_memory, is_unsupported
from readiness.probes.model import steps
from readiness.probes.model.decoder import Decoder
from readiness.probes.model.steps import Served
from readiness.probes.parity import train_and_decode
from readiness.probes.parity.train_and_decode import DOUBT, DecodeResult, Decodes

Tensor = torch.Tensor
#: Differing tokens that have a row of their own; the others are counted.
_ROWS = 8


@dataclass(frozen=True, slots=True)
class Difference:
    """A token that is not the one chosen call by call after the same text.

    `lead` is by how much call by call prefers its own, `deviation` by how much the logits of this step differ at most, both
    as multiples of the root mean square of that step's logits. It is a tie where the lead is no more than rounding.
    """

    conversation: int
    step: int
    token: int
    expected: int
    lead: float
    deviation: float
    tie: bool


@dataclass(frozen=True, slots=True)
class Compared:
    """Compiled decoding beside that call by call: tokens that differ, of how many, and the largest deviation of logits."""

    differences: tuple[Difference, ...]
    tokens: int
    deviation: float
    worst_step: int

    @property
    def wrong(self) -> int:
        """How many tokens differ by more than a tie."""
        return sum(not difference.tie for difference in self.differences)


def compiled(model: Decoder, backend: str) -> Decodes:
    """Return the model with its layers compiled when they first run: one of them serves all of its kind, at any length."""
    call: Any = torch.compile(_layer, backend=backend, dynamic=True)
    return partial(model, layers=[partial(call, layer) for layer in model.layers])


def _layer(layer: Any, x: Tensor, turn: Any, past: Any) -> Any:
    return layer(x, turn, past)


def compared(plain: DecodeResult, through: DecodeResult, dtype: torch.dtype) -> Compared:
    """Compare two decodings of the same text; logits that are no numbers are wrong, whichever token follows from them."""
    wanted, found = on_host(plain.logits), on_host(through.logits)
    finite = (wanted.isfinite() & found.isfinite()).all(-1)
    size = train_and_decode.root_mean_square(wanted)
    deviations = torch.where(finite, (found - wanted).abs().amax(-1) / size, math.inf)
    leads = torch.where(finite, train_and_decode.lead_over(through.tokens, wanted) / size, math.inf)
    # Both round, so that each may be off by as much as one alone from the exact result.
    wrong = ~finite | train_and_decode.clearly_wrong(through.tokens, wanted, dtype, 2 * DOUBT)
    differing = (wrong | (through.tokens != plain.tokens)).nonzero().tolist()
    differences = tuple(
        Difference(row, step, int(through.tokens[row, step]), int(plain.tokens[row, step]), float(leads[row, step]),
                   float(deviations[row, step]), not bool(wrong[row, step]))
        for row, step in differing
    )  # fmt: skip
    worst = int(deviations.argmax()) % deviations.shape[-1]
    return Compared(differences, plain.tokens.numel(), float(deviations.max()), worst)


@dataclass(slots=True)
class Budget:
    """Time that compiling may take: it cannot be interrupted, so what it took before says what it will take."""

    seconds: float
    began: float
    last_s: float = 0.0

    @contextlib.contextmanager
    def spent(self) -> Iterator[None]:
        """Note how long the work in the block takes: what comes next is expected to take as long."""
        began = time.monotonic()
        yield
        self.last_s = time.monotonic() - began

    @classmethod
    def of(cls, seconds: float) -> Budget:
        """Return a budget that begins now."""
        return cls(seconds, time.monotonic())

    def lack(self, more_s: float = 0.0) -> str | None:
        """Return why there is too little time to compile once more and to work for so long; None if there is enough."""
        left = self.seconds - (time.monotonic() - self.began)
        if left > self.last_s + more_s:
            return None
        took = f"compiling took {self.last_s:.1f} s before" + (f", the work takes {more_s:.1f} s" if more_s else "")
        return f"not measured: {took}, and of {self.seconds:g} s {max(left, 0):.1f} s are left"


@dataclass(frozen=True, slots=True)
class Case:
    """A model, prompts (B, T) on its device, how many tokens follow, and its decoding call by call, if that is known."""

    phase: str
    model: Decoder
    prompt: Tensor
    tokens: int
    plain: DecodeResult | None = None


def measurements(
    accelerator: Accelerator, narrow: Case, true: Case, served: Sequence[Served], largest: Served | None = None, *,
    rounds: int, backend: str, within_s: float, known: bool,
) -> Iterator[Yield]:  # fmt: skip
    """Yield tokens of a narrow and of the timed model beside those call by call, then times of each batch in `served`.

    Last of the largest batch that fits call by call, or of half as many while memory runs out. What would take longer than
    `within_s` is left out with a row that says so; `known` if a busy host does not matter.
    """
    budget = Budget.of(within_s)
    try:
        found, done = _attempted("tokens", lambda: _strictly(narrow, compiled(narrow.model, backend), budget))
        yield from found
        if not done:
            return
        if (lack := budget.lack()) is not None:
            yield Row({"phase": true.phase, "compiled": lack})
            return
        _forget()
        model, first = compiled(true.model, backend), replace(true, prompt=true.prompt[:1])
        found, done = _attempted(true.phase, lambda: _same_tokens(first, model, budget))
        yield from found
        for one in served if done else ():
            if (lack := budget.lack()) is not None:
                yield Row({"batch": str(one.batch), "compiled": lack})
                continue
            found, _ = _attempted(true.phase, partial(_pace, accelerator, true, model, one, rounds, budget, known))
            yield from found
        if done and largest is not None:
            yield from _largest(accelerator, true, model, largest, budget)
    finally:
        _forget()


def _largest(accelerator: Accelerator, case: Case, model: Decodes, plain: Served, budget: Budget) -> Iterator[Yield]:
    """Serve as many conversations as fit call by call; a row where there is no time for it, or not one fits."""
    here = {"batch": "largest"}
    one_s = plain.prefill.median + sum(plain.decode.seconds)
    if (lack := budget.lack(2 * one_s)) is not None:  # the first is not timed
        yield Row({**here, "compiled": lack})
        return

    def serving() -> Iterator[Yield]:
        with budget.spent():
            through = steps.serve_largest(accelerator, model, case.prompt, case.tokens, plain.batch)
        if through is None:
            yield Row({**here, "compiled": "not measured: memory ran out even for one conversation"})
            return
        about = f"{through.batch} conversations, {plain.batch} call by call"
        yield Measurement("compiled_largest_batch", through.batch, about=about)
        yield from _beside(plain if through.batch == plain.batch else None, through, here)

    found, _ = _attempted(case.phase, serving)
    yield from found


def _attempted(phase: str, work: Callable[[], Iterable[Yield]]) -> tuple[list[Yield], bool]:
    """Return what the work yields, or what is to be said of a refusal; and whether it was done."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return list(work()), True
    except Exception as problem:  # compilers raise their own kinds
        reason = describe(problem)
        if is_out_of_memory(problem):
            return [Row({"phase": phase, "compiled": "not measured: memory ran out", "reason": reason})], False
        if not (is_unsupported(problem) or is_of_compiler(problem)):
            raise
    return [
        Measurement("compiled_supported", 0, {"phase": phase}, about=reason),
        Row({"phase": phase, "compiled": "refused", "reason": reason}),
    ], False


def _forget() -> None:
    """Give up all graphs: of each function only a few are kept, and the next model's would no longer be compiled."""
    import torch._dynamo

    torch._dynamo.reset()


def _strictly(case: Case, model: Decodes, budget: Budget) -> Iterator[Yield]:
    from readiness.numerics.strict_precision import strict_precision

    _forget()
    with strict_precision():
        yield from _same_tokens(case, model, budget)


def _same_tokens(case: Case, model: Decodes, budget: Budget) -> Iterator[Yield]:
    """Decode both ways, the compiled model after the tokens of the other, so that all steps can be compared."""
    from torch._dynamo.utils import counters

    here = {"phase": case.phase}
    plain = case.plain or train_and_decode.decode(case.model, case.prompt, case.tokens)
    counters.clear()
    with budget.spent():
        through = train_and_decode.decode(model, case.prompt, case.tokens, plain.tokens)
    found = compared(plain, through, next(case.model.parameters()).dtype)
    yield Measurement("compiled_supported", 1, here)
    ties = len(found.differences) - found.wrong
    about = f"{found.wrong} of {found.tokens} tokens, {ties} further ones by a tie"
    yield Measurement("compiled_wrong_tokens", found.wrong, here, samples=found.tokens, about=about)
    about = f"at step {found.worst_step} of its conversation"
    yield Measurement("compiled_logit_error", found.deviation, here, samples=found.tokens, about=about)
    yield Row({**here, "compiled": "decoded", "seconds": budget.last_s, "tokens": found.tokens, "ties": ties,
               "graphs": counters["stats"]["unique_graphs"], "breaks": sum(counters["graph_break"].values())})  # fmt: skip
    for difference in found.differences[:_ROWS]:
        yield Row({**here, **_cells(difference)})


def _cells(difference: Difference) -> Mapping[str, Any]:
    return {
        "conversation": difference.conversation, "step": difference.step, "compiled_token": difference.token,
        "token_call_by_call": difference.expected, "lead": difference.lead, "logits_differ_by": difference.deviation,
        "judged": "a tie" if difference.tie else "another token",
    }  # fmt: skip


def _pace(
    accelerator: Accelerator, case: Case, model: Decodes, one: Served, rounds: int, budget: Budget, known: bool
) -> Iterator[Yield]:
    here = {"batch": str(one.batch)}
    with budget.spent():
        through = steps.serve(accelerator, model, case.prompt[: one.batch], case.tokens, rounds=rounds)
    if not known and (one.decode.busy or through.decode.busy):
        yield Row({**here, "compiled": "not known: other work keeps the host busy", "waited": through.decode.waited})
        return
    yield from _beside(one, through, here)


def _beside(plain: Served | None, through: Served, here: Mapping[str, str]) -> Iterator[Yield]:
    """Yield times and rate of a compiled batch, and how much faster it is than the same call by call, if that is known."""
    yield from steps.latencies(through.prefill, through.decode, here, prefix="compiled_")
    median, samples = through.decode.median, len(through.decode.seconds)
    yield Measurement("compiled_tokens_per_s", through.batch / median, {**here, "phase": "decode"}, samples=samples)
    if plain is not None:
        yield Measurement("compiled_speedup", plain.decode.median / median, here, samples=samples)
