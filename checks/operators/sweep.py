"""PyTorch's own operators, one by one."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Cost, Measure, Measurement, Note, Row, Skip, Yield, check


@check(
    "operators.sweep",
    title="PyTorch's operators exist, are right, and return",
    measures={
        "forward_coverage": Measure(
            "1", better=Better.HIGHER,
            meaning=(
                "Share of the operators judged that work forward: native, decomposed, on the CPU, or nondeterministic. "
                "Judged are those that claim the dtype on the CPU, the benchmark of every device, and can be judged."
            ),
            title="All core operators work in {dtype}",
            why="An operator that does not work stops the model that calls it.",
            remedy="The rows of operators.sweep name them; update the plug-in or report them.",
            action=Action.CONTACT_VENDOR,
        ),
        "backward_coverage": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of the gradients judged that work.",
            title="All gradients of core operators work in {dtype}",
            why="A missing gradient stops training; there is no fallback at speed.",
            remedy="The rows of operators.sweep name them; update the plug-in or report them.",
            action=Action.CONTACT_VENDOR,
        ),
        "forward_mode_coverage": Measure(
            "1", better=Better.HIGHER,
            meaning=(
                "Share of the derivatives by forward mode that work, of those that PyTorch claims and whose forward "
                "works."
            ),
            why="Products of Jacobians with vectors are computed by forward mode; most training does without.",
            remedy="Use reverse mode for the operators that the rows name, and report them.",
            action=Action.CONTACT_VENDOR,
        ),
        "judged": Measure(
            "1", better=Better.HIGHER,
            meaning="Operators that claim the dtype on the CPU and could be judged.",
            why="Coverage of few operators says little of the rest.",
            remedy="Look at the operators in the rows that could not be judged.",
            action=Action.GATHER_EVIDENCE,
        ),
        "judged_backward": Measure(
            "1", better=Better.HIGHER,
            meaning="Gradients that could be judged.",
            why="Coverage of few gradients says little of the rest.",
            remedy="Look at the operators in the rows that could not be judged.",
            action=Action.GATHER_EVIDENCE,
        ),
        "unjudged": Measure(
            "1", better=Better.LOWER,
            meaning="Operators that could not be judged; the rows say why.",
            why="The result of an operator that could not be judged is unknown.",
            remedy="The rows say why; try these operators by hand.",
            action=Action.CONTACT_VENDOR,
        ),
        "missing": Measure(
            "1", better=Better.LOWER,
            meaning="Operators that are not there. Like the other counts, it is not reported where nothing could be judged.",
            why="A model stops at the first operator that its device lacks.",
            remedy="The rows of operators.sweep name them; update the plug-in or report them.",
            action=Action.CONTACT_VENDOR,
        ),
        "wrong": Measure(
            "1", better=Better.LOWER,
            meaning="Operators whose results or gradients are wrong.",
            title="No operator gives wrong results in {dtype}",
            why="A wrong operator is worse than a missing one: nothing stops.",
            remedy="Do not use the operators that the rows name; report them with the row's seed and figures.",
            action=Action.CONTACT_VENDOR,
        ),
        "crashed": Measure(
            "1", better=Better.LOWER,
            meaning="Operators that ended or hung their process.",
            title="No operator crashes or hangs in {dtype}",
            why="An operator that kills or hangs its process takes hours of work with it.",
            remedy="Do not use the operators that the rows name; report them.",
            action=Action.CONTACT_VENDOR,
        ),
        "known_defects": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Operators that show a known defect of PyTorch's own: of the CPU's kernels, where the CPU computes, or of a "
                "formula that all devices share. They are not counted as wrong; the rows name the public report and the "
                "builds that were seen to have it (docs/operators.md)."
            ),
            title="PyTorch's own kernels show no known defect in {dtype}",
            why="What PyTorch itself gets wrong is wrong in the model too, and is no reference for another device.",
            remedy="Avoid the calls that the rows describe, or update PyTorch where the report says that it is mended.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "nondeterministic": Measure(
            "1", better=Better.LOWER,
            meaning="Operators whose results differ from call to call.",
            why=(
                "A run whose operators differ from call to call cannot be repeated, and its faults look like "
                "noise."
            ),
            remedy="Select deterministic kernels, or accept it.",
            action=Action.CONTACT_VENDOR,
        ),
        "errors": Measure(
            "1", better=Better.LOWER,
            meaning="Operators that exist and raise an error.",
            title="No operator raises an error in {dtype}",
            why="An operator that fails ends a run like a missing one.",
            remedy="The rows of operators.sweep name the operators and quote the errors; report them.",
            action=Action.CONTACT_VENDOR,
        ),
        "fallbacks": Measure(
            "1", better=Better.LOWER,
            meaning="Operators that run on the host.",
            title="No operator falls back to the host in {dtype}",
            why=(
                "An operator that runs on the host copies every tensor there and back: one in a model's inner "
                "loop sets its speed."
            ),
            remedy=(
                "Look up the operators in the rows of operators.sweep; keep them out of inner loops, and ask for native "
                "kernels."
            ),
            action=Action.CONTACT_VENDOR,
        ),
        "native": Measure(
            "1", better=Better.HIGHER,
            meaning="Operators that ran a kernel of the device.",
            why="Only kernels of the device's own run at its speed.",
            remedy="The rows show which operators are decomposed or run on the host; ask for native kernels.",
            action=Action.CONTACT_VENDOR,
        ),
        "decomposed": Measure(
            "1",
            meaning="Operators that were decomposed into others.",
            why="A decomposition is right, and costs a call and a pass over memory for each of its parts.",
        ),
        "refuse_unaligned": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Operators that are right and refuse, or crash, on inputs at an address that is not a multiple of 16 bytes "
                "alone."
            ),
            title="Every operator takes unaligned input in {dtype}",
            why=(
                "An input sliced to start between two multiples of 16 bytes raises an error, or ends the "
                "process."
            ),
            remedy="Call clone() on sliced inputs of these operators; report the rows to the vendor.",
            action=Action.CONTACT_VENDOR,
        ),
    },
    cost=Cost.MINUTES,
    typical_s=10.0,
    limit_s=600.0,
    catches=(
        "missing", "dtype-unsupported", "cpu-fallback", "wrong-result", "wrong-gradient", "nan", "ignore-strides",
        "ignore-offset", "wrong-shape", "wrong-dtype", "nondeterministic", "raise", "late-error", "device-lost", "hang",
        "crash", "zero-result", "wrong-operator", "unwritten", "ignore-argument", "wrong-layout", "narrow-sums",
        "one-element", "rounded-result", "wrong-tail",
    ),
    least={"samples": 1, "operator_limit_s": 0.1},
)  # fmt: skip
def sweep(
    accelerator: Accelerator,
    *,
    dtypes: tuple[str, ...] = ("float32", "bfloat16"),
    core_dtypes: tuple[str, ...] = (),
    catalogue: str = "all",
    only: tuple[str, ...] = (),
    samples: int = 1,
    operator_limit_s: float = 20.0,
    processes: int = 0,
    forward_mode: bool = False,
    rms_ratio: float = 2.0,
    max_ratio: float = 10.0,
    roundoffs: float = 1.0,
    sums: float = 1.0,
) -> Iterator[Yield]:
    """Tries PyTorch's operators one by one, forward and backward, and compares each result with float64.

    A model stops at the first operator that its device lacks, learns nonsense from one that is wrong, and loses its run
    to one that crashes. Operators and inputs come from PyTorch's own database (`catalogue` "all", or "core": what
    language models use, also in `core_dtypes`); each result is held against float64, against itself repeated, and
    against the CPU's error. The same values are tried as a strided view and at an offset too, and each operator once
    with unusual arguments, layouts and values. Beside float64, results are held against each other: one value in every
    place, rows exchanged, cut apart or padded, memory to write to, sums of parts. With `forward_mode` derivatives along a
    direction are tried as well. A floating result may be `rms_ratio` times as far from float64 as the CPU's in the same
    dtype (root mean square), in its largest element `max_ratio` times, and at any rate by a few roundings times
    `roundoffs`; a product of matrices by `sums` times what rounding them may cost.

    Each operator has exactly one outcome per dtype, which the rows name: native, decomposed, CPU fallback, missing, wrong,
    nondeterministic, crash, hang, or it cannot be judged (docs/operators.md).

    Labels: `dtype`; `catalogue`: what was swept, "chosen" where `only` chose; a sweep of all counts its core apart too.
    """
    from readiness import Strictness
    from readiness.probes.operators import opinfo, opinfo_trial, summary
    from readiness.probes.operators import sweep as sweeping

    try:
        entries = opinfo.load()
    except opinfo.UnavailableError as problem:
        raise Skip(f"PyTorch's operator database cannot be imported: {problem}") from problem
    chosen = opinfo.select(entries, catalogue, only)
    further = tuple(dtype for dtype in core_dtypes if dtype not in dtypes)
    parts = opinfo.parts(catalogue, only)
    options = opinfo_trial.TrialOptions(samples, Strictness(rms_ratio, max_ratio, roundoffs, sums), forward_mode)
    counts = {(dtype, part): summary.SweepSummary(accelerator.id) for dtype in dtypes for part in parts}
    counts |= {(dtype, parts[-1]): summary.SweepSummary(accelerator.id) for dtype in further}
    outcomes = summary.OperatorMap()
    for done, swept in enumerate(sweeping.sweep(
        accelerator, entries, chosen, (*dtypes, *further) if only else dtypes, core_dtypes=() if only else further,
        options=options, operator_limit_s=operator_limit_s, processes=processes,
    )):  # fmt: skip
        for part in parts:
            if (swept.dtype, part) in counts and (part != "core" or swept.entry.core):
                counts[swept.dtype, part].add(swept)
        outcomes.add(swept)
        if done % 100 == 0:
            yield Note(f"{done} operators done, now {swept.entry.name} in {swept.dtype}")
        for cells in summary.rows(swept):
            yield Row(cells)
    yield Row({"operator": "*", "dtype": "all", "phase": "both", "outcome": "summary", "detail": summary.tried(accelerator)})
    for cells in outcomes.rows():
        yield Row(cells)
    for (dtype, part), count in counts.items():
        yield Row({"operator": f"* ({part})", "dtype": dtype, "phase": "both", "outcome": "summary", "detail": str(count)})
        for name, value, about in count.measurements():
            yield Measurement(name, value, {"dtype": dtype, "catalogue": part}, about=about)
