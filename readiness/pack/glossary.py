"""The words of a pack for a reader who has never used the tool."""

from __future__ import annotations

WORDS: tuple[tuple[str, str], ...] = (
    ("accelerator", "one device under test, like cuda:0 or npu:3, with its vendor, model, memory and driver"),
    ("assessment", "the whole record of one run: what was measured, and what follows from it"),
    ("blocker", "a requirement of level must that failed: it alone makes the verdict not ready"),
    ("ceiling", "the score if everything that is unknown had passed"),
    ("check", "one item of the checklist: a program that measures, and judges nothing"),
    ("deviation", "where the run did otherwise than planned: interrupted, retried, left out, taken over from another run"),
    ("evidence", "all that one check yielded on one accelerator"),
    ("limit", "a requirement of level should that failed"),
    ("must, should, info", "musts decide the verdict, shoulds are listed as limits, infos only inform"),
    ("not applicable", "the profile does not ask it of this kind of device or of so few devices; it counts nowhere"),
    ("profile", "a workload and its requirements, for training and for inference; its digest changes with any of them"),
    ("ratio", "what was measured, divided by the bound"),
    ("rehearsal", "the self-test of the instrument: defects planted in simulated chips, which the checks must find"),
    ("score", "the share of the weight of all requirements that is proven, 0 to 100; it ranks and never rescues"),
    ("simulated chip", "an accelerator of host memory: its verdict is a rehearsal and says nothing about a product"),
    ("soak", "work over hours with every result checked, to bound the rate of faults"),
    ("undetermined", "no must failed, and at least one could not be measured: neither good nor bad"),
    ("unknown", "not measured: it never counts as passed and stays in the denominator of the score"),
    ("use", "training or inference: each has a verdict of its own"),
    ("verdict", "ready, not ready or undetermined, of one accelerator for one use"),
    ("waiver", "a named person's decision to live with one failed requirement until a day"),
)
