"""Ranks on two hosts, and a wire between them that is good, lossy, slow, cut or corrupting: each with the right finding.

The hosts are network namespaces of this machine: the ranks' sockets, routes and the kernel's TCP are those of two machines.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import torch.distributed as dist

from readiness import check_registry
from readiness.datamodel import Evidence, Status
from readiness.distributed import FailureKind, Network, RankContext, RanksOutcome, place, run_ranks, tcp_info
from readiness.distributed.remote import client
from readiness.distributed.types import Json
from readiness.documents import assessment
from readiness.errors import Exit
from readiness.judging.rejudge import rejudge
from readiness.profile import loader as profiles
from tests.support import cpu, run_check, value, values
from tests.support.hosts import PYTHON, another, with_hosts
from tests.support.listeners import watching
from tests.system.hosts import wire

SIZE = 65536


def network(laid: wire.Wire, ranks: int = 2) -> Network:
    """The first half of the ranks on one host, the others on the other."""
    namespaces = tuple(laid.namespaces[rank * 2 // ranks] for rank in range(ranks))
    return Network(wire.DEVICE, namespaces)


def run(function: Any, laid: wire.Wire, settings: Json | None = None, *, ranks: int = 2, **options: Any) -> RanksOutcome:
    accelerator = cpu()
    return run_ranks(
        function, accelerator, place(accelerator, ranks), settings, network=network(laid, ranks), **{"patience_s": 30.0, **options}
    )


def summing(context: RankContext) -> Iterator[Json]:
    """Sums for some seconds: how long each took, what was wrong, and how the connections fared."""
    began_at = time.monotonic()
    until, cut_s = began_at + context.settings["seconds"], context.settings.get("cut_s")
    seconds: list[float] = []
    wrong = 0
    while True:
        if cut_s and context.rank == 0 and time.monotonic() > began_at + 0.5:
            context.settings["laid"].cut(cut_s)
            cut_s = None
        tensor = torch.full((SIZE,), float(context.rank + 1))
        began = time.monotonic()
        with context.step(f"sum {len(seconds)}"):
            dist.all_reduce(tensor)
        seconds.append(time.monotonic() - began)
        wrong += int((tensor != context.world_size * (context.world_size + 1) / 2).sum())
        if min(context.exchange(float(time.monotonic() < until))) == 0:
            break
    every = tcp_info.tcp_connections()
    yield {
        "seconds": seconds,
        "wrong": wrong,
        "resent": sum(one.retransmissions for one in every),
        "round_trip_s": max(one.round_trip_s for one in every),
        "addresses": sorted({found.laddr.ip for found in psutil.Process().net_connections("tcp") if found.laddr}),
    }


def rank_reports(outcome: RanksOutcome) -> list[Json]:
    assert outcome.failure is None, outcome.failure
    reports = [reports[0] for reports in outcome.reports]
    assert all(report["seconds"] for report in reports)
    return reports


def test_a_good_wire_between_two_hosts(laid: wire.Wire) -> None:
    one, other = rank_reports(run(summing, laid, {"seconds": 1.0}))
    assert one["wrong"] == other["wrong"] == 0
    assert wire.ADDRESSES[0] in one["addresses"]
    assert wire.ADDRESSES[1] in other["addresses"]
    assert not any(address.startswith("127.") for address in [*one["addresses"], *other["addresses"]])


def test_four_ranks_on_two_hosts(laid: wire.Wire) -> None:
    reports = rank_reports(run(summing, laid, {"seconds": 0.5}, ranks=4))
    assert [report["wrong"] for report in reports] == [0] * 4
    assert [wire.ADDRESSES[1] in report["addresses"] for report in reports] == [False, False, True, True]


def test_a_wire_that_loses_one_frame_in_a_hundred_is_right_and_its_retransmissions_are_counted(laid: wire.Wire) -> None:
    clean = rank_reports(run(summing, laid, {"seconds": 1.0}))
    laid.spoil(loss=0.01)
    lossy = rank_reports(run(summing, laid, {"seconds": 4.0}))
    assert sum(report["wrong"] for report in lossy) == 0
    # Of a thousand frames ten are lost; on the good wire, next to none had to be sent again.
    per_sum = [sum(r["resent"] for r in reports) / len(reports[0]["seconds"]) for reports in (clean, lossy)]
    assert per_sum[1] > max(1.0, 2 * per_sum[0])
    # The usual sum hides it, the slowest tell it.
    slow = sorted(lossy[0]["seconds"])
    assert slow[-1] > 2 * statistics.median(clean[0]["seconds"])


def test_a_wire_with_a_delay_is_right_and_slow_and_loses_nothing(laid: wire.Wire) -> None:
    laid.spoil(delay_s=0.02)
    for report in rank_reports(run(summing, laid, {"seconds": 2.0})):
        assert report["wrong"] == 0
        assert report["round_trip_s"] >= 0.04
        assert min(report["seconds"]) >= 0.04  # there and back at least


def test_a_cut_of_three_seconds_is_survived_and_seen(laid: wire.Wire) -> None:
    for report in rank_reports(run(summing, laid, {"seconds": 8.0, "laid": laid, "cut_s": 3.0})):
        assert report["wrong"] == 0
        assert max(report["seconds"]) > 2.0
        assert statistics.median(report["seconds"]) < 1.0


def test_a_permanently_cut_link_is_to_blame_and_no_rank(laid: wire.Wire) -> None:
    outcome = run(summing, laid, {"seconds": 60.0, "laid": laid, "cut_s": 1e9}, patience_s=6.0)
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.culprits) == (FailureKind.UNREACHABLE, ())
    assert "between rank 0 and rank 1" in outcome.failure.reason
    assert (outcome.failure.operation or "").startswith("sum ")


def test_of_four_ranks_the_links_between_the_hosts_are_named_and_no_others(laid: wire.Wire) -> None:
    outcome = run(summing, laid, {"seconds": 60.0, "laid": laid, "cut_s": 1e9}, ranks=4, patience_s=6.0)
    assert outcome.failure is not None
    assert outcome.failure.kind is FailureKind.UNREACHABLE
    assert not any(f"rank {one} and rank {other}" in outcome.failure.reason for one, other in ((0, 1), (2, 3)))


def collectives(laid: wire.Wire, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Evidence:
    """`multichip.collectives` as it stands, its ranks on two hosts."""
    monkeypatch.setattr("readiness.probes.ranks_common.rank_check.run_ranks", functools.partial(run_ranks, network=network(laid)))
    small = {"sizes": [1, 65537], "dtypes": ["float32"], "rounds": 2, "patience_s": 20.0}
    evidence = run_check("multichip.collectives", cpu(), **small, **settings)
    assert evidence.status is Status.MEASURED, evidence.reason
    return evidence


def test_collectives_between_two_hosts_are_right(laid: wire.Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = collectives(laid, monkeypatch)
    assert value(evidence, "completed") == 1
    assert set(values(evidence, "wrong_elements")) == {0}
    assert set(values(evidence, "repeat_mismatches")) == {0}


@pytest.mark.parametrize("share", [0.002, 0.01])
def test_frames_that_are_changed_past_the_checksum_are_found_by_known_answers_alone(
    share: float, laid: wire.Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    laid.spoil(swap=share)
    evidence = collectives(laid, monkeypatch, repeats=20)
    assert value(evidence, "completed") == 1  # no error anywhere
    assert sum(values(evidence, "wrong_elements")) > 0
    assert any(item.about and "wrong on" in item.about for item in evidence.measurements if item.name == "wrong_elements")


def test_a_permanently_cut_link_to_an_agent_is_to_blame_and_no_rank(laid: wire.Wire) -> None:
    """What carries orders and reports goes another way, as a management network does."""
    there = another("node2", address=wire.ADDRESSES[0], command=("nsenter", f"--net={laid.namespaces[1]}", *PYTHON))
    accelerator = with_hosts(there)
    way = Network(wire.DEVICE, (laid.namespaces[0], None))
    (own, other) = run_ranks(summing, accelerator, place(accelerator), {"seconds": 1.0}, network=way).reports
    assert own[0]["wrong"] == other[0]["wrong"] == 0
    assert wire.ADDRESSES[0] in own[0]["addresses"]
    assert wire.ADDRESSES[1] in other[0]["addresses"]
    outcome = run_ranks(
        summing_on, accelerator, place(accelerator), {"seconds": 60.0}, network=way, patience_s=6.0,
        on_report=lambda _, report: laid.cut(1e9) if "under_way" in report else None,
    )  # fmt: skip
    client.close_all_connections()
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.culprits) == (FailureKind.UNREACHABLE, ())
    assert "between rank 0 and rank 1" in outcome.failure.reason


def summing_on(context: RankContext) -> Iterator[Json]:
    """As `summing`, and says when that is under way."""
    yield from summing(dataclasses.replace(context, settings={"seconds": 0.5}))
    yield {"under_way": True}
    yield from summing(context)


def test_a_run_over_two_hosts_from_the_command_line(laid: wire.Wire, tmp_path: Path) -> None:
    here, there = laid.namespaces
    file, chosen = tmp_path / "assessment.json", "multichip.data_parallel or multichip.world"
    command = [
        "nsenter", f"--net={here}", sys.executable, "-m", "readiness", "run", "--device", "cpu", "--profile", "general",
        "-k", chosen, "--host", "node2", "--reach", f"nsenter --net={there} {{python}}", "--address", wire.ADDRESSES[0],
        "--format", f"json={file}", "--format", "table", "--no-color",
    ]  # fmt: skip
    with watching() as watch:
        environment = {**watch.environment, "XDG_STATE_HOME": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    # gloo of each rank, for the other, in the network of the run alone; the store of both, on loopback at each end.
    assert {found.address for found in watch.seen} == {*wire.ADDRESSES, "127.0.0.1"}
    assert {found.kind for found in watch.reachable} == {"tcp"}
    assert done.returncode == Exit.UNDETERMINED, done.stderr
    assert "with 1 accelerator of node2" in " ".join(done.stdout.split())
    assert "--shared" in done.stderr
    document = json.loads(file.read_text())
    assert document["joined"] == [{"host": "node2", "id": "node2/cpu:0", "stack": "cpu"}]
    (assessed,) = document["accelerators"]
    found = {finding["requirement"]: finding["outcome"] for finding in assessed["findings"]}
    of_several = ("chips-same-software", "chips-train-together", "chips-stay-alike")
    assert [found[name] for name in of_several] == ["pass"] * 3
    # The same file judged again still knows that two chips worked together.
    again = assessment.from_json(document, "here")
    requirements = profiles.load("general", check_registry.discover())
    (judged,) = rejudge(again, requirements, again.uses).accelerators
    assert {item.requirement: item.outcome.value for item in judged.findings} == found


def test_the_hosts_and_their_wire_are_gone_afterwards() -> None:
    if (reason := wire.refusal()) is not None:
        pytest.skip(reason)
    with wire.hosts() as laid:
        holders = [int(namespace.split("/")[2]) for namespace in laid.namespaces]
        assert all(map(psutil.pid_exists, holders))
        assert len({Path(namespace).readlink() for namespace in laid.namespaces} | {Path("/proc/self/ns/net").readlink()}) == 3
    assert not any(map(psutil.pid_exists, holders))


def test_a_host_without_permission_reports_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden() -> None:
        raise PermissionError

    monkeypatch.setattr(wire, "_unshare", forbidden)
    assert "CAP_SYS_ADMIN" in (wire.refusal() or "")


def test_a_changed_frame_keeps_its_checksum() -> None:
    header = bytes(12) + b"\x08\x00" + bytes([0x45]) + bytes(8) + bytes([6]) + bytes(10) + bytes(12) + bytes([0x50]) + bytes(7)
    frame = header + bytes(range(256)) * 5
    changed = wire.swapped(frame)
    assert changed != frame
    assert len(changed) == len(frame)
    words = [[int.from_bytes(text[at : at + 2]) for at in range(0, len(text), 2)] for text in (frame, changed)]
    assert sum(words[0]) == sum(words[1])
    assert wire.swapped(frame[:500]) == frame[:500]
