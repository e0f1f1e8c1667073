"""The attacks of `scripts/bench attacks`: what attackers send in place of honest contributions.

The attackers know every honest contribution of the round before it closes and act together, so they are
stronger than ones who have only data of their own. An update is what a fold subtracts: its negative raises
the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Literal

import numpy as np

from barnraise.contract.shards import Sample
from barnraise.contract.state import Array

Tensors = dict[str, Array]

LARGEST_CLAIM = 2**40 - 1
"""The most tokens that a commit may claim."""
LOUD = 30.0
"""Norm of a noisy update, in norms of an honest one."""


@dataclass(frozen=True)
class Forged:
    """One attacker's contribution."""

    update: Tensors
    tokens: int


@dataclass
class View:
    """What the attackers know in one round."""

    honest: Sequence[Tensors]
    """Updates of the honest peers, as they sent them."""
    trained: Sequence[Tensors]
    """What the attackers trained themselves, where the attack takes that: one each."""
    tokens: int
    """That an honest peer claims."""
    attackers: int
    random: np.random.Generator
    memory: dict[str, Tensors] = field(default_factory=dict)
    """What the attackers keep from round to round."""

    def mean(self) -> Tensors:
        """Of the honest updates."""
        return {name: np.mean([one[name] for one in self.honest], axis=0) for name in self.honest[0]}

    def spread(self) -> Tensors:
        """Standard deviation of each value over the honest updates."""
        return {name: np.std([one[name] for one in self.honest], axis=0) for name in self.honest[0]}

    def norm(self) -> float:
        """Median norm of the honest updates."""
        return float(np.median([norm_of(one) for one in self.honest]))

    def own(self, place: int) -> Tensors:
        """An honest update that one attacker begins with: of a peer with other data than the next one's."""
        return self.honest[place % len(self.honest)]


def norm_of(update: Mapping[str, Array]) -> float:
    """Of all values together."""
    return float(np.sqrt(sum(float(np.square(array, dtype=np.float64).sum()) for array in update.values())))


def scaled(update: Tensors, factor: float) -> Tensors:
    """A copy."""
    return {name: array * np.float32(factor) for name, array in update.items()}


def with_false_labels(sample: Sample) -> Sample:
    """A copy whose targets, which are bytes, are mirrored."""
    labels = np.where(sample.labels >= 0, 255 - sample.labels, sample.labels).astype(np.int32)
    return replace(sample, labels=labels)


Forge = Callable[[View, int], Forged]
"""The contribution of the attacker at a place."""
Trains = Literal["nothing", "false labels", "one batch", "as honest peers do"]


@dataclass(frozen=True)
class Attack:
    """A kind of attack."""

    name: str
    forge: Forge
    trains: Trains = "nothing"
    """What the attackers train themselves."""
    harms: bool = True
    """Whether an undefended run loses by it. The others take weight, and credit, for little or nothing."""
    keys: int | None = None
    """Of the attackers, where it is a number of its own."""


def _sign_flip(view: View, place: int) -> Forged:
    return Forged(scaled(view.own(place), -1), view.tokens)


def _huge(view: View, place: int) -> Forged:
    return Forged(scaled(view.own(place), -1000), view.tokens)


def _noise(view: View, place: int) -> Forged:
    drawn = {
        name: view.random.standard_normal(array.shape, dtype=np.float32)
        for name, array in view.honest[0].items()
    }
    return Forged(scaled(drawn, LOUD * view.norm() / norm_of(drawn)), view.tokens)


def _inner_product(view: View, place: int) -> Forged:
    """Xie et al. 2020, "Fall of empires": the mean of all turns against that of the honest ones."""
    return Forged(scaled(view.mean(), -1.5 * len(view.honest) / view.attackers), view.tokens)


def _a_little(view: View, place: int) -> Forged:
    """Baruch et al. 2019, "A little is enough": away from the mean by as much as honest ones may be."""
    honest = len(view.honest)
    needed = (honest + view.attackers) // 2 + 1 - view.attackers
    share = min(0.99, max(0.5, (honest - needed) / honest))
    away = max(0.3, NormalDist().inv_cdf(share))
    mean, spread = view.mean(), view.spread()
    return Forged({name: mean[name] - np.float32(away) * spread[name] for name in mean}, view.tokens)


def _own_training(view: View, place: int) -> Forged:
    return Forged(dict(view.trained[place]), view.tokens)


def _inflated(view: View, place: int) -> Forged:
    return Forged(scaled(view.own(place), -1), LARGEST_CLAIM)


def _replay(view: View, place: int) -> Forged:
    """The contribution to the first round, again and again."""
    return Forged(view.memory.setdefault(f"replay {place}", view.own(place)), view.tokens)


def _copy(view: View, place: int) -> Forged:
    return Forged(view.honest[0], view.tokens)


def _lazy(view: View, place: int) -> Forged:
    """Almost nothing: zeros would be too easily seen."""
    return Forged(scaled(view.own(place), 1e-3), view.tokens)


SIGN_FLIP = Attack("sign flip", _sign_flip)
HUGE = Attack("−1000 ×", _huge)
NOISE = Attack("noise", _noise)
INNER_PRODUCT = Attack("inner-product manipulation", _inner_product)
LITTLE = Attack("a little is enough", _a_little, harms=False)
LABEL_FLIP = Attack("label flip", _own_training, trains="false labels", harms=False)
INFLATED = Attack("inflated weight", _inflated)
REPLAY = Attack("replay", _replay, harms=False)
COPYCAT = Attack("copycat", _copy, harms=False)
LAZY = Attack("lazy", _lazy, harms=False)
WRONG_SAMPLES = Attack("wrong samples", _own_training, trains="one batch", harms=False)
SYBIL_FLOOD = Attack("Sybil flood", _sign_flip, keys=200)
ATTACKS = (
    SIGN_FLIP,
    HUGE,
    NOISE,
    INNER_PRODUCT,
    LITTLE,
    LABEL_FLIP,
    INFLATED,
    REPLAY,
    COPYCAT,
    LAZY,
    WRONG_SAMPLES,
    SYBIL_FLOOD,
)
"""Attackers that begin as new keys."""
TURNED = (SIGN_FLIP, HUGE, INNER_PRODUCT, LITTLE)
"""Attacks by keys that were honest until they were trusted."""
