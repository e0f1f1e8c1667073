"""Recommends codec, round and batch for a run: a pure decision from size, method and upload speed.

The codecs are ordered from one that loses nothing to one that needs many rounds: 4 bits for every value,
2 bits, 1 bit, and then only the largest values. The first whose exchange fits into a tenth of a round is
recommended, because training may then simply wait for it. docs/PERFORMANCE.md has measured and published
figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from barnraise.contract.spec import LONGEST, AdamW, Dense, RunSpec, Sgd, Sparse
from barnraise.contract.state import Layout
from barnraise.fold.codec import typical_blob
from barnraise.models.muon_work import operations, turns
from coordinator.reasons.setup import (
    LARGEST_SHARE,
    LOWEST_DENSITY,
    CodecChoice,
    CodecOption,
    DensityTooLow,
    ExchangeTooLong,
    GraceTooShort,
    MuonOverhead,
    OuterStrays,
    RateStrays,
    Recommendation,
    SparseNotNeeded,
    SparseWithAdamW,
    SpecWarning,
    TurnsWithMomentum,
)
from coordinator.setup.practice import MEAN, measured, strays_far, usual_rate

SHORTEST_ROUND = 300
"""Seconds: a shorter round holds too few inner steps to be worth an exchange."""
SHORTEST_GRACE = 30
"""Seconds in which a contribution of any size is announced, fetched and checked."""
ROUNDS_PER_DENSITY = 4
"""A sparse run needs this many rounds, divided by its density, until all of an update is sent."""

LARGEST_MUON_SHARE = 0.25
"""Of a step's work that Muon may add to it."""

NEAR = (1 / 3, 3.0)
"""Multiples of the usual learning rate that are not warned about: the best one depends on text and batch."""
LEAST_GAIN = 5
"""Per cent of the gain for which another outer step is recommended."""

_ENDS = ("embed_tokens", "lm_head")
"""In the names of tensors that AdamW steps: the embeddings of tokens and output, as LLaMA has them."""
_GRACE_SHARE = 1.5
"""Of the exchange's time that a contribution gets to reach the coordinator."""
_DENSITIES = (1 / 8, 1 / 16, 1 / 32, LOWEST_DENSITY)


def contributions(spec: RunSpec, peers: int) -> int:
    """Contributions that a round folds."""
    return min(peers, spec.round.max_contributions)


def exchange_seconds(blob: int, contributions: int, uplink_mbit: float) -> float:
    """Until all of a round's blobs, `blob` bytes each, have reached everyone who needs them.

    Every peer and the coordinator need every blob but their own, and each holder forwards.
    So n blobs go out to n others each, n + 1 uplinks share that, and each sends about n blobs' worth.
    """
    return contributions * blob * 8 / (uplink_mbit * 1e6)


def recommend(spec: RunSpec, tensors: Layout, peers: int, uplink_mbit: float) -> Recommendation:
    """The largest codec whose exchange fits into the spec's round, or the smallest with a longer round."""
    count = contributions(spec, peers)
    length = max(spec.round.seconds, SHORTEST_ROUND)
    options = [
        CodecOption(codec, exchange_seconds(typical_blob(codec, tensors), count, uplink_mbit))
        for codec in _codecs(spec)
    ]
    fits = [option.exchange <= LARGEST_SHARE * length for option in options]
    place = fits.index(True) if any(fits) else len(options) - 1
    chosen = options[place]
    too_long = place == len(options) - 1 and chosen.exchange > LARGEST_SHARE * length
    return Recommendation(
        codec=chosen.codec,
        seconds=math.ceil(min(LONGEST, max(SHORTEST_ROUND, chosen.exchange / LARGEST_SHARE))),
        grace=math.ceil(min(LONGEST, max(SHORTEST_GRACE, _GRACE_SHARE * chosen.exchange))),
        exchange=chosen.exchange,
        because=CodecChoice(
            exchange=chosen.exchange,
            round_seconds=length,
            larger=options[place - 1] if place else None,
            rounds=_rounds_needed(chosen.codec),
            too_long=too_long,
            sparse_by_diloco=too_long and isinstance(spec.outer, AdamW),
        ),
    )


def find_warnings(
    spec: RunSpec, tensors: Layout, width: int, peers: int, uplink_mbit: float
) -> list[SpecWarning]:
    """Where the spec is far from the recommendation, most costly first. width: of the model's layers."""
    advice = recommend(spec, tensors, peers, uplink_mbit)
    blob = typical_blob(spec.codec, tensors)
    exchange = exchange_seconds(blob, contributions(spec, peers), uplink_mbit)
    smaller = advice.codec if blob > typical_blob(advice.codec, tensors) else None
    return [
        *_exchange_warnings(spec, exchange, smaller),
        *(_sparse_warnings(spec, spec.codec, advice) if isinstance(spec.codec, Sparse) else []),
        *_muon_warnings(spec, tensors),
        *_learning_warnings(spec, width, peers),
    ]


def muon_share(tensors: Layout, tokens: int) -> float:
    """What Muon's own work adds to a training step on `tokens` tokens, as a share of it.

    A step takes 6 operations a parameter and token. Muon's are those of `barnraise.models.muon_work` for each
    matrix inside the blocks whose turn it is, for any number of tokens.
    """
    shapes = [shape for name, shape in tensors if len(shape) == 2 and not any(end in name for end in _ENDS)]
    return operations(shapes) / turns(shapes) / (6 * tensors.parameters * tokens)


def _exchange_warnings(spec: RunSpec, exchange: float, smaller: Dense | Sparse | None) -> list[SpecWarning]:
    found: list[SpecWarning] = []
    share = exchange / spec.round.seconds
    if share > LARGEST_SHARE:
        enough = _permitted(exchange / LARGEST_SHARE)
        found.append(ExchangeTooLong(share, spec.round.overlap != "never", enough, smaller))
    if exchange > spec.round.grace:
        enough = _permitted(_GRACE_SHARE * exchange)
        found.append(GraceTooShort(spec.round.grace, enough, smaller))
    return found


def _permitted(seconds: float) -> int | None:
    return math.ceil(seconds) if seconds <= LONGEST else None


def _sparse_warnings(spec: RunSpec, codec: Sparse, advice: Recommendation) -> list[SpecWarning]:
    found: list[SpecWarning] = []
    if isinstance(advice.codec, Dense):
        found.append(SparseNotNeeded(advice.codec, advice.because))
    if codec.density < LOWEST_DENSITY:
        found.append(DensityTooLow(codec.density))
    if isinstance(spec.outer, AdamW):
        found.append(SparseWithAdamW(advice.codec))
    return found


def _muon_warnings(spec: RunSpec, tensors: Layout) -> list[SpecWarning]:
    if spec.train.method != "diloco" or spec.train.inner.optimizer != "muon":
        return []
    share = muon_share(tensors, spec.train.batch * spec.data.sequence_length)
    if share <= LARGEST_MUON_SHARE:
        return []
    enough = math.ceil(spec.train.batch * share / LARGEST_MUON_SHARE)
    return [MuonOverhead(share, spec.train.batch, enough)]


def _learning_warnings(spec: RunSpec, width: int, peers: int) -> Iterator[SpecWarning]:
    train = spec.train
    if train.method != "diloco" or train.inner.optimizer != "adamw":
        return
    usual = usual_rate(train.target, width)
    if not NEAR[0] <= train.inner.lr / usual <= NEAR[1] and not strays_far(train.inner.lr / usual):
        yield RateStrays(train.inner.lr, usual)
    places = spec.round.max_contributions
    if isinstance(spec.outer, Sgd) and spec.outer.momentum and peers > places:
        yield TurnsWithMomentum(peers, places)
    row = measured(train.target, peers, places)
    if row is not None and spec.outer == MEAN and row.best - row.mean >= LEAST_GAIN:
        yield OuterStrays(row.volunteers, row.mean, row.step, row.best)


def _codecs(spec: RunSpec) -> list[Dense | Sparse]:
    """From the largest blobs to the smallest, of those that suit the outer optimizer."""
    dense = [Dense(bits=4), Dense(bits=2)]
    match spec.outer:
        case AdamW():
            # Its moments would take values that are left out for zeros, and all signs for equal values.
            return [*dense]
        case Sgd():
            return [*dense, Dense(bits=1), *(Sparse(density=density, bits=2) for density in _DENSITIES)]


def _rounds_needed(codec: Dense | Sparse) -> int | None:
    return math.ceil(ROUNDS_PER_DENSITY / codec.density) if isinstance(codec, Sparse) else None
