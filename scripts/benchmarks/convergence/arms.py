"""The arms of `scripts/bench convergence`: ways for K machines to train one model, with real codec and fold.

The peers of an arm run one after the other in this process, each with a Trainer of its own, so a result
depends on the arm and the seed alone. Nothing is sent; the sizes of blobs are added up.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import TypeAdapter

from barnraise.contract.shards import Sample
from barnraise.contract.spec import CodecSpec, Full, InnerSpec, Lora, Raw, RunSpec, Sgd, TrainSpec
from barnraise.contract.state import Array, TrainState
from barnraise.fold.aggregators import Contribution
from barnraise.fold.codec import Decoder
from barnraise.fold.error_feedback import encode_with_feedback
from barnraise.fold.fold import fold
from barnraise.models.trainable import initial_state
from peer.training.trainer import Trainer
from scripts.benchmarks.convergence.workload import BATCH, CPU, held_out_loss, spec

STEPS = 160
"""Inner steps of every machine in every arm, unless speeds differ."""
FP32 = 4
ADAMW = InnerSpec(lr=1e-3, clip_norm=0.0)  # without clipping, as in hivemind's optimizer

FULL, RAW, MEAN = Full(), Raw(), Sgd()
"""The defaults of an arm: all parameters, uncompressed, the mean of the peers' results."""

Batches = Sequence[Sequence[Sequence[Sample]]]
"""[peer][step]: a batch."""


@dataclass(frozen=True)
class Alone:
    """Every machine trains alone; the mean of their losses."""

    target: Full | Lora = FULL
    inner: InnerSpec = ADAMW


@dataclass(frozen=True)
class Ddp:
    """Each step uses all machines' batches: data parallel training."""

    target: Full | Lora = FULL
    inner: InnerSpec = ADAMW


@dataclass(frozen=True)
class Diloco:
    """Rounds of local steps, contributions and a fold."""

    steps: int = 20
    """Inner steps of one round (H in the literature)."""
    codec: CodecSpec = RAW
    outer: Sgd = MEAN
    target: Full | Lora = FULL
    inner: InnerSpec = ADAMW
    ahead: int = 0
    """Steps of the next round before the fold arrives (overlap that keeps local steps)."""
    speeds: tuple[float, ...] = ()
    """The share of a round's steps that each machine takes; empty: all of them."""
    weights: Literal["tokens", "uniform"] = "tokens"
    late: Literal["none", "kept", "owed", "dropped"] = "none"
    """The fate of contributions that miss their close, a third of all: kept, so that training continues from
    them, as a volunteer does; owed, added to their sender's residual; or dropped."""


Arm = Alone | Ddp | Diloco


@dataclass(frozen=True)
class Outcome:
    """The result of one arm with one seed."""

    loss: float
    """Held-out loss, in nats per byte."""
    once: float
    """Bytes that one machine sends when each contribution leaves its owner once."""
    sent: float
    """Bytes that one machine sends when all receive everything (all-gather, or a ring all-reduce)."""
    note: str = ""
    """A remark for the table."""


@dataclass(frozen=True)
class Workload:
    """What the arms of one seed share."""

    start: Path
    batches: Batches
    held_out: Sequence[Sample]
    seed: int


def key(arm: object) -> str:
    """The name of an arm in the results file: its class and all of its settings."""
    settings = TypeAdapter(type(arm)).dump_python(arm, mode="json")
    return f"{type(arm).__name__} {json.dumps(settings, sort_keys=True)}"


def run(arm: Arm, workload: Workload) -> Outcome:
    """Train by one arm."""
    match arm:
        case Alone():
            return _alone(arm, workload)
        case Ddp():
            return _ddp(arm, workload)
        case Diloco():
            return _diloco(arm, workload)


def run_spec(target: Full | Lora, inner: InnerSpec, seed: int, **more: object) -> RunSpec:
    return spec(TrainSpec(target=target, inner=inner, batch=BATCH), seed=seed, **more)


def _alone(arm: Alone, workload: Workload) -> Outcome:
    losses = []
    for batches in workload.batches:
        settings = run_spec(arm.target, arm.inner, workload.seed)
        trainer = Trainer(workload.start, settings, CPU, micro_batch=BATCH)
        trainer.load(initial_state(workload.start, arm.target, workload.seed))
        for batch in batches:
            trainer.step(batch)
        losses.append(held_out_loss(trainer, workload.held_out))
    return Outcome(float(np.mean(losses)), 0, 0)


def _ddp(arm: Ddp, workload: Workload) -> Outcome:
    peers = len(workload.batches)
    settings = run_spec(arm.target, arm.inner, workload.seed)
    trainer = Trainer(workload.start, settings, CPU, micro_batch=peers * BATCH)
    trainer.load(initial_state(workload.start, arm.target, workload.seed))
    for batches in zip(*workload.batches, strict=True):
        trainer.step([sample for batch in batches for sample in batch])
    gradient = FP32 * trainer.layout.parameters * STEPS
    ring = 2 * (peers - 1) / peers * gradient
    return Outcome(held_out_loss(trainer, workload.held_out), ring, ring)


@dataclass
class _Peer:
    """One machine of an arm."""

    trainer: Trainer
    batches: Sequence[Sequence[Sample]]
    steps: int
    """Of one round."""
    done: int = 0
    """Batches used so far."""
    in_round: int = 0
    residual: dict[str, Array] = field(default_factory=dict)
    published_at: dict[str, Array] = field(default_factory=dict)
    """The parameters after the last contribution, if steps were taken since; else empty."""

    def train(self, until: int) -> None:
        """Continue until `until` steps of this round are done."""
        while self.in_round < until:
            self.trainer.step(self.batches[self.done])
            self.done += 1
            self.in_round += 1

    def train_ahead(self, steps: int) -> None:
        self.published_at = self.trainer.params()
        self.train(steps)

    def miss(self, decoder: Decoder, fate: str) -> None:
        """Apply `fate` to a contribution that arrived too late."""
        if fate == "kept":
            local = self.published_at or self.trainer.params()
            self.published_at = {name: array + decoder.tensor(name) for name, array in local.items()}
        elif fate == "owed":
            for name, array in self.residual.items():
                array += decoder.tensor(name)

    def adopt(self, state: TrainState) -> None:
        if self.published_at:
            self.trainer.merge(self.published_at, state)
            self.published_at = {}
        else:
            self.trainer.load(state)


def late_peers(number: int, peers: int, seed: int) -> set[int]:
    """The peers that miss the close of round `number`: a third of all contributions, spread evenly."""
    count = (number + 1) * peers // 3 - number * peers // 3
    chosen = np.random.default_rng((seed, number)).choice(peers, count, replace=False)
    return set(chosen.tolist())


def _diloco(arm: Diloco, workload: Workload) -> Outcome:
    settings = run_spec(arm.target, arm.inner, workload.seed, codec=arm.codec, outer=arm.outer)
    speeds = arm.speeds or (1.0,) * len(workload.batches)
    peers = [
        _Peer(Trainer(workload.start, settings, CPU, micro_batch=BATCH), batches, round(arm.steps * speed))
        for batches, speed in zip(workload.batches, speeds, strict=True)
    ]
    state = initial_state(workload.start, arm.target, workload.seed)
    for peer in peers:
        peer.trainer.load(state)
    rounds, sent = STEPS // arm.steps, 0
    for number in range(rounds):
        late = late_peers(number, len(peers), workload.seed) if arm.late != "none" else set()
        contributions = []
        for place, peer in enumerate(peers):
            peer.train(peer.steps)
            update = peer.trainer.take_update(state)
            blob = encode_with_feedback(arm.codec, update.tensors, peer.residual, state.layout)
            peer.residual, peer.in_round = update.tensors, 0
            sent += len(blob)
            decoder = Decoder(blob, arm.codec, state.layout)
            if arm.ahead and number + 1 < rounds:
                peer.train_ahead(min(arm.ahead, peer.steps))
            if place not in late:
                tokens = update.tokens if arm.weights == "tokens" else 1
                contributions.append(Contribution.unlimited(decoder, tokens))
            else:
                peer.miss(decoder, arm.late)
        state = fold(state, contributions, settings)
        for peer in peers:
            peer.adopt(state)
    peers[0].trainer.load(state)
    one = sent / len(peers)
    return Outcome(held_out_loss(peers[0].trainer, workload.held_out), one, one * (len(peers) - 1))
