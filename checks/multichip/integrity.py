"""Origin of a wrong result: sender, receiver, link or compute, and which chip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness import Accelerator, Action, Better, Cost, Measure, Scope, Yield, check


@check(
    "multichip.integrity",
    title="No chip or link makes results wrong",
    measures={
        "wrong_results": Measure(
            "1", better=Better.LOWER,
            meaning="Results that were wrong, by kind of work; the suspect is named.",
            why="A chip or a link that makes one result of some hundred wrong makes every step of a training run wrong.",
            remedy="Do not train on this: take the chip or the link that is named out of service.",
            action=Action.REPLACE,
        ),
        "completed": Measure(
            "1", better=Better.HIGHER,
            meaning="0 where a rank died, hung or raised.",
            title="Every chip takes part in the known-answer test",
            why="A chip that was not tested may be the cause of a wrong result.",
            remedy="The rows name rank, operation and chip: run the vendor's link test, update the library of collectives.",
            action=Action.CONTACT_VENDOR,
        ),
    },
    cost=Cost.SECONDS,
    typical_s=3.0,
    limit_s=200.0,
    scope=Scope.GROUP,
    alone=True,
    catches=("collective-corrupt", "send-corrupt"),
    least={"rounds": 1, "products": 1, "size": 1, "patience_s": 1},
)
def integrity(
    accelerator: Accelerator,
    *,
    ranks: int = 0,
    rounds: int = 30,
    products: int = 200,
    size: int = 4096,
    dtypes: Sequence[str] = ("float32", "bfloat16"),
    patience_s: float = 30.0,
) -> Iterator[Yield]:
    """Finds the chip or the link that makes results between chips wrong.

    A wrong sum over all ranks is wrong on all of them and names nobody. So every rank computes what is known beforehand,
    and what all ranks of one make must agree on to the bit; blocks go from every rank to every other; sums are made by
    two; and all ranks gather from all. What was wrong together tells whose doing it is: all that one rank computes, all
    that comes from it, all that comes to it, or all between two. Two ranks cannot tell a link from its ends, nor can a
    fault that was seen once or twice: then all of them are named.

    Labels: `work` (compute, transfer, all_reduce, all_gather); others as in `multichip.collectives`.
    """
    from readiness.probes.integrity.measurements import integrity as measurements
    from readiness.probes.integrity.rank import Settings, rank_main
    from readiness.probes.ranks_common.exact_inputs import real_dtypes
    from readiness.probes.ranks_common.rank_check import rank_check

    yield from rank_check(
        accelerator, rank_main, Settings(rounds, products, size, real_dtypes(dtypes)), measurements,
        title="integrity of", ranks=ranks, patience_s=patience_s, limit_s=180.0,
    )  # fmt: skip
