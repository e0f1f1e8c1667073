"""Measures what an audit of a contribution finds: honest kinds, and attacks against the same rounds.

A round of the toy of `scripts/bench convergence` trains with the real codec and fold. Each contribution is
tried alone on the state that it started from, clipped as open runs clip it, on samples that nobody was
assigned in the round. Attacks are derived from the round's honest contributions and are tried, not folded:
the state stays one of honest peers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median_low

import numpy as np
import numpy.typing as npt
import torch

from barnraise.contract.audit_figures import STEP_SHARE
from barnraise.contract.shards import Sample
from barnraise.contract.spec import CodecSpec, Dense, Full, InnerSpec, Lora, Raw, Sparse, TrainSpec
from barnraise.contract.state import TrainState
from barnraise.evaluation.alignment import ALIGNMENT_VALUES, alignments
from barnraise.evaluation.audit_program import sketch_of, summary
from barnraise.evaluation.similarity import positions
from barnraise.fold.aggregators import CLIP, Contribution
from barnraise.fold.codec import Decoder
from barnraise.fold.error_feedback import encode_with_feedback
from barnraise.fold.fold import fold
from barnraise.models.trainable import initial_state
from peer.training.trainer import Trainer
from scripts.benchmarks.arms.arms import ADAMW, FULL
from scripts.benchmarks.arms.training import CPU, bare_spec
from scripts.benchmarks.attacks.kinds import Tensors, norm_of, with_false_labels
from scripts.benchmarks.convergence.workload import BATCH, Corpus, samples_of

PEERS = 8
STEPS = 10
"""Inner steps of a peer in a round."""
ROUNDS = 16
SECRET = 32
"""Samples that a contribution is tried on."""
FOUR_BITS = Dense()
FEW = ("sign flip", "inner product", "noise", "10 x noise")
"""Attacks that are tried with every kind of honest contributions."""


@dataclass(frozen=True)
class Kind:
    """A kind of honest contributions."""

    name: str
    codec: CodecSpec = FOUR_BITS
    inner: InnerSpec = ADAMW
    target: Full | Lora = FULL
    steps: tuple[int, ...] = (STEPS,) * PEERS
    """Of each peer in a round."""
    late: bool = False
    """A third of the contributions misses its close and is trained on from."""
    ahead: int = 0
    """Steps that are trained before the fold arrives, and kept."""
    warm: int = 0
    """Rounds before the measurement."""
    epoch: int = 10**9
    """Samples of a peer after which it begins again with the first one."""
    autocast: bool = False


KINDS = (
    Kind("4 bits"),
    Kind("raw", Raw()),
    Kind("sparse with residual", Sparse()),
    Kind("one-step laptops", steps=(1, 1, 1, 1, STEPS, STEPS, STEPS, STEPS)),
    Kind("late and rebased", late=True),
    Kind("keep-local", ahead=STEPS // 2),
    Kind("Muon", inner=InnerSpec(optimizer="muon", lr=5e-3, clip_norm=1.0)),
    Kind("converged", warm=40),
    Kind("second epoch", epoch=6 * STEPS * BATCH),
    Kind("bf16", autocast=True),
    Kind("adapter", target=Lora(rank=8)),
)


@dataclass(frozen=True)
class Found:
    """What one audit found."""

    peer: int
    round: int
    attack: str
    change: int
    """Of the loss by `STEP_SHARE` of the contribution, as in `barnraise.contract.audit_figures`."""
    error: int
    alignment: int


@dataclass
class Peer:
    """An honest one."""

    trainer: Trainer
    own: Sequence[Sample]
    random: np.random.Generator
    done: int = 0
    residual: Tensors = field(default_factory=dict)
    taken_at: Tensors = field(default_factory=dict)
    used: set[int] = field(default_factory=set)

    def train(self, steps: int, epoch: int) -> None:
        for _ in range(steps):
            places = [(self.done + i) % min(epoch, len(self.own)) for i in range(BATCH)]
            self.trainer.step([self.own[i] for i in places])
            self.used |= {id(self.own[i]) for i in places}
            self.done += BATCH


def sample_losses(trainer: Trainer, samples: Sequence[Sample]) -> np.ndarray:
    """Nats a token of each sample."""
    model = trainer._model
    with torch.inference_mode():
        losses = torch.cat([model._losses(samples[at : at + 16])[0] for at in range(0, len(samples), 16)])
    return losses.mean(dim=1).double().numpy()


def measure(kind: Kind, text: Corpus, start: Path, seed: int, rounds: int = ROUNDS) -> Iterator[Found]:
    random = np.random.default_rng(seed)
    order = random.permutation(len(text.train))
    device = replace(CPU, autocast=kind.autocast)
    settings = bare_spec(
        TrainSpec(target=kind.target, inner=kind.inner, batch=BATCH), seed=seed, codec=kind.codec
    )

    def trainer() -> Trainer:
        return Trainer(start, settings, device, micro_batch=BATCH)

    peers = [_peer(trainer(), text, order[place::PEERS], seed, place, random) for place in range(PEERS)]
    flipped = Peer(trainer(), peers[0].own, np.random.default_rng(seed))
    auditor = Trainer(start, settings, CPU, micro_batch=BATCH)
    state = initial_state(start, kind.target, seed)
    for peer in (*peers, flipped):
        peer.trainer.load(state)
    places = positions({name: math.prod(shape) for name, shape in state.layout}, seed, ALIGNMENT_VALUES)
    before: list[Tensors] = []
    for number in range(-kind.warm, rounds):
        updates, late = [], _late(kind, number, seed)
        for peer, steps in zip(peers, kind.steps, strict=True):
            peer.train(steps - (kind.ahead if number > -kind.warm else 0), kind.epoch)
            update = peer.trainer.take_update(state)
            blob = encode_with_feedback(kind.codec, update.tensors, peer.residual, state.layout)
            peer.residual = update.tensors
            decoder = Decoder(blob, kind.codec, state.layout)
            updates.append((decoder, update))
            if kind.ahead:
                peer.taken_at = peer.trainer.params()
                peer.train(kind.ahead, kind.epoch)
        honest = [{name: decoder.tensor(name) for name, _ in state.layout} for decoder, _ in updates]
        if number >= 0:
            secret = _secret(peers, kind, random)
            made = attacks(honest, before, random)
            if kind == KINDS[0]:
                made["label flip"] = _flipped(flipped, state)
            else:
                made = {name: made[name] for name in FEW}
            tokens = [each.tokens for _, each in updates]
            yield from _Audit(auditor, state, places, number).found(honest, tokens, made, secret)
        before = honest
        in_time = [
            Contribution.unlimited(decoder, update.tokens)
            for place, (decoder, update) in enumerate(updates)
            if place not in late
        ]
        folded = fold(state, in_time, settings)
        for place, peer in enumerate(peers):
            peer.used = set()
            _adopt(peer, folded, updates[place][0] if place in late else None)
        flipped.trainer.load(folded)
        state = folded


def _peer(
    trainer: Trainer,
    text: Corpus,
    files: npt.NDArray[np.int64],
    seed: int,
    place: int,
    random: np.random.Generator,
) -> Peer:
    own = samples_of(np.concatenate([text.train[i] for i in files]))
    random.shuffle(own)
    return Peer(trainer, own, np.random.default_rng((seed, place)))


def _secret(peers: Sequence[Peer], kind: Kind, random: np.random.Generator) -> list[Sample]:
    """Samples that nobody used in this round."""
    seen = set[int]().union(*(peer.used for peer in peers))
    most = min(kind.epoch, 4000)
    pool = [each for peer in peers for each in peer.own[:most] if id(each) not in seen]
    return [pool[i] for i in random.choice(len(pool), SECRET, replace=False)]


def _late(kind: Kind, number: int, seed: int) -> set[int]:
    if not kind.late:
        return set()
    chosen = np.random.default_rng((seed, number + 1000)).choice(PEERS, 3, replace=False)
    return set(chosen.tolist())


def _adopt(peer: Peer, folded: TrainState, missed: Decoder | None) -> None:
    if missed is not None:
        local = peer.taken_at or peer.trainer.params()
        peer.taken_at = {name: array + missed.tensor(name) for name, array in local.items()}
    if peer.taken_at:
        peer.trainer.merge(peer.taken_at, folded)
        peer.taken_at = {}
    else:
        peer.trainer.load(folded)


def _flipped(peer: Peer, state: TrainState) -> Tensors:
    """Trained on the same text with wrong targets."""
    for _ in range(STEPS):
        places = peer.random.integers(len(peer.own), size=BATCH)
        peer.trainer.step([with_false_labels(peer.own[i]) for i in places])
    return peer.trainer.take_update(state).tensors


def attacks(
    honest: Sequence[Tensors], before: Sequence[Tensors], random: np.random.Generator
) -> dict[str, Tensors]:
    """Each attack's contribution, from those of honest peers."""
    names = list(honest[0])
    first = honest[0]
    mean = {name: np.mean([each[name] for each in honest], axis=0) for name in names}
    spread = {name: np.std([each[name] for each in honest], axis=0) for name in names}
    noise = {name: random.standard_normal(array.shape).astype(np.float32) for name, array in first.items()}
    scale = norm_of(first) / norm_of(noise)
    made = {
        "sign flip": {name: -array for name, array in first.items()},
        "-1000 x": {name: -1000 * array for name, array in first.items()},
        "noise": {name: np.float32(scale) * array for name, array in noise.items()},
        "10 x noise": {name: np.float32(10 * scale) * array for name, array in noise.items()},
        "inner product": {name: -np.float32(0.5) * mean[name] for name in names},
        "a little": {name: mean[name] - np.float32(1.0) * spread[name] for name in names},
        "a little, 0.3": {name: mean[name] - np.float32(0.3) * spread[name] for name in names},
        "lazy": {name: np.zeros_like(array) for name, array in first.items()},
    }
    if before:
        made["replay"] = before[0]
        made["copy"] = honest[1]
    return made


@dataclass(frozen=True)
class _Audit:
    """Of one round."""

    auditor: Trainer
    state: TrainState
    places: Mapping[str, npt.NDArray[np.int64]]
    """Values by which contributions are compared."""
    number: int

    def found(
        self,
        honest: Sequence[Tensors],
        tokens: Sequence[int],
        made: Mapping[str, Tensors],
        secret: Sequence[Sample],
    ) -> Iterator[Found]:
        """tokens: of the honest contributions. Attackers claim those of the first."""
        who = [(place, "") for place in range(len(honest))] + [(0, name) for name in made]
        updates = [*honest, *made.values()]
        roots = [math.sqrt(tokens[place]) for place, _ in who]
        norms = [norm_of(update) / root for update, root in zip(updates, roots, strict=True)]
        most = CLIP * median_low(norms[: len(honest)])
        aligned = alignments(
            [sketch_of(each, self.places) for each in updates], [not name for _, name in who]
        )
        self.auditor.load(self.state)
        before = sample_losses(self.auditor, secret)
        for (place, name), update, norm, alignment in zip(who, updates, norms, aligned, strict=True):
            taken = min(STEP_SHARE, most / norm) if norm else 0.0
            change, error = summary(self._losses(update, taken, secret) - before)
            yield Found(place, self.number, name, change, error, alignment)

    def _losses(self, update: Tensors, share: float, secret: Sequence[Sample]) -> np.ndarray:
        moved = {name: self.state.params[name] - np.float32(share) * array for name, array in update.items()}
        self.auditor.load(TrainState(moved))
        return sample_losses(self.auditor, secret)
