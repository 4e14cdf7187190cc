"""What the tool itself costs, as one table: `python -m benchmarks.own_cost [--full] [--rounds N] [--write FILE]`.

Each line is a command of ours and a named alternative, in turns in one run: the median of its seconds, the peak memory of
its largest process, and the ratio. `--full` adds `general` and the sweep of operators, which take minutes, against PyTorch's
own way to test operators. With `--write docs/validation.md` the table stands between two marks of that file afterwards. What
cannot be had here is named.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import importlib.util
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- own cost: begins -->", "<!-- own cost: ends -->"
_PYTHON = sys.executable
_READINESS = (_PYTHON, "-m", "readiness")
_CPU = ("run", "--device", "cpu", "-q", "--no-color")
#: Exit codes of verdicts are no failures of the command.
_FINE = (0, 1, 3)

_LOOP = """
import torch
from readiness.probes.parity import transformer
draw = torch.Generator().manual_seed(7)
model = transformer.build(draw)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(100):
    optimizer.zero_grad()
    model.loss(transformer.text(draw, transformer.Size().vocabulary, 2, 17)).backward()
    optimizer.step()
"""
_RANKS = """
import torch, torch.distributed as dist
dist.init_process_group("gloo")
total = torch.ones(1)
dist.all_reduce(total)
assert total.item() == dist.get_world_size()
dist.destroy_process_group()
"""
_OUR_RANKS = "from benchmarks.own_cost import first_sum; first_sum()"
_CONSISTENCY = """
import warnings; warnings.simplefilter("ignore")
from benchmarks.operators import consistency
from readiness.probes.operators import opinfo
print(consistency(opinfo.load(), ["float32"]))
"""
_OUR_TIMING = "from benchmarks.own_cost import time_a_product; time_a_product()"
_TIMER = """
import torch
from torch.utils.benchmark import Timer
left, right = torch.randn(2, 256, 256)
print(Timer("left @ right", globals={"left": left, "right": right}).blocked_autorange(min_run_time=0.5).median)
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A line of the table: a command of ours, and a named alternative that does the same work, or the least of it."""

    what: str
    ours: Sequence[str]
    alternative: str
    other: Sequence[str]
    full: bool = False
    needs: str | None = None


@dataclass(slots=True)
class Cost:
    """Seconds of each round, and the most memory of one process in bytes."""

    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    problem: str | None = None

    @property
    def median(self) -> float:
        """Median of the seconds."""
        return statistics.median(self.seconds)


def cases() -> list[Case]:
    """Return all lines in their order."""
    torchrun = (_PYTHON, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "{ranks}")
    return [
        Case("start-up: `readiness list`", (*_READINESS, "list"), "`import torch`", (_PYTHON, "-c", "import torch")),
        Case("a fit: `readiness fit qwen3-dense`", (*_READINESS, "fit", "qwen3-dense", "--chips", "8", "--memory", "64GiB"),
             "`import torch`", (_PYTHON, "-c", "import torch")),
        Case("a run of one isolated check (`driver.stack`)", (*_READINESS, *_CPU, "-k", "driver.stack"),
             "`import torch`", (_PYTHON, "-c", "import torch")),
        Case("the profile `smoke` on the CPU", (*_READINESS, *_CPU, "--profile", "smoke"),
             "a bare torch loop: 100 steps of the small transformer", (_PYTHON, "-c", _LOOP)),
        Case("two ranks to their first sum and end", (_PYTHON, "-c", _OUR_RANKS), "torchrun", torchrun),
        Case("a product of 256 x 256 timed for 0.5 s", (_PYTHON, "-c", _OUR_TIMING),
             "`torch.utils.benchmark.Timer`", (_PYTHON, "-c", _TIMER)),
        Case("an HTML report of the saved run", (*_READINESS, "report", "{saved}", "-f", "html={page}"),
             "`python -m json.tool` of the same file", (_PYTHON, "-m", "json.tool", "{saved}")),
        Case("judging the saved run again", (*_READINESS, "judge", "{saved}", "-q"),
             "`python -m json.tool` of the same file", (_PYTHON, "-m", "json.tool", "{saved}")),
        Case("the sweep of all operators in float32", (*_READINESS, *_CPU, "-k", "operators.sweep"),
             "PyTorch's own test of operators (`TestConsistency`'s way), float32", (_PYTHON, "-c", _CONSISTENCY), full=True),
        Case("the profile `general` on the CPU", (*_READINESS, *_CPU),
             "PyTorch's own test of operators (`TestConsistency`'s way), float32", (_PYTHON, "-c", _CONSISTENCY), full=True),
        Case("the sweep of the core operators", (*_READINESS, *_CPU, "--profile", "smoke", "-k", "operators.sweep"),
             "BackendBench, its smoke suite (`relu` alone) on the CPU",
             (_PYTHON, "-m", "BackendBench.scripts.main", "--suite", "smoke", "--backend", "aten", "--log-dir",
              "{folder}/backendbench"), needs="BackendBench"),
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, measure, and print the table, or write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="with `general` and the sweep, which take minutes")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each line (default: 3)")
    parser.add_argument("--only", action="append", default=[], help="only lines that contain this text (repeatable)")
    parser.add_argument("--write", type=Path, help="file in which the table stands between two marks")
    given = parser.parse_args(arguments)
    if given.rounds < 1:
        parser.error("--rounds is 1 or more")
    chosen = [case for case in cases() if (given.full or not case.full)]
    chosen = [case for case in chosen if not given.only or any(text in case.what for text in given.only)]
    with workspace() as places:
        lines = list(table(chosen, given.rounds, places))
    text = "\n".join(lines)
    print(text)
    if given.write is not None:
        given.write.write_text(replaced(given.write.read_text(encoding="utf-8"), text), encoding="utf-8")


@contextlib.contextmanager
def workspace() -> Iterator[dict[str, str]]:
    """Yield names and paths of files that commands use; the run that reports are made of is saved when first needed."""
    with tempfile.TemporaryDirectory() as folder:
        ranks = Path(folder, "ranks.py")
        ranks.write_text(_RANKS)
        yield {"folder": folder, "ranks": str(ranks), "saved": str(Path(folder, "saved.json")),
               "page": str(Path(folder, "page.html"))}  # fmt: skip


def table(chosen: Sequence[Case], rounds: int, places: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of the table, and below it what a run leaves on the disk."""
    load = os.getloadavg()[0]
    circumstances = f"{_today()}, {_host()}, rounds in turns: {rounds}, load at the beginning: {load:.0f}"
    yield f"`python -m benchmarks.own_cost`, {circumstances}."
    yield ""
    yield "| what | ours | alternative | its | ratio of time | of memory |"
    yield "|---|---|---|---|---|---|"
    for case in chosen:
        if case.needs is not None and importlib.util.find_spec(case.needs) is None:
            yield f"| {case.what} | | {case.alternative} | not installed here | | |"
            continue
        if any("{saved}" in word for word in (*case.ours, *case.other)) and not Path(places["saved"]).exists():
            _save(places)
        ours, other = Cost(), Cost()
        for _ in range(rounds):
            for command, cost in ((case.ours, ours), (case.other, other)):
                measure([_placed(word, places) for word in command], cost, places)
        yield _line(case, ours, other)
    state = Path(places["folder"], "state")
    size = sum(file.stat().st_size for file in state.rglob("*") if file.is_file()) if state.exists() else 0
    runs = len(list(state.glob("readiness/runs/*")))
    if runs:
        yield ""
        yield f"{runs} runs left {size / 2**20:.1f} MiB on the disk."


def _line(case: Case, ours: Cost, other: Cost) -> str:
    problem = ours.problem or other.problem
    if problem is not None:
        return f"| {case.what} | | {case.alternative} | {problem} | | |"
    cells = [f"{cost.median:.2f} s, {cost.peak_bytes / 2**20:.0f} MiB" for cost in (ours, other)]
    ratios = f"{ours.median / other.median:.2f} | {ours.peak_bytes / max(other.peak_bytes, 1):.2f}"
    return f"| {case.what} | {cells[0]} | {case.alternative} | {cells[1]} | {ratios} |"


def measure(command: Sequence[str], cost: Cost, places: Mapping[str, str]) -> None:
    """Run a command once; add its seconds, and keep the peak memory of its largest process."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(Path(places["folder"], "state"))}
    log = Path(places["folder"], "log")
    with log.open("wb") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        cost.seconds.append(time.perf_counter() - began)
    # Of itself and of those of its children that have ended and been waited for.
    cost.peak_bytes = max(cost.peak_bytes, usage.ru_maxrss * 1024)
    if process.returncode not in _FINE or (command[1:3] != ["-m", "readiness"] and process.returncode):
        words = log.read_text(errors="replace").strip().splitlines() or ["no word"]
        cost.problem = f"failed with {process.returncode}: {words[-1][:120]}"


def _placed(word: str, places: Mapping[str, str]) -> str:
    """Return a word of a command with its places filled in; code is none."""
    return word if "\n" in word else word.format_map(places)


def _save(places: Mapping[str, str]) -> None:
    measure((*_READINESS, *_CPU, "--profile", "smoke", "-f", f"json={places['saved']}"), Cost(), places)


def replaced(document: str, text: str) -> str:
    """Return a document with the text between its two marks. Raises SystemExit where it has none."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"the file has no place for the table: two lines, {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def _today() -> str:
    return datetime.datetime.now(tz=datetime.UTC).date().isoformat()


def _host() -> str:
    found = importlib.util.find_spec("torch")
    version = "no torch" if found is None else f"torch {importlib.metadata.version('torch')}"
    return f"{os.cpu_count()} cores, {platform.machine()}, {version}"


def first_sum() -> None:
    """Start two ranks as a check does, and add up one number."""
    from readiness import accelerators, place, run_ranks
    from readiness.accelerators.base import Accelerator

    stack = accelerators.stack("cpu")
    facts = next(iter(stack.discover()))
    accelerator = Accelerator(facts, stack, peers=(facts,))
    outcome = run_ranks(add_up, accelerator, place(accelerator, 2))
    assert outcome.failure is None, outcome.failure


def add_up(context: Any) -> Iterator[dict[str, float]]:
    """Add up one number over all ranks."""
    import torch
    import torch.distributed as dist

    total = torch.ones(1)
    with context.step("the first sum"):
        dist.all_reduce(total)
    yield {"sum": float(total)}


def time_a_product() -> None:
    """Time a product as the checks do."""
    import torch

    from readiness import accelerators
    from readiness.accelerators.base import Accelerator
    from readiness.probes.throughput.timing import measured

    stack = accelerators.stack("cpu")
    left, right = torch.randn(2, 256, 256)
    accelerator = Accelerator(next(iter(stack.discover())), stack)
    print(measured(accelerator, lambda: left @ right, budget_s=0.5).median)


if __name__ == "__main__":
    main()
