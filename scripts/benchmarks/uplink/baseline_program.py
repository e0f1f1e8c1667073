"""`hivemind.Optimizer` training a real language model, for `scripts/bench uplink`: one peer, as a program.

    python -m scripts.benchmarks.uplink.baseline_program TASK.json

It averages gradients in fp16, and parameters every `state_every` steps. It prints its address when it is
ready, and a report after its time; the first peer's report has the held-out loss after each step.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from barnraise.contract.assign import Assignment
from barnraise.contract.shards import DataIndex, Sample, Shard, parse_shard
from barnraise.contract.spec_file import read_spec
from barnraise.core.ids import BlobHash, PublicKey, Round
from barnraise.runtime.blob_store import BlobStore
from peer.training.device import CpuChosen, Device
from peer.training.local_model import LocalModel, trained_tokens
from scripts.benchmarks.hivemind_groups import Groups

PORT = 4711
MATCHMAKING_SECONDS = 15.0
"""hivemind's default; a full group starts at once. With 5 s two peers missed each other in 6 of 8 steps."""
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Task:
    """The arguments of one peer's process."""

    spec: str
    """The run.toml of our own arm, with target, batch, inner optimizer and seed."""
    base: str
    data: str
    """The folder of our coordinator's blobs."""
    index: str
    """The hash of the data index in it."""
    held_out: str
    """The folder of the held-out samples; empty for a peer that does not evaluate."""
    states: str
    """The folder in which that peer keeps its states."""
    peer: int
    peers: int
    lr: float
    target_batch: int
    """Samples of all peers in one step of the optimizer."""
    state_every: int
    """Steps between two averages of the parameters."""
    seconds: float
    address: str
    bootstrap: str
    go: str
    """The path of a file that appears when all peers are ready."""


class Shards:
    """A peer's samples, assigned as a volunteer's are."""

    def __init__(self, folder: Path, index: DataIndex, seed: int, peer: int) -> None:
        self._assigned = Assignment(seed, Round(0), PublicKey(f"{peer:064x}"), index.shard_sizes)
        self._shards = parsed(folder, index)

    def batch(self, number: int, size: int) -> list[Sample]:
        return [self._shards[s].sample(row) for s, row in self._assigned.take(number * size, size)]


class States:
    """A peer's states after each step, on disk until the training is over."""

    def __init__(self, model: LocalModel, folder: Path) -> None:
        self._model, self._folder = model, folder
        self._times: dict[int, float] = {}
        """Seconds of training, by step."""

    def keep(self, step: int, at: float) -> float:
        """Write the state after a step, reached in `at` seconds; returns the seconds that writing took."""
        if step == 0 or step in self._times:
            return 0.0
        began = time.monotonic()
        save_file(self._model.tensors(), self._file(step))
        self._times[step] = at
        return time.monotonic() - began

    def losses(self, held_out: Path) -> list[tuple[int, float, float]]:
        """(step, seconds, held-out loss) of each state."""
        found = []
        for step, at in self._times.items():
            self._model.load(load_file(self._file(step)))
            found.append((step, at, held_out_loss(self._model, held_out)))
        return found

    def _file(self, step: int) -> Path:
        return self._folder / f"{step}.safetensors"


def work(task: Task) -> None:
    """Train until `task.seconds` are over, and report."""
    import hivemind
    import torch
    from hivemind.compression import Float16Compression

    class ClippedAdamW(torch.optim.AdamW):
        """Clips the averaged gradient, as our volunteers clip theirs."""

        def step(self, closure: Any = None) -> Any:
            params = [param for group in self.param_groups for param in group["params"]]
            torch.nn.utils.clip_grad_norm_(params, inner.clip_norm or float("inf"))
            return super().step(closure)

    groups = Groups("gradients")
    logging.getLogger("hivemind").addHandler(groups)
    spec = read_spec(Path(task.spec))
    inner, size = spec.train.inner, spec.train.batch
    index = DataIndex.from_bytes(BlobStore(Path(task.data)).get(BlobHash(task.index)))
    shards = Shards(Path(task.data), index, spec.seed, task.peer)
    device = Device("CPU", "cpu", autocast=False, threads=1, reason=CpuChosen(False, 1.0, requested=True))
    model = LocalModel(Path(task.base), spec.train.target, device, micro_batch=1)
    dht = hivemind.DHT(
        initial_peers=[task.bootstrap] if task.bootstrap else [],
        host_maddrs=[f"/ip4/{task.address}/tcp/{PORT}"],
        start=True,
    )
    fp16 = Float16Compression()
    optimizer = hivemind.Optimizer(
        dht=dht,
        run_id="bench",
        target_batch_size=task.target_batch,
        batch_size_per_step=size,
        optimizer=lambda params: ClippedAdamW(
            params,
            lr=task.lr,
            betas=(inner.beta1, inner.beta2),
            eps=inner.eps,
            weight_decay=inner.weight_decay,
        ),
        params=list(model.params.values()),
        matchmaking_time=MATCHMAKING_SECONDS,
        averaging_timeout=task.seconds,
        grad_compression=fp16,
        state_averaging_compression=fp16,
        load_state_compression=fp16,
        average_state_every=task.state_every,
        delay_state_averaging=False,
        # A full group starts immediately.
        averager_opts={"target_group_size": task.peers, "request_timeout": MATCHMAKING_SECONDS / 3},
        verbose=True,
    )
    address = next(str(maddr) for maddr in dht.get_visible_maddrs() if task.address in str(maddr))
    report(ready=address)
    while not Path(task.go).exists():
        time.sleep(POLL_SECONDS)
    states = States(model, Path(task.states)) if task.held_out else None
    began, number, training = time.monotonic(), 0, 0.0
    while time.monotonic() - began < task.seconds:
        batch = shards.batch(number, size)
        started = time.monotonic()
        model.clear_gradients()
        model.backward(batch, divisor=trained_tokens(batch))
        training += time.monotonic() - started
        optimizer.step()
        number += 1
        if states:
            began += states.keep(optimizer.local_epoch, time.monotonic() - began)
    took = time.monotonic() - began
    done: dict[str, Any] = {
        "seconds": took,
        "training": training / took,
        "samples": number * size,
        "epochs": int(optimizer.local_epoch),
        "group": float(np.mean(groups.sizes or [1])),
        "groups": len(groups.sizes),
    }
    if states:
        done["states"] = states.losses(Path(task.held_out))
    report(**done)


def held_out_loss(model: LocalModel, folder: Path) -> float:
    """In nats per trained token, as in scripts/evaluate.py."""
    index = DataIndex.from_bytes((folder / "index.json").read_bytes())
    found = [model.loss([sample]) for shard in parsed(folder, index) for sample in shard]
    return sum(loss.total for loss in found) / sum(loss.tokens for loss in found)


def parsed(folder: Path, index: DataIndex) -> list[Shard]:
    """All shards of a dataset, from the blobs in `folder`."""
    blobs = BlobStore(folder)
    return [parse_shard(blobs.get(ref.blob), index.sequence_length, index.vocab_size) for ref in index.shards]


def report(**what: object) -> None:
    print(f"> {json.dumps(what)}", flush=True)


if __name__ == "__main__":
    work(Task(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
