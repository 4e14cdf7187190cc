"""Adapter of PyTorch's operator database, which is private to PyTorch and changes global settings on import."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch

from readiness.host.gc_pause import without_collection
from readiness.probes.operators import extra_ops
from readiness.probes.operators.op_entry import Entry

_MODULE = "torch.testing._internal.common_methods_invocations"
_FREE_FLAGS = "__allow_nonbracketed_mutation_flag"


class UnavailableError(Exception):
    """The database cannot be imported; the message has the reason."""


def load() -> tuple[Entry, ...]:
    """Return all operators in the database's order, and then those that it lacks.

    Raises UnavailableError where this torch does not bring the database.
    Strict float32 arithmetic is switched on first: PyTorch's test-suite, which the import drags in, freezes the flags.
    What else the import changes for the process (the freeze itself, a variable of the compiler's cache) is undone.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    if not torch.backends.flags_frozen():  # type: ignore[no-untyped-call]
        torch.backends.cudnn.allow_tf32 = False
    cache = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    flags = torch.backends.disable_global_flags.__globals__
    free = flags.get(_FREE_FLAGS)
    try:
        with warnings.catch_warnings(), without_collection():
            warnings.simplefilter("ignore")
            operators = importlib.import_module(_MODULE).op_db
    except Exception as problem:
        raise UnavailableError(f"{type(problem).__name__}: {problem}") from problem
    finally:
        if cache is None:
            os.environ.pop("TORCHINDUCTOR_CACHE_DIR", None)
        if free is not None:
            flags[_FREE_FLAGS] = free
    return tuple(_entries(operators))


def select(entries: Sequence[Entry], selection: str, only: Sequence[str] = ()) -> tuple[int, ...]:
    """Return the indices of the entries of a selection (`all` or `core`) that match a glob of `only`.

    Raises ValueError for another catalogue and for a glob that matches nothing: a slip must not shorten the list.
    """
    match selection:
        case "all":
            chosen = list(range(len(entries)))
        case "core":
            chosen = [index for index, entry in enumerate(entries) if entry.core]
        case _:
            raise ValueError(f"there is no catalogue {selection!r}: choose 'all' or 'core'")
    for pattern in only:
        if not any(_matches(entries[index], pattern) for index in chosen):
            raise ValueError(f"no operator of catalogue {selection!r} matches {pattern!r}")
    return tuple(index for index in chosen if not only or any(_matches(entries[index], pattern) for pattern in only))


def parts(selection: str, only: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the labels of the selections that a sweep covers completely."""
    if only:
        return ("chosen",)
    return ("all", "core") if selection == "all" else (selection,)


def dtype_of(name: str) -> torch.dtype:
    """Return `torch.float32` for `float32`. Raises ValueError for an unknown name."""
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"{name!r} is not a dtype of torch")
    return found


def _matches(entry: Entry, pattern: str) -> bool:
    return fnmatchcase(entry.name, pattern) or entry.base == pattern


def _entries(operators: Sequence[Any]) -> Iterator[Entry]:
    for info in operators:
        variant = info.variant_test_name
        yield Entry(f"{info.name}.{variant}" if variant else info.name, info.name, info)
    for operator in extra_ops.operators():
        yield Entry(operator.name, operator.name, operator)
