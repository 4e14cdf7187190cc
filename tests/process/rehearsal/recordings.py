"""Recordings of planted defects for the tests of the diagnosis: `python -m tests.process.rehearsal.recordings [NAME ...]`.

Each shipped fault is run as `readiness run` runs a device, with the checks that claim it alone, under `general` with a
short list of operators for operators.sweep. What failed, and the rows behind it, replaces what
tests/resources/planted_defects.json.gz has under its name; the others stay. Left out is what the CPU of this host fails
itself.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from readiness import check_registry
from readiness.datamodel import Profile
from readiness.profile import loader
from readiness.rehearsal.plan import claims
from readiness.rehearsal.seeded_faults import SeededFault, selection
from tests.process.simulator.catalogue import Row
from tests.support.paths import RESOURCES, ROOT

FILE = RESOURCES / "planted_defects.json.gz"
#: Requirements that a norm in bfloat16 on the host's CPU fails, of which every simulated chip is made.
_OF_THE_HOST = ("norm-parameters-bfloat16", "operators-known")
#: Operators to which a fault of the sweep is put, and of which some show nothing.
_USUAL = (
    "add", "mul", "matmul", "bmm", "baddbmm", "softmax", "softmax.with_dtype", "exp", "sum", "std", "std.unbiased", "var",
    "where", "cumsum", "cumprod", "sort", "argsort", "topk", "index_put", "masked_fill", "fmod", "linalg.svd",
    "nn.functional.linear", "nn.functional.layer_norm", "nn.functional.scaled_dot_product_attention",
    "nn.functional.cross_entropy", "nn.functional.pad.reflect",
)  # fmt: skip
#: Those of the faults that show only in the core, or in others.
_CORE = ("add", "mul", "matmul", "softmax", "exp", "sum")
_OPERATORS: Mapping[str, tuple[str, ...]] = {
    "alpha-beyond-tile": (*_CORE, "addmm", "baddbmm"),
    "beta-zero": (*_CORE, "addmm", "baddbmm"),
    "channels-last": ("nn.functional.conv2d", "nn.functional.conv1d", "nn.functional.max_pool2d", "matmul", "add"),
    "conjugate": (*_CORE, "bmm"),
    "deterministic-mode": (*_CORE, "index_add", "scatter_add", "cumsum"),
    "expanded-gradient": (*_CORE, "nn.functional.silu", "nn.functional.layer_norm"),
    "float16": _CORE,
    "infinite": (*_CORE, "log_softmax"),
    "large-sort": (*_CORE, "sort"),
    "list-of-tensors": ("_foreach_norm", "_foreach_add", "clip_grad_norm", *_CORE),
    "many-tensors": (*_CORE, "cat", "stack"),
    "nan-skipped": (*_CORE, "amax", "mean", "clamp", "maximum", "linalg.vector_norm", "clip_grad_norm"),
    "narrow-integers": (*_CORE, "cumsum", "gather", "index_select", "sort"),
    "overwritten-input": (*_CORE, "tanh"),
    "position-dependent": (*_CORE, "nn.functional.silu", "tanh"),
    "random-parameters": ("normal.statistics", "uniform.statistics", *_CORE),
    "running-statistics": ("_native_batch_norm_legit", "_batch_norm_with_update", "nn.functional.batch_norm", *_CORE),
    "second-dtype": (*_CORE, "sub"),
    "value-range": ("nn.functional.hardswish", "nn.functional.hardsigmoid", "nn.functional.silu", *_CORE),
    "wide-indices": (*_CORE, "index_select", "gather", "index_add", "scatter_add"),
    "wrong-layout": (*_CORE, "clone", "contiguous", "to", "zeros_like"),
    "wrong-ties": (*_CORE, "sort", "topk", "argmax"),
}
_CLEAN = ("native", "decomposed", "summary", "known defect")


def recorded(fault: SeededFault, profile: Profile) -> dict[str, Any] | str:
    """Return what is kept of a run on the chip with this fault; in words why nothing, where nothing failed."""
    checklist = check_registry.discover()
    checks = tuple(check.id for check in checklist.values() if claims(check, fault, profile))
    operators = _OPERATORS.get(fault.name, _USUAL)
    row = Row(fault.name, "", "", fault.name, "", checks=checks, operators=operators if "operators.sweep" in checks else ())
    with tempfile.TemporaryDirectory(prefix="readiness-") as folder:
        chosen, told = Path(folder) / "profile.toml", Path(folder) / "assessment.json"
        chosen.write_text(row.profile(), encoding="utf-8")
        command = [
            sys.executable, "-m", "readiness", "run", "--device", f"sim:{fault.name}", "--profile", str(chosen), "-q",
            "-k", " or ".join(checks), "--seed", "7", "-f", f"json={told}",
        ]  # fmt: skip
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if not told.is_file():
            return f"no assessment: {ended.stderr[-300:]}"
        document = json.loads(told.read_text(encoding="utf-8"))
    kept = [_accelerator(item) for item in document["accelerators"]]
    failed = {finding["requirement"] for item in kept for finding in item["findings"]}
    if not failed:
        return f"nothing failed of {', '.join(checks) or 'what nobody claims'}"
    demands = [entry for entry in document["profile"]["demands"]["require"] if entry["id"] in failed]
    return {"require": demands, "accelerators": kept}


def _accelerator(item: Mapping[str, Any]) -> dict[str, Any]:
    findings = [
        finding for finding in item["findings"]
        if finding["outcome"] == "fail" and finding["level"] != "info" and not finding["requirement"].startswith(_OF_THE_HOST)
    ]  # fmt: skip
    checks = {finding["check"] for finding in findings}
    evidence = [_evidence(piece) for piece in item["evidence"] if piece["check"] in checks]
    return {"id": item["id"], "findings": findings, "evidence": evidence}


def _evidence(piece: Mapping[str, Any]) -> dict[str, Any]:
    """What the diagnosis reads of evidence."""
    kept = {key: piece[key] for key in ("check", "status", "reason", "measurements")}
    return kept | {"rows": [row for row in piece["rows"] if row.get("outcome") not in _CLEAN]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Record the faults that are named, or all; 1 where nothing failed for one."""
    parser = argparse.ArgumentParser(prog="python -m tests.process.rehearsal.recordings", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    profile = loader.load("general", check_registry.discover())
    nothing = False
    for fault in selection(parser.parse_args(arguments).names).faults:
        found = recorded(fault, profile)
        if isinstance(found, str):
            nothing = True
            print(f"{fault.name}: {found}", flush=True)
            continue
        table = json.loads(gzip.decompress(FILE.read_bytes())) | {fault.name: found}
        packed = json.dumps({name: table[name] for name in sorted(table)}, separators=(",", ":"))
        FILE.write_bytes(gzip.compress(packed.encode(), mtime=0))
        ids = sorted({one["requirement"] for item in found["accelerators"] for one in item["findings"]})
        print(f"{fault.name}: {', '.join(ids)}", flush=True)
    return int(nothing)


if __name__ == "__main__":
    sys.exit(main())
