"""With one peer and no compression, `gradient` is a plain transformers training loop; so it is with two.

The swarm's side is the real path: train, contribute, sign a close, check it, fold, begin the next round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from barnraise.contract.charter import Charter
from barnraise.contract.close_rules import fold_order
from barnraise.contract.records import Commit, blob_name
from barnraise.contract.shards import Sample
from barnraise.contract.spec import AdamW, DataSpec, Full, Lora, Raw, RunSpec, TrainSpec
from barnraise.contract.state import TrainState
from barnraise.contract.tip import genesis_tip
from barnraise.core.identity import Identity
from barnraise.core.ids import Round
from barnraise.core.signed import Signed
from barnraise.fold.log import Link, advance
from barnraise.models.causal_lm import quiet
from barnraise.models.trainable import adapter_config, initial_state, trainable_parameters
from barnraise.runtime.blob_store import BlobStore
from peer.training.trainer import Trainer
from peer.volunteer.contribution import ContributionStore
from peer.volunteer.contribution_state import ContributionLifecycle
from peer.volunteer.local_training import LocalTraining
from peer.volunteer.saved_state import SavedState
from tests.support import parts
from tests.support.devices import CPU
from tests.support.tiny import make_tiny_model, tiny_samples

OUTER = AdamW(lr=3e-3, weight_decay=0.1)
ROUNDS, STEPS, BATCH = 6, 2, 3
PEERS = (parts.ADA, parts.BEN)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


def samples_of(round: int, peer: int, packed: bool) -> list[Sample]:
    """Different samples for each peer, with different trained-token counts; round r repeats round r - 2."""
    made = tiny_samples(STEPS * BATCH, seed=100 * (round % 2) + peer)
    whole = np.arange(len(made[0].input_ids), dtype=np.int32)
    return made if packed else [replace(sample, position_ids=whole) for sample in made]


def spec_for(target: Lora | Full) -> RunSpec:
    train = TrainSpec(method="gradient", target=target, batch=BATCH)
    return RunSpec(name=parts.RUN, data=DataSpec(source="x"), train=train, outer=OUTER, codec=Raw())


def swarm_run(
    folder: Path, genesis: TrainState, spec: RunSpec, work_in: Path, peers: Sequence[Identity], packed: bool
) -> tuple[list[float], TrainState]:
    """The training loss of each round, by tokens, and the last state."""
    charter = parts.charter(spec, genesis)
    tip, state, losses = genesis_tip(charter), genesis, []
    lives = [ContributionLifecycle() for _ in peers]
    works = [
        peer_work(charter, work_in / identity.public, identity, life)
        for identity, life in zip(peers, lives, strict=True)
    ]
    trainings = [LocalTraining(Trainer(folder, spec, CPU, micro_batch=2), life, tip, state) for life in lives]
    for work, training in zip(works, trainings, strict=True):
        training.start()
        work.save(tip, state, training.trainer.export_inner())
    for round in range(ROUNDS):
        for number, (work, training) in enumerate(zip(works, trainings, strict=True)):
            batch = samples_of(round, number, packed)
            for start in range(0, len(batch), BATCH):
                training.step(batch[start : start + BATCH])
            work.keep(work.encode(tip, state.layout, training.take(), parts.admission(work.identity)))
        in_order = sorted(works, key=lambda work: fold_order(spec.seed, Round(round), work.identity.public))
        commits = [pending(work) for work in in_order]
        link = parts.link(commits, previous=tip.previous)
        losses.append(loss_of(link))
        blobs = [work.blobs.get(blob_name(pending(work).value)) for work in in_order]
        for work in works:
            work.settle(state.layout, link)
        tip, state = advance(tip, state, link, blobs, charter)
        for training in trainings:
            training.rebase(tip, state)
    return losses, state


def peer_work(
    charter: Charter, work_in: Path, identity: Identity, life: ContributionLifecycle
) -> ContributionStore:
    saves = SavedState(work_in / "work", charter.digest)
    return ContributionStore(charter, identity, saves, BlobStore(work_in / "blobs"), life)


def pending(work: ContributionStore) -> Signed[Commit]:
    assert work.pending is not None
    return work.pending


def loss_of(link: Link) -> float:
    tokens = sum(commit.tokens for commit in link.commits)
    return sum(commit.loss * commit.tokens for commit in link.commits) / tokens


@dataclass
class Trained:
    """A parameter after the plain loop, and its gradients."""

    array: np.ndarray
    largest: float = 0.0
    """Of all gradients, in absolute value."""
    smallest: np.ndarray | float = np.inf
    """Of AdamW's root mean squares, by element; rounds in which the whole gradient is 0 do not count."""


def plain_run(
    folder: Path, genesis: TrainState, target: Lora | Full, peers: int, packed: bool
) -> tuple[list[float], dict[str, Trained]]:
    """torch.optim.AdamW on transformers' own loss, one step a round on all peers' samples together."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if isinstance(target, Lora):
        with quiet():
            model = get_peft_model(
                model, LoraConfig(**adapter_config(target, "", False) | {"inference_mode": False})
            )
    model.eval()
    params = trainable_parameters(model)
    with torch.no_grad():
        for name, parameter in params.items():
            parameter.copy_(torch.from_numpy(genesis.params[name]))
    optimizer = torch.optim.AdamW(
        params.values(),
        lr=OUTER.lr,
        betas=(OUTER.beta1, OUTER.beta2),
        eps=OUTER.eps,
        weight_decay=OUTER.weight_decay,
    )
    losses, trained = [], {name: Trained(parameter.detach().numpy()) for name, parameter in params.items()}
    for round in range(ROUNDS):
        batch = [sample for peer in range(peers) for sample in samples_of(round, peer, packed)]
        inputs = {
            "input_ids": stack([s.input_ids for s in batch]),
            "labels": stack([s.labels for s in batch]),
        }
        if packed:
            inputs |= {"position_ids": stack([sample.position_ids for sample in batch]), "use_cache": False}
        optimizer.zero_grad()
        loss = model(**inputs).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        for name, parameter in params.items():
            mean_square = optimizer.state[parameter]["exp_avg_sq"].numpy() / (1 - OUTER.beta2 ** (round + 1))
            if mean_square.any():
                trained[name].smallest = np.minimum(trained[name].smallest, np.sqrt(mean_square))
            assert parameter.grad is not None
            trained[name].largest = max(trained[name].largest, float(parameter.grad.abs().max()))
    return losses, trained


def stack(rows: list[np.ndarray]) -> Any:
    return torch.from_numpy(np.stack(rows).astype(np.int64))


@pytest.mark.parametrize("packed", [False, True], ids=["whole", "packed"])
@pytest.mark.parametrize("peers", [1, 2])
@pytest.mark.parametrize("target", [Full(), Lora(rank=4, alpha=8.0)], ids=["full", "lora"])
def test_gradient_is_a_plain_training_loop(
    folder: Path, tmp_path: Path, target: Lora | Full, peers: int, packed: bool
) -> None:
    spec = spec_for(target)
    genesis = initial_state(folder, target, seed=0)
    losses, state = swarm_run(folder, genesis, spec, tmp_path, PEERS[:peers], packed)
    expected, params = plain_run(folder, genesis, target, peers, packed)
    np.testing.assert_allclose(losses, expected, rtol=2e-6)
    assert losses[-2] < losses[0] - 1e-3, "nothing was learned from the samples of round 0"
    for name, plain in params.items():
        off = np.abs(state.params[name] - plain.array)
        # AdamW divides a gradient by its root mean square, so near a gradient of 0 a rounding error of 1e-9
        # moves a parameter by a part of lr. This undoes the division.
        gradient_off = off / OUTER.lr * (plain.smallest + OUTER.eps)
        assert gradient_off.max() < plain.largest / 2000, name
        assert np.median(off) < OUTER.lr / 20_000, name
        assert not np.array_equal(plain.array, genesis.params[name]), f"{name} never moved"
