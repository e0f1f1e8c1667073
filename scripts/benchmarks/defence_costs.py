"""The measuring program of `scripts/bench costs`: seconds of computing, in a process with one thread.

`python -m scripts.benchmarks.defence_costs TARGET FOLDER REPEATS` prints one JSON object, and leaves jobs for
the auditing program in FOLDER.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from barnraise.contract.audit_figures import MILLION
from barnraise.contract.close_rules import fold_order
from barnraise.contract.records import Commit
from barnraise.contract.shards import pack_shard
from barnraise.contract.spec import DataSpec, Full, Lora, RunSpec, TrainSpec
from barnraise.contract.standing import NONE
from barnraise.contract.state import Array, TrainState
from barnraise.contract.tip import genesis_tip
from barnraise.contract.trust_spec import TrustSpec
from barnraise.contract.weights import weigh_commits
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, PublicKey, Round
from barnraise.core.signed import Signed, sign
from barnraise.evaluation.audit_job import AuditJob, SecretSample, Tried
from barnraise.evaluation.program import summed_loss
from barnraise.fold.aggregators import Contribution
from barnraise.fold.codec import encode_in_place
from barnraise.fold.fold import fold
from barnraise.fold.log import Link, advance, check_blob, read_step
from barnraise.models.base_model import resolve
from barnraise.models.causal_lm import load, quiet
from barnraise.models.trainable import initial_state
from barnraise.runtime.allocator import keep_freed_memory
from barnraise.runtime.blob_store import BlobStore
from peer.training.trainer import Trainer
from scripts.demo import CACHE, MODEL
from tests.support import parts
from tests.support.devices import CPU
from tests.support.tiny import VOCABULARY, tiny_samples

SEED = 0
PEERS = 8
LENGTH = 256
"""Tokens of a sample, as in the demo."""
TARGETS: dict[str, Lora | Full] = {"lora": Lora(rank=8, alpha=16.0), "full": Full()}
AUDITED = (1, 3)
"""Contributions that are audited: one of trusted keys, and those of two new keys more."""
SAMPLES = 4
"""Of a measured audit: its passes are alike."""
OWNERS = [Identity.from_seed(bytes([number]) * 32) for number in range(10, 10 + PEERS)]


def timed(work: Callable[[], object], repeats: int) -> float:
    """Median CPU seconds."""
    found = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return statistics.median(found)


def run_spec(target: str) -> RunSpec:
    """Of an open run, with its defaults."""
    return RunSpec(
        name=parts.RUN,
        data=DataSpec(source="none", sequence_length=LENGTH),
        train=TrainSpec(batch=1, target=TARGETS[target]),
        trust=TrustSpec(mode="open", vouched=tuple(sorted(owner.public for owner in OWNERS))),
    )


@dataclass(frozen=True)
class Trained:
    """What a volunteer has after some steps."""

    step: float
    """CPU seconds of a step of one sample."""
    state: TrainState
    """Before them."""
    update: dict[str, Array]


def train(base: Path, spec: RunSpec, repeats: int) -> Trained:
    """Take steps of one sample each."""
    samples = iter(tiny_samples(repeats + 1, LENGTH, SEED))
    state = initial_state(base, spec.train.target, SEED)
    trainer = Trainer(base, spec, CPU, micro_batch=1)
    trainer.load(state)
    trainer.step([next(samples)])  # makes the optimizer's state
    seconds = timed(lambda: trainer.step([next(samples)]), repeats)
    return Trained(seconds, state, trainer.take_update(state).tensors)


def forward_pass(base: Path, repeats: int) -> float:
    """CPU seconds of the loss of one sample."""
    with quiet():
        model = load(base, torch.float32, "sdpa").eval()
    samples = iter(tiny_samples(repeats + 1, LENGTH, SEED))
    summed_loss(model, next(samples))
    return timed(lambda: summed_loss(model, next(samples)), repeats)


class ClosedRound:
    """A round of eight trusted contributions of different norms, as a volunteer finds it in the log."""

    def __init__(self, spec: RunSpec, trained: Trained, blobs: BlobStore) -> None:
        self._state, self._blobs = trained.state, blobs
        self.charter = parts.charter(spec, trained.state)
        self._tip = genesis_tip(self.charter)
        owners = sorted(OWNERS, key=lambda owner: fold_order(spec.seed, Round(0), PublicKey(owner.public)))
        self.names = [self._contribution(trained.update, number) for number in range(PEERS)]
        signed = [self._commit(owner, name) for owner, name in zip(owners, self.names, strict=True)]
        commits = [commit.value for commit in signed]
        weights = tuple(each.weight for each in weigh_commits(commits, NONE, spec.trust))
        close = parts.close(signed, previous=self._tip.position.previous, weights=weights)
        self._payload, self._certificate = close.payload, parts.votes(close)

    def _contribution(self, update: dict[str, Array], number: int) -> BlobHash:
        random, spec = np.random.default_rng(number), self.charter.spec
        own = {
            name: array * np.float32(1 + number / PEERS) + np.float32(array.std()) * noise
            for name, array in update.items()
            for noise in (random.standard_normal(array.shape, np.float32),)
        }
        return self._blobs.put(encode_in_place(spec.codec, own, self._state.layout))

    def _commit(self, owner: Identity, name: BlobHash) -> Signed[Commit]:
        size = self._blobs.size(name)
        return sign(
            owner, parts.commit(owner, base=self._tip.state, blob=name, size=size, samples=40, tokens=10_000)
        )

    def fold(self) -> None:
        """The mean alone: blobs checked by their hashes, and the next state's hash."""
        commits = self._read().commits
        began = time.process_time()
        decoders = [
            check_blob(commit, self._blobs.view(name), self.charter, self._state.layout)
            for commit, name in zip(commits, self.names, strict=True)
        ]
        mean = self.charter.spec.model_copy(update={"trust": TrustSpec()})
        fold(self._state, [Contribution.unlimited(decoder, 10_000) for decoder in decoders], mean).hash()
        self.folded = time.process_time() - began

    def defended(self) -> None:
        """As a volunteer of an open run follows it: signatures, rules, weights, norms, the clipped mean."""
        began = time.process_time()
        link = self._read()
        self.read = time.process_time() - began
        advance(self._tip, self._state, link, [self._blobs.view(name) for name in self.names], self.charter)
        self.followed = time.process_time() - began

    def _read(self) -> Link:
        step = read_step(self._payload, self._certificate, self.charter)
        assert isinstance(step, Link)
        return step

    def job(self, base: Path, folder: Path, audited: int) -> AuditJob:
        """The audit of the round; the first `audited` contributions are tried."""
        samples = tiny_samples(SAMPLES, LENGTH, SEED + 1)
        (folder / "shard").write_bytes(pack_shard(samples))
        save_file(dict(self._state.params), folder / "state.safetensors")
        tried = tuple(
            Tried(key=owner.public, blob=name, path=str(self._blobs.path(name)), audited=place < audited,
                  trusted=True, seen=place, taken=MILLION)
            for place, (owner, name) in enumerate(zip(OWNERS, self.names, strict=True))
        )  # fmt: skip
        return AuditJob(
            base=str(base), spec=self.charter.spec, round=0, state=str(folder / "state.safetensors"),
            sequence_length=LENGTH, vocab_size=VOCABULARY, contributions=tried,
            samples=tuple(SecretSample(path=str(folder / "shard"), row=row) for row in range(SAMPLES)),
            sketches=str(folder / f"sketches-{audited}"), seed=SEED, threads=1,
        )  # fmt: skip


def measure(target: str, folder: Path, repeats: int) -> dict[str, float]:
    """Seconds of each part; the jobs of AUDITED are left in `folder`."""
    torch.set_num_threads(1)
    base, spec = resolve(MODEL, None, CACHE).path, run_spec(target)
    forward = forward_pass(base, repeats)
    trained = train(base, spec, repeats)
    round = ClosedRound(spec, trained, BlobStore(folder / "blobs"))
    found: dict[str, list[float]] = {"fold": [], "defended": [], "read": []}
    for _ in range(repeats):  # in turn, so that both meet the same machine
        round.fold()
        round.defended()
        for what, seconds in (("fold", round.folded), ("defended", round.followed), ("read", round.read)):
            found[what].append(seconds)
    for audited in AUDITED:
        job = round.job(base, folder, audited)
        (folder / f"job-{audited}.json").write_text(job.model_dump_json(), encoding="utf-8")
    medians = {what: statistics.median(seconds) for what, seconds in found.items()}
    return {"step": trained.step, "forward": forward, **medians}


def main() -> None:
    keep_freed_memory()  # as both programs do
    target, folder, repeats = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    print(json.dumps(measure(target, folder, repeats)))


if __name__ == "__main__":
    main()
