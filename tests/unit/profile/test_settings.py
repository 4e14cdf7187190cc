"""Settings that no check can make sense of are refused with their line; the shipped profiles' are not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import readiness
from readiness.accelerators.base import Accelerator
from readiness.check_registry import check
from readiness.datamodel import Measurement, Yield
from readiness.errors import BadFileError, CheckFileError
from readiness.profile import loader
from readiness.profile.settings import DTYPES
from tests.support import checks

HEAD = 'schema = "readiness.profile/1"\nname = "team"\ntitle = "Team"\n'


def load(tmp_path: Path, id: str, setting: str) -> None:
    file = tmp_path / "team.toml"
    file.write_text(f'{HEAD}[[require]]\nid = "one"\ncheck = "parity.matmul"\nmeasure = "supported"\nequals = 1\n'
                    f'[settings."{id}"]\n{setting}\n')  # fmt: skip
    loader.load(str(file), checks())


@pytest.mark.parametrize(
    ("id", "setting", "remedy"),
    [
        ("multichip.soak", "job_chips = 0", "give 1 or more"),
        ("multichip.soak", "job_days = 0.0", "give 0.001 or more"),
        ("multichip.soak", "checkpoint_s = -1", "give 0 or more"),
        ("driver.lifecycle", "opens = 0", "give 1 or more"),
        ("driver.lifecycle", "opens = -3", "give 1 or more"),
        ("driver.memory", "share = 0.0001", "give a number from 0.01 to 1"),
        ("driver.memory", "share = 1.5", "give a number from 0.01 to 1"),
        ("driver.memory", "piece_gib = 0.0", "give 0.001 or more"),
        ("stability.pace", "repeats = 0", "give 1 or more"),
        ("stability.load", "seconds = 0.0", "give 0.1 or more"),
        ("stability.load", 'dtypes = ["bf16"]', "did you mean bfloat16?"),
        ("stability.load", "dtypes = []", "name at least one"),
        ("operators.sweep", 'core_dtypes = ["float"]', "did you mean float16?|did you mean float32?|did you mean float64?"),
        ("multichip.collectives", "sizes = [4, -1]", "give 0 or more"),
        ("operators.large", "powers = [31, 99]", "give a number from 1 to 40"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, id: str, setting: str, remedy: str) -> None:
    with pytest.raises(BadFileError) as caught:
        load(tmp_path, id, setting)
    assert re.search(remedy, str(caught.value)), str(caught.value)
    assert "team.toml:9" in str(caught.value)


@pytest.mark.parametrize(
    ("id", "setting"),
    [
        ("multichip.soak", "recovery_s = 0"), ("multichip.soak", "job_chips = 1"), ("multichip.collectives", "sizes = [0]"),
        ("operators.sweep", "core_dtypes = []"), ("operators.sweep", "only = []"), ("operators.workload", "large_s = 0"),
        ("driver.memory", "share = 1"), ("stability.load", 'dtypes = ["float16"]'), ("multichip.links", "ranks = 0"),
    ],
)  # fmt: skip
def test_what_makes_sense_is_taken(tmp_path: Path, id: str, setting: str) -> None:
    load(tmp_path, id, setting)


def test_settings_that_no_request_can_carry_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=r"(?s)its settings take \d+ KiB; the maximum is 64.*remedy"):
        load(tmp_path, "operators.sweep", f'only = ["{"x" * 2**17}"]')


def test_the_defaults_are_within_their_own_bounds() -> None:
    for declared in checks().values():
        for name in {*declared.least, *declared.most}:
            given = declared.settings[name]
            for value in given if isinstance(given, tuple) else (given,):
                within = declared.least.get(name, 0) <= value <= declared.most.get(name, float("inf"))
                assert within or name == declared.lasting, (declared.id, name)


def test_the_names_of_dtypes_are_torchs() -> None:
    there = {name for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
    aliases = {"float", "double", "half", "int", "long", "short", "cfloat", "cdouble", "chalf"}
    few_bits = {name for name in there if re.fullmatch(r"u?int[1-7]|q.*|bit.*", name)}
    assert there - aliases - few_bits == DTYPES
    schema = json.loads((Path(readiness.__file__).parent / "schemas/chip.json").read_text())
    assert set(schema["$defs"]["dtype"]["enum"]) == DTYPES


def test_a_bound_of_no_setting_is_a_mistake_in_the_check() -> None:
    def topic(accelerator: Accelerator, *, few: int = 1) -> Iterator[Yield]:
        """It measures."""
        yield Measurement("error", few + accelerator.seed)

    declare = check("family.topic", title="A check", measures={"error": "1"}, least={"many": 1})
    with pytest.raises(CheckFileError, match="no setting 'many'"):
        declare(topic)
