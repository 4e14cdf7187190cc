"""Collective operations between ranks: all elements right, nothing beside them touched, and the same every time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness.accelerators.base import Accelerator
from readiness.check_registry import Scope, check
from readiness.datamodel import Cost, Yield


@check(
    "multichip.collectives",
    title="Collectives deliver every element right",
    measures={
        "wrong_elements": "1",
        "unsupported": "1",
        "optional_supported": "1",
        "repeat_mismatches": "1",
        "repeat_spread": "1",
        "sum_error": "1",
        "nan_lost": "1",
        "infinities_wrong": "1",
        "barriers_left_early": "1",
        "completed": "1",
    },
    cost=Cost.SECONDS,
    typical_s=8.0,
    limit_s=300.0,
    scope=Scope.GROUP,
    alone=True,
    catches=("collective-corrupt", "collective-mismatch", "rank-exit", "hang", "send-corrupt", "sum-for-mean"),
    least={"rounds": 1, "repeats": 1, "patience_s": 1},
)
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
    """Do the ranks of a group receive exactly what the others sent?

    A collective that now and then delivers a wrong element spoils a training run without any error, and a test of one
    repetition on a constant does not see it. Every operation of torch.distributed (all_reduce with sum, product, maximum,
    minimum and mean; all forms of all_gather, reduce_scatter and all_to_all, parts of several sizes and of none among
    them; broadcast, reduce, gather and scatter with every root; sends and receives in turn, at once and batched) is
    compared element by element on every rank: in place and not, at once and waited for in reverse, in pairs, halves and
    overlapping groups, over two communicators, at every second round in memory that is aligned to nothing.
    `wrong_elements` is the sum over ranks and sizes of one operation in one type, what was written beside the buffers
    included; each of the `rounds` draws new data. Beside every power of two up to `largest` the main ones are tried in
    the first type too, as far as `sweep_s` seconds for each reach. `unsupported` is 1 where the library refuses the two
    together; `optional_supported` is 0 where it refuses what not every library must take. `repeat_mismatches` counts
    results of the same sum of random numbers that differ in any bit from the first rank's first, `repeat_spread` is the
    largest distance between them over the largest element, `sum_error` the largest error over what one rounding for each
    rank may cost. `nan_lost` is how many NaN that one rank put in another did not get out, `infinities_wrong` the same
    for infinities. `barriers_left_early` counts the ranks that left a barrier before a late one had come. `completed` is
    0 when a rank died, hung or raised: a row tells which and where. The labels `ranks` and `chips` say what it is
    evidence about: ranks that share one chip (`chips="one"`) have used no link; with `world="all"` every chip takes part,
    which is what `ranks` = 0 is for: one rank on each chip, two at least and sixteen at most.
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
