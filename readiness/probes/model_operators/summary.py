"""Summary of a replay: which operators of a model fail on this chip, in figures and in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from readiness.datamodel import Measurement
from readiness.probes.model_operators.outcomes import CallTiming, ReplayResult
from readiness.probes.model_operators.replay import OpGroup
from readiness.probes.operators.outcomes import Outcome
from readiness.probes.operators.outcomes import Phase as TrialPhase
from readiness.tracing.workload_schema import INFERENCE, TRAINING, Phase, Workload

#: So many operators are named, the others counted; and so many characters are never exceeded.
_NAMED, _LONGEST = 6, 420
_COUNTED: Mapping[str, tuple[Outcome, ...]] = {
    "missing": (Outcome.MISSING,), "wrong": (Outcome.WRONG,), "crashed": (Outcome.CRASHED, Outcome.HANG),
    "nondeterministic": (Outcome.NONDETERMINISTIC,), "fallbacks": (Outcome.FALLBACK,),
}  # fmt: skip
_STANDING = (Outcome.MISSING, Outcome.WRONG, Outcome.CRASHED, Outcome.HANG)
_SHARES: Mapping[str, tuple[Outcome, ...]] = {
    "native_share": (Outcome.NATIVE,), "decomposed_share": (Outcome.DECOMPOSED,), "fallback_share": (Outcome.FALLBACK,),
}  # fmt: skip
USES: Mapping[str, tuple[Phase, ...]] = {"training": TRAINING, "inference": INFERENCE}
Weigh = Callable[[int, Sequence[Phase]], float]


@dataclass(slots=True)
class WorkloadSummary:
    """Results of all groups of a workload on one accelerator."""

    accelerator: str
    workload: Workload
    found: list[tuple[OpGroup, ReplayResult]] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """True if every operator was tried."""
        return all(result.reached for _, result in self.found)

    def measurements(self) -> Iterator[Measurement]:
        """Yield the measurements for each use, over all dtypes and for each floating one."""
        for use, phases in USES.items():
            dtypes = dict.fromkeys(
                group.dtype for group, _ in self._of(phases) if group.dtype.startswith(("float", "bfloat"))
            )
            for dtype in ("all", *sorted(dtypes)):
                part_of = [pair for pair in self._of(phases) if dtype in ("all", pair[0].dtype)]
                if use == "inference":
                    part_of = [(group, result.without_gradient) for group, result in part_of]
                labels = {"workload": self.workload.name, "phase": use, "dtype": dtype}
                yield from self._measure(part_of, use, phases, labels)

    def _of(self, phases: Sequence[Phase]) -> list[tuple[OpGroup, ReplayResult]]:
        return [pair for pair in self.found if self._count(pair[0], phases)]

    def _count(self, group: OpGroup, phases: Sequence[Phase]) -> int:
        return sum(self.workload.records[number].count(phases) for number in group.records)

    def _measure(
        self, pairs: Sequence[tuple[OpGroup, ReplayResult]], use: str, phases: Sequence[Phase], labels: dict[str, str]
    ) -> Iterator[Measurement]:
        reached = all(result.reached for _, result in pairs)
        judged = all(result.outcome is not Outcome.UNJUDGED for _, result in pairs)
        extent = {"extent": "all" if reached and judged else "part"}  # what nobody could judge is not known to be right
        names = {group.name for group, _ in pairs}
        yield Measurement("operators", len(names), labels | extent)
        unjudged = {group.name for group, result in pairs if result.outcome is Outcome.UNJUDGED and result.reached}
        yield Measurement("unjudged", len(unjudged), labels | (extent if not unjudged else {"extent": "all"}))
        if all(result.outcome is Outcome.UNJUDGED for _, result in pairs):
            return  # nothing is known to be right
        for name, outcomes in _COUNTED.items():
            poor = [(group, result) for group, result in pairs if result.outcome in outcomes]
            # What is bad in a part is bad in the whole.
            phrases = labels | (extent if not poor else {"extent": "all"})
            yield Measurement(name, len({group.name for group, _ in poor}), phrases, about=self._named(poor))
        refusing = [group.label for group, result in pairs if result.refused_offset]
        yield Measurement(
            "refuse_unaligned", len({group.name for group, result in pairs if result.refused_offset}),
            labels | (extent if not refusing else {"extent": "all"}),
            about=f"{self.accelerator}: {'; '.join(refusing)}"[:_LONGEST] if refusing else None,
        )  # fmt: skip
        standing = [pair for pair in pairs if pair[1].outcome in _STANDING]
        yield Measurement(
            "obstacles", len({group.name for group, _ in standing}),
            labels | (extent if not standing else {"extent": "all"}),
            about=self.line(pairs, phases) if standing else None,
        )  # fmt: skip
        for weight, weigh in (("calls", self._by_calls), ("time", partial(self._by_time, self.times))):
            yield from self._covered(pairs, use, phases, labels | extent | {"weight": weight}, weigh)

    def _covered(
        self, pairs: Sequence[tuple[OpGroup, ReplayResult]], use: str, phases: Sequence[Phase], labels: dict[str, str],
        weigh: Weigh,
    ) -> Iterator[Measurement]:
        judged = [pair for pair in pairs if pair[1].outcome is not Outcome.UNJUDGED]
        forward = tuple(phase for phase in phases if phase is not Phase.BACKWARD)
        yield from _share(
            "forward_coverage", judged, lambda pair: self._weight(pair, forward, weigh),
            lambda result: result.outcome.right or result.phase is TrialPhase.BACKWARD, labels, self._named,
        )  # fmt: skip
        if use == "training":
            due = [pair for pair in judged if pair[1].backward or self._count(pair[0], (Phase.BACKWARD,))]
            yield from _share(
                "backward_coverage", due, lambda pair: self._weight(pair, (Phase.FORWARD, Phase.BACKWARD), weigh),
                lambda result: result.outcome.right, labels, self._named,
            )  # fmt: skip
        for name, outcomes in _SHARES.items():
            yield from _share(
                name, judged, lambda pair: self._weight(pair, phases, weigh),
                lambda result, outcomes=outcomes: result.outcome in outcomes, labels, None,  # type: ignore[misc]
            )  # fmt: skip

    def _weight(self, pair: tuple[OpGroup, ReplayResult], phases: Sequence[Phase], weigh: Weigh) -> float:
        return sum(weigh(number, phases) for number in pair[0].records)

    def _by_calls(self, number: int, phases: Sequence[Phase]) -> float:
        return float(self.workload.records[number].count(phases))

    def _by_time(self, times: Mapping[int, CallTiming], number: int, phases: Sequence[Phase]) -> float:
        """Return the seconds of one step, as far as they are known."""
        timing = times.get(number)
        if timing is None:
            return 0.0
        whole = self.workload.records[number].call.op == "aten::scaled_dot_product_attention"
        total = 0.0
        for phase in phases:
            count = self.workload.records[number].calls.get(phase, 0)
            inside = whole and phase is Phase.BACKWARD
            total += count * (timing.backward_seconds if inside else timing.seconds)
        return total

    @property
    def times(self) -> Mapping[int, CallTiming]:
        """Timings of records by number, collected anew from what was found so far."""
        return {number: timing for _, result in self.found for number, timing in result.timings.items()}

    def full_share(self) -> float:
        """Return the share of all calls whose record was replayed at the model's own size."""
        calls = {number: sum(record.calls.values()) for number, record in enumerate(self.workload.records)}
        full = sum(calls[number] for number, timing in self.times.items() if timing.full)
        return full / max(sum(calls.values()), 1)

    def line(self, pairs: Sequence[tuple[OpGroup, ReplayResult]], phases: Sequence[Phase]) -> str:
        """Return `sim:0: 3 of 97 operators of deepseek-v3 missing, 2 wrong in backward (bfloat16): 11 % of its calls`."""
        total = len({group.name for group, _ in pairs})
        groups: dict[str, list[tuple[OpGroup, ReplayResult]]] = {}
        for group, result in pairs:
            if result.outcome in (*_STANDING, Outcome.FALLBACK, Outcome.NONDETERMINISTIC):
                backward = result.phase is TrialPhase.BACKWARD and result.outcome is not Outcome.FALLBACK
                late = " in backward" if backward else ""
                groups.setdefault(_OUTCOME_PHRASES[result.outcome] + late, []).append((group, result))
        order = [phrase + late for phrase in _OUTCOME_PHRASES.values() for late in ("", " in backward")]
        phrases: list[str] = []
        for phrase, results in sorted(groups.items(), key=lambda entry: order.index(entry[0])):
            dtypes = sorted({group.dtype for group, _ in results})
            count = len({group.name for group, _ in results})
            first = f"{count} of {total} operators of {self.workload.name} {phrase}" if not phrases else f"{count} {phrase}"
            phrases.append(first + (f" ({', '.join(dtypes)})" if "in backward" in phrase else ""))
        concerned = [pair for results in groups.values() for pair in results]
        calls = sum(self._count(group, phases) for group, _ in concerned)
        share = calls / max(sum(self._count(group, phases) for group, _ in pairs), 1)
        named = self._named([pair for pair in concerned if pair[1].outcome in _STANDING], prefix="")
        return f"{self.accelerator}: {', '.join(phrases)}: {_percent(share)} of its calls ({named})"[:_LONGEST]

    def _named(self, poor: Sequence[tuple[OpGroup, ReplayResult]], prefix: str | None = None) -> str | None:
        """Return the worst results as text: `sim:0: mm in bfloat16: wrong on a strided input; and 12 more`."""
        if not poor:
            return None
        ranked = sorted(poor, key=lambda pair: -self._count(pair[0], list(Phase)))
        phrases = [_describe(group, result) for group, result in ranked]
        start = f"{self.accelerator}: " if prefix is None else prefix
        text = ""
        for named in range(min(_NAMED, len(phrases)), 0, -1):
            more = [f"and {len(phrases) - named} more"] if len(phrases) > named else []
            text = start + "; ".join([*phrases[:named], *more])
            if len(text) <= 280:
                break
        return text[:280]

    def __str__(self) -> str:
        """Return a text such as `97 operators in 115 dtypes: 60 native, 55 decomposed`."""
        counts = Counter(result.outcome.value for _, result in self.found)
        phrases = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
        return f"{len({group.name for group, _ in self.found})} operators, by dtype: {phrases}"


#: In the order in which they are told.
_OUTCOME_PHRASES = {
    Outcome.MISSING: "missing", Outcome.WRONG: "wrong", Outcome.CRASHED: "crash", Outcome.HANG: "hang",
    Outcome.NONDETERMINISTIC: "nondeterministic", Outcome.FALLBACK: "on the CPU",
}  # fmt: skip


def row(group: OpGroup, result: ReplayResult) -> Mapping[str, Any]:
    """Return a row of detail about one operator in one dtype."""
    sizes = Counter(timing.size for timing in result.timings.values())
    return {
        "operator": group.name, "dtype": group.dtype, "phase": result.phase.value, "outcome": result.outcome.value,
        "detail": f"but {result.refused_offset}" if result.refused_offset and result.outcome.clean else result.explained,
        "records": len(group.records),
        "largest": "; ".join(f"{count} at {size}" for size, count in sizes.most_common(4)),
        "seconds": round(sum(timing.seconds for timing in result.timings.values()), 6),
    }  # fmt: skip


def _share(
    name: str,
    pairs: Sequence[tuple[OpGroup, ReplayResult]],
    weight: Callable[[tuple[OpGroup, ReplayResult]], float],
    counts: Callable[[ReplayResult], bool],
    labels: dict[str, str],
    about: Callable[[Sequence[tuple[OpGroup, ReplayResult]]], str | None] | None,
) -> Iterator[Measurement]:
    """Yield a weighted share; 1 for the share of nothing."""
    total = sum(map(weight, pairs))
    if total <= 0:
        return
    poor = [pair for pair in pairs if not counts(pair[1]) and (weight(pair) > 0 or labels["weight"] == "time")]
    good = sum(weight(pair) for pair in pairs if counts(pair[1]))
    value = good / total if poor else 1.0
    yield Measurement(name, value, labels, samples=len(pairs), about=about(poor) if about else None)


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %") if share >= 0.01 or not share else f"{share:.1%}".replace("%", " %")


def _describe(group: OpGroup, result: ReplayResult) -> str:
    words = [{Outcome.FALLBACK: "runs on the CPU", Outcome.CRASHED: "crashes", Outcome.HANG: "hangs"}.get(
        result.outcome, result.outcome.value
    )]  # fmt: skip
    words += ["in its gradient"] if result.phase is TrialPhase.BACKWARD else []
    words += [result.where] if result.where else []
    return f"{group.label}: {' '.join(words)}"
