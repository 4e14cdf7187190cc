"""Collective operations between ranks: all elements right, nothing beside them touched, and the same every time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness.accelerators.base import Accelerator
from readiness.checklist import Scope, check
from readiness.model import Cost, Note, Row, Yield


@check(
    "multichip.collectives",
    title="Collectives deliver every element right",
    measures={
        "wrong_elements": "1",
        "unsupported": "1",
        "repeat_mismatches": "1",
        "nan_lost": "1",
        "completed": "1",
    },
    cost=Cost.SECONDS,
    typical_s=3.0,
    limit_s=300.0,
    scope=Scope.GROUP,
    alone=True,
    catches=("collective-corrupt", "collective-mismatch", "rank-exit", "hang"),
)
def collectives(
    accelerator: Accelerator,
    *,
    ranks: int = 0,
    dtypes: Sequence[str] = ("float32", "bfloat16", "float16", "int64"),
    sizes: Sequence[int] = (1, 1023, 65537, 262144),
    rounds: int = 2,
    repeats: int = 3,
    patience_s: float = 30.0,
) -> Iterator[Yield]:
    """Do the ranks of a group receive exactly what the others sent?

    A collective that now and then delivers a wrong element spoils a training run without any error, and a test of one
    repetition on a constant does not see it. Every operation (all_reduce with sum, max and min; all_gather,
    reduce_scatter, even and uneven all_to_all, broadcast from every root, a ring of sends and receives) is compared
    element by element on every rank. `wrong_elements` is the sum over ranks and sizes of one operation in one type,
    what was written beside the buffers included; each of the `rounds` draws new data. `unsupported` is 1 where the
    library refuses the two together; `repeat_mismatches` counts results of the same sum that differ in any bit from the
    first rank's first; `nan_lost` is how many NaN that one rank put in another did not get out. `completed` is 0 when a
    rank died, hung or raised: a row tells which and where. The labels `ranks` and `chips` say what it is evidence
    about: ranks that share one chip (`chips="one"`) have used no link; with `world="all"` every chip takes part, which
    is what `ranks` = 0 is for: one rank on each chip, two at least and sixteen at most.
    """
    from readiness.ranks import collectives as operations
    from readiness.ranks import place, run_world, telling

    placement = place(accelerator, ranks)
    yield Row({"scope": placement.scope, "accelerators": ", ".join(placement.ids)})
    yield Note(f"collectives between {placement.scope}")
    settings = {
        "dtypes": operations.checked(dtypes),
        "sizes": list(sizes),
        "rounds": rounds,
        "repeats": repeats,
        "repeat_size": 65537,
    }
    outcome = run_world(operations.rank_main, accelerator, placement, settings, patience_s=patience_s, limit_s=250.0)
    yield from telling.collectives(outcome, placement)
    yield from telling.completion(outcome, placement)
