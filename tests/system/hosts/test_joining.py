"""How further hosts join a run: what is looked at there, and what the command line refuses."""

from __future__ import annotations

import json
import resource
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from readiness import __version__
from readiness.accelerators.remote_devices import Host, delta_decode, delta_encode, host_of, on_host
from readiness.cli.run import _of_other_hosts
from readiness.documents.assessment import facts_to_json
from readiness.engine import discovery, remote_hosts
from readiness.engine.remote_hosts import REACH, HostOptions, discover_remote
from readiness.errors import Exit, UsageError
from tests.support import cpu
from tests.support.command_line import readiness
from tests.support.hosts import another


def reaching(folder: Path, says: str, *, code: int = 0) -> str:
    """A command in place of ssh, which says this whatever it is asked."""
    file = folder / "reach"
    file.write_text(f"#!{sys.executable}\nimport sys\nsys.stdout.write({says!r})\nsys.stderr.write('words')\nsys.exit({code})\n")
    file.chmod(0o755)
    return f"{file} {{host}} {{python}}"


def description(**changes: object) -> str:
    return json.dumps({"version": __version__, "accelerators": [facts_to_json(cpu().facts)], **changes})


def test_hosts_are_reached_by_ssh_by_default() -> None:
    (host,) = HostOptions(("127.0.0.1",), REACH).hosts()
    assert host == Host("127.0.0.1", ("ssh", "-o", "BatchMode=yes", "127.0.0.1", sys.executable), "127.0.0.1")
    (host,) = HostOptions(("me@node-2.lan",), "srun -w {host} '/opt/a b/python'", "127.0.0.1").hosts()
    assert host == Host("me@node-2.lan", ("srun", "-w", "me@node-2.lan", "/opt/a b/python"), "127.0.0.1")


@pytest.mark.parametrize("name", ["", "-oProxyCommand=x", "a b", "a/b", "a;b", "a\nb", "ü", "x" * 201, "<b>", "$(id)"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="not the name of a host") as problem:
        HostOptions((name,), address="127.0.0.1").hosts()
    assert problem.value.place == "--host"


@pytest.mark.parametrize(
    ("names", "reach", "place"),
    [
        (("a", "a"), REACH, "--host"),
        (tuple(f"n{number}" for number in range(65)), REACH, "--host"),
        (("a", "b"), "ssh node {python}", "--reach"),
        (("a",), "ssh {user}@{host}", "--reach"),
        (("a",), "ssh {0}", "--reach"),
        (("a",), "ssh 'a", "--reach"),
        (("a",), "", "--reach"),
    ],
)
def test_what_cannot_reach_all_hosts_is_refused(names: tuple[str, ...], reach: str, place: str) -> None:
    with pytest.raises(UsageError) as problem:
        HostOptions(names, reach, "127.0.0.1").hosts()
    assert problem.value.place == place
    assert problem.value.remedy


def test_a_host_that_no_name_service_knows_needs_an_address() -> None:
    with pytest.raises(UsageError, match="is unknown") as problem:
        HostOptions(("no-such-host.invalid",)).hosts()
    assert "--address" in (problem.value.remedy or "")


@pytest.mark.parametrize("address", ["203.0.113.7", "no-such-host.invalid", "", "a" * 300, "1.2.3"])
def test_an_address_that_is_not_of_this_host_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="is not this host's") as problem:
        HostOptions(("a",), address=address).hosts()
    assert problem.value.place == "--address"


def test_the_own_address_may_be_a_name() -> None:
    (host,) = HostOptions(("a",), address="localhost").hosts()
    assert host.address in ("127.0.0.1", "::1")


def test_a_host_joins_with_what_it_has(tmp_path: Path) -> None:
    (found,) = discover_remote(HostOptions(("node2",), reaching(tmp_path, description()), "127.0.0.1"))
    assert found.id == "node2/cpu:0"
    assert (found.kind, found.index, found.stack) == ("cpu", 0, "cpu")
    host = host_of(found)
    assert host is not None
    assert (host.name, host.address, host.command[1:]) == ("node2", "127.0.0.1", ("node2", sys.executable))
    assert host_of(cpu().facts) is None


@pytest.mark.parametrize(
    ("says", "code", "words"),
    [
        ("Welcome to node2", 0, "answers 'Welcome to node2', which is not a list"),
        ("[]", 0, "not a list of accelerators"),
        ('{"accelerators": [{"id": 3}]}', 0, "not a list of accelerators"),
        (description(accelerators=[facts_to_json(replace(cpu().facts, id="<b>cpu:0"))]), 0, "not a list of accelerators"),
        (description(accelerators=[facts_to_json(replace(cpu().facts, stack="abacus"))]), 0, "not a list of accelerators"),
        (description(accelerators=[facts_to_json(cpu().facts)] * 2), 0, "the accelerator cpu:0 occurs twice"),
        (description(accelerators=[facts_to_json(on_host(another("n3"), cpu().facts)) | {"id": "cpu:0"}]), 0, "names a host"),
        (description(accelerators=[facts_to_json(replace(cpu().facts, index=1))]), 0, "not an accelerator that this version knows"),
        (description(accelerators=[facts_to_json(replace(cpu().facts, kind="cuda"))]), 0, "not an accelerator that this version knows"),
        (description(accelerators=[facts_to_json(cpu().facts) | {"memory_bytes": "much"}]), 0, "accelerator 0: memory_bytes: "),
        (description(accelerators=[facts_to_json(cpu().facts) | {"stack": ["torch"]}]), 0, "accelerator 0: stack: "),
        (description(accelerators=[facts_to_json(cpu().facts) | {"properties": "none"}]), 0, "accelerator 0: properties: "),
        (description(accelerators=["cpu:0"]), 0, "not a list of accelerators"),
        (description(accelerators=[{}] * 5000), 0, "not a list of accelerators"),
        (description(machine=["name"]), 0, "machine: "),
        (description(machine={"boot": 7}), 0, "machine.boot: "),
        (description(version=[1]), 0, "version: "),
        ("[" * 100_000, 0, "not a list of accelerators"),
        ("\x00" * 100_000, 0, "not a list of accelerators"),
        (description(version="0.0.1"), 0, f"has readiness 0.0.1, this host {__version__}"),
        (description(version=None), 0, "has readiness of an earlier version"),
        ("", 255, "cannot be examined: exit code 255: words"),
    ],
)
def test_a_host_that_cannot_join_is_refused(says: str, code: int, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="node2") as problem:
        discover_remote(HostOptions(("node2",), reaching(tmp_path, says, code=code), "127.0.0.1"))
    assert words in str(problem.value)
    assert problem.value.remedy


#: What fills memory, and what never ends, on either stream.
FLOODS = {
    "answers": "import sys\nwhile True: sys.stdout.write('[' * 65536)",
    "answers by lines": "import sys\nwhile True: sys.stdout.write('[]\\n' * 65536)",
}


@pytest.mark.parametrize("program", FLOODS.values(), ids=FLOODS)
def test_a_host_that_answers_without_end_is_refused(program: str, tmp_path: Path) -> None:
    file = tmp_path / "reach"
    file.write_text(f"#!{sys.executable}\n{program}\n")
    file.chmod(0o755)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UsageError, match="its answer is larger than 8 MiB"):
        discover_remote(HostOptions(("node2",), f"{file} {{host}}", "127.0.0.1"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 2**10


def test_a_host_that_prints_without_end_is_reported_with_its_last_words(tmp_path: Path) -> None:
    file = tmp_path / "reach"
    file.write_text(f"#!{sys.executable}\nimport sys\nfor _ in range(4096): sys.stderr.write('x' * 65536)\nsys.exit('no way in')\n")
    file.chmod(0o755)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UsageError, match=r"exit code 1: x*no way in") as problem:
        discover_remote(HostOptions(("node2",), f"{file} {{host}}", "127.0.0.1"))
    assert len(str(problem.value)) < 2000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 2**10


@pytest.mark.parametrize("program", ["import time; time.sleep(60)", "import os, time; os.close(1); os.close(2); time.sleep(60)"])
def test_a_host_that_never_ends_is_refused(program: str, tmp_path: Path) -> None:
    file = tmp_path / "reach"
    file.write_text(f"#!{sys.executable}\n{program}\n")
    file.chmod(0o755)
    with pytest.raises(UsageError, match="not finished within 1 s"):
        discover_remote(HostOptions(("node2",), f"{file} {{host}}", "127.0.0.1"), limit_s=1.0)


def test_more_accelerators_than_a_request_can_carry_are_refused(tmp_path: Path) -> None:
    own = cpu().facts
    many = [facts_to_json(replace(own, id=f"cpu:{number}", index=number, serial=str(number).zfill(200))) for number in range(500)]
    with pytest.raises(UsageError, match="the 500 accelerators of other hosts") as problem:
        discover_remote(HostOptions(("node2",), reaching(tmp_path, description(accelerators=many)), "127.0.0.1"))
    assert "fewer hosts" in (problem.value.remedy or "")


def test_a_command_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="No such file"):
        discover_remote(HostOptions(("node2",), "/no/such/command {host}", "127.0.0.1"))


def test_a_folder_that_a_host_does_not_see_is_no_shared_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_hosts, "same_place", lambda one, other: False)  # this machine stands in for another
    reach = reaching(tmp_path, description())  # it answers the question for the folder with that, too
    with pytest.raises(UsageError, match="sees other content") as problem:
        discover_remote(HostOptions(("node2",), reach, "127.0.0.1", tmp_path))
    assert problem.value.place == "--shared"
    with pytest.raises(UsageError, match="cannot be written to"):
        discover_remote(HostOptions(("node2",), reach, "127.0.0.1", tmp_path / "nowhere"))
    (found,) = discover_remote(HostOptions(("node2",), "/usr/bin/env {python}", "127.0.0.1", tmp_path))
    assert found.id == "node2/cpu:0"
    assert [file.name for file in tmp_path.iterdir()] == ["reach"]


def test_the_resume_command_names_the_other_hosts() -> None:
    requested = {"hosts": ["n2", "n3"], "reach": "srun -w {host} '{python}'", "address": None, "shared": "/mnt/a b"}
    again = _of_other_hosts(requested)
    assert shlex.split(again) == ["--host", "n2", "--host", "n3", "--reach", requested["reach"], "--shared", "/mnt/a b"]
    assert _of_other_hosts({"hosts": [], "reach": None, "address": None, "shared": None}) == ""


@pytest.mark.parametrize(("mode", "refused"), [(0o777, True), (0o775, True), (0o1777, False), (0o755, False)])
def test_a_shared_folder_in_which_others_may_put_what_is_loaded_is_refused(
    mode: int, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_hosts, "same_place", lambda one, other: False)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(mode)
    joining = HostOptions(("node2",), reaching(tmp_path, description()), "127.0.0.1", shared)
    with pytest.raises(UsageError) as problem:
        discover_remote(joining)
    assert ("other users may replace" in str(problem.value)) == refused
    assert ("sees other content" in str(problem.value)) != refused


def test_a_host_without_the_stack_under_test_is_an_error(tmp_path: Path) -> None:
    reach = reaching(tmp_path, description())
    arguments = ["--host", "n", "--address", "127.0.0.1", "--reach", reach, "-d", "sim:healthy"]
    result = readiness("run", "--profile", "smoke", *arguments, state=tmp_path)
    assert result.returncode == Exit.USAGE
    assert "n has no accelerator of the stack sim" in " ".join(result.stderr.split())


def test_a_host_under_two_names_counts_once(tmp_path: Path) -> None:
    elsewhere = description(machine={"boot": "b" * 36, "network": "17", "name": "node2"})
    with pytest.raises(UsageError, match="n3 is n2") as problem:
        discover_remote(HostOptions(("n2", "n3"), reaching(tmp_path, elsewhere), "127.0.0.1"))
    assert problem.value.place == "--host"
    command = reaching(tmp_path, description(machine={"name": "node2"}))
    assert len(discover_remote(HostOptions(("n2", "n3"), command, "127.0.0.1"))) == 2, "what does not tell is believed"


def test_only_accelerators_of_a_stack_under_test_join() -> None:
    own = cpu().facts
    other = replace(own, id="cuda:0", kind="cuda", stack="cuda")
    broken = replace(other, id="cuda:1", properties={"unusable": "no driver"})
    elsewhere = [on_host(another("a"), facts) for facts in (own, other, broken)]
    assert [facts.id for facts in discovery.of_stacks([own], elsewhere)] == ["a/cpu:0"]
    assert [facts.id for facts in discovery.of_stacks([other], elsewhere)] == ["a/cuda:0"]
    with pytest.raises(UsageError, match="b has no accelerator of the stack cuda") as problem:
        discovery.of_stacks([other], [*elsewhere, on_host(another("b"), own)])
    assert "it has: cpu:0" in (problem.value.remedy or "")


def test_a_worker_gets_the_hosts_of_its_peers() -> None:
    own = cpu().facts
    there = on_host(another("node2"), own)
    assert delta_decode(delta_encode(there, own), facts_to_json(own)) == there


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--reach", "ssh {host}"], "--reach: it needs other hosts, and none is named"),
        (["--shared", "/tmp"], "--shared: it needs other hosts"),
        (["--host", "a b"], "'a b' is not the name of a host"),
        (["--host", "node2", "--address", "127.0.0.1", "--reach", "false {host}"], "node2 cannot be examined: exit code 1"),
        (["--host", "n", "--address", "127.0.0.1", "--reach", "/usr/bin/env {python}"], "--host: n is this host"),
    ],
)
def test_the_command_line_reports_errors_of_a_host(
    arguments: list[str], words: str, tmp_path: Path
) -> None:
    result = readiness("run", "--profile", "smoke", *arguments, state=tmp_path)
    assert result.returncode == Exit.USAGE
    assert words in " ".join(result.stderr.split())
    assert "remedy" in result.stderr


def test_a_run_that_goes_on_must_find_the_same_accelerators_on_the_other_hosts(tmp_path: Path) -> None:
    folder, reach = tmp_path / "run", reaching(tmp_path, description())
    begin = ["--host", "node2", "--address", "127.0.0.1", "--reach", reach, "--device", "cpu", "-k", "driver.random"]
    result = readiness("run", "--profile", "smoke", "--resume", str(folder), "-q", *begin, state=tmp_path)
    assert result.returncode == Exit.UNDETERMINED, result.stderr
    reaching(tmp_path, description(accelerators=[facts_to_json(replace(cpu().facts, model="another"))]))
    result = readiness("run", "--resume", str(folder), *begin[:6], state=tmp_path)
    assert result.returncode == Exit.USAGE
    assert "no longer have the accelerators that this run started with" in result.stderr
