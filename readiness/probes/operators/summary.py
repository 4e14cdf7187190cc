"""Summary of a sweep: figures, and the operators that they cover."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from readiness.accelerators.base import Accelerator
from readiness.probes.operators import known_values, seeded_selection
from readiness.probes.operators.outcomes import Outcome, Phase, SweepResult
from readiness.probes.operators.sweep import Swept

_COUNTED = {
    "native": (Outcome.NATIVE,),
    "decomposed": (Outcome.DECOMPOSED,),
    "missing": (Outcome.MISSING,),
    "wrong": (Outcome.WRONG,),
    "crashed": (Outcome.CRASHED, Outcome.HANG),
    "nondeterministic": (Outcome.NONDETERMINISTIC,),
    "errors": (Outcome.MISSING,),
    "fallbacks": (Outcome.FALLBACK,),
}
#: Two figures for one outcome: a profile may forgive what is not there and not what is there and raises.
_RAISED = {"missing": False, "errors": True}
#: The outcome in a sentence, where its own name does not do.
_PHRASES = {Outcome.CRASHED: "crashes", Outcome.HANG: "hangs", Outcome.FALLBACK: "runs on the CPU"}
_IN = {Phase.FORWARD: [], Phase.BACKWARD: ["in its gradient"], Phase.FORWARD_MODE: ["in forward mode"]}
#: So many operators are named, the others counted; and so many characters are never exceeded.
_NAMED, _LONGEST = 5, 280


class SweepSummary:
    """Summary of one dtype on one accelerator."""

    def __init__(self, accelerator: str) -> None:
        self._accelerator = accelerator
        self.outcomes: Counter[Outcome] = Counter()
        self._poor: list[Swept] = []
        self._refuse_unaligned: list[Swept] = []
        self._known: list[Swept] = []
        self.judged = self.judged_backward = self.forward = self.backward = 0
        self.judged_forward_mode = self.forward_mode = 0

    def add(self, swept: Swept) -> None:
        """Count one operator."""
        result = swept.result
        self.outcomes[result.outcome] += 1
        if result.outcome is Outcome.UNJUDGED:
            return
        if not result.outcome.clean or result.forward_mode is False:
            self._poor.append(swept)
        if result.known:
            self._known.append(swept)
        if result.refused_offset:
            self._refuse_unaligned.append(swept)
        self.judged += 1
        self.forward += _forward(swept)
        self.judged_backward += result.backward
        self.backward += result.backward and not _lost_backward(result)
        self.judged_forward_mode += result.forward_mode is not None
        self.forward_mode += result.forward_mode is True

    def measurements(self) -> Iterator[tuple[str, float, str | None]]:
        """Yield name, value, and the operators behind a poor value.

        Where nothing could be judged nothing is known to be right: what counts the poor is then left out, as is coverage.
        """
        if self.judged:
            about = self._about([swept for swept in self._poor if not _forward(swept)])
            yield "forward_coverage", self.forward / self.judged, about
        if self.judged_backward:
            lost = [swept for swept in self._poor if swept.result.backward and _lost_backward(swept.result)]
            yield "backward_coverage", self.backward / self.judged_backward, self._about(lost)
        if self.judged_forward_mode:
            lost = [swept for swept in self._poor if swept.result.forward_mode is False]
            about = self._about(lost, "fails in forward mode")
            yield "forward_mode_coverage", self.forward_mode / self.judged_forward_mode, about
        if self.judged:
            unaligned = self._refuse_unaligned
            yield "refuse_unaligned", len(unaligned), self._about(unaligned, "refuses an input at an offset")
            yield "known_defects", len(self._known), self._about(self._known, "a known defect of PyTorch's own")
        yield "judged", self.judged, None
        yield "judged_backward", self.judged_backward, None
        yield "unjudged", self.outcomes[Outcome.UNJUDGED], None
        for name, outcomes in _COUNTED.items() if self.judged else ():
            poor = [swept for swept in self._poor if swept.result.outcome in outcomes and not swept.result.outcome.clean]
            if name in _RAISED:
                poor = [swept for swept in poor if swept.result.raised is _RAISED[name]]
                yield name, len(poor), self._about(poor)
            else:
                yield name, sum(self.outcomes[outcome] for outcome in outcomes), self._about(poor)

    def _about(self, poor: Sequence[Swept], phrases: str = "") -> str | None:
        """Return the worst operators as text: `sim:0: softmax in bfloat16: wrong on a strided input; and 12 more`."""
        if not poor:
            return None
        # What models need first: the list is cut.
        ranked = sorted(poor, key=lambda swept: (not swept.entry.core, swept.entry.name))
        parts = [f"{swept.entry.name} in {swept.dtype}: {phrases}" if phrases else _describe(swept) for swept in ranked]
        for named in range(min(_NAMED, len(parts)), 0, -1):
            more = [f"and {len(parts) - named} more"] if len(parts) > named else []
            text = f"{self._accelerator}: " + "; ".join([*parts[:named], *more])
            if len(text) <= _LONGEST:
                break
        return text[:_LONGEST]

    def __str__(self) -> str:
        """Return a text such as `670 operators: 402 native, 266 decomposed, 2 wrong`."""
        parts = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.most_common())
        return f"{self.outcomes.total()} operators: {parts or 'none supports this dtype'}"


def tried(accelerator: Accelerator) -> str:
    """Return what the seed chose for this run, and what could not be tried, in words."""
    against = "were" if known_values.available() else "were not, for want of mpmath,"
    return f"{seeded_selection.of(accelerator)}; special functions {against} held against mpmath"


#: The outcome that a row tells of an operator that is right but for what PyTorch itself gets wrong.
KNOWN_DEFECT = "known defect"
#: A letter for each outcome; `r` is right before its gradient fails, `-` has no gradient to judge.
_CODES = {
    "n": Outcome.NATIVE.value, "d": Outcome.DECOMPOSED.value, "f": Outcome.FALLBACK.value, "m": Outcome.MISSING.value,
    "w": Outcome.WRONG.value, "v": Outcome.NONDETERMINISTIC.value, "c": Outcome.CRASHED.value, "h": Outcome.HANG.value,
    "u": Outcome.UNJUDGED.value, "r": "right", "-": "no gradient",
}  # fmt: skip
_LETTERS = {name: letter for letter, name in _CODES.items()}


class OperatorMap:
    """Map of all operators with their outcomes forward and backward, one row of shape `operators/1` per dtype."""

    def __init__(self) -> None:
        self._by_dtype: dict[str, dict[str, tuple[str, str]]] = {}

    def add(self, swept: Swept) -> None:
        """Add one operator."""
        result = swept.result
        letter = _LETTERS[result.outcome.value]
        fails_backward = not result.outcome.clean and result.phase is Phase.BACKWARD
        backward = letter if result.backward else _LETTERS[Outcome.UNJUDGED.value] if result.unjudged_backward else "-"
        self._by_dtype.setdefault(swept.dtype, {})[swept.entry.name] = ("r" if fails_backward else letter), backward

    def rows(self) -> Iterator[Mapping[str, Any]]:
        """Yield a row for each dtype, operators by name."""
        for dtype, outcomes in self._by_dtype.items():
            names = sorted(outcomes)
            yield {
                "shape": "operators/1", "dtype": dtype, "codes": _CODES, "operators": names,
                "forward": "".join(outcomes[name][0] for name in names),
                "backward": "".join(outcomes[name][1] for name in names),
            }  # fmt: skip


def rows(swept: Swept) -> Iterator[Mapping[str, Any]]:
    """Yield a row about an operator that is neither native nor decomposed, refuses an offset, or fails in forward mode.

    A row of its own tells of known defects of an operator that is right otherwise, and why a gradient could not be judged.
    """
    result = swept.result

    def cells(outcome: str, detail: str, phase: Phase = result.phase) -> Mapping[str, Any]:
        return {
            "operator": swept.entry.name, "dtype": swept.dtype, "phase": phase.value, "outcome": outcome, "detail": detail,
        }  # fmt: skip

    if not result.outcome.clean:
        yield cells(result.outcome.value, result.explained)
    elif result.refused_offset:
        yield cells(result.outcome.value, f"but {result.refused_offset}")
    elif result.forward_mode is False:
        yield cells(result.outcome.value, result.forward_mode_detail, Phase.FORWARD_MODE)
    if result.outcome.clean and result.known:
        yield cells(KNOWN_DEFECT, result.known)
    if result.unjudged_backward:
        yield cells(Outcome.UNJUDGED.value, result.unjudged_backward, Phase.BACKWARD)


def _forward(swept: Swept) -> bool:
    return swept.result.outcome.right or swept.result.phase is not Phase.FORWARD


def _lost_backward(result: SweepResult) -> bool:
    return not result.outcome.right and result.phase is not Phase.FORWARD_MODE


def _describe(swept: Swept) -> str:
    result = swept.result
    phrases = ["fails" if result.raised else _PHRASES.get(result.outcome, result.outcome.value)]
    phrases += _IN[result.phase]
    phrases += [str(result.where)] if result.where else []
    return f"{swept.entry.name} in {swept.dtype}: {' '.join(phrases)}"
