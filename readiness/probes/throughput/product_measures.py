"""Measures of the checks that time a model's products. Nothing here imports torch."""

from __future__ import annotations

from readiness.datamodel import Action, Better, Measure

_REMEDY = "The rows give each call's sizes and rate: report the slow ones to the vendor; pad sizes to multiples of 128."

#: Beside `tflops`, of the same calls.
BEST_TFLOPS = Measure(
    "TFLOP/s", better=Better.HIGHER,
    meaning="The same over the sum of their shortest times.",
    why="What lies between median and best is lost to something that comes and goes.",
    remedy="Look for what else uses the device or the host.",
    action=Action.CHECK_CONFIG,
)  # fmt: skip


def share_of_host(title: str) -> Measure:
    """Return the measure of a device's pace beside the host's, under a title of its own."""
    return Measure(
        "1", better=Better.HIGHER,
        meaning=(
            "Time on the host over that on a device of the host's memory, in turns; nothing on a busy host, nor on "
            "devices of their own silicon."
        ),
        title=title,
        why="It is the only rating of a device that computes with the host's cores.",
        remedy="Look for what the device does besides.",
        action=Action.CONTACT_VENDOR,
    )  # fmt: skip


def measures(what: str) -> dict[str, Measure]:
    """Return the measures of a check that times the model's `what`."""
    return {
        "timed_share": Measure(
            "1", better=Better.HIGHER,
            meaning=f"Share of the operations of the model's {what} that could be timed: the device has and holds them.",
            title=f"The model's {what} run in {{phase}}",
            why="Rates of a part say nothing of the rest.",
            remedy="The rows name what was refused: update the stack, or report it to the vendor.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "tflops": Measure(
            "TFLOP/s", better=Better.HIGHER,
            meaning=(
                f"Operations of all {what} that the model makes in a phase, each as often as it makes it, over the sum of "
                "their median times; its spread is what another run may differ by."
            ),
            title=f"The model's {what} are fast enough in {{phase}}",
            why="Square products promise more than a model's own sizes give.",
            remedy=_REMEDY,
            action=Action.CONTACT_VENDOR,
        ),
        "best_tflops": BEST_TFLOPS,
        "gbps": Measure(
            "GB/s", better=Better.HIGHER,
            meaning="Bytes that these calls read at least (weights, inputs, cache) over the sum of their median times.",
            why="A single token is bound by memory, not by products.",
            remedy=_REMEDY,
            action=Action.CONTACT_VENDOR,
        ),
        "share_of_rated": Measure(
            "1", better=Better.HIGHER,
            meaning="tflops over the rate that this model of device is sold with; nothing where none is on record.",
            title=f"The model's {what} reach a fair share of the rating in {{phase}}",
            why="A chip that gives a fraction of what it was bought for costs as many times more.",
            remedy=_REMEDY,
            action=Action.CONTACT_VENDOR,
        ),
        "share_of_bandwidth": Measure(
            "1", better=Better.HIGHER,
            meaning="gbps of single tokens over the memory's rated bandwidth; nothing where none is on record.",
            title=f"Decoding's {what} read memory near its rating",
            why="Each token of one conversation reads all weights once: this share is the share of the tokens.",
            remedy=_REMEDY,
            action=Action.CONTACT_VENDOR,
        ),
        "share_of_host": share_of_host(f"The model's {what} are as fast as the host's"),
    }  # fmt: skip
