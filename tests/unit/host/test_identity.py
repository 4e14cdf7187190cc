"""Which machine this is: itself after a restart and in a new container, no other, and never two at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from readiness.host.identity import identity, same, same_place

HERE = {"name": "node-a", "boot": "b1", "id": "i1", "network": "17"}


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        ({}, True),
        ({"name": "pod-7", "network": "18"}, True),            # a container that was made anew
        ({"boot": "b2", "network": "1"}, True),                # it was started again
        ({"boot": "b2", "name": "node-b"}, False),             # another one, of the same image
        ({"boot": "b2", "id": "i2"}, False),                   # another one of the same name
        ({"boot": "b2", "id": "i2", "name": "node-b"}, False),
    ],
)  # fmt: skip
def test_a_machine_is_known_again(other: dict[str, str], is_same: bool) -> None:
    assert same(HERE, {**HERE, **other}) is is_same


def test_with_little_system_data_the_name_decides() -> None:
    assert same({"name": "mac"}, {"name": "mac"})
    assert not same({"name": "mac"}, {"name": "other"})


@pytest.mark.parametrize(("other", "is_same"), [({}, True), ({"name": "alias"}, True), ({"network": "18"}, False), ({"boot": "b2"}, False)])
def test_two_names_of_one_place(other: dict[str, str], is_same: bool) -> None:
    assert same_place(HERE, {**HERE, **other}) is is_same
    assert not same_place(HERE, {"name": "node-a"}), "who does not tell is believed"


def test_ids_of_the_system_are_not_handed_around(tmp_path: Path) -> None:
    for name, text in (("proc/sys/kernel/random/boot_id", "secret-boot\n"), ("etc/machine-id", "secret-id\n")):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    found = identity(tmp_path)
    assert {"boot", "id", "name"} <= set(found)
    assert "secret" not in str(found)
    assert identity(tmp_path) == found
    (tmp_path / "etc/machine-id").write_text("")  # as images of containers have it
    assert "id" not in identity(tmp_path)
