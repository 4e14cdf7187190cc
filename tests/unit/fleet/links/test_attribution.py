"""Simulated fleets: the bad host or link is named in a stated number of rounds, and no sound one is ever blamed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from readiness.fleet.links.attribution import (
    SCREENING_ROUNDS,
    Conclusion,
    Outcome,
    Plan,
    Purpose,
    Result,
    Trial,
    conclude,
    next_round,
    screening,
)

SIZES = (3, 4, 5, 6, 8, 9, 16, 33, 64)


@dataclass
class Faults:
    """What is planted: hosts and links that fail always, a boundary across which all fails, and silent hosts."""

    hosts: set[str] = field(default_factory=set)
    links: set[frozenset[str]] = field(default_factory=set)
    side: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    unsteady: set[str] = field(default_factory=set)
    noise: float = 0.0

    def outcome(self, trial: Trial, chance: random.Random) -> Outcome:
        members = set(trial.hosts)
        if members & self.silent:
            return Outcome.UNKNOWN
        fails = (
            bool(members & self.hosts) or any(link <= members for link in self.links) or bool(members & self.side and members - self.side)
            or (bool(members & self.unsteady) and chance.random() < 0.5) or chance.random() < self.noise
        )  # fmt: skip
        return Outcome.BAD if fails else Outcome.GOOD


def names(count: int) -> tuple[str, ...]:
    return tuple(f"node-{number:03}" for number in range(count))


def play(count: int, faults: Faults, seed: int = 1, group_size: int = 8) -> tuple[Conclusion, int, list[Result]]:
    """All rounds of a fleet: the conclusion, the number of rounds, and the trials."""
    plan = Plan(names(count), group_size=group_size, seed=seed)
    chance = random.Random(seed)
    results: list[Result] = []
    rounds = 0
    while trials := next_round(plan, results):
        rounds += 1
        assert rounds < 60, "it comes to an end"
        met = [host for trial in trials for host in trial.hosts]
        assert len(met) == len(set(met)), "each host is in one trial of a round at most"
        results += [Result(trial, faults.outcome(trial, chance)) for trial in trials]
    return conclude(plan, results), rounds, results


def one_bad_host(hosts: tuple[str, ...], draw: random.Random) -> Faults:
    return Faults(hosts={draw.choice(hosts)})


def one_bad_link(hosts: tuple[str, ...], draw: random.Random) -> Faults:
    return Faults(links={frozenset(draw.sample(hosts, 2))})


def two_bad_hosts(hosts: tuple[str, ...], draw: random.Random) -> Faults:
    return Faults(hosts=set(draw.sample(hosts, 2 if len(hosts) > 3 else 1)))


def a_bad_host_and_a_bad_link(hosts: tuple[str, ...], draw: random.Random) -> Faults:
    bad, *others = draw.sample(hosts, len(hosts))
    return Faults(hosts={bad}, links={frozenset(others[:2])} if len(hosts) > 4 else set())


def a_slow_half_of_a_switch(hosts: tuple[str, ...], draw: random.Random) -> Faults:
    return Faults(hosts=set(draw.sample(hosts, (len(hosts) - 1) // 2)))


def a_slow_uplink(hosts: tuple[str, ...], draw: random.Random) -> Faults:
    return Faults(side=set(draw.sample(hosts, len(hosts) // 2)) if len(hosts) > 3 else set())


def nothing(hosts: tuple[str, ...], draw: random.Random) -> Faults:
    return Faults()


@pytest.mark.parametrize(
    ("make", "most_rounds"),
    [
        (nothing, SCREENING_ROUNDS + 4), (one_bad_host, SCREENING_ROUNDS + 5), (two_bad_hosts, SCREENING_ROUNDS + 5),
        (one_bad_link, SCREENING_ROUNDS + 20), (a_bad_host_and_a_bad_link, SCREENING_ROUNDS + 20),
        (a_slow_half_of_a_switch, SCREENING_ROUNDS + 9), (a_slow_uplink, SCREENING_ROUNDS + 7),
    ],
)  # fmt: skip
def test_what_is_planted_is_named_and_nobody_else(make: Callable[[tuple[str, ...], random.Random], Faults], most_rounds: int) -> None:
    for seed in range(300):
        count = SIZES[seed % len(SIZES)]
        faults = make(names(count), random.Random(f"{make.__name__} {seed}"))
        found, rounds, _ = play(count, faults, seed)
        assert set(found.bad_hosts) == faults.hosts, (seed, count)
        assert {frozenset(link) for link in found.bad_links} == faults.links, (seed, count)
        parts = {frozenset(part) for part in found.divided}
        assert parts == ({frozenset(faults.side), frozenset({*names(count)} - faults.side)} if faults.side else set())
        assert not {*found.unsteady_hosts, *found.unknown_hosts, *found.unresolved_pairs, *found.bad_groups}
        assert rounds <= most_rounds, (seed, count)


@pytest.mark.parametrize("make", [nothing, one_bad_host, two_bad_hosts, a_bad_host_and_a_bad_link, a_slow_uplink])
def test_one_trial_in_a_hundred_that_fails_by_chance_blames_nobody(
    make: Callable[[tuple[str, ...], random.Random], Faults],
) -> None:
    for seed in range(200):
        count = SIZES[seed % len(SIZES)]
        faults = make(names(count), random.Random(f"{make.__name__} {seed}"))
        faults.noise = 0.01
        found, _, _ = play(count, faults, seed)
        assert found.blamed == faults.hosts, (seed, count)
        assert {frozenset(link) for link in found.bad_links} <= faults.links, (seed, count)


def test_a_host_that_fails_now_and_then_costs_no_other_host() -> None:
    named = 0
    for seed in range(200):
        count = SIZES[seed % len(SIZES)]
        bad = random.Random(seed).choice(names(count))
        found, _, _ = play(count, Faults(unsteady={bad}), seed)
        assert found.blamed <= {bad}
        assert all(bad in pair for pair in (*found.bad_links, *found.unsteady_links, *found.unresolved_pairs))
        named += bool(found.blamed or found.bad_links or found.unsteady_links or found.unresolved_pairs or found.bad_groups)
    assert named > 190, "it is missed in few fleets: five rounds, each a coin"


def test_what_could_not_be_tried_is_unknown_and_blames_nobody() -> None:
    for count in (2, 4, 9, 33):
        for silent in ({names(count)[0]}, set(names(count))):
            found, rounds, _ = play(count, Faults(silent=silent))
            assert found.blamed == set()
            assert set(found.unknown_hosts) == (silent if count > 2 else set(names(count)))
            assert rounds < 20


def test_where_every_pair_fails_nobody_can_be_told_from_anybody() -> None:
    for count in (2, 3, 8):
        found, _, _ = play(count, Faults(hosts=set(names(count))))
        assert found.blamed == set()
        assert found.unknown_hosts == names(count)
        assert found.unresolved_pairs


def test_three_racks_with_one_broken_uplink_blame_no_host() -> None:
    hosts = names(30)
    links = {frozenset((one, other)) for one in hosts[:10] for other in hosts[10:20]}
    found, _, _ = play(30, Faults(links=links))
    assert found.blamed == set()
    assert {frozenset(link) for link in found.bad_links} <= links
    assert found.bad_links


def test_a_group_that_fails_while_all_its_parts_are_right_is_named_as_a_group() -> None:
    plan = Plan(names(12), group_size=6)
    results: list[Result] = []
    while trials := next_round(plan, results):
        results += [Result(one, Outcome.BAD if len(one.hosts) > 6 else Outcome.GOOD) for one in trials]
    found = conclude(plan, results)
    assert found.blamed == set()
    assert found.bad_links == ()
    assert found.bad_groups == (tuple(sorted(names(12))),)


def test_groups_follow_pairs_and_all_follows_groups() -> None:
    _, _, results = play(33, Faults())
    purposes = [result.trial.purpose for result in results]
    assert list(dict.fromkeys(purposes)) == [Purpose.SCREENING, Purpose.GROUP, Purpose.ALL]
    groups = [result.trial.hosts for result in results if result.trial.purpose is Purpose.GROUP]
    assert sorted(host for group in groups for host in group) == list(names(33))
    assert {len(group) for group in groups} <= {8, 9}
    _, _, alone = play(33, Faults(), group_size=0)
    assert {result.trial.purpose for result in alone} == {Purpose.SCREENING}


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
def test_few_hosts_are_all_paired_with_each_other(count: int) -> None:
    pairs = [frozenset(trial.hosts) for trials in screening(Plan(names(count))) for trial in trials]
    assert len(pairs) == len(set(pairs)) == count * (count - 1) // 2


def test_of_many_hosts_every_one_is_paired_in_every_round() -> None:
    rounds = screening(Plan(names(1000), seed=3))
    assert len(rounds) == SCREENING_ROUNDS
    assert all(len(trials) == 500 for trials in rounds)
    pairs = [frozenset(trial.hosts) for trials in rounds for trial in trials]
    assert len(set(pairs)) == len(pairs)
    leads = {trial.hosts[0] for trials in rounds for trial in trials}
    assert len(leads) > 800, "most hosts lead a trial"


def test_a_thousand_hosts_with_ten_bad_ones_take_as_many_rounds_as_few_do() -> None:
    bad = set(random.Random(1).sample(names(1000), 10))
    found, rounds, results = play(1000, Faults(hosts=bad), group_size=0)
    assert set(found.bad_hosts) == bad
    assert rounds <= SCREENING_ROUNDS + 3
    assert len(results) < 2600
