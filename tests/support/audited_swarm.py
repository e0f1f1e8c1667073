"""A swarm in this process whose rounds are audited: a tiny model, with real codec, weights, fold and audits.

Honest volunteers train on sums, as `write_sums` writes them. Attackers get the honest updates of the round
first, so that they can collude with all knowledge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from barnraise.contract.audit_report import AuditReport, AuditResult
from barnraise.contract.shards import Sample
from barnraise.contract.spec import Full, InnerSpec, RunSpec, TrainSpec
from barnraise.contract.standing import Standing
from barnraise.contract.state import Array
from barnraise.contract.trust_spec import TrustSpec
from barnraise.contract.weights import Claim, Limits, weigh
from barnraise.core.ids import BlobHash, PublicKey, blob_hash
from barnraise.evaluation.audit_job import AuditJob, SecretSample, Tried
from barnraise.evaluation.audit_program import audit
from barnraise.fold.aggregators import Contribution
from barnraise.fold.codec import Decoder, encode_in_place
from barnraise.fold.fold import fold
from barnraise.models.trainable import initial_state
from barnraise.runtime.blob_store import BlobStore
from coordinator.audits.ledger import Ledger
from coordinator.audits.verdicts import decide
from peer.training.trainer import Trainer
from tests.support import parts
from tests.support.devices import CPU
from tests.support.tiny import SPECIAL, make_tiny_model, packed

Tensors = Mapping[str, Array]
Attack = Callable[["Round"], Tensors]
STEPS, BATCH, SECRET = 3, 4, 16
TOKENS = 100
WRONG = 90
"""Added to targets that are wrong."""
LENGTH = 24


@dataclass(frozen=True)
class Round:
    """What an attacker knows."""

    number: int
    honest: Sequence[Tensors]
    """Of this round."""
    before: Sequence[Tensors]
    """Of the round before; empty in the first."""
    own: Tensors
    """What the attacker trained itself, as an honest volunteer does."""
    mislabelled: Tensors
    """The same with wrong targets."""


def sums(count: int, seed: int, *, shift: int = 0) -> list[Sample]:
    """Sums and their results in bytes, of which the results are trained on. shift: added to each target."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        a, b = random.integers(0, 100, 2)
        text = f"{a}+{b}={a + b}".ljust(LENGTH)
        ids = np.frombuffer(text.encode(), np.uint8).astype(np.int32) + len(SPECIAL)
        places = np.arange(LENGTH, dtype=np.int32)
        targets = len(SPECIAL) + (ids - len(SPECIAL) + shift) % 256
        labels = np.where(places > text.index("="), targets, -100).astype(np.int32)
        made.append(Sample(ids, labels, places))
    return made


@dataclass
class AuditedSwarm:
    """Honest keys first, which are trusted, then attackers on probation."""

    folder: Path
    honest: int
    attackers: int
    attack: Attack
    trust: TrustSpec = field(default_factory=lambda: TrustSpec(mode="open"))
    standings: dict[PublicKey, Standing] = field(init=False)
    ledger: Ledger = field(default_factory=Ledger)
    suspended: dict[PublicKey, int] = field(default_factory=dict)
    """The round after which each key was suspended first."""
    weights: list[dict[PublicKey, int]] = field(default_factory=list)
    """Of each round."""
    findings: list[dict[PublicKey, str]] = field(default_factory=list)
    _before: Sequence[Tensors] = ()

    def __post_init__(self) -> None:
        self.base = make_tiny_model(self.folder / "model", width=32, layers=1)
        train = TrainSpec(target=Full(), inner=InnerSpec(lr=2e-3), batch=BATCH)
        self.spec: RunSpec = parts.run_spec().model_copy(update={"train": train, "trust": self.trust})
        self.keys = [PublicKey(f"{number:064x}") for number in range(self.honest + self.attackers)]
        self.standings = {key: Standing("trusted") for key in self.keys[: self.honest]}
        self.standings |= {key: Standing("probation") for key in self.bad}
        self.state = initial_state(self.base, Full(), 0)
        self._trainers = [self._trainer() for _ in range(self.honest + 2 * self.attackers)]

    @property
    def bad(self) -> list[PublicKey]:
        """The attackers' keys."""
        return self.keys[self.honest :]

    def learn(self, rounds: int) -> None:
        """Rounds of honest training alone, so that the model knows more than which bytes occur."""
        for number in range(-rounds, 0):
            made = [self._train(place, number) for place in range(self.honest)]
            codec, layout = self.spec.codec, self.state.layout
            blobs = [bytes(encode_in_place(codec, dict(each), layout)) for each in made]
            decoders = [Decoder(blob, codec, layout) for blob in blobs]
            self.state = fold(self.state, [Contribution.unlimited(d, TOKENS) for d in decoders], self.spec)

    def play(self, rounds: int) -> None:
        """Rounds of training, audits and the fold."""
        for _ in range(rounds):
            self._play()

    def loss(self) -> float:
        """Held-out, nats a token."""
        trainer = self._trainers[0]
        trainer.load(self.state)
        return trainer.evaluate(sums(64, seed=10**6)).loss

    def _trainer(self) -> Trainer:
        trainer = Trainer(self.base, self.spec, CPU, micro_batch=BATCH)
        trainer.load(self.state)
        return trainer

    def _train(self, place: int, number: int, shift: int = 0) -> Tensors:
        trainer = self._trainers[place]
        trainer.load(self.state)
        samples = sums(STEPS * BATCH, seed=10**5 + 1000 * number + place, shift=shift)
        for start in range(0, len(samples), BATCH):
            trainer.step(samples[start : start + BATCH])
        return trainer.take_update(self.state).tensors

    def _play(self) -> None:
        number = len(self.weights)
        honest = [self._train(place, number) for place in range(self.honest)]
        updates = [*honest, *(self._attacked(place, number, honest) for place in range(self.attackers))]
        layout = self.state.layout
        blobs = [
            bytes(encode_in_place(self.spec.codec, {n: np.array(a) for n, a in update.items()}, layout))
            for update in updates
        ]
        report = self._audit(number, blobs)
        self._fold(blobs)
        self.ledger = self.ledger.after(report, self.standings)
        for found in decide(self.ledger, self.standings, self.trust):
            self.standings[found.key] = Standing(found.level, found.work)
            if found.level == "suspended":
                self.suspended.setdefault(found.key, number)
        self._before = honest

    def _attacked(self, attacker: int, number: int, honest: Sequence[Tensors]) -> Tensors:
        place = self.honest + 2 * attacker
        own, wrong = self._train(place, number), self._train(place + 1, number, shift=WRONG)
        return self.attack(Round(number, honest, self._before, own, wrong))

    def _fold(self, blobs: Sequence[bytes]) -> None:
        claims = [Claim(TOKENS, self.standings[key]) for key in self.keys]
        weighed = weigh(claims, Limits.of(self.trust))
        self.weights.append({key: each.weight for key, each in zip(self.keys, weighed, strict=True)})
        contributions = [
            Contribution(
                Decoder(blob, self.spec.codec, self.state.layout), each.weight, each.tokens, each.trusted
            )
            for blob, each in zip(blobs, weighed, strict=True)
        ]
        self.state = fold(self.state, contributions, self.spec)

    def _audit(self, number: int, blobs: Sequence[bytes]) -> AuditReport:
        save_file(self.state.params, self.folder / "state.safetensors")
        store = BlobStore(self.folder / "blobs")
        index = packed(store, sums(SECRET, seed=10**7 + number))
        path = str(store.path(BlobHash(index.shards[0].hash)))
        tried = [
            Tried(
                key=key,
                blob=store.put(blob),
                path=str(store.path(blob_hash(blob))),
                audited=True,
                seen=i,
                trusted=self.standings[key].level == "trusted",
                taken=10**6,
            )
            for i, (key, blob) in enumerate(zip(self.keys, blobs, strict=True))
        ]
        reply = audit(
            AuditJob(
                base=str(self.base), spec=self.spec, round=number,
                state=str(self.folder / "state.safetensors"), sequence_length=index.sequence_length,
                vocab_size=index.vocab_size, contributions=tuple(tried),
                samples=tuple(SecretSample(path=path, row=row) for row in range(SECRET)),
                sketches=str(self.folder / "sketches"), seed=7, threads=1,
            )
        )  # fmt: skip
        self.findings.append({PublicKey(each.key): each.finding for each in reply.results})
        return AuditReport(
            run=parts.RUN, round=number, base_state=self.state.hash(), owner=parts.AUTHORITY.public,
            results=tuple(AuditResult.model_validate(dict(each)) for each in reply.results), at=parts.NOW,
        )  # fmt: skip


def scaled(update: Tensors, factor: float) -> Tensors:
    """A multiple of an update."""
    return {name: np.float32(factor) * array for name, array in update.items()}


def mean(updates: Sequence[Tensors]) -> Tensors:
    """Of several updates."""
    return {name: np.mean([each[name] for each in updates], axis=0) for name in updates[0]}
