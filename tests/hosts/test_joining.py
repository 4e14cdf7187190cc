"""How further hosts join a run: what is looked at there, and what the command line refuses."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from readiness import __version__, discovery, hosts
from readiness.assessment import facts_to_json
from readiness.errors import Exit, UsageError
from readiness.hosts import REACH, Joining, join
from readiness.peers import Host, at, host_of, like, unlike
from tests.hosts.support import another
from tests.support import cpu
from tests.test_cli import readiness


def reaching(folder: Path, says: str, *, code: int = 0) -> str:
    """A command in place of ssh, which says this whatever it is asked."""
    file = folder / "reach"
    file.write_text(f"#!{sys.executable}\nimport sys\nsys.stdout.write({says!r})\nsys.stderr.write('words')\nsys.exit({code})\n")
    file.chmod(0o755)
    return f"{file} {{host}} {{python}}"


def told(**changes: object) -> str:
    return json.dumps({"version": __version__, "accelerators": [facts_to_json(cpu().facts)], **changes})


def test_hosts_are_reached_by_ssh_unless_told_otherwise() -> None:
    (host,) = Joining(("127.0.0.1",), REACH).hosts()
    assert host == Host("127.0.0.1", ("ssh", "-o", "BatchMode=yes", "127.0.0.1", sys.executable), "127.0.0.1")
    (host,) = Joining(("me@node-2.lan",), "srun -w {host} '/opt/a b/python'", "127.0.0.1").hosts()
    assert host == Host("me@node-2.lan", ("srun", "-w", "me@node-2.lan", "/opt/a b/python"), "127.0.0.1")


@pytest.mark.parametrize("name", ["", "-oProxyCommand=x", "a b", "a/b", "a;b", "a\nb", "ü", "x" * 201, "<b>", "$(id)"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no name of a host") as problem:
        Joining((name,), address="127.0.0.1").hosts()
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
        Joining(names, reach, "127.0.0.1").hosts()
    assert problem.value.place == place
    assert problem.value.remedy


def test_a_host_that_no_name_service_knows_needs_an_address() -> None:
    with pytest.raises(UsageError, match="is not known") as problem:
        Joining(("no-such-host.invalid",)).hosts()
    assert "--address" in (problem.value.remedy or "")


@pytest.mark.parametrize("address", ["203.0.113.7", "no-such-host.invalid", "", "a" * 300, "1.2.3"])
def test_an_address_that_is_not_of_this_host_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="is not this host's") as problem:
        Joining(("a",), address=address).hosts()
    assert problem.value.place == "--address"


def test_the_own_address_may_be_a_name() -> None:
    (host,) = Joining(("a",), address="localhost").hosts()
    assert host.address in ("127.0.0.1", "::1")


def test_a_host_joins_with_what_it_has(tmp_path: Path) -> None:
    (found,) = join(Joining(("node2",), reaching(tmp_path, told()), "127.0.0.1"))
    assert found.id == "node2/cpu:0"
    assert (found.kind, found.index, found.stack) == ("cpu", 0, "cpu")
    host = host_of(found)
    assert host is not None
    assert (host.name, host.address, host.command[1:]) == ("node2", "127.0.0.1", ("node2", sys.executable))
    assert host_of(cpu().facts) is None


@pytest.mark.parametrize(
    ("says", "code", "words"),
    [
        ("Welcome to node2", 0, "answers 'Welcome to node2', which is no list"),
        ("[]", 0, "no list of accelerators"),
        ('{"accelerators": [{"id": 3}]}', 0, "no list of accelerators"),
        (told(accelerators=[facts_to_json(replace(cpu().facts, id="<b>cpu:0"))]), 0, "no list of accelerators"),
        (told(accelerators=[facts_to_json(replace(cpu().facts, stack="abacus"))]), 0, "no list of accelerators"),
        ("[" * 100_000, 0, "no list of accelerators"),
        ("\x00" * 100_000, 0, "no list of accelerators"),
        (told(version="0.0.1"), 0, f"has readiness 0.0.1, this host {__version__}"),
        (told(version=None), 0, "has readiness of an earlier version"),
        ("", 255, "cannot be looked at: exit code 255: words"),
    ],
)
def test_a_host_that_cannot_join_is_refused(says: str, code: int, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="node2") as problem:
        join(Joining(("node2",), reaching(tmp_path, says, code=code), "127.0.0.1"))
    assert words in str(problem.value)
    assert problem.value.remedy


def test_a_command_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="No such file"):
        join(Joining(("node2",), "/no/such/command {host}", "127.0.0.1"))


def test_a_folder_that_a_host_does_not_see_is_no_shared_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "same_place", lambda one, other: False)  # this machine stands in for another
    reach = reaching(tmp_path, told())  # it answers the question for the folder with that, too
    with pytest.raises(UsageError, match="sees something else") as problem:
        join(Joining(("node2",), reach, "127.0.0.1", tmp_path))
    assert problem.value.place == "--shared"
    with pytest.raises(UsageError, match="cannot be written to"):
        join(Joining(("node2",), reach, "127.0.0.1", tmp_path / "nowhere"))
    (found,) = join(Joining(("node2",), "/usr/bin/env {python}", "127.0.0.1", tmp_path))
    assert found.id == "node2/cpu:0"
    assert [file.name for file in tmp_path.iterdir()] == ["reach"]


def test_a_host_without_the_stack_under_test_is_told(tmp_path: Path) -> None:
    reach = reaching(tmp_path, told())
    arguments = ["--host", "n", "--address", "127.0.0.1", "--reach", reach, "-d", "sim:healthy"]
    result = readiness("run", "--profile", "smoke", *arguments, state=tmp_path)
    assert result.returncode == Exit.USAGE
    assert "n has no accelerator of the stack sim" in " ".join(result.stderr.split())


def test_a_host_under_two_names_counts_once(tmp_path: Path) -> None:
    elsewhere = told(machine={"boot": "b" * 36, "network": "17", "name": "node2"})
    with pytest.raises(UsageError, match="n3 is n2") as problem:
        join(Joining(("n2", "n3"), reaching(tmp_path, elsewhere), "127.0.0.1"))
    assert problem.value.place == "--host"
    unsaid = reaching(tmp_path, told(machine={"name": "node2"}))
    assert len(join(Joining(("n2", "n3"), unsaid, "127.0.0.1"))) == 2, "what does not tell is believed"


def test_only_accelerators_of_a_stack_under_test_join() -> None:
    own = cpu().facts
    other = replace(own, id="cuda:0", kind="cuda", stack="cuda")
    broken = replace(other, id="cuda:1", properties={"unusable": "no driver"})
    elsewhere = [at(another("a"), facts) for facts in (own, other, broken)]
    assert [facts.id for facts in discovery.of_stacks([own], elsewhere)] == ["a/cpu:0"]
    assert [facts.id for facts in discovery.of_stacks([other], elsewhere)] == ["a/cuda:0"]
    with pytest.raises(UsageError, match="b has no accelerator of the stack cuda") as problem:
        discovery.of_stacks([other], [*elsewhere, at(another("b"), own)])
    assert "there: cpu:0" in (problem.value.remedy or "")


def test_a_worker_is_told_where_a_peer_is() -> None:
    own = cpu().facts
    there = at(another("node2"), own)
    assert like(unlike(there, own), facts_to_json(own)) == there


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--reach", "ssh {host}"], "--reach: it is about other hosts, and none is named"),
        (["--shared", "/tmp"], "--shared: it is about other hosts"),
        (["--host", "a b"], "'a b' is no name of a host"),
        (["--host", "node2", "--address", "127.0.0.1", "--reach", "false {host}"], "node2 cannot be looked at: exit code 1"),
        (["--host", "n", "--address", "127.0.0.1", "--reach", "/usr/bin/env {python}"], "--host: n is this host"),
    ],
)
def test_the_command_line_tells_what_is_wrong_with_a_host(
    arguments: list[str], words: str, tmp_path: Path
) -> None:
    result = readiness("run", "--profile", "smoke", *arguments, state=tmp_path)
    assert result.returncode == Exit.USAGE
    assert words in " ".join(result.stderr.split())
    assert "remedy" in result.stderr


def test_a_run_that_goes_on_must_find_the_same_accelerators_on_the_other_hosts(tmp_path: Path) -> None:
    folder, reach = tmp_path / "run", reaching(tmp_path, told())
    begin = ["--host", "node2", "--address", "127.0.0.1", "--reach", reach, "--device", "cpu", "-k", "driver.random"]
    result = readiness("run", "--profile", "smoke", "--resume", str(folder), "-q", *begin, state=tmp_path)
    assert result.returncode == Exit.UNDETERMINED, result.stderr
    reaching(tmp_path, told(accelerators=[facts_to_json(replace(cpu().facts, model="another"))]))
    result = readiness("run", "--resume", str(folder), state=tmp_path)
    assert result.returncode == Exit.USAGE
    assert "no longer have the accelerators that this run began with" in result.stderr
