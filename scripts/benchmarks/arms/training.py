"""Trains by one arm, in this process: the machines one after the other, each with a Trainer of its own.

A result depends on the arm and the seed alone. Nothing is sent; the sizes of blobs are added up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from barnraise.contract.data_spec import DataSpec
from barnraise.contract.schedule import NO_PROGRESS, rate_factor
from barnraise.contract.schedule_spec import Schedule
from barnraise.contract.shards import Sample
from barnraise.contract.spec import Full, InnerSpec, Lora, RunSpec, TrainSpec
from barnraise.contract.state import Array, TrainState
from barnraise.fold.aggregators import Contribution
from barnraise.fold.averaging import RunningMean
from barnraise.fold.codec import Decoder
from barnraise.fold.error_feedback import encode_with_feedback
from barnraise.fold.fold import fold
from barnraise.models.trainable import initial_state
from peer.training.device import CpuChosen, Device
from peer.training.trainer import Trainer
from scripts.benchmarks.arms.arms import Alone, Batches, Ddp, Diloco, Untrained

FP32 = 4
LARGEST_MICRO_BATCH = 128
CURVE_STEPS = 8
"""Steps between two points of the curve of an arm without rounds."""
CPU = Device("CPU", "cpu", autocast=False, threads=1, reason=CpuChosen(False, 1.0, requested=True))

Curve = tuple[tuple[int, float], ...]
"""Steps of one machine, and the loss after them."""


@dataclass(frozen=True)
class Outcome:
    """The result of one arm with one seed."""

    loss: float
    """Held-out loss, in nats per token (bytes, where tokens are bytes)."""
    once: float
    """Bytes that one machine sends when each contribution leaves its owner once."""
    sent: float
    """Bytes that one machine sends when all receive everything (all-gather, or a ring all-reduce)."""
    note: str = ""
    """A remark for the table."""
    others: Mapping[str, float] = field(default_factory=dict)
    """Losses on further texts, by their names."""
    curve: Curve = ()
    """Loss of the watched samples during training."""


@dataclass(frozen=True)
class Workload:
    """What the arms of one seed share."""

    start: Path
    batches: Batches
    held_out: Sequence[Sample]
    seed: int
    others: Mapping[str, Sequence[Sample]] = field(default_factory=dict)
    """Samples of further texts, on which no arm trains."""
    device: Device = CPU
    watched: Sequence[Sample] = ()
    """Held-out samples for the curve: their loss is measured after each round, or after CURVE_STEPS steps."""

    @property
    def steps(self) -> int:
        """Inner steps of each machine."""
        return len(self.batches[0])

    @property
    def batch(self) -> int:
        """Samples of one inner step of one machine."""
        return len(self.batches[0][0])

    def trainer(self, settings: RunSpec, machines: int = 1) -> Trainer:
        """A trainer with the start loaded, for steps on the batches of `machines` machines."""
        micro_batch = min(machines * self.batch, LARGEST_MICRO_BATCH)
        trainer = Trainer(self.start, settings, self.device, micro_batch=micro_batch)
        trainer.load(initial_state(self.start, settings.train.target, self.seed))
        return trainer

    def spec(self, target: Full | Lora, inner: InnerSpec, **more: object) -> RunSpec:
        train = TrainSpec(target=target, inner=inner, batch=self.batch)
        return bare_spec(train, seed=self.seed, **more)

    def outcome(self, trainer: Trainer, once: float = 0, sent: float = 0, curve: Curve = ()) -> Outcome:
        """The losses of a trainer, which has finished."""
        others = {name: trainer.evaluate(samples).loss for name, samples in self.others.items()}
        return Outcome(self.loss(trainer), once, sent, others=others, curve=curve)

    def loss(self, trainer: Trainer) -> float:
        return trainer.evaluate(self.held_out).loss

    def point(self, steps: int, trainer: Trainer) -> Curve:
        """The point of the curve after `steps` steps of one machine; empty without watched samples."""
        return ((steps, trainer.evaluate(self.watched).loss),) if self.watched else ()


def bare_spec(train: TrainSpec, **more: object) -> RunSpec:
    """A run spec without data or model: the arms use both directly."""
    return RunSpec.model_validate(
        {"name": "bench", "data": DataSpec(source="none"), "train": train} | more, strict=False
    )


def run(arm: Untrained | Alone | Ddp | Diloco, workload: Workload) -> Outcome:
    """Train by one arm."""
    match arm:
        case Untrained():
            return workload.outcome(workload.trainer(workload.spec(arm.target, arm.inner)))
        case Alone():
            return _alone(arm, workload)
        case Ddp():
            return _ddp(arm, workload)
        case Diloco():
            return _diloco(arm, workload)


def _alone(arm: Alone, workload: Workload) -> Outcome:
    outcomes = []
    for batches in workload.batches[: arm.machines]:
        trainer = workload.trainer(workload.spec(arm.target, arm.inner))
        curve: Curve = ()
        for number, batch in enumerate(batches, 1):
            trainer.step(batch, _factor(arm.decay, number - 1, workload.steps))
            if number % CURVE_STEPS == 0:
                curve += workload.point(number, trainer)
        outcomes.append(workload.outcome(trainer, curve=curve))
    return _mean(outcomes)


def _mean(outcomes: Sequence[Outcome]) -> Outcome:
    losses = [outcome.loss for outcome in outcomes]
    others = {
        name: float(np.mean([outcome.others[name] for outcome in outcomes])) for name in outcomes[0].others
    }
    steps = [step for step, _ in outcomes[0].curve]
    curve = np.mean([[loss for _, loss in outcome.curve] for outcome in outcomes], axis=0)
    return Outcome(
        float(np.mean(losses)), 0, 0, others=others, curve=tuple(zip(steps, curve.tolist(), strict=True))
    )


def _ddp(arm: Ddp, workload: Workload) -> Outcome:
    peers = len(workload.batches)
    curve: Curve = ()
    trainer = workload.trainer(workload.spec(arm.target, arm.inner), peers)
    for number, batches in enumerate(zip(*workload.batches, strict=True), 1):
        every = [sample for batch in batches for sample in batch]
        trainer.step(every, _factor(arm.decay, number - 1, workload.steps))
        if number % CURVE_STEPS == 0:
            curve += workload.point(number, trainer)
    gradient = FP32 * trainer.layout.parameters * workload.steps
    ring = 2 * (peers - 1) / peers * gradient
    return workload.outcome(trainer, ring, ring, curve)


def _factor(decay: float | None, done: int, planned: int) -> float:
    """Of the learning rate, after `done` of the planned rounds (or steps, of an arm without rounds)."""
    if decay is None:
        return 1.0
    return rate_factor(Schedule(rounds=planned, decay=decay), done, NO_PROGRESS)


def _mean_state(states: Sequence[TrainState]) -> TrainState:
    running = RunningMean()
    for state in states:
        running.add(state.params)
    return TrainState(running.mean())


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

    def train(self, until: int, factor: float) -> None:
        """Continue until `until` steps of this round are done. factor: of the learning rate."""
        while self.in_round < until:
            self.trainer.step(self.batches[self.done], factor)
            self.done += 1
            self.in_round += 1

    def train_ahead(self, steps: int, factor: float) -> None:
        self.published_at = self.trainer.params()
        self.train(steps, factor)

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
    settings = workload.spec(arm.target, arm.inner, codec=arm.codec, outer=arm.outer)
    state = initial_state(workload.start, arm.target, workload.seed)
    speeds = arm.speeds or (1.0,) * len(workload.batches)
    peers = [
        _Peer(workload.trainer(settings), batches, round(arm.steps * speed))
        for batches, speed in zip(workload.batches, speeds, strict=True)
    ]
    judge = workload.trainer(settings)
    rounds, sent = workload.steps // arm.steps, 0
    curve: Curve = ()
    last: list[TrainState] = []
    for number in range(rounds):
        factor = _factor(arm.decay, number, rounds)
        late = late_peers(number, len(peers), workload.seed) if arm.late != "none" else set()
        contributions = []
        for place, peer in enumerate(peers):
            peer.train(peer.steps, factor)
            if (place + number) % arm.turns:
                peer.published_at, peer.in_round = dict(state.params), 0
                continue
            update = peer.trainer.take_update(state)
            blob = encode_with_feedback(arm.codec, update.tensors, peer.residual, state.layout)
            peer.residual, peer.in_round = update.tensors, 0
            sent += len(blob)
            decoder = Decoder(blob, arm.codec, state.layout)
            if arm.ahead and number + 1 < rounds:
                peer.train_ahead(min(arm.ahead, peer.steps), factor)
            if place not in late:
                tokens = update.tokens if arm.weights == "tokens" else 1
                contributions.append(Contribution.unlimited(decoder, tokens))
            else:
                peer.miss(decoder, arm.late)
        state = fold(state, contributions, settings)
        last = [*last, state][-(arm.average or 1) :]
        for peer in peers:
            peer.adopt(state)
        judge.load(state)
        curve += workload.point((number + 1) * arm.steps, judge)
    judge.load(_mean_state(last))
    one = sent / len(peers)
    return workload.outcome(judge, one, one * (len(peers) - 1), curve)
