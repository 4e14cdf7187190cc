"""Settings and reports of ranks as dataclasses: through pipes, through fresh interpreters, and what does not fit."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from readiness.accelerators.base import Accelerator
from readiness.accelerators.cpu import Cpu
from readiness.distributed import FailureKind, RankContext, Report, place, rank_messages, run_ranks
from readiness.distributed.dataclass_json import from_json, to_json
from readiness.distributed.rank_messages import decode_report, decode_settings, encode_report, encode_settings
from tests.support import cpu


class Colour(enum.StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    count: int
    share: float
    folder: Path | None
    parts: Sequence[Part]
    by_rank: Mapping[int, Part]
    colour: Colour = Colour.RED


@dataclass(frozen=True, slots=True)
class Found(Report):
    value: int | float
    pair: tuple[int, float]
    parts: tuple[Part, ...]
    by_colour: dict[Colour, list[str]]
    first: Part | None = None
    more: Any = None


SETTINGS = Settings(3, 0.5, Path("/tmp/here"), (Part("one", (1, 2)),), {4: Part("two")})
FOUND = Found(7, (1, 2.0), (Part("one"),), {Colour.RED: ["a"]}, Part("two", (3,)), {"any": [1, None]})


def test_a_dataclass_comes_back_from_json_as_it_was() -> None:
    assert from_json(Settings, json.loads(json.dumps(to_json(SETTINGS)))) == SETTINGS
    assert decode_report(json.loads(json.dumps(encode_report(FOUND)))) == FOUND
    nan = decode_report(json.loads(json.dumps(encode_report(Found(math.nan, (1, math.inf), (), {})))))
    assert math.isnan(nan.value)
    assert nan.pair == (1, math.inf)
    assert type(decode_report(json.loads(json.dumps(encode_report(FOUND)))).value) is int


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"count": "3"}, "Settings.count: '3' is not of type int"),
        ({"count": True}, "Settings.count: 'True' is not of type int"),
        ({"share": None}, "Settings.share: 'None' is not of type float"),
        ({"colour": "green"}, "Settings.colour: 'green' is not a valid Colour"),
        ({"parts": {}}, "Settings.parts"),
        ({"parts": [{"name": "x", "size": 1}]}, "Settings.parts: Part has no field 'size'"),
        ({"parts": [{}]}, "Settings.parts: Part"),
        ({"by_rank": {"x": {"name": "x"}}}, "Settings.by_rank"),
        ({"folder": 3}, "Settings.folder: '3' is not of type Path | NoneType"),
    ],
)
def test_a_mismatched_value_is_an_error_with_its_place(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}".replace("|", r"\|")):
        from_json(Settings, to_json(SETTINGS) | change)


def test_what_has_no_json_is_an_error_where_it_is_sent() -> None:
    with pytest.raises(TypeError, match="object cannot be written as JSON"):
        to_json({"x": object()})


def test_reports_of_an_unknown_kind_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"'no\.Such' are unknown here"):
        decode_report({"report": {}, "kind": "no.Such"})


def test_settings_pass_as_they_are_or_with_their_class() -> None:
    assert decode_settings(json.loads(json.dumps(encode_settings({"x": 1})))) == {"x": 1}
    assert decode_settings(json.loads(json.dumps(encode_settings(SETTINGS)))) == SETTINGS


def echoing(context: RankContext[Settings]) -> Iterator[Found]:
    settings = context.settings
    yield Found(settings.count, (context.rank, settings.share), tuple(settings.parts), {}, settings.by_rank[4])


class Fresh(Cpu):
    """The CPU, driven like a device that must not be forked."""

    fork_safe = False


@pytest.mark.parametrize(("stack", "ranks"), [(Cpu(), 2), pytest.param(Fresh(), 1, marks=pytest.mark.slow)])
def test_ranks_get_settings_and_send_reports_as_dataclasses(stack: Cpu, ranks: int) -> None:
    accelerator = Accelerator(cpu().facts, stack, seed=7)
    outcome = run_ranks(echoing, accelerator, place(accelerator, ranks), SETTINGS)
    assert outcome.failure is None
    expected = [(rank, Found(3, (rank, 0.5), (Part("one", (1, 2)),), {}, Part("two"))) for rank in range(ranks)]
    assert outcome.of(Found) == expected


@dataclass(frozen=True, slots=True)
class Secret(Report):
    number: int


def secretive(context: RankContext) -> Iterator[Report]:
    if context.rank == 1:
        yield Secret("7")  # type: ignore[arg-type]


def test_a_report_that_cannot_be_read_is_a_fault_of_its_rank() -> None:
    accelerator = cpu()
    outcome = run_ranks(secretive, accelerator, place(accelerator, 2), patience_s=10.0)
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.culprits) == (FailureKind.RAISED, (1,))
    assert "a report cannot be read: Secret.number: '7' is not of type int" in outcome.failure.reason


def test_each_kind_of_report_is_known_once() -> None:
    assert rank_messages._KINDS[f"{__name__}.Found"] is Found
