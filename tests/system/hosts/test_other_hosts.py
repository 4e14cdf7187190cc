"""Ranks that a remote agent starts on another host: as if they were here, and lost when their host is.

The other host is this machine, reached by a command: what carries between hosts is the same.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
import torch.distributed as dist

from readiness import __version__
from readiness.accelerators.base import Accelerator
from readiness.accelerators.cpu import Cpu
from readiness.accelerators.remote_devices import host_of
from readiness.datamodel import Measurement
from readiness.distributed import FailureKind, Placement, RankContext, RanksOutcome, place, run_ranks
from readiness.distributed.remote import client, proxy
from readiness.distributed.status_board import StatusBoard
from readiness.distributed.types import Json
from readiness.engine.worker import collective_variables
from readiness.host.temp_dirs import anonymous_file
from readiness.probes.bandwidth import transport_baseline
from readiness.probes.collectives.cases import barrier
from readiness.probes.links import measurements
from readiness.probes.links.reports import LinkTimes
from tests.support import cpu, run_check, value, values
from tests.support import ranks as support
from tests.support.hosts import PYTHON, another, with_hosts


@pytest.fixture(autouse=True, scope="module")
def _nothing_left() -> Iterator[None]:
    """One remote agent serves all tests that do it no harm; at the end nothing may be left."""
    with support.nothing_left():
        yield
        client.close_all_connections()


@pytest.fixture
def called_anew() -> Iterator[None]:
    """The other host is called by this test, and again by the next one."""
    client.close_all_connections()
    yield
    client.close_all_connections()


def run(function: Any, settings: Json | None = None, *, hosts: int = 1, ranks: int = 0, **options: Any) -> RanksOutcome:
    accelerator = with_hosts(*(another(f"other{number}") for number in range(hosts)))
    return run_ranks(function, accelerator, place(accelerator, ranks), settings, **{"patience_s": 20.0, **options})


def summing(context: RankContext) -> Iterator[Json]:
    for number in range(4):
        tensor = torch.full((8,), float(context.rank + 1))
        with context.step(f"sum {number}"):
            dist.all_reduce(tensor)
        met = context.exchange(float(context.rank * 10 + number))
        yield {"sum": tensor[0].item(), "met": list(met), "parent": os.getppid(), "threads": torch.get_num_threads()}


@pytest.mark.parametrize("hosts", [1, 2])
def test_ranks_on_several_hosts_add_up_and_meet(hosts: int) -> None:
    """Each remote agent is a fresh interpreter here, as it is for users."""
    accelerator = with_hosts(*(another(f"new{number}", command=PYTHON) for number in range(hosts)))
    outcome = run_ranks(summing, accelerator, place(accelerator), patience_s=20.0)
    assert outcome.failure is None, outcome.failure
    world = hosts + 1
    for reports in outcome.reports:
        assert [report["sum"] for report in reports] == [world * (world + 1) / 2] * 4
        assert [report["met"] for report in reports] == [[rank * 10.0 + number for rank in range(world)] for number in range(4)]
    assert len({reports[0]["threads"] for reports in outcome.reports}) == 1
    parents = {reports[0]["parent"] for reports in outcome.reports}
    assert len(parents) == world
    assert os.getpid() in parents


class Fresh(Cpu):
    """The CPU, driven here like a device that must not be forked."""

    fork_safe = False


@pytest.mark.slow
def test_a_fresh_interpreter_serves_the_store_for_ranks_of_another_host() -> None:
    both = with_hosts(another("other0"))
    accelerator = Accelerator(both.facts, Fresh(), seed=both.seed, peers=both.peers)
    outcome = run_ranks(summing, accelerator, place(accelerator, 4), patience_s=60.0)
    assert outcome.failure is None, outcome.failure
    assert {report["sum"] for reports in outcome.reports for report in reports} == {10.0}


def test_ranks_of_which_none_is_here_have_no_store() -> None:
    accelerator = with_hosts(another("other0"))
    with pytest.raises(OSError, match="no rank is on this host"):
        run_ranks(summing, accelerator, Placement(accelerator.peers[1:]))


def test_one_remote_agent_serves_group_after_group() -> None:
    first, second = run(summing), run(summing, ranks=4)
    assert first.failure is second.failure is None
    there = first.reports[1][0]["parent"]
    assert [reports[0]["parent"] for reports in second.reports] == [os.getpid(), there, os.getpid(), there]


def test_a_dead_remote_agent_is_started_again() -> None:
    first = run(summing)
    command = connection().process
    os.kill(first.reports[1][0]["parent"], signal.SIGKILL)
    assert support.wait_for_end([first.reports[1][0]["parent"]]) == []
    command.wait(60)
    second = run(summing)
    assert second.failure is None
    assert second.reports[1][0]["parent"] != first.reports[1][0]["parent"]


def test_reports_about_chips_on_several_hosts() -> None:
    accelerator = with_hosts(another("node2"))
    placement = place(accelerator)
    assert placement.labels == {"ranks": "2", "chips": "several", "world": "all"}
    assert placement.name(1) == "rank 1 (node2/cpu:0)"
    assert placement.scope == "2 ranks, each on its own chip, on 2 hosts"
    assert placement.between_hosts((0, 1))
    accelerator.peers = tuple(replace(facts, id=f"{facts.id}.{n}") for facts in accelerator.peers for n in range(20))
    many = place(accelerator)
    assert (len(many.ranks), many.labels["world"]) == (32, "part")  # sixteen for each host
    accelerator = with_hosts(another("node2"))
    here = place(accelerator, here=True)
    assert here.labels == {"ranks": "2", "chips": "one", "world": "part"}
    assert not any(map(host_of, here.ranks))


def failing(context: RankContext) -> Iterator[Json]:
    yield {"pid": os.getpid()}
    tensor = torch.ones(4)
    for number in range(3):
        with context.step(f"sum {number}"):
            if number == 2 and context.rank == 1:
                getattr(support, context.settings["fault"])()
            dist.all_reduce(tensor)


@pytest.mark.parametrize(
    ("fault", "trouble", "words"),
    [
        ("kill_oneself", FailureKind.DIED, "rank 1 was ended by SIGKILL in sum 2"),
        ("stop_oneself", FailureKind.FROZEN, "rank 1 is stopped in sum 2"),
        ("fail", FailureKind.RAISED, "ArithmeticError: the matrix unit gave up"),
        ("leave", FailureKind.DIED, "rank 1 exited without a report (exit code 0) in sum 2"),
    ],
)
def test_a_failed_remote_rank_is_named_like_a_local_one(fault: str, trouble: FailureKind, words: str) -> None:
    outcome = run(failing, {"fault": fault})
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.culprits) == (trouble, (1,))
    assert words in outcome.failure.reason
    (pid,) = (report["pid"] for report in outcome.reports[1])
    assert support.wait_for_end([pid]) == []


def test_stacks_of_a_rank_that_hangs_on_another_host_are_reported() -> None:
    outcome = run(failing, {"fault": "hang"}, patience_s=6.0)
    assert outcome.failure is not None
    assert outcome.failure.culprits == (1,)
    assert "ranks.py" in outcome.failure.log
    assert "in hang" in outcome.failure.log


def losing(context: RankContext) -> Iterator[Json]:
    """The rank on the other host does something to the remote agent that started it."""
    yield {"pid": os.getpid()}
    context.exchange()
    if context.rank == 1:
        os.kill(os.getppid(), context.settings["signal"])
    tensor = torch.ones(4)
    with context.step("the sum that never comes"):
        time.sleep(600)
        dist.all_reduce(tensor)


@pytest.mark.parametrize(
    ("number", "lost_s", "words"), [(signal.SIGKILL, 100.0, "the connection ended"), (signal.SIGSTOP, 3.0, "it sent nothing for 3 s")]
)
def test_a_lost_host_is_to_blame_and_is_connected_again(
    number: signal.Signals, lost_s: float, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.connections_to([another("other0")], "cpu")  # before its answers are waited for so shortly
    monkeypatch.setattr(proxy, "_LOST_S", lost_s)
    monkeypatch.setattr(client, "ANSWER_S", 2.0)
    outcome = run(losing, {"signal": number})
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.culprits) == (FailureKind.UNREACHABLE, (1,))
    assert f"host other0 cannot be reached: {words}" in outcome.failure.reason
    assert support.wait_for_end([report["pid"] for reports in outcome.reports for report in reports]) == []
    monkeypatch.undo()  # a busy host may say nothing for longer
    assert run(summing).failure is None


@pytest.mark.usefixtures("called_anew")
def test_with_the_process_that_holds_the_line_everything_on_the_other_host_ends() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            run(printing_its_pid, {"pipe": writer}, on_report=lambda _, report: os.write(writer, f"{report['pid']}\n".encode()))
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as found:
        pids = [int(found.readline()) for _ in range(2)]
    agents = [psutil.Process(pid).ppid() for pid in pids]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert support.wait_for_end([*pids, *(pid for pid in agents if pid != child)]) == []


def printing_its_pid(context: RankContext) -> Iterator[Json]:
    yield {"pid": os.getpid()}
    with context.step("waiting for ever"):
        time.sleep(600)


def unknown_to_others(context: RankContext) -> Iterator[Json]:
    yield {"rank": context.rank}


def test_a_function_that_the_other_host_does_not_have_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    (known,) = client.connections_to([another("other0")], "cpu").values()
    monkeypatch.setattr(unknown_to_others, "__module__", "checks_of_this_host_alone")
    outcome = run(unknown_to_others)
    assert outcome.failure is not None
    assert outcome.failure.culprits == (1,)
    assert "No module named 'checks_of_this_host_alone'" in outcome.failure.reason
    (there,) = client.connections_to([another("other0")], "cpu").values()
    assert there is known  # no order to the rank that never was has ended the remote agent


def agent_command(folder: Path, program: str) -> tuple[str, ...]:
    """A command that runs this program in place of a remote agent."""
    file = folder / "python"
    greeting = json.dumps({"version": __version__, "address": "127.0.0.1"})
    known = f"VERSION, GREETING = {__version__!r}, {greeting!r}\ndef ASKED(times): [sys.stdin.readline() for _ in range(times)]"
    file.write_text(f"#!{sys.executable}\nimport json, sys, time\n{known}\n{program}\n")
    file.chmod(0o755)
    return (str(file),)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("sys.exit('Permission denied (publickey).')", "the connection ended (Permission denied (publickey).)"),
        ("print('Welcome to node2!', flush=True); sys.stdin.read()", "it says b'Welcome to node2!', which no remote agent says"),
        ("time.sleep(60)", "no answer within 1 s"),
        ("print(json.dumps({'version': '0.0.1', 'address': ''}), flush=True); sys.stdin.read()", f"this one {__version__}"),
        ("print(json.dumps({'refused': 'KeyError: npu'}), flush=True); sys.stdin.read()", "host other: KeyError: npu"),
        ("print('[1]', flush=True); sys.stdin.read()", "it says b'[1]', which no remote agent says"),
        ("print('[' * 100_000, flush=True); sys.stdin.read()", "which no remote agent says"),
        ("print(json.dumps({'version': 3}), flush=True); sys.stdin.read()", "it answers {'version': 3}, which no remote agent answers"),
        ("print(json.dumps({'version': VERSION, 'address': 7}), flush=True); sys.stdin.read()", "which no remote agent answers"),
        ("print(GREETING, flush=True); ASKED(2); print(json.dumps({'time': 'noon'}), flush=True); sys.stdin.read()", "does not report its time"),
        ("print(GREETING, flush=True); ASKED(2); print('{\"time\": NaN}', flush=True); sys.stdin.read()", "does not report its time"),
        ("while True: sys.stdout.write('x' * 65536)", "more than 32 MiB without a newline"),
        ("while True: sys.stderr.write('x' * 65536)", "the connection ended (xxx"),
    ],
)
def test_the_output_of_what_is_not_a_remote_agent_is_shown(
    program: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "START_S", 1.0 if program == "time.sleep(60)" else 100.0)
    monkeypatch.setattr(client, "ANSWER_S", 4.0)
    accelerator = with_hosts(another(command=agent_command(tmp_path, program)))
    with pytest.raises(OSError, match="host other") as problem:
        run_ranks(summing, accelerator, place(accelerator), patience_s=5.0)
    assert words in str(problem.value)


#: A remote agent until it is to start ranks.
GREETS = """
print(GREETING, flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if "time" in asked:
        print(json.dumps({"time": time.monotonic()}), flush=True)
    if "group" in asked:
        break
"""


@pytest.mark.parametrize(
    "says",
    [
        "nonsense", "[1]", "[" * 100_000, '{"records": 3}', '{"records": {"9": "AAAA"}}', '{"records": {"1": "AAAA"}}',
        '{"records": {"one": ""}}', '{"records": {"0": ""}}', '{"beats": [0]}', '{"beats": [99]}', '{"beats": 1}', '{"line": [7, "x"]}', '{"line": [1, 5]}', '{"line": [1, "x"]}',
        '{"line": [1, "[]"]}', '{"log": [1, 5]}', '{"log": [9, ""]}', '{"rank_status": [1, 3]}', '{"rank_status": [1, {"code": "x"}]}',
        '{"rank_status": [1, {"process": 1}]}', '{"store": ["a", "AAAA"]}', '{"store": [1, "?"]}', '{"store": [1, 7]}',
    ],
)  # fmt: skip
def test_an_unknown_message_loses_the_ranks_of_its_host_and_no_more(says: str, tmp_path: Path) -> None:
    until_its_input_ends = "sys.stdin.read()"  # as a remote agent does
    program = f"{GREETS}print({says!r}, flush=True); {until_its_input_ends}"
    accelerator = with_hosts(another(command=agent_command(tmp_path, program)))
    outcome = run_ranks(on_a_clock, accelerator, place(accelerator))
    client.close_all_connections()
    assert outcome.failure is not None
    assert outcome.failure.culprits == (1,), outcome.failure
    assert outcome.failure.kind in (FailureKind.UNREACHABLE, FailureKind.RAISED)
    assert re.search("an unknown message|which no remote agent says|a report cannot be read", outcome.failure.reason)


def test_a_command_that_is_not_there_is_reported() -> None:
    accelerator = with_hosts(another(command=("/no/such/command",)))
    with pytest.raises(OSError, match=r"host other cannot be reached: .*No such file"):
        run_ranks(summing, accelerator, place(accelerator), patience_s=5.0)


def connection() -> client.Connection:
    """The one that a run of one further host uses."""
    (found,) = client.connections_to([another("other0")], "cpu").values()
    return found


def test_clocks_of_one_machine_agree_within_the_doubt() -> None:
    found = connection()
    assert abs(found.clock_s) <= found.doubt_s < 0.5


def on_a_clock(context: RankContext) -> Iterator[Json]:
    yield {"early": context.clock() - time.monotonic(), "doubt": context.doubt_s}


@pytest.mark.usefixtures("called_anew")
def test_a_remote_rank_reports_times_on_the_clock_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.Connection, "_compare_clocks", lambda _: (-1000.0, 0.25))
    outcome = run(on_a_clock)
    assert [round(reports[0]["early"]) for reports in outcome.reports] == [0, -1000]
    assert [reports[0]["doubt"] for reports in outcome.reports] == [0.0, 0.25]


def no_barrier(*_: Any, async_op: bool = False, **__: Any) -> Any:
    return SimpleNamespace(wait=bool) if async_op else None


def barriers(context: RankContext) -> Iterator[barrier.BarrierReport]:
    barrier.LATE_S = 0.5  # on a busy host the others need their time to leave before the late one comes
    if context.settings["broken"]:
        dist.barrier = no_barrier
    yield from barrier.reports(context)


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("wrong_s", [0.0, 0.04, -0.04])
def test_a_barrier_is_judged_by_clocks_that_are_wrong_within_their_doubt(
    wrong_s: float, broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = connection()
    monkeypatch.setattr(there, "clock_s", there.clock_s + wrong_s)
    monkeypatch.setattr(there, "doubt_s", there.doubt_s + abs(wrong_s))
    outcome = run(barriers, {"broken": broken})
    assert outcome.failure is None, outcome.failure
    assert [reports[0].left_early for reports in outcome.reports] == ([1, 1] if broken else [0, 0])


def test_a_board_is_carried_whole() -> None:
    with anonymous_file("one") as one, anonymous_file("other") as other:
        here, there = StatusBoard(one.fileno(), 2), StatusBoard(other.fileno(), 2)
        with here.step(1, "a step"):
            there.copy(1, here.record(1))
        assert there.read(1).operation == "a step"
        assert (there.read(1).entered, there.read(1).left) == (1, 0)
        before = here.exchanged_bytes(1)
        here.copy(0, here.record(0))
        assert here.exchanged_bytes(1) == before
        here.close()
        there.close()


def test_recovery_over_two_hosts_takes_a_folder_that_both_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    support.few_steps(monkeypatch)
    accelerator = with_hosts(another("other0"))
    accelerator.shared = tmp_path
    evidence = run_check("multichip.recovery", accelerator)
    assert value(evidence, "completed", world="all", chips="several") == 1
    assert values(evidence, "resume_mismatches", mode="data parallel") == [0]
    assert list(tmp_path.iterdir()) == []


def test_rank_faults_over_two_hosts_name_the_remote_rank() -> None:
    evidence = run_check("multichip.drills", with_hosts(another("other0")), timeout_s=1.0)
    assert value(evidence, "completed", world="all") == 1
    assert value(evidence, "noticed", drill="killed", guard="none") == 1
    assert 0 <= value(evidence, "noticed_after_s", drill="killed", guard="none") < 60  # on one clock, whatever the load
    assert value(evidence, "named_culprit", drill="stopped", by="watchdog") == 1


def test_chips_of_other_hosts_count_and_their_software_is_compared() -> None:
    accelerator = with_hosts(another("node2"), another("node3"))
    evidence = run_check("multichip.world", accelerator)
    assert value(evidence, "chips") == 3
    assert value(evidence, "software_differences") == 0
    *same, last = accelerator.peers
    accelerator.peers = (*same, replace(last, software={**last.software, "torch": "2.6.0", "kernel": "5.4"}))
    evidence = run_check("multichip.world", accelerator)
    (found,) = (item for item in evidence.measurements if item.name == "software_differences")
    assert found.value == 1
    assert (found.about or "").startswith("node3/cpu:0: torch 2.6.0 where cpu:0 has ")
    assert "kernel" not in (found.about or "")


def test_collective_variables_are_compared_between_hosts() -> None:
    accelerator = with_hosts(another("node2"), another("node3"))

    def with_variables(own: dict[str, str] | None, *remote: dict[str, str] | None) -> list[float]:
        first, *others = accelerator.peers
        found = [
            replace(facts, properties={**facts.properties, "collective_variables": variables})
            for facts, variables in zip((first, *others), (own, *remote), strict=True)
        ]
        accelerator.facts, accelerator.peers = found[0], tuple(found)
        return values(run_check("multichip.world", accelerator), "variable_differences")

    assert with_variables({"NCCL_CROSS_NIC": "1"}, {"NCCL_CROSS_NIC": "1"}, {"NCCL_CROSS_NIC": "1"}) == [0]
    assert with_variables({"NCCL_CROSS_NIC": "1"}, {"NCCL_CROSS_NIC": "1"}, {}) == [1]
    assert with_variables({}, {}, None) == [], "a host that does not tell is not like the others"
    assert with_variables(None, {}, {}) == []
    evidence = run_check("multichip.world", cpu())
    assert values(evidence, "variable_differences") == [0], "one host is like itself"


_LIBRARIES = ("NCCL_", "GLOO_", "UCX_", "CCL_", "HCCL_", "TORCH_NCCL_")
_COMPARED = (
    "NCCL_CROSS_NIC", "NCCL_P2P_DIRECT_DISABLE", "NCCL_NVLS_ENABLE", "GLOO_DEVICE_TRANSPORT", "CCL_ATL_TRANSPORT", "UCX_CUDA_IPC_CACHE",
)  # fmt: skip
_OF_ONE_HOST = (
    "NCCL_SOCKET_IFNAME", "NCCL_IB_HCA", "NCCL_DEBUG", "NCCL_DEBUG_FILE", "NCCL_TOPO_FILE", "NCCL_HOSTID", "GLOO_SOCKET_IFNAME",
    "TORCH_NCCL_DEBUG_INFO_TEMP_FILE", "CCL_KVS_IP_PORT", "CCL_KVS_IFACE", "CCL_LOG_LEVEL", "UCX_NET_DEVICES", "UCX_MODULE_DIR",
    "HCCL_IF_IP", "HCCL_IF_BASE_PORT", "HCCL_LOGIC_SUPERPOD_ID",
)  # fmt: skip


def test_settings_that_must_differ_between_hosts_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words between underscores decide: TRANSPORT has a PORT in it, DIRECT a DIR, and IPC an IP."""
    for name in [name for name in os.environ if name.startswith(_LIBRARIES)]:
        monkeypatch.delenv(name)
    for name in (*_COMPARED, *_OF_ONE_HOST):
        monkeypatch.setenv(name, "1")
    assert collective_variables() == dict.fromkeys(sorted(_COMPARED), "1")


def test_software_that_no_host_reports_is_not_equal() -> None:
    accelerator = with_hosts(another("node2"))
    unread = {"torch": "2.13.0", "driver": None}
    accelerator.facts = replace(accelerator.facts, software=unread)
    here, there = (replace(facts, software=unread) for facts in accelerator.peers)
    accelerator.peers = (here, there)
    assert values(run_check("multichip.world", accelerator), "software_differences") == []
    accelerator.peers = (here, replace(there, software={**unread, "torch": "2.6.0"}))
    assert values(run_check("multichip.world", accelerator), "software_differences") == [1]
    accelerator.peers = (here, replace(there, software={**unread, "driver": "580.1"}))
    assert values(run_check("multichip.world", accelerator), "software_differences") == []
    accelerator.peers = (here,)  # chips of one host have one driver
    assert values(run_check("multichip.world", accelerator), "software_differences") == [0]


def test_links_within_a_host_are_not_held_against_links_between_hosts() -> None:
    here, there = with_hosts(another()).peers
    chips = tuple(replace(facts, id=f"{facts.id}.{number}") for number, facts in enumerate((here, here, here, there)))
    placement = Placement(chips, 4)

    def share(reports: list[tuple[LinkTimes]]) -> Measurement:
        found = measurements._transfers(RanksOutcome(tuple(reports), None, 1.0), placement)
        return next(item for item in found if isinstance(item, Measurement) and item.name == "slowest_link_share")

    reports = [
        (LinkTimes((one, other), 8, (1e-3 if other < 3 else 1e-2,) * 3, 3),)
        for one in range(4)
        for other in range(one + 1, 4)
    ]
    assert share(reports).value == 1.0
    reports[1] = (replace(reports[1][0], quantiles=(2e-3,) * 3),)
    assert share(reports).value == 0.5
    assert "rank 0 (cpu:0.0), rank 2 (cpu:0.2)" in (share(reports).about or "")


def test_two_links_of_a_kind_are_too_few_to_call_one_of_them_slow() -> None:
    here, there = with_hosts(another()).peers
    chips = tuple(replace(facts, id=f"{facts.id}.{number}") for number, facts in enumerate((here, here, there)))
    reports = [
        (LinkTimes((one, other), 8, (1e-3 if (one, other) == (0, 1) else 1e-2 * other,) * 3, 3),)
        for one, other in ((0, 1), (0, 2), (1, 2))
    ]
    outcome = RanksOutcome(tuple(reports), None, 1.0)
    found = [item for item in measurements._transfers(outcome, Placement(chips, 3)) if isinstance(item, Measurement)]
    assert [item.name for item in found] == ["link_gbps"]


def test_raw_connections_go_by_the_network_of_the_hosts() -> None:
    outcome = run(connecting)
    assert outcome.failure is None, outcome.failure
    assert [reports[0]["peer"] for reports in outcome.reports] == ["127.0.0.1", "127.0.0.1"]


def connecting(context: RankContext) -> Iterator[Json]:
    with transport_baseline.connection(context, (0, 1)) as found:
        assert isinstance(found, socket.socket)
        transport_baseline.synchronize(found)
        yield {"peer": found.getpeername()[0]}


