"""What codec, round and batch a run wants: a pure decision from size, method and the volunteers' lines.

The ladder, from what loses nothing to what needs many rounds: 4 bits for every value, 2 bits, and then
only the largest values. The first rung is taken whose exchange fits into a tenth of a round, because
training may then simply wait for it. Measured and published figures behind it: docs/PERFORMANCE.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from barnraise.contract.spec import AdamW, CodecSpec, Dense, Raw, RunSpec, Sgd, Sparse
from barnraise.contract.state import Layout
from barnraise.fold.codec import typical_blob

LARGEST_SHARE = 0.1
"""Of a round that its exchange may take."""
SHORTEST_ROUND = 300
"""Seconds: below, too few inner steps fit into a round to be worth exchanging."""
SHORTEST_GRACE = 30
"""Seconds for a contribution to be announced, fetched and checked, however small it is."""
LOWEST_DENSITY = 1 / 64
"""Below it updates arrive so late that training alone does better."""
ROUNDS_PER_DENSITY = 4
"""A sparse run wants so many rounds, divided by its density, until all of an update is out."""

LARGEST_MUON_SHARE = 0.25
"""Of a step's work that Muon may add to it."""

_MUON_ITERATIONS = 5
_ENDS = ("embed_tokens", "lm_head")
"""In the names of tensors that AdamW steps: the embeddings of tokens and output, as LLaMA has them."""
_GRACE_SHARE = 1.5
"""Of the exchange's time that a contribution gets to reach the coordinator."""
_DENSITIES = (1 / 8, 1 / 16, 1 / 32, LOWEST_DENSITY)


@dataclass(frozen=True)
class Recommendation:
    codec: Dense | Sparse
    seconds: int
    """`round.seconds`, at least."""
    grace: int
    """`round.grace`, at least."""
    exchange: float
    """Seconds that a round's exchange takes with this codec."""
    because: str


def contributions(spec: RunSpec, peers: int) -> int:
    """Contributions that a round folds."""
    return min(peers, spec.round.max_contributions)


def exchange_seconds(blob: int, contributions: int, uplink_mbit: float) -> float:
    """Until all of a round's blobs, `blob` bytes each, are where they belong.

    Every peer and the coordinator need every blob but their own, and whoever holds one passes it on.
    So n blobs go out to n others each, n + 1 uplinks share that, and each sends about n blobs' worth.
    """
    return contributions * blob * 8 / (uplink_mbit * 1e6)


def recommend(spec: RunSpec, tensors: Layout, peers: int, uplink_mbit: float) -> Recommendation:
    """The first rung of the ladder that fits into the spec's round, or the last with a longer round."""
    count = contributions(spec, peers)
    length = max(spec.round.seconds, SHORTEST_ROUND)
    ladder = [
        (codec, exchange_seconds(typical_blob(codec, tensors), count, uplink_mbit)) for codec in _rungs(spec)
    ]
    fitting = [rung for rung in ladder if rung[1] <= LARGEST_SHARE * length]
    codec, exchange = fitting[0] if fitting else ladder[-1]
    return Recommendation(
        codec=codec,
        seconds=math.ceil(max(SHORTEST_ROUND, exchange / LARGEST_SHARE)),
        grace=math.ceil(max(SHORTEST_GRACE, _GRACE_SHARE * exchange)),
        exchange=exchange,
        because=_because(spec, ladder, codec, length),
    )


def codec_setting(codec: CodecSpec) -> str:
    """As a run spec would have it, without what is at its default anyway."""
    match codec:
        case Raw():
            return 'kind = "raw"'
        case Dense(bits=bits):
            return f'kind = "dense", bits = {bits}'
        case Sparse(density=density, bits=bits):
            return f'kind = "sparse", density = {density:g}, bits = {bits}'


def find_warnings(spec: RunSpec, tensors: Layout, peers: int, uplink_mbit: float) -> list[str]:
    """Where the spec is far from the advice, each with the setting to change."""
    advice = recommend(spec, tensors, peers, uplink_mbit)
    blob = typical_blob(spec.codec, tensors)
    exchange = exchange_seconds(blob, contributions(spec, peers), uplink_mbit)
    change = (
        f", or set codec to {codec_setting(advice.codec)}"
        if blob > typical_blob(advice.codec, tensors)
        else ""
    )
    found = []
    share = exchange / spec.round.seconds
    if share > LARGEST_SHARE:
        enough = math.ceil(exchange / LARGEST_SHARE)
        meanwhile = (
            "training stands still for it"
            if spec.round.overlap == "never"
            else "training goes on beside it, a round behind the others"
        )
        found.append(
            f"a round's exchange takes {share:.0%} of it, above {LARGEST_SHARE:.0%}: {meanwhile}."
            f" Set round.seconds to {enough} or more{change}."
        )
    if exchange > spec.round.grace:
        enough = math.ceil(_GRACE_SHARE * exchange)
        found.append(
            f"the exchange takes longer than round.grace ({spec.round.grace:g} s), so some contributions"
            f" will be late. Set round.grace to {enough} or more{change}."
        )
    if isinstance(spec.codec, Sparse):
        found += _sparse_objections(spec, spec.codec, advice)
    return [*found, *_muon_objections(spec, tensors)]


def muon_share(tensors: Layout, tokens: int) -> float:
    """What Muon's own work adds to a training step on `tokens` tokens, as a share of it.

    A step takes 6 operations a parameter and token. Muon's are five Newton-Schulz iterations of three
    products for each matrix inside the blocks (Jordan et al. 2024), whatever the tokens.
    """
    work = 0
    for name, shape in tensors:
        if len(shape) == 2 and not any(end in name for end in _ENDS):
            less, more = sorted(shape)
            work += _MUON_ITERATIONS * (4 * less * less * more + 2 * less**3)
    return work / (6 * tensors.parameters * tokens)


def _muon_objections(spec: RunSpec, tensors: Layout) -> list[str]:
    if spec.train.method != "diloco" or spec.train.inner.optimizer != "muon":
        return []
    share = muon_share(tensors, spec.train.batch * spec.data.sequence_length)
    if share <= LARGEST_MUON_SHARE:
        return []
    enough = math.ceil(spec.train.batch * share / LARGEST_MUON_SHARE)
    return [
        f"Muon adds {share:.0%} to the work of a step of {spec.train.batch} samples, whatever their number."
        f' Set train.batch to {enough} or more, or train.inner.optimizer to "adamw".'
    ]


def _sparse_objections(spec: RunSpec, codec: Sparse, advice: Recommendation) -> list[str]:
    found = []
    if isinstance(advice.codec, Dense):
        found.append(
            f"a sparse codec keeps updates waiting for bytes that need not be saved here."
            f" Set codec to {codec_setting(advice.codec)}: {advice.because}."
        )
    if codec.density < LOWEST_DENSITY:
        found.append(
            f"at codec.density {codec.density:g} updates arrive too late to be of use."
            f" Set it to {LOWEST_DENSITY:g} or more."
        )
    if isinstance(spec.outer, AdamW):
        found.append(
            "the fold's AdamW takes what a sparse codec leaves out for gradients of zero."
            f" Set codec to {codec_setting(advice.codec)}."
        )
    return found


def _rungs(spec: RunSpec) -> list[Dense | Sparse]:
    """Codecs from the largest blobs to the smallest, as far as they suit the outer optimizer."""
    dense = [Dense(bits=4), Dense(bits=2)]
    match spec.outer:
        case AdamW():
            return [*dense]  # it would take the values left out for gradients of zero
        case Sgd():
            return [*dense, *(Sparse(density=density, bits=2) for density in _DENSITIES)]


def _because(
    spec: RunSpec, ladder: list[tuple[Dense | Sparse, float]], chosen: Dense | Sparse, length: float
) -> str:
    place = next(i for i, (codec, _) in enumerate(ladder) if codec == chosen)
    exchange = ladder[place][1]
    reason = f"a round's exchange takes {_seconds(exchange)}, {exchange / length:.1%} of {length:g} s"
    if place:
        reason += (
            f"; with {codec_setting(ladder[place - 1][0])} it would take {_seconds(ladder[place - 1][1])}"
        )
    if isinstance(chosen, Sparse):
        rounds = math.ceil(ROUNDS_PER_DENSITY / chosen.density)
        reason += f"; plan {rounds} rounds or more, or what waits to be sent is lost"
    if place == len(ladder) - 1 and exchange > LARGEST_SHARE * length:
        reason += "; nothing smaller is worth while, so make the rounds longer"
        if isinstance(spec.outer, AdamW):
            reason += ' (or take train.method = "diloco", which can be sparse)'
    return reason


def _seconds(number: float) -> str:
    return f"{number:.1f} s" if number < 10 else f"{number:.0f} s"
