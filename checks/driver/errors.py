"""Calls that must fail, and results that must be written."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Measure, Measurement, Note, Row, Yield, check


@check(
    "driver.errors",
    title="A call that fails on the device raises an error",
    measures={
        "silent_errors": Measure(
            "1", better=Better.LOWER,
            meaning="Calls with an impossible index, or a false assertion, that gave a result and no error.",
            title="A call that fails on the device is no silent success",
            why="A wrong index or a kernel that did not start, and raises nothing, trains on whatever stood in memory.",
            remedy="Check indices on the host; update the plug-in; look for its switch of device assertions.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "uncatchable_errors": Measure(
            "1", better=Better.LOWER,
            meaning="Such calls that ended or hung the process, where an exception was due.",
            title="A call that fails on the device can be caught",
            why="A process that dies instead of raising leaves neither a traceback nor a checkpoint.",
            remedy="Check indices on the host; update the plug-in.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "unwritten": Measure(
            "elements", better=Better.LOWER,
            meaning=(
                "Elements that still hold what stood in memory before, or are wrong, after calls with more rows or batches "
                "than one launch has blocks."
            ),
            title="Results of large launches are written",
            why="A kernel that could not be started leaves its result unwritten, and the program goes on with it.",
            remedy="Update the plug-in; split such calls until then. The rows name them.",
            action=Action.UPDATE_SOFTWARE,
        ),
    },
    typical_s=0.6,
    limit_s=240.0,
    catches=("silent-failure",),
    least={"limit_s": 1},
    provokes=True,
)
def errors(accelerator: Accelerator, *, limit_s: float = 60.0) -> Iterator[Yield]:
    """Makes calls that must fail on the device, each in a process of its own, and looks whether the caller is told.

    An index far outside of its tensor in gather, index_select, embedding, scatter and cross entropy, and a false assertion:
    after the result was fetched and the device synchronised, an exception is due. Then operators write into memory that
    holds NaN, with more rows than a launch has blocks, and every element is compared.
    """
    from readiness.probes.driver import errors as probe

    provoked = []
    for one in probe.try_provoked(accelerator, limit_s):
        provoked.append(one)
        yield Row({"case": one.case, "how": one.how, "words": one.words})
    tried = [one for one in provoked if one.how != "refused"]
    for name, how in (("silent_errors", "silent"), ("uncatchable_errors", "ended")):
        if tried:
            own = [one.case for one in tried if one.how == how]
            yield Measurement(name, len(own), samples=len(tried), about=", ".join(own) or None)
    yield Note("results of large launches")
    results = list(probe.try_writes(accelerator))
    for result in results:
        if result.wrong or result.refusal:
            yield Row({"case": result.case, "wrong": result.wrong, "refused": result.refusal})
    done = [result for result in results if result.refusal is None]
    if done:
        wrong = [result.case for result in done if result.wrong]
        yield Measurement("unwritten", sum(result.wrong for result in done), samples=len(done),
                          about=", ".join(wrong) or None)  # fmt: skip
