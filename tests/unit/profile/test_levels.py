"""Levels of the shipped profiles: each should answers whether one would train, or serve, for a month on a chip that fails it.

Where the answer is that nobody would, the text also says why it is no must all the same: what else asks for it, in what
circumstance one does, or who could not be asked.
"""

from __future__ import annotations

import re

import pytest

from readiness.datamodel import Level, Requirement
from readiness.profile import loader, shipped
from tests.support import checks

#: Why what nobody would train on is a should.
_ALL_THE_SAME = re.compile(
    r"Not a must only because|A must (where|in)|(is|are) (a )?musts?\b|of several chips it is asked|asked (for )?(below|besides)|one does\b"
    r"|most never do|mostly trained in other dtypes|fails? (in other checks|elsewhere|then)|other checks (ask|of several)"
    r"|operators\.workload demands",
    re.IGNORECASE,
)


def shoulds(name: str) -> list[Requirement]:
    return [item for item in loader.load(name, checks()).requirements if item.level is Level.SHOULD]


@pytest.mark.parametrize("name", shipped.names())
def test_every_should_says_what_a_month_on_such_a_chip_is(name: str) -> None:
    assert [item.id for item in shoulds(name) if "month" not in item.why.lower()] == []


@pytest.mark.parametrize("name", shipped.names())
def test_what_nobody_would_train_on_is_a_must_or_says_why_not(name: str) -> None:
    silent = [
        item.id
        for item in shoulds(name)
        if item.why.startswith("Nobody") and item.level_of_several is not Level.MUST and not _ALL_THE_SAME.search(item.why)
    ]
    assert silent == []


def test_the_words_that_excuse_a_should_do_not_excuse_everything() -> None:
    assert not _ALL_THE_SAME.search("Nobody trains for a month on wrong sums.")
    assert not _ALL_THE_SAME.search("Nobody serves for a month what writes other words without an error.")


@pytest.mark.parametrize("name", [name for name in shipped.names() if name != "smoke"])
def test_wrong_results_without_an_error_are_musts(name: str) -> None:
    found = {item.id: item.level for item in loader.load(name, checks()).requirements}
    for id in (
        "operators-right-float32", "operators-right-bfloat16", "operators-core-right-int32", "operators-core-right-uint8",
        "execution-right", "blocks-arrive", "copies-arrive", "memory-operations-computed", "kernels-run-once",
        "launches-are-written", "dlpack-right", "device-shared-right",
    ):  # fmt: skip
        assert found[id] is Level.MUST, id
    if name != "general":
        assert found["serving-tokens-right"] is found["serving-decodes"] is Level.MUST
