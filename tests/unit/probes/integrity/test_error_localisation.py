"""Who is suspected of what: pure, on worlds whose culprit is known."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from readiness.probes.integrity.error_localisation import Observation, Role, Suspect, verdicts

KINDS = ("transfer", "all_gather")


def everything(ranks: int) -> set[Observation]:
    """All that is looked at in a world of so many ranks."""
    pairs = itertools.permutations(range(ranks), 2)
    looks = {Observation(kind, pair) for pair in pairs for kind in KINDS}
    looks |= {Observation("all_gather", (rank, rank)) for rank in range(ranks)}
    looks |= {Observation("compute", (rank,)) for rank in range(ranks)}
    subgroups = [*itertools.combinations(range(ranks), 2), *([tuple(range(ranks))] if ranks > 2 else [])]
    return looks | {Observation("all_reduce", subgroup) for subgroup in subgroups}


def caused_by(culprit: Suspect, ranks: int) -> list[Observation]:
    """All that such a culprit spoils if it always acts."""
    found = []
    for look in everything(ranks):
        match look.kind:
            case "compute":
                found += [look] if culprit == Suspect(Role.COMPUTE, look.ranks) else []
            case "all_reduce":
                if culprit.role is Role.SENDER and culprit.ranks[0] in look.ranks:
                    found.append(Observation(look.kind, look.ranks, look.ranks))
                elif culprit.role is Role.RECEIVER and culprit.ranks[0] in look.ranks:
                    found.append(Observation(look.kind, look.ranks, culprit.ranks))
            case _:
                source, target = look.ranks
                spoilt = {
                    Role.SENDER: source == culprit.ranks[0],
                    Role.RECEIVER: target == culprit.ranks[0],
                    Role.LINK: {source, target} == set(culprit.ranks),
                    Role.COMPUTE: False,
                }[culprit.role]
                found += [look] if spoilt else []
    return found


CULPRITS = [Suspect(role, (2,)) for role in (Role.COMPUTE, Role.SENDER, Role.RECEIVER)] + [Suspect(Role.LINK, (0, 2))]


@pytest.mark.parametrize("culprit", CULPRITS, ids=lambda culprit: culprit.role.value)
@pytest.mark.parametrize("ranks", [3, 4, 8])
def test_a_culprit_that_always_acts_is_named_alone(culprit: Suspect, ranks: int) -> None:
    wrong = Counter(dict.fromkeys(caused_by(culprit, ranks), 30))
    (verdict,) = verdicts(wrong, everything(ranks))
    assert verdict.suspects == (culprit,)
    assert verdict.times == 30 * len(wrong)


@pytest.mark.parametrize("culprit", CULPRITS, ids=lambda culprit: culprit.role.value)
def test_a_culprit_that_acts_now_and_then_is_among_the_named(culprit: Suspect) -> None:
    """However few of its looks were wrong: the first verdict names it, alone or with those who could have done the same."""
    looks = caused_by(culprit, 4)
    for seed in range(50):
        draw = random.Random(seed)
        wrong = Counter(dict.fromkeys(draw.sample(looks, draw.randint(1, len(looks))), 1))
        assert culprit in verdicts(wrong, everything(4))[0].suspects


def test_one_direction_of_one_link_is_a_link() -> None:
    (verdict,) = verdicts({Observation("transfer", (2, 1)): 30}, everything(4))
    assert verdict.suspects == (Suspect(Role.LINK, (1, 2)),)
    assert verdict.directions == {(2, 1)}


def test_what_was_seen_once_may_be_the_link_or_either_end() -> None:
    (verdict,) = verdicts({Observation("transfer", (2, 1)): 1}, everything(4))
    assert set(verdict.suspects) == {Suspect(Role.LINK, (1, 2)), Suspect(Role.SENDER, (2,)), Suspect(Role.RECEIVER, (1,))}


def test_with_two_ranks_a_link_and_its_ends_are_equally_suspect() -> None:
    (verdict,) = verdicts({Observation("transfer", (0, 1)): 99}, everything(2))
    assert {suspect.role for suspect in verdict.suspects} == {Role.LINK, Role.SENDER, Role.RECEIVER}


def test_two_culprits_are_both_named() -> None:
    wrong = Counter(dict.fromkeys(caused_by(CULPRITS[1], 4), 5)) + Counter({Observation("compute", (0,)): 7})
    assert [verdict.suspects for verdict in verdicts(wrong, everything(4))] == [
        (Suspect(Role.SENDER, (2,)),), (Suspect(Role.COMPUTE, (0,)),),
    ]  # fmt: skip


def test_right_results_name_no_suspect() -> None:
    assert verdicts({}, everything(4)) == []
