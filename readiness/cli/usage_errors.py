"""Mistakes on the command line that typer finds, as errors of our own form: what is wrong, where, and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from readiness.errors import UsageError
from readiness.rendering import clean

#: An argument may be the content of a file.
_LONGEST = 2000
_QUOTED = re.compile(r"'([^']*)'")
_ONE_OF = re.compile(r"'(?P<given>.*)' is not one of (?P<known>'.*')\.?$", re.DOTALL)


def is_help(problem: Any) -> bool:
    """Return whether typer's exception is the help that stands in for a missing command."""
    return type(problem).__name__ == "NoArgsIsHelpError"


def show_help(problem: Any) -> None:
    """Print that help."""
    problem.show()


def usage_error(problem: Any) -> UsageError:
    """Return our error for one of typer's."""
    parameter = getattr(problem, "param", None)
    flags = [name for name in getattr(parameter, "opts", None) or () if name.startswith("-")]
    invalid = type(problem).__name__ == "BadParameter"
    text = str(getattr(problem, "message", "") if invalid else problem.format_message())
    text = text.removeprefix("Value error, ").partition(" Did you mean ")[0].partition(" (Possible options:")[0]
    context = getattr(problem, "ctx", None)
    command = getattr(context, "command_path", None) or "readiness"
    near = next(_near(problem, text, context), None)
    hint = f"did you mean {clean(near, 100)}? " if near is not None else ""
    return UsageError(
        clean(text.rstrip("."), _LONGEST) or "it is not understood",
        place=max(flags, key=len, default=None),
        remedy=f"{hint}`{command} -h` shows what there is",
    )


def _near(problem: Any, text: str, context: Any) -> Iterator[str]:
    """Yield what may have been meant: a value, an option or a command."""
    if (match := _ONE_OF.search(text)) is not None:
        yield from get_close_matches(match["given"][:100].lower(), _QUOTED.findall(match["known"]), n=1)
    if (name := getattr(problem, "option_name", None)) is not None and name.startswith("--") and context is not None:
        known = [option for one in context.command.params for option in one.opts if option.startswith("--")]
        yield from get_close_matches(name, known, n=1)
    if text.startswith("No such command") and context is not None:
        given = (_QUOTED.findall(text) or [""])[0]
        yield from get_close_matches(given, list(context.command.commands), n=1)
