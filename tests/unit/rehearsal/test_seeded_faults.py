"""What `--chip` means: names, globs and files; every machine has one defect or none; hostile values are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from readiness.errors import BadFileError, UsageError
from readiness.rehearsal.seeded_faults import healthy_machine, selection
from readiness.simulator import machine_file as chips
from readiness.simulator.faults import kinds
from tests.support.rehearsal import chip_file


def test_without_a_word_all_shipped_plants_and_the_healthy_chip() -> None:
    made = selection()
    assert [chip.name for chip in made.healthy] == ["healthy"]
    assert len(made.faults) == len([file for file in chips.names().values() if file.parent.name == "seeded_faults"]) > 50
    assert {fault.kind.name for fault in made.faults} <= set(kinds())
    for fault in made.faults:
        assert len(fault.chip.defects) == 1
        assert fault.source, f"{fault.name} names no source"


def test_names_globs_files_and_the_prefix(tmp_path: Path) -> None:
    file = chip_file(tmp_path / "mine.toml", 'kind = "nan"')
    made = selection(["nan", "sim:nan", "collective-*", str(file)])
    names = [fault.name for fault in made.faults]
    assert names[0] == "nan"
    assert names.count("nan") == 1
    assert "mine" in names
    assert len([name for name in names if name.startswith("collective-")]) >= 2


def test_several_defects_become_several_machines(tmp_path: Path) -> None:
    file = chip_file(tmp_path / "both.toml", 'kind = "nan"\nname = "first"', 'kind = "slow"\nop = "mm"\ndtype = "float16"')
    first, second = selection([str(file)]).faults
    assert (first.name, second.name) == ("both/first", "both/2")
    assert [len(fault.chip.defects) for fault in (first, second)] == [1, 1]
    assert second.title == "slow: mm in float16"


def test_two_files_may_share_a_name(tmp_path: Path) -> None:
    one = chip_file(tmp_path / "one.toml", 'kind = "nan"', name="same")
    two = chip_file(tmp_path / "two.toml", 'kind = "slow"', name="same")
    assert [fault.name for fault in selection([str(one), str(two)]).faults] == ["same", "same#2"]


def test_a_chip_without_a_defect_is_a_healthy_one(tmp_path: Path) -> None:
    made = selection([str(chip_file(tmp_path / "good.toml"))])
    assert (made.faults, [chip.name for chip in made.healthy]) == ((), ["good"])


def test_the_same_machine_without_its_defect(tmp_path: Path) -> None:
    one = selection([str(chip_file(tmp_path / "one.toml", 'kind = "nan"'))]).faults[0].chip
    other = selection([str(chip_file(tmp_path / "other.toml", 'kind = "slow"', title="Another"))]).faults[0].chip
    assert healthy_machine(one, 2) == healthy_machine(other, 2)
    assert (healthy_machine(one, 2).chips, healthy_machine(one, 2).defects, healthy_machine(one, 2).memory_gib) == (2, (), 0.5)


@pytest.mark.parametrize(
    "word", ["", "sim:", "nonsense", "sim:0", "[", "*nothing*", "a" * 100_000, "\0", "../..", "/", "/dev/null", "x\0.toml", "\x1b[2J", "*.toml", "/no/such.toml"]
)
def test_hostile_words_are_refused(word: str) -> None:
    with pytest.raises(UsageError) as caught:
        selection([word])
    assert caught.value.remedy
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize(
    "text",
    ["", "not toml", 'schema = "readiness.chip/1"', 'schema = "readiness.chip/1"\nname = "a"\ntitle = "A"\n[[defect]]\nkind = "unheard-of"\n', "\x00", "\xff"],
)
def test_hostile_files_are_refused_with_their_place(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(BadFileError, match=r"bad\.toml"):
        selection([str(file)])
