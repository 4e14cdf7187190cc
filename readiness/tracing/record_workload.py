"""Records a workload from a model at several lengths, full and reduced, and counts calls over all its layers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch

from readiness.errors import UsageError
from readiness.tracing import symbolic_sizes
from readiness.tracing.call_recorder import distinct
from readiness.tracing.traced_model import Sources
from readiness.tracing.workload_schema import Call, Phase, Record, Workload

Calls = Sequence[tuple[Phase, Call]]
Note = Callable[[str], None]


def record(sources: Sources, *, name: str, title: str, batch: int, note: Note) -> Workload:
    """Record the calls of a model as a workload. `note` is called with remarks on what is missing. Raises UsageError."""
    whole = sources.whole
    longest = whole.lengths[0]
    note(f"{whole.kind} at {longest} {whole.length}")
    counted = whole.trace(longest).recorded
    aligned = _aligned(sources, counted, note)
    records = _counted(aligned, counted)
    parameters = sum(weight.numel() for weight in whole.build().parameters())
    return Workload(
        name=name,
        title=title,
        model={"kind": whole.kind, "parameters": parameters, "config": whole.facts.get("config", {})},
        traced={
            "device": "meta", "torch": str(torch.__version__), "transformers": whole.facts.get("transformers"),
            "calls": len(counted), "optimizer": "AdamW, foreach, float32 master weights",
        },
        dtype=str(whole.dtype).removeprefix("torch."),
        batch=batch,
        unit=whole.length,
        length=longest,
        reduced_length=sources.reduced.lengths[0] if sources.reduced is not None else None,
        records=tuple(records),
        not_covered=tuple(sorted({call.op for _, call in counted if not call.op.startswith("aten::")})),
    )  # fmt: skip


def _aligned(sources: Sources, counted: Calls, note: Note) -> list[tuple[Phase, Call, Call]]:
    """Return the calls with symbolic sizes, over as many models and lengths as can be aligned."""
    whole = sources.whole
    operators = _keys(counted)
    for full, small in ((sources.thin, sources.reduced), (None, sources.reduced), (sources.thin, None), (None, None)):
        model = full or whole
        try:
            recorded = [(length, counted if model is whole and length == whole.lengths[0] else model.trace(length).recorded)
                     for length in model.lengths]  # fmt: skip
            few = [(length, small.trace(length).recorded) for length in small.lengths] if small is not None else []
            found = symbolic_sizes.align(recorded, few)
        except (symbolic_sizes.AlignmentError, UsageError) as problem:
            note(f"it cannot be described at another size: {str(problem).splitlines()[0]}")
            continue
        if not operators - _keys([(phase, raw) for phase, _, raw in found]):
            return found
        note("its first layers do not show all its calls: all layers are recorded at every length")
    return [(phase, call, call) for phase, call in counted]


def _keys(recorded: Calls) -> set[tuple[Phase, str]]:
    return {(phase, call.op) for phase, call in recorded if call.op.startswith("aten::")}


def _counted(aligned: Sequence[tuple[Phase, Call, Call]], counted: Calls) -> list[Record]:
    """Return records with the call counts of the whole model.

    Calls that look alike at one length and differ at others share a count as they do among the layers heard; so do
    those that nothing there resembles, as a list with an entry for each weight.
    """
    shares: defaultdict[tuple[Phase, Call], Counter[Call]] = defaultdict(Counter)
    others: defaultdict[tuple[Phase, str], Counter[Call]] = defaultdict(Counter)
    for phase, call, raw in aligned:
        if call.op.startswith("aten::"):
            shares[phase, distinct(raw)][distinct(call)] += 1
            others[phase, call.op][distinct(call)] += 1
    totals = Counter((phase, distinct(call)) for phase, call in counted if call.op.startswith("aten::"))
    calls: defaultdict[Call, Counter[Phase]] = defaultdict(Counter)
    for (phase, raw), total in totals.items():
        share = shares.get((phase, raw)) or others[phase, raw.op]
        for call, part in _apportion(total, share):
            calls[call][phase] += part
    for phase, call, _ in aligned:  # rare beside its like, and there all the same
        if call.op.startswith("aten::"):
            calls[distinct(call)][phase] = max(calls[distinct(call)][phase], 1)
    return [Record(call, {phase: found[phase] for phase in Phase if found[phase]}) for call, found in _sorted(calls)]


def _apportion(total: int, share: Counter[Call]) -> list[tuple[Call, int]]:
    whole = sum(share.values())
    return [(call, round(total * part / whole)) for call, part in share.items()]


def _sorted(calls: dict[Call, Counter[Phase]]) -> list[tuple[Call, Any]]:
    return sorted(calls.items(), key=lambda entry: (entry[0].op, repr(entry[0])))
