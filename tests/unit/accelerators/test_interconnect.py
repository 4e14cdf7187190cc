"""AMD's links as the kernel's driver lists them: whole, in part, of partitioned devices, and hostile."""

from __future__ import annotations

from pathlib import Path

import pytest

from readiness.accelerators.interconnect import Links, xgmi
from readiness.accelerators.rocm import Rocm
from readiness.datamodel import AcceleratorFacts

ADDRESS = "0000:0c:00.0"


def node(root: Path, number: int, location: int, *links: tuple[int, int, int], simds: int = 1216, domain: int = 0) -> None:
    """A node at a place of the bus, with links: their type, the node at the other end, 10^6 bytes a second."""
    folder = root / f"sys/class/kfd/kfd/topology/nodes/{number}"
    (folder / "io_links").mkdir(parents=True)
    (folder / "properties").write_text(
        f"cpu_cores_count {0 if simds else 96}\nsimd_count {simds}\nlocation_id {location}\ndomain {domain}\nname gfx942\n"
    )
    for index, (kind, to, rate) in enumerate(links):
        (folder / f"io_links/{index}").mkdir()
        (folder / f"io_links/{index}/properties").write_text(
            f"type {kind}\nversion_major 0\nnode_from {number}\nnode_to {to}\nweight 15\nmin_bandwidth {rate}\nmax_bandwidth {rate}\n"
        )


def machine(root: Path, *links: tuple[int, int, int]) -> Path:
    """Two processors, and three devices of which the first has these links."""
    for number in (0, 1):
        node(root, number, 0, simds=0)
    node(root, 2, 0x0C00, *links)
    node(root, 3, 0x2200)
    node(root, 4, 0x3800)
    return root


def test_links_to_devices_are_counted_with_what_they_carry(tmp_path: Path) -> None:
    root = machine(tmp_path, (2, 0, 64000), (11, 3, 64000), (11, 4, 64000), (11, 1, 64000))
    assert xgmi(ADDRESS, root) == Links(2, 128.0, 2)
    facts = AcceleratorFacts("cuda:0", "cuda", 0, "rocm", "AMD", "X1", properties={"pci_address": ADDRESS})
    assert Rocm(root).links(facts) == Links(2, 128.0, 2)
    assert xgmi("0000:22:00.0", root) is None
    assert xgmi("0001:0c:00.0", root) is None


def test_a_link_without_a_rate_leaves_the_sum_unknown(tmp_path: Path) -> None:
    assert xgmi(ADDRESS, machine(tmp_path, (11, 3, 0), (11, 3, 64000))) == Links(2, None, 1)


def test_parts_of_one_device_have_no_links_of_their_own(tmp_path: Path) -> None:
    root = machine(tmp_path, (11, 3, 64000))
    node(root, 5, 0x0C00, (11, 3, 64000))
    assert xgmi(ADDRESS, root) is None


@pytest.mark.parametrize("address", [None, "", "..", "0000:0c:00.0/..", "zz:0c:00.0"])
def test_other_addresses_have_none(tmp_path: Path, address: str | None) -> None:
    assert xgmi(address, machine(tmp_path, (11, 3, 64000))) is None


@pytest.mark.parametrize("text", ["", "type", "type eleven\nnode_to 3\n", "type 11\nnode_to 99\n", "x" * 100_000, "type 11\nnode_to -3\n", "\0"])
def test_hostile_files_report_no_links(tmp_path: Path, text: str) -> None:
    root = machine(tmp_path, (11, 3, 64000))
    (root / "sys/class/kfd/kfd/topology/nodes/2/io_links/0/properties").write_text(text)
    assert xgmi(ADDRESS, root) is None
    assert xgmi(ADDRESS, tmp_path / "nowhere") is None
