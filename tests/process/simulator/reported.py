"""The operator sweep on reported defects, without the rest of a run: `python -m tests.process.simulator.reported [ID ...]`.

Each row of missed_defects.toml and of public_defects.toml that the sweep ought to see (or of the catalogue, where it is named)
is planted, and its operators are tried on that chip in one process, as the sweep tries them: quick enough to try a condition,
or a new trial of the sweep, by hand. A class stands for its rows (`public`). What judges in earnest is
`python -m tests.process.simulator.catalogue`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from readiness.simulator import machine_file
from readiness.simulator.faults import kinds
from readiness.simulator.machine_file import Chip
from tests.process.simulator import catalogue
from tests.support.simulator import DiedError, inside

#: The dtypes that `general` sweeps, and those that a profile may ask for beside them.
USUAL, FURTHER = ("float32", "bfloat16", "int64", "bool"), ("float16", "float64", "complex64", "int32", "uint8")
CLEAN = ("native", "decomposed")


def chip_of(row: catalogue.Row) -> Chip:
    """The chip of a row."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "chip.toml"
        file.write_text(row.chip(), encoding="utf-8")
        return machine_file.load(file, kinds())


def tried(row: catalogue.Row, dtypes: Sequence[str], *, sound: bool = False) -> tuple[list[str], int]:
    """What is not as it should be of the row's operators on its chip (`sound`: without the defect), and how often it acted."""

    def ask() -> list[object]:
        import torch

        from readiness import Strictness, accelerators
        from readiness.accelerators import sim
        from readiness.accelerators.base import Accelerator
        from readiness.numerics.strict_precision import strict_precision
        from readiness.probes.operators import opinfo
        from readiness.probes.operators.opinfo_trial import OpInfoTrials, TrialOptions
        from readiness.probes.operators.sweep_worker import _try
        from readiness.simulator import fault_counts

        counts: list[int] = []
        fault_counts.add = lambda position, times: counts.append(times)
        torch.set_num_threads(1)
        accelerator = Accelerator(sim.facts(which)[0], accelerators.stack("sim"), seed=7)
        trials = OpInfoTrials(accelerator, lambda *_: None, TrialOptions(1, Strictness(2.0, 10.0, 1.0, 1.0)))
        entries = opinfo.load()
        told = []
        with strict_precision():
            for index in opinfo.select(entries, "all", row.operators):
                whole = {"float": True, "other": True}
                for dtype in (opinfo.dtype_of(name) for name in dtypes):
                    if not entries[index].claims(dtype):
                        continue
                    kind = "float" if dtype.is_floating_point else "other"
                    found = _try(trials, entries[index], dtype, whole[kind], gradients=True, offsets=True)
                    whole[kind] = False
                    if found.outcome.value not in CLEAN:
                        name = str(dtype).removeprefix("torch.")
                        told.append(f"{entries[index].name} in {name}: {found.outcome.value} {found.where} {found.detail}"[:160])
        return [told, sum(counts)]

    which = chip_of(row)
    if sound:
        which = Chip(which.name, which.title, memory_gib=which.memory_gib)
    try:
        told, acted = inside(which, ask, limit_s=600.0)
    except DiedError as died:
        return [f"the process ended: {died}"], 1
    return list(told), int(acted)


def main(ids: Sequence[str]) -> int:
    """Print what became of each row, in the usual dtypes and in the further ones; 1 where one was missed in all of them."""
    missed = 0
    table = catalogue.reported() + (catalogue.rows() if ids else [])
    for row in table:
        if not row.operators or (ids and not {row.id, row.family} & set(ids)):
            continue
        caught = False
        for name, dtypes in (("usual", USUAL), ("further", FURTHER)):
            told, acted = tried(row, dtypes)
            here = set(told) - set(tried(row, dtypes, sound=True)[0]) if told else set()
            caught = bool(here)
            word = "caught" if here else "missed" if acted else "did not act"
            print(f"{row.id}\t{name}\t{word}\tacted {acted}\t{'; '.join(sorted(here))[:400]}", flush=True)
            if caught:
                break
        missed += not caught
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
