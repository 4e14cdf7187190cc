"""One prepared run for an accelerator that is lent for a quarter of an hour: `python -m benchmarks.device --minutes 12`.

What tells most comes first: what the device is, its speed by our timing and by another in the same run, the model's step and
its serving, the quick profile, the load, and the rest of `general` in what time is left. Each part runs in a process of its
own with a limit, and is on disk before the next begins: OUT/summary.json and OUT/summary.md are written anew after each, and
runs keep their journals in OUT/state, so that a machine that is taken away leaves what it has told.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
#: Seconds kept back at the end, for copying what there is off the machine.
_KEPT_BACK_S = 20.0
#: A part that gets less than this is not begun.
_LEAST_S = 15.0
_READINESS = (sys.executable, "-m", "readiness")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the run: its command, made from the seconds that it may take, and how many these are at most."""

    name: str
    why: str
    most_s: float
    command: Callable[[float], Sequence[str]]


@dataclass(slots=True)
class Result:
    """How a part ended: its exit code (None if it ran out of time), its seconds, and its lines for the summary."""

    name: str
    why: str
    code: int | None = None
    seconds: float = 0.0
    lines: list[str] = field(default_factory=list)


def parts(device: Sequence[str], out: Path) -> list[Part]:
    """Return the parts in their order."""

    def run(name: str, *options: str) -> Callable[[float], Sequence[str]]:
        saved = f"json={out / name}.json"

        def command(seconds: float) -> Sequence[str]:
            within = f"{max(10.0, seconds - 5):.0f}s"
            return (*_READINESS, "run", *device, *options, "--within", within, "-f", saved, "--no-color")

        return command

    timing = (sys.executable, "-m", "benchmarks.device", "--part", "timing", "--out", str(out), *device)
    return [
        Part("devices", "what is there, with versions", 60.0, lambda _: (*_READINESS, "devices")),
        Part("timing", "products, copies and attention by our timing and by another, in turns", 90.0, lambda _: timing),
        Part("throughput", "rates against the rated figures", 60.0, run("throughput", "-k", "throughput")),
        Part("model", "training steps, serving and fit of a model of 8 billion parameters", 120.0,
             run("model", "--profile", "qwen3-dense", "-k", "model and not model.serving_engine")),
        Part("products", "products and attention of that model at its own sizes", 60.0,
             run("products", "--profile", "qwen3-dense", "-k", "throughput.products or throughput.attention")),
        Part("smoke", "is it alive, and does it calculate right", 120.0, run("smoke", "--profile", "smoke")),
        Part("load", "does it keep its pace", 90.0, run("load", "-k", "stability.load")),
        Part("general", "the rest of what any training and any inference needs", 600.0, run("general")),
        Part("workload", "the operators of the model at its own sizes", 600.0,
             run("workload", "--profile", "qwen3-dense", "-k", "operators.workload or parity.layer")),
    ]  # fmt: skip


def main() -> None:
    """Parse the arguments; run all parts, or one of this file's own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=12.0, help="time in all (default: 12)")
    parser.add_argument("--device", action="append", default=[], help="as of `readiness run` (default: what is found)")
    parser.add_argument("--out", type=Path, default=Path("device-results"), help="folder for the results")
    parser.add_argument("--only", action="append", default=[], help="only these parts (repeatable)")
    parser.add_argument("--part", choices=("timing",), help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.part == "timing":
        _timing(given.out.resolve(), given.device)
        return
    device = [word for name in given.device for word in ("--device", name)]
    chosen = [part for part in parts(device, given.out.resolve()) if not given.only or part.name in given.only]
    if unknown := set(given.only) - {part.name for part in chosen}:
        known = ", ".join(part.name for part in parts([], given.out))
        parser.error(f"there is no part {', '.join(sorted(unknown))}; choose of {known}")
    if not 0.1 <= given.minutes <= 24 * 60:
        parser.error("--minutes is from 0.1 to 1440")
    _run_all(chosen, given.out.resolve(), 60.0 * given.minutes)


def _run_all(chosen: Sequence[Part], out: Path, seconds: float) -> None:
    started, results = time.monotonic(), list[Result]()
    for part in chosen:
        left = seconds - (time.monotonic() - started) - min(_KEPT_BACK_S, seconds / 10)
        result = Result(part.name, part.why)
        results.append(result)
        if left < min(_LEAST_S, seconds / 10):
            result.lines.append(f"not begun: {max(left, 0):.0f} s were left")
            _write(results, out, time.monotonic() - started)
            continue
        _write(results, out, time.monotonic() - started)  # what is under way is on disk as well
        _run(part, min(left, part.most_s), out, result)
        _write(results, out, time.monotonic() - started)
        ended = "ran out of time" if result.code is None else f"exit {result.code}"
        print(f"{part.name:11} {result.seconds:6.1f} s  {ended}", flush=True)
        for line in result.lines[:6]:
            print(f"    {line}", flush=True)
    print(f"{time.monotonic() - started:.0f} s; results in {out}")


def _run(part: Part, limit_s: float, out: Path, result: Result) -> None:
    began = time.monotonic()
    environment = os.environ | {"XDG_STATE_HOME": str(out / "state"), "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    with (out / f"{part.name}.log").open("wb") as log:
        process = subprocess.Popen(
            part.command(limit_s), stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=ROOT, env=environment,
            start_new_session=True,
        )  # fmt: skip
        try:
            result.code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            # First as somebody who stops a run would: it saves what it has.
            for number, patience_s in ((signal.SIGINT, 10.0), (signal.SIGKILL, 5.0)):
                os.killpg(process.pid, number)
                try:
                    process.wait(patience_s)
                    break
                except subprocess.TimeoutExpired:
                    continue
    result.seconds = time.monotonic() - began
    result.lines += _found(part.name, out)


def _found(name: str, out: Path) -> Iterator[str]:
    """Yield what a part found: verdicts and figures of an assessment, or the last lines of its log."""
    file = out / f"{name}.json"
    try:
        document: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    except ValueError:
        document = {}
    if not document:
        text = (out / f"{name}.log").read_text(errors="replace") if (out / f"{name}.log").exists() else ""
        yield from [line for line in text.splitlines() if line.strip()][-12:]
        return
    yield from document.get("lines", [])
    for item in document.get("accelerators", []):
        for use, verdict in item.get("verdicts", {}).items():
            yield f"{item['id']} {use}: {verdict['verdict']}, {verdict['score']:.0f}..{verdict['ceiling']:.0f}"
        for piece in item.get("evidence", []):
            if not piece["check"].startswith(("throughput.", "model.", "stability.load")):
                continue
            for one in piece.get("measurements", []):
                labels = " ".join(f"{key}={value}" for key, value in one.get("labels", {}).items())
                figure = f"{one['value']} {one.get('unit') or ''}".rstrip()
                yield f"{item['id']} {piece['check']} {one['name']} {labels}: {figure}"


def _write(results: Sequence[Result], out: Path, seconds: float) -> None:
    """Write the summary so far, whole or not at all."""
    document = {"seconds": round(seconds, 1), "parts": [asdict(result) for result in results]}
    lines = [f"# Device run, {seconds:.0f} s so far", ""]
    for result in results:
        ended = "under way, or out of time" if result.code is None else f"exit {result.code}"
        lines += [f"## {result.name}: {result.why} ({result.seconds:.1f} s, {ended})", ""]
        lines += [*(f"- {line}" for line in result.lines), ""]
    for name, text in (("summary.json", json.dumps(document, indent=1)), ("summary.md", "\n".join(lines))):
        fresh = out / f".{name}"
        fresh.write_text(text)
        with fresh.open("rb") as written:
            os.fsync(written.fileno())
        fresh.replace(out / name)


# ----------------------------------------------------------------------------------- products, copies and attention, twice


def _timing(out: Path, devices: Sequence[str]) -> None:
    """Time the same calls by our own timing and by Triton's `do_bench`, or by torch's Timer where there is none."""
    import torch
    from torch.nn import functional

    from readiness.probes.throughput.timing import repeat

    asked = next((word.partition(":")[0] for word in devices), None)
    found = torch.accelerator.current_accelerator() if hasattr(torch, "accelerator") else None
    device = torch.device(asked if asked is not None else found.type if found is not None else "cpu")
    synchronize = torch.get_device_module(device).synchronize if device.type != "cpu" else lambda: None
    other, other_name = _other_timing(device)
    lines: list[str] = []

    def compare(what: str, work: Callable[[], object], amount: float, unit: str) -> None:
        ratios = []
        for _ in range(3):  # in turns: what disturbs one disturbs the other
            ours = repeat(work, synchronize, budget_s=0.5).median
            ratios.append((other(work), ours))
        theirs, ours = sorted(ratios)[1]
        both = f"{amount / ours:.4g} {unit} by ours, {amount / theirs:.4g} by {other_name}"
        lines.append(f"{what}: {both}, ratio {theirs / ours:.4f}")
        print(lines[-1], flush=True)
        document = {"device": str(device), "torch": torch.__version__, "lines": lines}
        (out / "timing.json").write_text(json.dumps(document, indent=1))

    small = device.type == "cpu"
    for dtype in (torch.float32, torch.bfloat16):
        for size in (512, 1024) if small else (1024, 4096, 8192):
            left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
            name = f"product {size} {str(dtype).removeprefix('torch.')}"
            compare(name, partial(torch.mm, left, right), 2 * size**3 / 1e12, "TFLOP/s")
    block = torch.randint(0, 255, ((16 if small else 1024) * 2**20,), dtype=torch.uint8, device=device)
    target = torch.empty_like(block)
    compare("copy on the device", lambda: target.copy_(block), 2 * block.numel() / 1e9, "GB/s")
    length = 256 if small else 4096
    query = torch.randn(1, 32, length, 128, device=device).to(torch.bfloat16)
    compare(
        f"causal attention of {length}",
        lambda: functional.scaled_dot_product_attention(query, query, query, is_causal=True),
        2 * 32 * length * length * 128 / 1e12, "TFLOP/s",
    )  # fmt: skip


def _other_timing(device: Any) -> tuple[Callable[[Callable[[], object]], float], str]:
    """Return another timing of seconds a call, and its name."""
    if device.type == "cuda":
        try:
            from triton.testing import do_bench  # type: ignore[import-not-found,import-untyped,unused-ignore]

            timed = partial(do_bench, warmup=50, rep=200, return_mode="median")
            return lambda work: float(timed(work)) / 1e3, "triton.testing.do_bench"
        except ImportError:
            pass
    from torch.utils.benchmark import Timer

    def timer(work: Callable[[], object]) -> float:
        return float(Timer("work()", globals={"work": work}).blocked_autorange(min_run_time=0.4).median)

    return timer, "torch's Timer"


if __name__ == "__main__":
    main()
