"""The operators that a model really calls, at the model's own shapes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Cost, Measure, Measurement, Note, Row, Skip, Yield, check, workload_schema


@check(
    "operators.workload",
    title="The operators that the model calls exist and are right, at the model's shapes",
    measures={
        "obstacles": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Operators of the model that are missing, wrong, crash or hang; one line says what stands between the "
                "device and the model."
            ),
            why="One operator that is missing, wrong or fatal stops the model or corrupts its results.",
            remedy=(
                "The rows of operators.workload name operator, dtype, size and figures; update the plug-in, or report "
                "them to the vendor."
            ),
            action=Action.CONTACT_VENDOR,
        ),
        "forward_coverage": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of the model's operators that work forward.",
            why="An operator of the model that does not work stops it.",
            remedy=(
                "The rows of operators.workload name operator, dtype, size and figures; update the plug-in, or report "
                "them to the vendor."
            ),
            action=Action.CONTACT_VENDOR,
        ),
        "backward_coverage": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of the gradients of the model's operators that work.",
            title="Every gradient that {phase} needs exists",
            why="A missing gradient stops training; there is no fallback at speed.",
            remedy=(
                "The rows of operators.workload name operator, dtype, size and figures; update the plug-in, or report "
                "them to the vendor."
            ),
            action=Action.CONTACT_VENDOR,
        ),
        "operators": Measure(
            "1",
            meaning="Operators that the model calls.",
            why="It says how much of the model the other figures cover.",
        ),
        "missing": Measure(
            "1", better=Better.LOWER,
            meaning="Operators of the model that are missing.",
            why="A model stops at the first operator that its device lacks.",
            remedy=(
                "The rows of operators.workload name operator, dtype, size and figures; update the plug-in, or report "
                "them to the vendor."
            ),
            action=Action.CONTACT_VENDOR,
        ),
        "wrong": Measure(
            "1", better=Better.LOWER,
            meaning="Operators of the model whose results or gradients are wrong.",
            why="A wrong operator is worse than a missing one: nothing stops.",
            remedy=(
                "The rows of operators.workload name operator, dtype, size and figures; update the plug-in, or report "
                "them to the vendor."
            ),
            action=Action.CONTACT_VENDOR,
        ),
        "crashed": Measure(
            "1", better=Better.LOWER,
            meaning="Operators of the model that ended or hung their process.",
            why="An operator that kills or hangs its process takes hours of work with it.",
            remedy=(
                "The rows of operators.workload name operator, dtype, size and figures; update the plug-in, or report "
                "them to the vendor."
            ),
            action=Action.CONTACT_VENDOR,
        ),
        "nondeterministic": Measure(
            "1", better=Better.LOWER,
            meaning="Operators of the model whose results differ from call to call.",
            why=(
                "A run whose operators differ from call to call cannot be repeated, and its faults look like "
                "noise."
            ),
            remedy="Select deterministic kernels, or accept it.",
            action=Action.CONTACT_VENDOR,
        ),
        "fallbacks": Measure(
            "1", better=Better.LOWER,
            meaning="Operators of the model that run on the host.",
            why="An operator that runs on the host copies every tensor there and back, at each of its calls.",
            remedy="Keep these operators out of the model's inner loop, and ask the vendor for native kernels.",
            action=Action.CONTACT_VENDOR,
        ),
        "unjudged": Measure(
            "1", better=Better.LOWER,
            meaning="Operators of the model that could not be judged; the rows say why.",
            why="The result of an operator that could not be judged is unknown.",
            remedy="The rows say why; try these operators by hand.",
            action=Action.CONTACT_VENDOR,
        ),
        "native_share": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of the calls, or of the time, of operators that run a kernel of the device.",
            why="Only kernels of the device's own run at its speed.",
            remedy="Ask the vendor for native kernels of the operators that the rows name.",
            action=Action.CONTACT_VENDOR,
        ),
        "decomposed_share": Measure(
            "1",
            meaning="Share of the calls, or of the time, of operators that were decomposed into others.",
            why="A decomposition is right, and costs a call and a pass over memory for each of its parts.",
        ),
        "fallback_share": Measure(
            "1", better=Better.LOWER,
            meaning="Share of the calls, or of the time, of operators that run on the host.",
            why="An operator that runs on the host copies every tensor there and back, at each of its calls.",
            remedy="Keep these operators out of the model's inner loop, and ask the vendor for native kernels.",
            action=Action.CONTACT_VENDOR,
        ),
        "full_size_share": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of the calls that were replayed at the model's own size.",
            why="Times of calls that were not replayed at the model's own size are estimates.",
            remedy="Give it more time (large_s), or a device with more memory.",
            action=Action.CHECK_CONFIG,
        ),
        "refuse_unaligned": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Operators of the model that are right and refuse, or crash, on inputs at an address that is not a multiple "
                "of 16 bytes alone, which no record of the model has: they are no obstacle."
            ),
            why=(
                "An input sliced to start between two multiples of 16 bytes raises an error, or ends the "
                "process."
            ),
            remedy="Call clone() on sliced inputs of these operators; report the rows to the vendor.",
            action=Action.CONTACT_VENDOR,
        ),
    },
    cost=Cost.MINUTES,
    typical_s=47.0,
    limit_s=900.0,
    catches=("narrow-sums", "wrong-tail"),
    vet=workload_schema.vet,
    least={"call_limit_s": 0.1},
)  # fmt: skip
def workload(
    accelerator: Accelerator,
    *,
    workload: str = "",
    only: tuple[str, ...] = (),
    budget_s: float = 90.0,
    large_s: float = 30.0,
    call_limit_s: float = 20.0,
    rms_ratio: float = 2.0,
    max_ratio: float = 10.0,
    roundoffs: float = 1.0,
    sums: float = 1.0,
) -> Iterator[Yield]:
    """Replays every operator that the profile's model calls, in its dtypes and shapes, and compares each with float64.

    A model stops at the first operator that its device lacks in the dtype and shape of the moment. `workload` names what
    was recorded of the model (`readiness trace` makes it): every distinct call of forward, backward, optimizer, prefill
    and decode, attention kept whole. Each operator has one outcome in each dtype, as in `operators.sweep`, whose bounds
    of comparison hold here too. Every element is held against float64 on the reduced model's shapes, gradients through
    autograd, also as strided views and at offsets and at lengths on both sides of tiles' edges; then the call is made as
    large as memory and `large_s` allow, at best the model's own size, timed, and chosen elements are held against
    float64. A crash or hang (a call over `call_limit_s`, twice) costs one operator. Chips that are made of the host's
    memory share `large_s`.

    Labels: `workload`, `phase` (training, inference), `dtype` ("all", or one), `extent` ("part" where no time was left: that
    speaks for no whole), `weight` of shares: calls of one step, or time (estimated for records that were not replayed at
    full size).
    """
    from fnmatch import fnmatchcase

    from readiness import Strictness
    from readiness.probes.model_operators import replay, replay_supervisor, summary

    if not workload:
        raise Skip("no workload is named: the profile has no setting `workload`")
    file = workload_schema.find(workload)
    loaded = workload_schema.load(file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()  # `judge` asks for it where a profile names a file
    yield Row({"operator": "*", "outcome": "summary", "detail": f"operators of {loaded.name}", "sha256": digest})
    op_groups = [
        group for group in replay.op_groups(loaded) if not only or any(fnmatchcase(group.name, glob) for glob in only)
    ]
    counts = summary.WorkloadSummary(accelerator.id, loaded)
    strictness = Strictness(rms_ratio, max_ratio, roundoffs, sums)
    large_s /= accelerator.stack.sharing(accelerator.facts)
    for group, result in replay_supervisor.run(
        accelerator, loaded, file, op_groups=op_groups, budget_s=budget_s, large_s=large_s,
        call_limit_s=call_limit_s, strictness=strictness,
    ):  # fmt: skip
        counts.found.append((group, result))
        yield Row(summary.row(group, result))
        if len(counts.found) % 20 == 0:
            yield Note(f"{len(counts.found)} of {len(op_groups)} operators done, now {group.label}")
    yield Row({"operator": "*", "outcome": "summary", "detail": str(counts)})
    chosen = {"extent": "chosen"} if only else {}
    for item in counts.measurements():
        yield Measurement(item.name, item.value, {**item.labels, **chosen}, samples=item.samples, about=item.about)
    yield Measurement("full_size_share", counts.full_share(), {"workload": loaded.name})
