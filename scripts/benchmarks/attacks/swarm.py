"""One cell of `scripts/bench attacks`: a swarm of honest peers and attackers, with the real codec and fold.

The peers run one after the other in this process, so a result depends on the cell alone.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from barnraise.contract.shards import Sample
from barnraise.contract.spec import CodecSpec, DataSpec, Dense, RoundSpec, RunSpec, TrainSpec
from barnraise.contract.state import TrainState
from barnraise.core.errors import BarnraiseError
from barnraise.core.ids import PublicKey
from barnraise.fold.codec import Decoder, encode_in_place
from barnraise.fold.error_feedback import encode_with_feedback
from barnraise.fold.fold import fold
from scripts.benchmarks.arms.arms import ADAMW, FULL
from scripts.benchmarks.attacks.audited import Audited
from scripts.benchmarks.attacks.defences import AGGREGATES, Arm, Caps, Defence, Sent, Undefended
from scripts.benchmarks.attacks.kinds import Attack, Tensors, Trains, View, with_false_labels
from scripts.benchmarks.attacks.toys import Learner, Toy

ROUNDS = 20
"""Rounds with attackers."""
HONEST_ROUNDS = 50
"""Rounds before, in which sleepers are honest."""
STEPS = 3
"""Inner steps of a peer in a round."""
PLACES = RoundSpec().max_contributions
WORST = 100.0
"""Loss of a run that diverged, in nats a byte."""
DENSE = Dense()


@dataclass(frozen=True)
class Cell:
    """One run."""

    attack: Attack | None
    """None: honest peers alone."""
    honest: int
    attackers: int
    arm: Arm
    seed: int = 1
    sleepers: bool = False
    """The attackers are trusted, after `honest_rounds` of honest work."""
    codec: CodecSpec = DENSE
    model: str = "llama"
    rounds: int = ROUNDS
    honest_rounds: int = HONEST_ROUNDS

    @property
    def name(self) -> str:
        """In the results file."""
        attack = "honest only" if self.attack is None else self.attack.name
        when = f"after {self.honest_rounds} rounds" if self.sleepers else "at once"
        return (
            f"{self.model}: {attack} {when}, {self.attackers} and {self.honest} honest, {self.arm},"
            f" {self.rounds} rounds of {STEPS} steps, {self.codec.model_dump_json()}, seed {self.seed}"
        )


@dataclass(frozen=True)
class Outcome:
    """What came of a cell."""

    start: float
    """Held-out loss before the run."""
    loss: float
    """And after it."""
    weight: tuple[float, ...] = ()
    """The attackers' share of each round's weight, from the first attack on."""
    suspended: int = 0
    """Honest keys that were suspended at some time."""
    note: str = ""


@dataclass
class _Peer:
    key: PublicKey
    learner: Learner
    batches: Sequence[Sequence[Sample]]
    residual: Tensors = field(default_factory=dict)
    done: int = 0

    def contribute(self, state: TrainState, codec: CodecSpec, trains: Trains) -> Sent:
        """Train for a round from `state`, and encode the update."""
        self.learner.load(state)
        for _ in range(STEPS):
            self.learner.step(_samples(self.batches, self.done, trains))
            self.done += 1
        update = self.learner.take(state)
        blob = encode_with_feedback(codec, update.tensors, self.residual, state.layout)
        self.residual = update.tensors
        return Sent(self.key, bytes(blob), Decoder(blob, codec, state.layout), update.tokens)


def _samples(batches: Sequence[Sequence[Sample]], done: int, trains: Trains) -> Sequence[Sample]:
    match trains:
        case "one batch":
            return batches[0]
        case "false labels":
            return [with_false_labels(sample) for sample in batches[done]]
        case _:
            return batches[done]


def _key(name: str) -> PublicKey:
    return PublicKey(hashlib.sha256(name.encode()).hexdigest())


def run(cell: Cell, toy: Toy) -> Outcome:
    """Train a cell to its end."""
    with tempfile.TemporaryDirectory() as folder:
        return Swarm(cell, toy, Path(folder)).run()


class Swarm:
    """The peers of a cell, and the state that they hold."""

    def __init__(self, cell: Cell, toy: Toy, folder: Path) -> None:
        self._cell, self._toy, self._folder = cell, toy, folder
        self._spec = RunSpec(
            name="bench",
            data=DataSpec(source="none"),
            train=TrainSpec(target=FULL, inner=ADAMW),
            codec=cell.codec,
            round=RoundSpec(aggregate=AGGREGATES[cell.arm]),
        )
        self._state = toy.first(cell.seed)
        self._judge = toy.learner(self._spec)
        self._random = np.random.default_rng(cell.seed)
        self._memory: dict[str, Tensors] = {}
        own = min(cell.attackers, cell.honest)
        steps = STEPS * (cell.rounds + cell.honest_rounds * cell.sleepers)
        names = [f"honest {place}" for place in range(cell.honest)]
        names += [f"attacker {place}" for place in range(own)]
        dealt = toy.batches(len(names), steps, cell.seed)
        peers = [
            _Peer(_key(name), toy.learner(self._spec), batches)
            for name, batches in zip(names, dealt, strict=True)
        ]
        self._honest, self._others = peers[: cell.honest], peers[cell.honest :]
        trusted = peers if cell.sleepers else self._honest
        self._defence = self._defend(frozenset(peer.key for peer in trusted))

    def _defend(self, trusted: frozenset[PublicKey]) -> Defence:
        match self._cell.arm:
            case "none":
                return Undefended()
            case "caps":
                return Caps(trusted)
            case "audits":
                auditor = self._toy.learner(self._spec)
                secret = self._toy.held_out[: len(self._toy.held_out) // 2]
                return Audited(trusted, self._spec, auditor, secret, self._cell.seed, self._folder)

    def run(self) -> Outcome:
        """All rounds."""
        start, shares = self._loss(), []
        with np.errstate(all="ignore"):
            try:
                for _ in range(self._cell.honest_rounds * self._cell.sleepers):
                    self._round("as honest peers do")
                for _ in range(self._cell.rounds):
                    shares.append(self._round(None))
            except BarnraiseError as failure:
                return Outcome(start, WORST, tuple(shares), note=str(failure))
            loss = self._loss()
        lost = len(self._defence.suspended & {peer.key for peer in self._honest})
        return Outcome(start, min(loss, WORST) if np.isfinite(loss) else WORST, tuple(shares), lost)

    def _round(self, trains: Trains | None) -> float:
        """The attackers' share of a round's weight. trains: what sleepers do; None: the attack."""
        cell, attack = self._cell, self._cell.attack
        sent = [peer.contribute(self._state, cell.codec, "as honest peers do") for peer in self._honest]
        if trains is not None:
            sent += [peer.contribute(self._state, cell.codec, trains) for peer in self._others]
        elif attack is not None:
            sent += self._forged(attack, sent)
        weighed = self._defence.weigh(sent)
        before = self._state
        self._state = self._defence.after(before, fold(before, weighed, self._spec), sent)
        total = sum(each.weight for each in weighed)
        return sum(each.weight for each in weighed[cell.honest :]) / total

    def _forged(self, attack: Attack, honest: Sequence[Sent]) -> list[Sent]:
        layout, cell = self._state.layout, self._cell
        trained: list[Tensors] = []
        if attack.trains != "nothing":
            own = [peer.contribute(self._state, cell.codec, attack.trains) for peer in self._others]
            trained = [{name: each.decoder.tensor(name) for name, _ in layout} for each in own]
        view = View(
            honest=[{name: each.decoder.tensor(name) for name, _ in layout} for each in honest],
            trained=trained, tokens=honest[0].tokens, attackers=cell.attackers, random=self._random,
            memory=self._memory,
        )  # fmt: skip
        found = []
        for place in self._taking_part():
            forged = attack.forge(view, place)
            copied = {name: array.copy() for name, array in forged.update.items()}
            blob = bytes(encode_in_place(cell.codec, copied, layout))
            key, decoder = _key(f"attacker {place}"), Decoder(blob, cell.codec, layout)
            found.append(Sent(key, blob, decoder, forged.tokens))
        return found

    def _taking_part(self) -> Sequence[int]:
        """The attackers in a round: of a flood as many as find a place."""
        free = PLACES - self._cell.honest
        if self._cell.attackers <= free:
            return range(self._cell.attackers)
        return sorted(self._random.choice(self._cell.attackers, free, replace=False).tolist())

    def _loss(self) -> float:
        held_out = self._toy.held_out
        self._judge.load(self._state)
        return float(np.mean(self._judge.losses(held_out[len(held_out) // 2 :])))
