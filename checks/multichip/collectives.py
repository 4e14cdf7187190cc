"""Collective operations between ranks: all elements right, nothing beside them touched, and the same every time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness import Accelerator, Action, Better, Cost, Measure, Scope, Yield, check


@check(
    "multichip.collectives",
    title="Collectives deliver every element right",
    measures={
        "wrong_elements": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Wrong elements of one operation in one dtype, over ranks and sizes; what was written beside the buffers "
                "included."
            ),
            title="Collectives give exact results in {dtype}",
            why="Inputs are chosen so that every sum is exact: any other element is a fault.",
            remedy="Do not train on this: the rows name the rank; change chip or link, update the library of collectives.",
            action=Action.REPLACE,
        ),
        "strided_wrong_elements": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Wrong elements where input, output or both lie in every other element of a buffer, of an operation that "
                "does not refuse them; what was written between them included. 0 where it refuses."
            ),
            title="Collectives refuse memory with gaps or get it right",
            why=(
                "A view such as x[::2] that is treated as if it had no gaps gives wrong sums and overwrites its "
                "neighbours, without an error."
            ),
            remedy="Call contiguous() before every collective and copy the result back; update the library of collectives.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "unsupported": Measure(
            "1", better=Better.LOWER,
            meaning="1 where the library refuses this operation in this dtype; of barriers without a dtype.",
            title="Every collective takes {dtype}",
            why="A collective that does not take the model's dtype needs a detour through another.",
            remedy="Update the library of collectives, or exchange that dtype as float32.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "optional_supported": Measure(
            "1", better=Better.HIGHER,
            meaning="0 where the library refuses what not every library must take.",
            why="A script that uses this operation needs a detour through others.",
            remedy="Update the library of collectives, or build the operation of others that it takes.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "repeat_mismatches": Measure(
            "1", better=Better.LOWER,
            meaning="Results of the same sum of random numbers that differ in any bit from the first rank's first.",
            title="Collectives repeat bit by bit",
            why="Sums that change from run to run make two runs incomparable.",
            remedy="Set the library's deterministic mode.",
            action=Action.CHECK_CONFIG,
        ),
        "repeat_spread": Measure(
            "1", better=Better.LOWER,
            meaning="Largest distance between those results over the largest element.",
            why="It distinguishes roundoff of another order from results that really differ.",
            remedy="Set the library's deterministic mode; suspect a chip where the spread exceeds rounding.",
            action=Action.CHECK_CONFIG,
        ),
        "sum_error": Measure(
            "1", better=Better.LOWER,
            meaning="Largest error of a sum over what one rounding for each rank may cost.",
            title="Sums over ranks round no more than they must",
            why=(
                "A sum over ranks may round once for each rank; one that is added up in a narrower type loses small "
                "gradients."
            ),
            remedy="Look for a setting that compresses what is exchanged, and update the library of collectives.",
            action=Action.CHECK_CONFIG,
        ),
        "nan_lost": Measure(
            "1", better=Better.LOWER,
            meaning="NaN sent by one rank that another did not receive.",
            title="NaN on one rank reaches all ranks",
            why=(
                "A NaN gradient on one rank must stop the step on all. Maxima are not required: gloo loses "
                "NaN there."
            ),
            remedy="Update the library of collectives; look for NaN before the exchange.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "infinities_wrong": Measure(
            "1", better=Better.LOWER,
            meaning="Infinities sent by one rank that another did not receive.",
            title="Infinity on one rank reaches all ranks",
            why="An overflow on one rank must reach all of them, or some take a step that others leave out.",
            remedy="Update the library of collectives; look for overflows before the exchange.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "barriers_left_early": Measure(
            "1", better=Better.LOWER,
            meaning="Ranks that left a barrier before a late one arrived.",
            title="Barriers wait for every rank",
            why=(
                "Behind a barrier that does not wait, a rank reads what another has not yet written: checkpoints and "
                "caches are corrupted."
            ),
            remedy="Update the library of collectives; wait for the device after every barrier.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "completed": Measure(
            "1", better=Better.HIGHER,
            meaning="0 where a rank died, hung or raised; a row says which and where.",
            title="Every collective completes",
            why="A collective that hangs or raises ends the job on every chip.",
            remedy=(
                "The rows name rank, operation and chip: run the vendor's link test between those chips, update the "
                "library of collectives."
            ),
            action=Action.CONTACT_VENDOR,
        ),
    },
    cost=Cost.SECONDS,
    typical_s=8.0,
    limit_s=300.0,
    scope=Scope.GROUP,
    alone=True,
    catches=(
        "collective-corrupt", "collective-mismatch", "rank-exit", "hang", "send-corrupt", "sum-for-mean", "wrong-order",
    ),
    least={"rounds": 1, "repeats": 1, "patience_s": 1},
)  # fmt: skip
def collectives(
    accelerator: Accelerator,
    *,
    ranks: int = 0,
    dtypes: Sequence[str] = ("float32", "bfloat16", "float16", "int64"),
    sizes: Sequence[int] = (0, 1, 1023, 65537),
    largest: int = 2**18,
    sweep_s: float = 0.5,
    rounds: int = 2,
    repeats: int = 3,
    patience_s: float = 30.0,
) -> Iterator[Yield]:
    """Compares every element that the ranks of a group receive with what the others sent.

    A collective that now and then delivers a wrong element spoils a training run without any error, and a test of one
    repetition on a constant does not see it. Every operation of torch.distributed is tried: all_reduce with sum,
    product, maximum, minimum and mean; all forms of all_gather, reduce_scatter and all_to_all, parts of several sizes
    and of none among them; broadcast, reduce, gather and scatter with every root; sends and receives in turn, at once
    and batched, hundreds in one batch; exchanges in which one rank has nothing to send, or gets nothing. They are tried in
    place and not, at once and waited for in reverse, in pairs, halves and overlapping groups, over two communicators, at
    every second round in memory that is aligned to nothing, once in every other element of a buffer. Each function is called
    dozens of times, barriers too: some defects begin after some calls. Each of the `rounds` draws new data. Beside `sizes`,
    the main operations are tried in the first dtype at every power of two up to `largest`, as far as `sweep_s` seconds for
    each reach.

    Labels: `ranks` and `chips` say what it is evidence about: ranks that share one chip (`chips="one"`) have used no
    link. With `world="all"` every chip takes part, which is what `ranks` = 0 is for: one rank on each chip, two at least
    and sixteen at most.
    """
    from readiness.probes.collectives.measurements import collectives as measurements
    from readiness.probes.collectives.rank import Settings, rank_main
    from readiness.probes.ranks_common.exact_inputs import real_dtypes
    from readiness.probes.ranks_common.rank_check import rank_check

    settings = Settings(
        dtypes=real_dtypes(dtypes), sizes=tuple(sizes), largest=largest, sweep_s=sweep_s, rounds=rounds, repeats=repeats,
        repeat_size=65537,
    )  # fmt: skip
    yield from rank_check(
        accelerator, rank_main, settings, measurements,
        title="collectives between", ranks=ranks, least=1, patience_s=patience_s, limit_s=250.0,
    )  # fmt: skip
