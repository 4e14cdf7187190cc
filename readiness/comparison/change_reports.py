"""A difference in words: as text for a terminal, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from readiness import rendering
from readiness.comparison.changes import UNKNOWN, Change, Difference, Entry, by_change
from readiness.comparison.comparable_values import FEWEST_RUNS
from readiness.errors import Exit
from readiness.rendering import Paint, escape_markdown, wrap
from readiness.rendering.text_budget import ready_parts

FORMATS = ("table", "markdown", "json")
#: Number of values without a known spread that are listed one by one.
_MOST = 8
#: Note on changed values for which too few runs are known.
WITHOUT_SPREAD = (
    f"Fewer than {FEWEST_RUNS} whole runs do not show whether a value moved beyond the spread of runs; a baseline does."
)
_STYLES = {
    Change.WORSE: "bad", Change.UNCLEAR: "open", Change.BETTER: "good", Change.GONE: "open", Change.NEW: "bold",
}  # fmt: skip
_ANSWERS = {
    Exit.READY: ("NO REGRESSION", "good"),
    Exit.NOT_READY: ("REGRESSION", "bad"),
    Exit.UNDETERMINED: ("UNDETERMINED", "open"),
}
#: Words for people where they differ from those of the JSON format.
_LABELS = {Change.UNCLEAR: "undetermined"}


def answer(difference: Difference) -> str:
    """`REGRESSION: 2 worse, 1 better; 328 as before`: one line."""
    word, _ = _ANSWERS[difference.exit_code]
    counts = [f"{len(entries)} {_label(change)}" for change, entries in by_change(difference).items() if entries]
    counted = ", ".join([*counts, f"{difference.unchanged} as before"])
    return f"{word}: {counted}"


def _label(change: Change) -> str:
    return _LABELS.get(change, change.value)


def subject(difference: Difference) -> str:
    """Return the names of the two sides of a comparison."""
    return rendering.clean(f"{difference.title} against {difference.reference.title}", 400)


def table(difference: Difference, *, colour: bool = False, width: int = 100, verbose: bool = False) -> str:
    """Lines of at most `width` columns: the answer, what differs around it, then the changes, the most urgent first."""
    return "\n".join(_lines(difference, rendering.painter(colour), width, verbose)) + "\n"


def _lines(difference: Difference, paint: Paint, width: int, verbose: bool) -> Iterator[str]:
    word, style = _ANSWERS[difference.exit_code]
    yield from wrap(subject(difference), width)
    line, *more = wrap(answer(difference), width)
    yield line.replace(word, paint(word, style), 1)
    yield from more
    if difference.conditions:
        yield ""
        for condition in difference.conditions:
            yield from wrap(condition, width, first="differs  ", rest=" " * 9)
    if difference.retest is not None:
        yield ""
        yield from wrap(difference.retest.words, width, first="re-test  ", rest=" " * 9)
        for entry in (*difference.retest.missed, *difference.retest.missing):
            yield from wrap(_sentence(entry), width, first=" " * 9 + "- ", rest=" " * 11)
    for change, entries in by_change(difference).items():
        yield from _section(change, entries, paint, width, verbose)
    if difference.hidden:
        yield ""
        text = f"{len(difference.hidden)} values differ so much from run to run that a change of 10% cannot be seen in them"
        yield from wrap(text if verbose else f"{text}: -v names them", width, first="hidden   ", rest=" " * 9)
        for hidden in difference.hidden if verbose else ():
            yield from wrap(hidden, width, first=" " * 9 + "- ", rest=" " * 11)


def _section(change: Change, every: list[Entry], paint: Paint, width: int, verbose: bool) -> Iterator[str]:
    if not every:
        return
    yield ""
    yield paint(_label(change), _STYLES[change]) + f"  {len(every)}"
    entries, lost = _without_lost(every)
    for text in lost:
        yield from wrap(text, width, first="  ", rest="    ")
    shown, left_out = _shown(entries, verbose)
    if any(entry.without_spread for entry in entries):
        yield from wrap(WITHOUT_SPREAD, width, first="  ", rest="  ")
    for entry in shown:
        yield from wrap(_sentence(entry), width, first="  ", rest="    ")
    if left_out:
        yield f"  and {left_out} more: -v lists all"


def _without_lost(entries: list[Entry]) -> tuple[list[Entry], list[str]]:
    """Separate entries to list one by one from those that are unknown now, merged to one sentence for each reason."""
    lost: dict[tuple[str, tuple[str, ...]], list[Entry]] = {}
    for entry in entries:
        if entry.change is Change.UNCLEAR and entry.requirement and entry.after == UNKNOWN:
            lost.setdefault((entry.note.removeprefix(f"{entry.subject}: "), entry.ids), []).append(entry)
    texts = []
    for (reason, ids), of in lost.items():
        checks = sorted({entry.subject for entry in of})
        those = checks[0] if len(checks) == 1 else f"{len(checks)} checks"
        names = "1 requirement" if len(of) == 1 else f"{len(of)} requirements"
        texts.append(f"{names} of {those} on {rendering.names(ids)}: unknown now: {reason}")
    grouped = {id(entry) for of in lost.values() for entry in of}
    return [entry for entry in entries if id(entry) not in grouped], texts


def _shown(entries: list[Entry], verbose: bool) -> tuple[list[Entry], int]:
    """Changed requirements all, values as many as there is room for."""
    if verbose:
        return entries, 0
    kept = [entry for entry in entries if entry.requirement or entry.change is Change.WORSE]
    kept += [entry for entry in entries if entry not in kept][:_MOST]
    return [entry for entry in entries if entry in kept], len(entries) - len(kept)


def _sentence(entry: Entry, show: Callable[[str], str] = str) -> str:
    """`Softmax is right in bfloat16 (softmax-bfloat16; must for training) on cuda:0: met, now not met: ...`."""
    name = show(entry.title or entry.requirement or entry.subject)
    about = []
    if entry.requirement:
        uses = f" for {', '.join(entry.uses)}" if entry.uses else ""
        about.append(f"{show(entry.requirement) + '; ' if entry.title else ''}{entry.level}{uses}")
    if not entry.counts and entry.change in (Change.WORSE, Change.UNCLEAR):
        about.append("does not count")
    where = f" on {show(rendering.names(entry.ids))}" if entry.ids else ""
    moved = show(f"{entry.before}, now {entry.after}") if entry.before and entry.after else show(entry.after or entry.before)
    detail = ": ".join(part for part in (moved, show(entry.note)) if part)
    described = f" ({'; '.join(about)})" if about else ""
    return f"{name}{described}{where}: {detail}"


def markdown(difference: Difference, version: str) -> str:
    """Return the difference as Markdown for a comment or a step summary, below 64 KB."""
    signs = {Exit.READY: "✅", Exit.NOT_READY: "❌", Exit.UNDETERMINED: "❔"}
    head = [
        f"## {escape_markdown(subject(difference))}\n\n",
        f"{signs[difference.exit_code]} **{escape_markdown(answer(difference))}**\n\n",
        *(f"> **Differs**: {escape_markdown(condition)}\n\n" for condition in difference.conditions),
    ]
    sections = [rendering.Section("notes", ready_parts(head), 0.2)]
    if difference.retest is not None:
        head = ["\n### Re-test rule\n\n", f"{escape_markdown(difference.retest.words)}\n\n"]
        points = _points((*difference.retest.missed, *difference.retest.missing))
        sections += [rendering.Section("lines", ready_parts(head), 0.1), rendering.Section("values", points, 0.2, "", 20)]
    for change, entries in by_change(difference).items():
        remark = f"{WITHOUT_SPREAD}\n\n" if any(entry.without_spread for entry in entries) else ""
        heading = f"\n### {_label(change).capitalize()}\n\n{remark}"
        single, lost = _without_lost(entries)
        points = [*ready_parts(f"- {escape_markdown(text)}\n" for text in lost), *_points(single)]
        sections.append(rendering.Section(f"changes ({change})", points, 0.4, heading, 15))
    return rendering.comment(sections, f"\n<sub>readiness {escape_markdown(version)}</sub>\n")


def _points(entries: Iterable[Entry]) -> list[Callable[[], str]]:
    return ready_parts(f"- {_sentence(entry, escape_markdown)}\n" for entry in entries)


def as_json(difference: Difference, version: str) -> dict[str, Any]:
    """Return the difference as JSON: `readiness.difference/1`."""
    document: dict[str, Any] = {
        "schema": "readiness.difference/1",
        "tool": {"name": "readiness", "version": version},
        "run": difference.title,
        "reference": {
            "title": difference.reference.title, "kind": "baseline" if difference.reference.by_model else "run",
            "profile": {"name": difference.reference.profile_name, "sha256": difference.reference.profile_sha256},
        },
        "answer": {Exit.READY: "no regression", Exit.NOT_READY: "regression", Exit.UNDETERMINED: "cannot be told"}[
            difference.exit_code
        ],
        "exit_code": int(difference.exit_code),
        "conditions": list(difference.conditions),
        "compared_values": difference.compared,
        "unchanged": difference.unchanged,
        "changes": [_entry(entry) for entry in difference.entries],
        "hidden_by_spread": list(difference.hidden),
    }  # fmt: skip
    if difference.retest is not None:
        document["retest"] = {
            "share": difference.retest.share, "reached": difference.retest.reached,
            "missed": [_entry(entry) for entry in difference.retest.missed],
            "missing": [_entry(entry) for entry in difference.retest.missing],
        }  # fmt: skip
    return document


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "change": entry.change.value, "accelerators": list(entry.ids), "subject": entry.subject,
        "requirement": entry.requirement or None, "title": entry.title or None, "uses": [use.value for use in entry.uses],
        "level": None if entry.level is None else entry.level.value, "before": entry.before, "after": entry.after,
        "note": entry.note or None, "counts": entry.counts,
    }  # fmt: skip
