"""Writer of a profile for a traced workload. Nothing here imports torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from readiness.tracing.workload_schema import Workload

_SOURCE = "the operators that the model calls, recorded during one training step, one prefill and one more token"
_ROWS = "The rows of operators.workload name operator, dtype, size and figures; update the plug-in, or report them."

#: The titles of these requirements by their ids, which may end in the dtype of the workload.
_TITLES = {
    "workload-train": "Every operator that training needs works",
    "workload-serve": "Every operator that serving needs works",
    "workload-gradients": "Every gradient that training needs exists",
    "workload-native-train": "Training runs no operator on the host",
    "workload-native-serve": "Serving runs no operator on the host",
    "workload-repeats-train": "Operators of training repeat bit by bit",
    "workload-repeats-serve": "Operators of serving repeat bit by bit",
    "workload-unaligned-train": "Operators of training take unaligned input",
    "workload-unaligned-serve": "Operators of serving take unaligned input",
    "workload-judged-train": "Every operator of training could be judged",
    "workload-judged-serve": "Every operator of serving could be judged",
}

#: Requirements of `general` that are a should because models mostly compute in another dtype, by that dtype: a must of one
#: that is trained or served in it. The last are musts where the run has several chips: ranks that share one may be refused.
_MUSTS_OF_DTYPE = {
    "float16": (
        "operators-core-forward-float16", "operators-core-right-float16", "operators-core-survive-float16",
        "operators-core-backward-float16", "special-propagation-float16", "special-overflow-float16",
        "special-precision-float16",
    ),
}  # fmt: skip
_MUSTS_OF_SEVERAL = {"float16": ("collectives-right-float16",)}


#: What training in this dtype asks for besides, of which `general` requires nothing.
_REQUIRED_BY_DTYPE: Mapping[str, tuple[dict[str, Any], ...]] = {
    "float16": (
        {
            "id": "special-subnormal-matmul-float16", "title": "Products of gradients keep subnormal numbers in float16",
            "use": ["training"], "check": "parity.special_values", "measure": "violations",
            "where": {"dtype": "float16", "kind": "subnormal matmul"}, "at_most": 0, "level": "should", "weight": 1,
            "why": "Models are trained for months in float16 with loss scaling on units that flush them: below 6e-5, where "
                   "small gradients lie, they are lost without it.",
            "source": "https://github.com/pytorch/pytorch/issues/182952; healthy CPUs: none",
            "remedy": "Keep loss scaling on, and its scale high; switch flushing off where there is a switch.",
            "action": "check-config",
        },
    ),
}  # fmt: skip


def raised(workload: Workload) -> list[dict[str, Any]]:
    """Return what this workload's dtype makes a must of `general`, or asks for besides, as entries of a profile."""
    dtype = workload.dtype
    why = f"This model computes in {dtype}: nobody trains or serves it for a month where {dtype} fails."
    return [
        *({"id": id, "level": "must", "why": why} for id in _MUSTS_OF_DTYPE.get(dtype, ())),
        *({"id": id, "level_of_several": "must", "why": why} for id in _MUSTS_OF_SEVERAL.get(dtype, ())),
        *_REQUIRED_BY_DTYPE.get(dtype, ()),
    ]


def requirements(workload: Workload) -> list[dict[str, Any]]:
    """Return the requirements of a workload, as entries of a profile."""
    dtype = workload.dtype
    found = [
        _entry(
            "workload-train", ["training"], "obstacles", {"phase": "training", "dtype": "all", "extent": "all"},
            {"at_most": 0, "zero": 20, "level": "must", "weight": 6},
            "One operator that is missing, wrong or fatal in forward, backward or optimizer stops or corrupts training.",
            workload,
        ),
        _entry(
            "workload-serve", ["inference"], "obstacles", {"phase": "inference", "dtype": "all", "extent": "all"},
            {"at_most": 0, "zero": 20, "level": "must", "weight": 6},
            "One operator that is missing, wrong or fatal in prefill or decoding stops serving or corrupts its output.",
            workload,
        ),
        _entry(
            f"workload-gradients-{dtype}", ["training"], "backward_coverage",
            {"phase": "training", "dtype": dtype, "extent": "all", "weight": "calls"},
            {"at_least": 1.0, "zero": 0.9, "level": "must", "weight": 5},
            "A missing gradient stops training; there is no fallback at speed.", workload,
        ),
    ]  # fmt: skip
    for use, short in (("training", "train"), ("inference", "serve")):
        everywhere = {"phase": use, "dtype": "all", "extent": "all"}
        found += [
            _entry(
                f"workload-native-{short}", [use], "fallback_share", everywhere | {"weight": "calls"},
                {"at_most": 0, "zero": 0.2, "level": "should", "weight": 3},
                "A month of it is right and slower: an operator that runs on the host copies every tensor there and back, "
                "at each of its calls.",
                workload, "Keep these operators out of the model's inner loop, and ask the vendor for native kernels.",
            ),
            _entry(
                f"workload-repeats-{short}", [use], "nondeterministic", everywhere,
                {"at_most": 0, "zero": 10, "level": "should", "weight": 1},
                "Models are trained and served for months with sums in no fixed order; but such a run cannot be repeated, "
                "and its faults look like noise.",
                workload, "Select deterministic kernels, or accept it.",
            ),
            _entry(
                f"workload-unaligned-{short}", [use], "refuse_unaligned", everywhere,
                {"at_most": 0, "zero": 10, "level": "should", "weight": 1},
                "A month of it that copies such inputs first is right: one that is sliced to start between two multiples "
                "of 16 bytes raises an error, or ends the process.",
                workload, "Call clone() on sliced inputs of these operators; report the rows to the vendor.",
            ),
            _entry(
                f"workload-judged-{short}", [use], "unjudged", everywhere,
                {"at_most": 0, "zero": 10, "level": "info", "weight": 1},
                "The result of an operator that could not be judged is unknown.",
                workload,
                "The rows say why; try these operators by hand.",
            ),
        ]  # fmt: skip
    return found


def _entry(
    id: str, use: list[str], measure: str, where: Mapping[str, str], limit: Mapping[str, Any], why: str, workload: Workload,
    remedy: str = _ROWS,
) -> dict[str, Any]:  # fmt: skip
    kind, torch = workload.model.get("kind", "?"), workload.traced.get("torch")
    transformers = workload.traced.get("transformers")
    with_what = f"torch {torch}" + (f", transformers {transformers}" if transformers else "")
    return {
        "id": id, "title": _TITLES[id.removesuffix(f"-{workload.dtype}")],
        "use": use, "check": "operators.workload", "measure": measure,
        "where": {"workload": workload.name, **where}, **limit, "why": why,
        "source": f"{_SOURCE}: {kind} at {workload.length} {workload.unit} on the meta device with {with_what}",
        "remedy": remedy, "action": "contact-vendor",
    }  # fmt: skip


def profile(workload: Workload, *, file: str) -> str:
    """Return a profile that extends `general` by what this workload requires. `file` lies beside it."""
    parameters = float(workload.model.get("parameters") or 0)
    described = (
        f"{workload.model.get('kind')}, {parameters / 1e9:.3g} billion parameters, {workload.dtype}, "
        f"batch {workload.batch}, {workload.length} {workload.unit}: "
        f"{len(workload.operators)} operators in {len(workload.records)} distinct calls."
    )
    head = {
        "schema": "readiness.profile/1", "name": workload.name, "title": workload.title, "description": described,
        "extends": ["general"],
    }  # fmt: skip
    lines = [f"{key} = {_toml(value)}" for key, value in head.items()]
    lines += ["", '[settings."operators.workload"]', f"workload = {_toml(f'beside:{file}')}"]
    for entry in (*requirements(workload), *raised(workload)):
        lines += ["", "[[require]]", *(f"{key} = {_toml(value)}" for key, value in entry.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    # Strings of JSON are strings of TOML, but for one character that JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
