"""Closers on a network with faults: one entry for each place, and a close within a grace of its end."""

from __future__ import annotations

from random import Random

from hypothesis import example, given
from hypothesis import strategies as st

from barnraise.consensus.events import Transition
from tests.support.closer_network import GRACE, PROMPT, RUN_KEY, Network, Node, Weather


def storm(network: Network, random: Random, faults: int) -> None:
    """A time in which anything fails: programs, connections, and messages."""
    for _ in range(faults):
        network.weather = Weather(
            lost=random.choice([0.0, 0.1, 0.5]),
            repeated=random.choice([0.0, 0.3]),
            slowest=random.choice([PROMPT, GRACE // 4, 2 * GRACE]),
        )
        for node in network.nodes.values():
            match random.randrange(4):
                case 0:
                    network.crash(node)
                case 1 | 2:
                    network.restart(node)
            network.side[node.key] = random.choice([0, 0, 1, 2])
        network.run_until(network.now + random.randint(1, GRACE))


def calm(network: Network, random: Random) -> list[Node]:
    """A majority of the closers of the newest place is connected; all others are crashed."""
    network.weather = Weather()
    newest = max(network.nodes.values(), key=lambda node: len(node.log))
    keys = newest.position.authorities(RUN_KEY)
    there = random.sample(sorted(keys.keys), keys.majority)
    for node in network.nodes.values():
        if node.key in there:
            network.restart(node)
            network.side[node.key] = 0
        elif node is not newest:
            network.crash(node)
    network.side[newest.key] = 0
    network.restart(newest)  # it has the newest entry, and may be no closer of the next one
    return [network.nodes[key] for key in there]


def tried(seed: int, count: int, faults: int, delegations: float) -> Network:
    """A storm, and a grace after it."""
    random = Random(seed)
    network = Network(random, count, delegations)
    storm(network, random, faults)
    majority = calm(network, random)
    height = max(len(node.log) for node in network.nodes.values())
    network.run_until(network.now + GRACE)
    assert max(len(node.log) for node in majority) > height, "a majority was connected for a grace"
    assert not network.lies
    return network


storms = st.integers(0, 2**32)


@given(storms, st.integers(3, 7), st.integers(0, 6))
@example(0, 3, 0)
def test_one_entry_is_certified_for_each_place(seed: int, count: int, faults: int) -> None:
    tried(seed, count, faults, delegations=0.0)


@given(storms, st.integers(3, 5), st.integers(0, 6))
def test_the_closers_change_by_an_entry_that_the_closers_before_it_decide(
    seed: int, count: int, faults: int
) -> None:
    tried(seed, count, faults, delegations=0.3)


def test_faults_take_every_transition() -> None:
    seen = {each for seed in range(24) for each in tried(seed, 3 + seed % 3, 3, 0.2).transitions}
    assert {*Transition} - seen == {Transition.UNDECIDABLE}, "which takes a liar: test_machine.py"
