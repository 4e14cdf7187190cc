"""Planting defects in the CPU's kernels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch


@pytest.fixture
def override() -> Iterator[Callable[[str, Callable[..., Any]], None]]:
    """Replace an operator's CPU kernel; forked children inherit it."""
    libraries: list[Any] = []

    def replace(name: str, kernel: Callable[..., Any]) -> None:
        library: Any = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
        libraries.append(library)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it overrides is the point
            library.impl(name, kernel, "CPU", allow_override=True)

    yield replace
    for library in libraries:
        library._destroy()
