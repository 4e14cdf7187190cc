"""Shell completion of options and arguments. Nothing here imports torch or reports errors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import typer

from readiness import package_data

Complete = Callable[[typer.Context, str], list[str]]


def _of(names: Callable[[typer.Context], Iterable[str]]) -> Complete:
    """Return the names that start with the typed text."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        # A broken folder or file is reported when the command runs, not while a word is being typed.
        with contextlib.suppress(Exception):
            return [name for name in names(ctx) if name.startswith(incomplete)]
        return []

    return complete


def _profiles(_: typer.Context) -> Iterable[str]:
    return sorted(file.stem for file in package_data.shipped("profiles").glob("*.toml"))


def _formats(_: typer.Context) -> Iterable[str]:
    return sorted(file.stem for file in package_data.shipped("reports").glob("[!_.]*.py"))


def _chips(_: typer.Context) -> Iterable[str]:
    from readiness.simulator import machine_file

    return machine_file.names()


def _checks(ctx: typer.Context) -> Iterable[str]:
    from readiness import check_registry
    from readiness.cli.check_folders import add_checks
    from readiness.engine import check_declarations

    folders: Any = ctx.params.get("checks") or ()
    try:
        add_checks([Path(folder) for folder in folders])
        return check_declarations.discover(check_declarations.COMPLETION_LIMIT_S)
    except Exception:  # noqa: BLE001 - of the user's files; ours are there all the same
        return check_registry.shipped()


def _whatever_can_be_explained(ctx: typer.Context) -> Iterable[str]:
    from readiness.profile.shipped import requirement_ids

    return [*_profiles(ctx), *_checks(ctx), *sorted(requirement_ids())]


def _whatever_can_be_fitted(ctx: typer.Context) -> Iterable[str]:
    return [*_profiles(ctx), *(file.name.removesuffix(".json.gz") for file in _workloads())]


def _workloads() -> Iterable[Path]:
    return sorted((package_data.shipped("profiles") / "workloads").glob("*.json.gz"))


def _devices(ctx: typer.Context) -> Iterable[str]:
    return ["cpu", *(f"sim:{name}" for name in _chips(ctx))]


def _formats_of_a_rehearsal(_: typer.Context) -> Iterable[str]:
    from readiness.rehearsal.formats import SUFFIXES

    return SUFFIXES


def _formats_of_a_difference(_: typer.Context) -> Iterable[str]:
    return ("table", "markdown", "json")


def _formats_of_a_comparison(_: typer.Context) -> Iterable[str]:
    return ("table", "html", "markdown", "xlsx", "json")


profile, check, chip, device = _of(_profiles), _of(_checks), _of(_chips), _of(_devices)
report_format, rehearsal_format = _of(_formats), _of(_formats_of_a_rehearsal)
difference_format, comparison_format = _of(_formats_of_a_difference), _of(_formats_of_a_comparison)
explained = _of(_whatever_can_be_explained)
fitted = _of(_whatever_can_be_fitted)
