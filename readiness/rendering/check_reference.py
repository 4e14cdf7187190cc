"""Reference of the checks in Markdown, made from their declarations: `docs/checks.md`.

`python -m readiness.rendering.check_reference > docs/checks.md` writes it anew; a test fails where it is stale.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from readiness import check_registry
from readiness.check_registry import Check, Phase, Scope
from readiness.datamodel import Action, Measure
from readiness.rendering.text import clean

_INTRODUCTION = """\
<!-- Made by `python -m readiness.rendering.check_reference`: change the check files, not this one. -->

# Checks

What each check measures, what it needs, and what its measurements mean. A check holds no bound: a
[profile](profiles.md) says what is good enough. `readiness explain CHECK` prints one of these sections, also for your
own checks.

- **Time** is the usual duration on two CPU cores; a check that takes longer than its time limit is tried once more with
  three times that.
- A check of **all chips together** starts one rank on each chip of a stack, those of other hosts included (`--host`).
  Where there is only one chip, two ranks share it if its collective library can do that; the label `chips="one"` then
  says that no link was used.
- **Parameters** are what a profile may set: `[settings."parity.matmul"]`. They stand here as TOML with their
  defaults.
- **Better** says in which direction a measurement gets better; a unit of 1 is a number without one.
- Of each measure, the list below its table says why it matters, what to do where it is poor, and the action for
  machines. A requirement says the same unless its profile says otherwise.
"""


def time_needed(check: Check) -> str:
    """`about 0.6 s; time limit 60 s, then three times that, alone on the machine`."""
    alone = ", alone on the machine" if check.alone else ""
    if check.lasting is not None:
        return f"for as long as `run --soak` says{alone}"
    return f"about {check.typical_s:g} s; time limit {check.limit_s:g} s, then three times that{alone}"


def settings(check: Check) -> Iterator[str]:
    """Return each setting in TOML, as a profile would give its default, with its bounds as a comment."""
    for name, default in check.settings.items():
        line = f"{name} = {_toml(default)}" if default is not None else f"# {name} is not set"
        bounds = [
            f"{word} {bound:g}"
            for word, given in (("at least", check.least), ("at most", check.most))
            if (bound := given.get(name)) is not None
        ]
        yield f"{line}  # {', '.join(bounds)}" if bounds else line


def markdown(checks: Iterable[Check]) -> str:
    """The whole reference, by family."""
    ordered = sorted(checks, key=lambda check: check.id)
    families = {family: list(members) for family, members in groupby(ordered, key=lambda check: check.family)}
    parts = [_INTRODUCTION, *(_contents(family, members) for family, members in families.items())]
    ids = [check.id for check in ordered]
    for family, members in families.items():
        parts += [f"## {family}\n", *("\n".join(_section(check, ids)) for check in members)]
    return "\n".join(parts)


def _contents(family: str, members: Sequence[Check]) -> str:
    head = f"| [{family}](#{_anchor(family)}) | what holds where all is well | runs on | time |\n|---|---|---|---|"
    rows = (
        f"| [{check.id}](#{_anchor(check.id)}) | {_cell(check.title)} | {_runs_on(check)} | {_time(check)} |"
        for check in members
    )
    return "\n".join([head, *rows, ""])


def _time(check: Check) -> str:
    return "`--soak`" if check.lasting is not None else f"{check.typical_s:g} s"


def _section(check: Check, ids: Sequence[str]) -> Iterator[str]:
    sentence, _, rest = check.documentation.partition("\n")
    known = _names(check, ids)
    yield f"### {check.id}\n"
    yield f"**{_prose(check.title)}.** {_prose(sentence)}\n"
    if rest.strip():
        yield "\n".join(_prose(line) for line in rest.strip().splitlines()) + "\n"
    last = ", at the end of the run" if check.phase is Phase.LAST else ""
    yield f"Runs on {_runs_on(check)}{last}; {time_needed(check)}."
    if check.catches:
        kinds = ", ".join(f"`{kind}`" for kind in sorted(check.catches))
        yield f"Catches these [planted defects](simulator.md): {kinds}."
    yield ""
    if check.settings:
        yield "\n".join(["```toml", f'[settings."{check.id}"]', *settings(check), "```", ""])
    yield "| measure | unit | better | meaning |\n|---|---|---|---|"
    for name, measure in check.measures.items():
        yield f"| `{name}` | {_cell(measure.unit)} | {measure.better or ''} | {_cell(measure.meaning, known)} |"
    yield ""
    yield from _reasons(check.measures, known)


def _reasons(measures: Mapping[str, Measure], known: re.Pattern[str]) -> Iterator[str]:
    """Return why each measure matters and what to do if it is poor; measures with the same prose are merged."""
    by_prose: dict[tuple[str, str, Action], list[str]] = {}
    for name, measure in measures.items():
        if measure.why or measure.remedy:
            by_prose.setdefault((measure.why, measure.remedy, measure.action), []).append(name)
    for (why, remedy, action), names in by_prose.items():
        what = [_prose(text, known) for text in (why, remedy) if text]
        code = f" (`{action}`)" if action is not Action.NONE else ""
        yield f"- {', '.join(f'`{name}`' for name in names)}: {' **What to do:** '.join(what)}{code}"
    if by_prose:
        yield ""


def _runs_on(check: Check) -> str:
    return "all chips together" if check.scope is Scope.GROUP else "each accelerator"


def _names(check: Check, ids: Sequence[str]) -> re.Pattern[str]:
    """Names in plain texts that stand there as code: measures and settings that are no ordinary words, and ids of checks."""
    names = [*(name for name in (*check.measures, *check.settings) if "_" in name), *ids]
    return re.compile(rf"(?<![\w.`])(?:{'|'.join(map(re.escape, sorted(names, key=len, reverse=True)))})(?![\w`])")


def _cell(text: str, known: re.Pattern[str] | None = None) -> str:
    return _prose(text, known).replace("|", r"\|")


def _prose(text: str, known: re.Pattern[str] | None = None) -> str:
    """A text whose code stays code, and of which Markdown takes nothing else for its own."""
    parts = re.split(r"(`[^`]*`)", clean(text, longest=5000))
    return "".join(part if number % 2 else _plain(part, known) for number, part in enumerate(parts))


def _plain(text: str, known: re.Pattern[str] | None) -> str:
    escaped = re.sub(r"([*<\[\]])", r"\\\1", text)
    labelled = re.sub(r"\{([A-Za-z_]+)\}", r"`\1`", escaped)  # the value of that label
    return labelled if known is None else known.sub(lambda found: f"`{found[0]}`", labelled)


def _anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _toml(value: object) -> str:
    match value:
        case float():
            return f"{value:g}" if value % 1 or abs(value) >= 1e16 else f"{value:.1f}"
        case list() | tuple():
            return f"[{', '.join(map(_toml, value))}]"
        case dict():
            return f"{{ {', '.join(f'{json.dumps(name)} = {_toml(item)}' for name, item in value.items())} }}"
        case _:
            return json.dumps(value)


if __name__ == "__main__":
    sys.stdout.write(markdown(check_registry.shipped().values()))
