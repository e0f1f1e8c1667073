"""`scripts/bench absence`: what training through an absence of the coordinator is worth.

Four machines train the model of `scripts/bench convergence` in rounds of 20 steps. After two rounds no round
closes for a while, or one of the machines is cut off while the others go on; then all take part again.
Compared are what is done meanwhile, and how the work goes out afterwards. Everything but the network is
real: trainer, codec, error feedback, fold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from barnraise.contract.shards import Sample
from barnraise.contract.spec import AdamW, Dense, Full, InnerSpec, Lora, RunSpec, Sgd, TrainSpec
from barnraise.contract.state import Array, TrainState
from barnraise.fold.aggregators import Contribution
from barnraise.fold.codec import Decoder
from barnraise.fold.error_feedback import encode_with_feedback
from barnraise.fold.fold import fold
from barnraise.models.trainable import initial_state
from peer.training.trainer import Trainer
from scripts.benchmarks.arms.arms import ADAMW, Batches
from scripts.benchmarks.arms.training import CPU, bare_spec
from scripts.benchmarks.convergence.workload import (
    BATCH,
    common_start,
    held_out_samples,
    peers_batches,
    read_text,
)

PEERS = 4
STEPS = 20
"""Inner steps of a round."""
BEFORE = 2
"""Rounds before the absence."""
MEASURED = (1, 4, 8)
"""The loss is measured after each of these numbers of rounds that close after the absence."""
CODEC = Dense.model_validate({"bits": 4})
CAPS = (None, 8, 4)
"""Rounds' worth of tokens in one contribution; None: all that was trained."""


@dataclass(frozen=True)
class Case:
    """One method of training."""

    name: str
    train: TrainSpec
    outer: Sgd | AdamW


CASES = (
    Case("full, diloco", TrainSpec(target=Full(), inner=ADAMW, batch=BATCH), Sgd()),
    Case(
        "LoRA, diloco",
        TrainSpec(target=Lora(rank=8, alpha=16.0), inner=InnerSpec(lr=1e-3, clip_norm=0.0), batch=BATCH),
        Sgd(),
    ),
    Case(
        "full, gradient",
        TrainSpec(method="gradient", target=Full(), batch=BATCH),
        AdamW(lr=1e-3),
    ),
)


@dataclass(frozen=True)
class Row:
    """The outcome of one behaviour."""

    rounds: int
    """Length of the absence."""
    meanwhile: str
    losses: tuple[float, ...]
    """Held-out, in nats a byte, after MEASURED rounds."""
    folded: int
    """Tokens of all machines that were folded by the last measurement."""


@dataclass
class _Machine:
    trainer: Trainer
    batches: Sequence[Sequence[Sample]]
    done: int = 0
    residual: dict[str, Array] = field(default_factory=dict)

    def train(self, steps: int) -> None:
        for batch in self.batches[self.done : self.done + steps]:
            self.trainer.step(batch)
        self.done += steps

    def contribute(self, state: TrainState, cap: int | None) -> tuple[Contribution, dict[str, Array]]:
        """A contribution, and the parameters that it leads to where a rest stays here."""
        limit = None if cap is None else cap * self.trainer.tokens // max(1, self._rounds_here)
        update = self.trainer.take_update(state, limit)
        rest = self.trainer.tokens > 0
        at = {name: state.params[name] - array for name, array in update.tensors.items()} if rest else {}
        blob = encode_with_feedback(CODEC, update.tensors, self.residual, state.layout)
        self.residual = update.tensors
        return Contribution.unlimited(Decoder(blob, CODEC, state.layout), update.tokens), at

    @property
    def _rounds_here(self) -> int:
        return round(self.trainer.samples / (STEPS * BATCH))


@dataclass
class _Swarm:
    machines: Sequence[_Machine]
    settings: RunSpec
    state: TrainState
    held_out: Sequence[Sample]
    judge: Trainer
    folded: int = 0

    def round(self, cap: int | None = None, *, cut_off: int = 0) -> None:
        """One whole round: all but the first `cut_off` machines train, contribute and fold."""
        present = self.machines[cut_off:]
        for machine in present:
            machine.train(STEPS)
        sent = [machine.contribute(self.state, cap) for machine in present]
        self.folded += sum(contribution.tokens for contribution, _ in sent)
        new = fold(self.state, [contribution for contribution, _ in sent], self.settings)
        for machine, (_, at) in zip(present, sent, strict=True):
            if at:
                machine.trainer.merge(at, new)
            else:
                machine.trainer.load(new)
        self.state = new

    def loss(self) -> float:
        self.judge.load(self.state)
        return self.judge.evaluate(self.held_out).loss


def measure_absence(
    absences: Sequence[int], seed: int, cases: Sequence[str], away: Sequence[str], cache: Path
) -> Iterator[str]:
    """A table for each case, one row for each absence and behaviour. away: keys of AWAY."""
    text = read_text()
    start, held_out = common_start(text, cache), held_out_samples(text)
    steps = (BEFORE + max(absences) + max(MEASURED)) * STEPS
    batches = peers_batches(text, PEERS, steps, seed)
    for case in CASES:
        if case.name in cases:
            yield f"{case.name}:\n"
            yield HEADER
            begun = _begin(case, start, batches, held_out, seed)
            for row in chain.from_iterable(AWAY[who](case, absences, deepcopy(begun)) for who in away):
                losses = " | ".join(f"{loss:.4f}" for loss in row.losses)
                yield f"| {row.rounds} | {row.meanwhile} | {losses} | {row.folded:,} |"


HEADER = (
    f"| away, rounds | meanwhile | {' | '.join(f'loss after {n}' for n in MEASURED)} | tokens folded |\n"
    f"| ---: | --- | {' | '.join('---:' for _ in MEASURED)} | ---: |"
)


def rows(case: Case, absences: Sequence[int], swarm: _Swarm) -> Iterator[Row]:
    """All behaviours, from one common beginning. Absences are in rounds, in ascending order."""
    for _ in range(BEFORE):
        swarm.round()
    yield _afterwards(deepcopy(swarm), 0, "idle", None)
    trained = 0
    for rounds in absences:
        for machine in swarm.machines:
            machine.train(STEPS * (rounds - trained))
        trained = rounds
        for cap in CAPS:
            if cap is None or (cap <= rounds and case.train.method == "diloco"):
                yield _afterwards(deepcopy(swarm), rounds, f"train, then send {_amount(cap)}", cap)


def cut_off(case: Case, absences: Sequence[int], swarm: _Swarm) -> Iterator[Row]:
    """The first machine is cut off while the others' rounds close."""
    for _ in range(BEFORE):
        swarm.round()
    base, trained = swarm.state.params, 0
    for rounds in absences:
        for _ in range(rounds - trained):
            swarm.machines[0].train(STEPS)
            swarm.round(cut_off=1)
        trained = rounds
        back = deepcopy(swarm)
        back.machines[0].trainer.load(back.state)
        yield _afterwards(back, rounds, "one cut off: idle", None)
        for cap in CAPS:
            if cap is None or cap <= rounds:
                back = deepcopy(swarm)
                back.machines[0].trainer.merge(base, back.state)
                yield _afterwards(back, rounds, f"one cut off: train, then send {_amount(cap)}", cap)


def _amount(cap: int | None) -> str:
    return "all at once" if cap is None else f"{cap} rounds' worth each"


def reference(case: Case, absences: Sequence[int], swarm: _Swarm) -> Iterator[Row]:
    """The same, where the coordinator is never away."""
    losses: dict[int, float] = {}
    wanted = {BEFORE + rounds + number for rounds in absences for number in MEASURED}
    for number in range(1, max(wanted) + 1):
        swarm.round()
        if number in wanted:
            losses[number] = swarm.loss()
    for rounds in absences:
        folded = (BEFORE + rounds + max(MEASURED)) * swarm.folded // max(wanted)
        yield Row(rounds, "never away", tuple(losses[BEFORE + rounds + n] for n in MEASURED), folded)


AWAY: Mapping[str, Callable[[Case, Sequence[int], _Swarm], Iterator[Row]]] = {
    "all": rows,
    "none": reference,
    "one": cut_off,
}
"""Which machines are without rounds: all of them, none (the reference), or one."""


def _begin(case: Case, start: Path, batches: Batches, held_out: Sequence[Sample], seed: int) -> _Swarm:
    settings = bare_spec(case.train, seed=seed, codec=CODEC, outer=case.outer)
    state = initial_state(start, case.train.target, seed)
    machines = [_Machine(Trainer(start, settings, CPU, micro_batch=BATCH), own) for own in batches]
    for machine in machines:
        machine.trainer.load(state)
    return _Swarm(machines, settings, state, held_out, Trainer(start, settings, CPU, micro_batch=BATCH))


def _afterwards(swarm: _Swarm, rounds: int, meanwhile: str, cap: int | None) -> Row:
    losses = []
    for number in range(1, max(MEASURED) + 1):
        swarm.round(cap)
        if number in MEASURED:
            losses.append(swarm.loss())
    return Row(rounds, meanwhile, tuple(losses), swarm.folded)
