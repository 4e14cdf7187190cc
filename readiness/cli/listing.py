"""`readiness list`: checks, profiles and report formats."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from readiness.cli import options
from readiness.cli.check_folders import add_checks


class What(StrEnum):
    """Kinds of things to list."""

    CHECKS = "checks"
    PROFILES = "profiles"
    FORMATS = "formats"


class Format(StrEnum):
    """Output format."""

    TABLE = "table"
    JSON = "json"


def listing(
    what: Annotated[What | None, typer.Argument(help="Only one of the lists.")] = None,
    checks: options.ChecksFolders = None,
    format: Annotated[Format, typer.Option("--format", "-f", help="Output format.")] = Format.TABLE,
) -> None:
    """List the checks, the shipped profiles and the report formats."""
    add_checks(checks)
    found = {kind: gather() for kind, gather in _GATHER.items() if what in (None, kind)}
    if format is Format.JSON:
        from readiness.documents.assessment import dumps

        options.put(dumps({kind.value: rows for kind, rows in found.items()}))
        return
    from tabulate import tabulate

    from readiness.rendering import clean

    texts = []
    for kind, rows in found.items():
        shown = [{name: value for name, value in row.items() if name != "measures"} for row in rows]  # `explain` tells them
        heading = [kind.value, *list(shown[0])[1:]] if shown else [kind.value]
        cells = [[value if isinstance(value, int | float) else clean(value) for value in row.values()] for row in shown]
        texts.append(tabulate(cells, headers=heading, tablefmt="simple", maxcolwidths=options.widths(cells, heading)))
    options.put("\n\n".join(texts))


def _checks() -> list[dict[str, object]]:
    from readiness.engine.check_declarations import discover

    return [
        {
            "id": check.id, "title": check.title, "seconds": check.typical_s,
            "measures": {name: measure.unit for name, measure in check.measures.items()},
        }
        for check in discover().values()
    ]


def _profiles() -> list[dict[str, object]]:
    from readiness.profile import shipped

    return [{"name": name, "title": shipped.title(name)} for name in shipped.names()]


def _formats() -> list[dict[str, object]]:
    from readiness.rendering import formats

    return [{"name": name, "title": description} for name, description in formats.descriptions().items()]


_GATHER = {What.CHECKS: _checks, What.PROFILES: _profiles, What.FORMATS: _formats}
