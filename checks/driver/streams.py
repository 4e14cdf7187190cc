"""Streams, events and synchronisation."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Measure, Measurement, Row, Skip, Yield, check


@check(
    "driver.streams",
    title="Streams and events keep the order they promise",
    measures={
        "order_violations": Measure(
            "1", better=Better.LOWER,
            meaning="Results that were computed from values that were not ready.",
            title="Streams and events keep their order",
            why=(
                "Copies and collectives overlap with computation on streams; an event passed too early reads old "
                "values without any error."
            ),
            remedy="Update the driver and the runtime; do not train on it meanwhile.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "synchronize_works": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of attempts after which everything queued had ended and arrived.",
            title="Synchronize waits for all work",
            why="What is read after a synchronize that does not wait is not the result.",
            remedy="Update the driver and the runtime.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of attempts that the device did not refuse.",
            why="Without streams and events, copies and collectives cannot overlap with computation.",
            remedy="Update the plug-in; until then run everything on one stream.",
            action=Action.UPDATE_SOFTWARE,
        ),
    },
    typical_s=1.0,
    catches=("stale-read",),
    least={"rounds": 1, "numbers": 1, "work": 1},
)
def streams(accelerator: Accelerator, *, rounds: int = 10, numbers: int = 1 << 20, work: int = 50) -> Iterator[Yield]:
    """Checks that work on one stream waits for another when it is told to, and that everything is done after synchronising.

    Overlapping copies and collectives with computation rests on this: when an event is passed too early a step reads
    yesterday's values, and no error is raised.
    """
    from readiness.probes.driver.streams import attempts, missing

    reason = missing(accelerator)
    if reason is not None:
        raise Skip(reason)
    found = list(attempts(accelerator, rounds, numbers, work))
    done = [attempt for attempt in found if attempt.refusal is None]
    for attempt in dict.fromkeys(attempt for attempt in found if not attempt.kept):
        yield Row({"promise": attempt.promise, "kept": attempt.kept, "refused": attempt.refusal})
    yield Measurement("supported", len(done) / len(found), samples=len(found))
    ordered = [attempt.kept for attempt in done if attempt.kind == "order"]
    if ordered:
        yield Measurement("order_violations", ordered.count(False), samples=len(ordered))
    synchronised = [attempt.kept for attempt in done if attempt.kind == "synchronize"]
    if synchronised:
        yield Measurement("synchronize_works", sum(synchronised) / len(synchronised), samples=len(synchronised))
