"""Attacks on the training that audits answer: within ten rounds the attackers, and they alone, weigh nothing.

Real codec, weights, fold and audits; a tiny model that learns sums. 3 of 8 attack.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.audited_swarm import Attack, AuditedSwarm, Round, Tensors, mean, scaled

HONEST, ATTACKERS, ROUNDS, LEARNT = 5, 3, 11, 15


def sign_flip(known: Round) -> Tensors:
    return scaled(known.own, -1)


def a_thousand_times_against(known: Round) -> Tensors:
    return scaled(known.own, -1000)


def inner_product(known: Round) -> Tensors:
    """Against the mean, and smaller than any honest update (Xie et al. 2020)."""
    return scaled(mean(known.honest), -0.7)


def label_flip(known: Round) -> Tensors:
    return known.mislabelled


def replay(known: Round) -> Tensors:
    return known.before[0] if known.before else known.own


def copycat(known: Round) -> Tensors:
    """Another size, so that the hash is another one."""
    return scaled(known.honest[0], 1.01)


def lazy(known: Round) -> Tensors:
    return scaled(known.own, 0)


def noise(known: Round) -> Tensors:
    """As large as an honest update."""
    random = np.random.default_rng(known.number)
    return {
        name: np.float32(array.std()) * random.standard_normal(array.shape).astype(np.float32)
        for name, array in known.own.items()
    }


def loud_noise(known: Round) -> Tensors:
    """Thirty times as large."""
    return scaled(noise(known), 30)


SUSPENDED: tuple[Attack, ...] = (
    sign_flip, a_thousand_times_against, inner_product, label_flip, replay, copycat, lazy, noise, loud_noise,
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.full("26 rounds of eight volunteers with audits, half a minute")
@pytest.mark.parametrize("attack", SUSPENDED, ids=lambda attack: attack.__name__)
def test_attackers_weigh_nothing_within_ten_rounds_and_honest_keys_are_not_suspended(
    attack: Attack, tmp_path: Path
) -> None:
    swarm = AuditedSwarm(tmp_path, HONEST, ATTACKERS, attack)
    swarm.learn(LEARNT)
    swarm.play(ROUNDS)
    assert {*swarm.suspended} == {*swarm.bad}
    assert max(swarm.suspended.values()) < 10
    assert all(swarm.weights[-1][key] == 0 for key in swarm.bad)
    assert all(swarm.weights[-1][key] > 0 for key in swarm.keys[:HONEST])


def a_little(known: Round) -> Tensors:
    """The mean less a standard deviation of the honest updates (Baruch et al. 2019)."""
    middle = mean(known.honest)
    return {
        name: array - np.std([each[name] for each in known.honest], axis=0) for name, array in middle.items()
    }


def wrong_samples(known: Round) -> Tensors:
    """Samples of its own choice: honest work, which was assigned to nobody."""
    return known.own


@pytest.mark.slow
@pytest.mark.full("what does no harm alone is bounded by weights, not by audits")
@pytest.mark.parametrize("attack", [a_little, wrong_samples], ids=lambda attack: attack.__name__)
def test_what_does_no_harm_is_not_suspended(attack: Attack, tmp_path: Path) -> None:
    swarm = AuditedSwarm(tmp_path, HONEST, ATTACKERS, attack)
    swarm.learn(LEARNT)
    before = swarm.loss()
    swarm.play(ROUNDS)
    assert not {*swarm.suspended} & {*swarm.keys[:HONEST]}
    assert swarm.loss() < before
