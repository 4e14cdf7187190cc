"""Runs of a serving engine as measurements: its tokens against float64, and its pace. Only workers import this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from readiness.accelerators.base import Accelerator
from readiness.datamodel import Measurement, Row, Yield
from readiness.probes.model import decoder, published_layout, serving_engine, steps
from readiness.probes.model.decoder import Decoder, Plan
from readiness.probes.model.serving_engine import Served
from readiness.probes.parity import train_and_decode
from readiness.probes.throughput import timing
from readiness.probes.throughput.timing import Timing

_PROMPTS, _LENGTH = 4, 21
#: Shares of the device's memory: a narrow model needs next to none, and other processes may be at work.
_NARROW_SHARE, _SHARE = 0.3, 0.85
#: A few layers tell the pace of all; more take long to make up.
_MOST_LAYERS = 8


def tokens(
    accelerator: Accelerator, config: Mapping[str, Any], narrow: Plan, folder: Path, count: int, deadline_s: float
) -> Iterator[Yield]:
    """Have the engine decode with a narrow model, and compare each token with what float64 chooses after the same text."""
    draw = accelerator.generator("model", "serving_engine")
    model = decoder.build(narrow, draw, torch.device("cpu"), torch.bfloat16)
    prompts = torch.randint(narrow.architecture.vocabulary, (_PROMPTS, _LENGTH), generator=draw)
    published_layout.write(folder / "narrow", published_layout.configuration(config, narrow=True), model)
    served = serving_engine.serve(accelerator, {
        "model": str(folder / "narrow"), "load_format": "auto", "dtype": "bfloat16", "longest": _LENGTH + count + 8,
        "memory_share": _NARROW_SHARE, "eager": True, "prompts": prompts.tolist(), "count": count,
    }, folder, deadline_s)  # fmt: skip
    here = {"phase": "tokens"}
    answer = served.step("tokens")
    yield Measurement("supported", int(answer is not None), here, about=served.problem)
    yield Row({**here, "model": narrow.described, **_start(served)})
    if answer is None:
        return
    chosen = torch.tensor(answer["tokens"])
    if chosen.shape != (_PROMPTS, count):
        yield Measurement("wrong_tokens", chosen.numel() or 1, here, about=f"{tuple(chosen.shape)} tokens came back")
        return
    reference = Decoder(narrow).double()
    reference.load_state_dict({name: weight.double() for name, weight in model.state_dict().items()})
    logits = train_and_decode.forward(reference, prompts, chosen)
    wrong, clear = train_and_decode.disagreements(chosen, logits, torch.bfloat16)
    own = train_and_decode.decode(reference, prompts, count).tokens
    same = int((own == chosen).sum())
    yield Row({**here, "tokens": chosen.numel(), "clearly_chosen": clear, "as_our_own_decoding": same})
    about = f"{wrong} of {chosen.numel()} tokens; {same} as our own greedy decoding in float64"
    yield Measurement("wrong_tokens", wrong, here, samples=chosen.numel(), about=about)


def pace(
    accelerator: Accelerator, config: Mapping[str, Any], folder: Path, how: Mapping[str, Any], deadline_s: float
) -> Iterator[Yield]:
    """Time the engine with the true widths and as many layers as fit, a few at most."""
    plan = steps.chosen_model(accelerator, config)
    layers = None if plan is None else min(plan.architecture.layers, _MOST_LAYERS)
    published = published_layout.configuration(config, narrow=False, layers=layers)
    published_layout.write(folder / "paced", published, None)
    settled = timing.settle(accelerator)
    served = serving_engine.serve(accelerator, {
        "model": str(folder / "paced"), "load_format": "dummy", "dtype": "bfloat16", "memory_share": _SHARE, "eager": False,
        "longest": how["length"] + how["count"] + 8, "vocabulary": int(published["vocab_size"]), "seed": accelerator.seed,
        **how,
    }, folder, deadline_s)  # fmt: skip
    done = [batch for batch in how["batches"] if served.rounds(batch)]
    here = {"phase": "pace"}
    yield Measurement("supported", int(bool(done)), here, about=served.problem)
    yield Row({**here, "layers": layers, **_start(served), **settled.cells()})
    if (start := served.step("start")) is not None:
        yield Measurement("start_s", start["seconds"])
    for batch in done:
        yield from _of_batch(served, batch, how)


def _of_batch(served: Served, batch: int, how: Mapping[str, Any]) -> Iterator[Yield]:
    rounds, further = served.rounds(batch), how["count"] - 1
    first = Timing(tuple(one["first_s"] for one in rounds))
    # Of two requests one alone has its first token timed: what is left over of the other is its further tokens.
    between = Timing(tuple(max((one["all_s"] - one["first_s"]) / further, 1e-9) for one in rounds))
    here = {"batch": str(batch)}
    yield from steps.latencies(first, between, here)
    for phase, count, timed in (("prefill", batch * how["length"], first), ("decode", batch, between)):
        yield Measurement("tokens_per_s", count / timed.median, {**here, "phase": phase}, samples=len(rounds))


def _start(served: Served) -> dict[str, Any]:
    version, start = served.step("import"), served.step("start")
    return {
        "vllm": None if version is None else version["version"], "import_s": None if version is None else version["seconds"],
        "start_s": None if start is None else start["seconds"], "problem": served.problem,
    }  # fmt: skip
