"""`hivemind.Optimizer` as an arm of `scripts/bench convergence`: real processes, one network namespace each.

It averages in fp16. The bytes that a peer sends are read from its namespace's own link: headers, matchmaking
and DHT included. A peer that has done its share of a batch waits for the others, so that every machine sees
exactly as many tokens as in the other arms; otherwise peers run ahead while progress records travel, and
steps become larger and rarer.

    python -m scripts.benchmarks.convergence.baseline TASK     one peer, started by `train_together`
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter
from safetensors.numpy import load_file, save_file

from barnraise.contract.spec import Full
from barnraise.contract.state import Array, TrainState
from peer.training.local_model import LocalModel, trained_tokens
from scripts.benchmarks.arms.arms import Hivemind
from scripts.benchmarks.arms.training import CPU
from scripts.benchmarks.convergence.workload import BATCH, peers_batches, read_text
from scripts.benchmarks.hivemind_groups import Groups
from scripts.netns import Host, network

PORT = 4711
POLL_SECONDS = 0.02
MATCHMAKING_SECONDS = 0.75
"""Per peer. hivemind's documentation uses 3 to 5 s for small local runs; on two cores 2 s left groups of four
incomplete, and 3 s groups of eight."""
TIMEOUT_SECONDS = 1200.0


class BaselineFailed(Exception):
    """A process of the baseline ended early."""


@dataclass(frozen=True)
class BaselineOutcome:
    """The result of training with hivemind's optimizer."""

    params: TrainState
    """The mean of the peers' final parameters."""
    apart: float
    """The largest distance of one peer's parameters from the mean, relative to the norm of the mean."""
    sent: float
    """Bytes that one machine sent, mean over the machines."""
    group: float
    """Mean size of the groups that averaged."""
    seconds: float


@dataclass(frozen=True)
class Task:
    """The arguments of one peer's process."""

    baseline: Hivemind
    start: str
    out: str
    peer: int
    peers: int
    steps: int
    seed: int
    address: str
    bootstrap: str


def train_together(baseline: Hivemind, start: Path, peers: int, steps: int, seed: int) -> BaselineOutcome:
    """Train with `peers` processes. Raises BaselineFailed, and NetworkFailed without namespaces."""
    with tempfile.TemporaryDirectory() as folder, network() as net:
        hosts = [net.public(f"peer{i}") for i in range(peers)]
        running: list[subprocess.Popen[str]] = []
        try:
            bootstrap = ""
            for i, host in enumerate(hosts):
                task = Task(
                    baseline,
                    str(start),
                    f"{folder}/{i}.safetensors",
                    i,
                    peers,
                    steps,
                    seed,
                    host.address,
                    bootstrap,
                )
                running.append(_start(host, task, Path(folder) / f"{i}.log"))
                bootstrap = bootstrap or _line(running[0])
            for process in running[1:]:
                _line(process)
            before, began = [host.traffic().up for host in hosts], time.monotonic()
            _send_all(running, "go")
            groups = [float(_line(process)) for process in running]
            seconds = time.monotonic() - began
            sent = [host.traffic().up - was for host, was in zip(hosts, before, strict=True)]
            results = [load_file(f"{folder}/{i}.safetensors") for i in range(peers)]
        except BaselineFailed as error:
            logs = [(Path(folder) / f"{i}.log").read_text()[-6000:] for i in range(len(running))]
            raise BaselineFailed(f"{error}\n" + "\n---\n".join(logs)) from None
        finally:
            for process in running:
                process.kill()
                process.wait()
    mean = {name: np.mean([result[name] for result in results], axis=0) for name in results[0]}
    apart = max(_distance(result, mean) for result in results)
    return BaselineOutcome(TrainState(mean), apart, float(np.mean(sent)), float(np.mean(groups)), seconds)


def _start(host: Host, task: Task, log: Path) -> subprocess.Popen[str]:
    command = host.command(
        sys.executable,
        "-m",
        "scripts.benchmarks.convergence.baseline",
        TypeAdapter(Task).dump_json(task).decode(),
    )
    with log.open("w") as errors:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )


def _line(process: subprocess.Popen[str]) -> str:
    """The next line that the peer printed for this process, without its mark."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("> "):
            return line[2:].strip()
    raise BaselineFailed("a process of hivemind's ended early; the ends of the logs:")


def _send_all(running: Sequence[subprocess.Popen[str]], word: str) -> None:
    for process in running:
        assert process.stdin is not None
        process.stdin.write(word + "\n")
        process.stdin.flush()


def _distance(tensors: dict[str, Array], mean: dict[str, Array]) -> float:
    apart = sum(float(np.square(tensors[name] - mean[name]).sum()) for name in mean)
    size = sum(float(np.square(array).sum()) for array in mean.values())
    return float(np.sqrt(apart / size))


def work(task: Task) -> None:
    """One peer: prints its address, waits for a line, trains, prints its groups' mean size, and waits."""
    import hivemind
    import torch
    from hivemind.compression import Float16Compression

    groups = Groups("gradients|parameters")
    logging.getLogger("hivemind").addHandler(groups)
    dht = hivemind.DHT(
        initial_peers=[task.bootstrap] if task.bootstrap else [],
        host_maddrs=[f"/ip4/{task.address}/tcp/{PORT}"],
        start=True,
    )
    model = LocalModel(Path(task.start), Full(), CPU, micro_batch=BATCH)
    batches = peers_batches(read_text(), task.peers, task.steps, task.seed)[task.peer]
    share = task.baseline.epoch_steps * BATCH
    fp16 = Float16Compression()
    matchmaking = MATCHMAKING_SECONDS * task.peers
    optimizer = hivemind.Optimizer(
        dht=dht,
        run_id="bench",
        target_batch_size=share * task.peers,
        batch_size_per_step=BATCH,
        optimizer=lambda params: torch.optim.AdamW(params, lr=task.baseline.inner.lr, weight_decay=0.0),
        params=list(model.params.values()),
        matchmaking_time=matchmaking,
        grad_compression=fp16,
        state_averaging_compression=fp16,
        load_state_compression=fp16,
        average_state_every=task.baseline.state_every,
        use_local_updates=task.baseline.local_updates,
        # In the background, which is its default, unless it is the only averaging.
        delay_state_averaging=not task.baseline.local_updates,
        # A full group starts immediately.
        averager_opts={"target_group_size": task.peers, "request_timeout": matchmaking / 3},
        verbose=True,
    )
    address = next(str(maddr) for maddr in dht.get_visible_maddrs() if task.address in str(maddr))
    print(f"> {address}", flush=True)
    sys.stdin.readline()
    for batch in batches:
        model.clear_gradients()
        model.backward(batch, divisor=trained_tokens(batch))
        optimizer.step()
        began = time.monotonic()
        while optimizer.local_progress.samples_accumulated >= share:
            if time.monotonic() - began > TIMEOUT_SECONDS:
                raise BaselineFailed("an epoch did not end")
            # As its step() does after each batch. Without the first call every other epoch is not averaged.
            if optimizer.use_gradient_averaging:
                optimizer._maybe_schedule_gradient_averaging()
            if optimizer.tracker.ready_to_update_epoch:
                optimizer._update_global_epoch(None)
            else:
                time.sleep(POLL_SECONDS)
    save_file(model.tensors(), task.out)
    print(f"> {np.mean(groups.sizes or [1])}", flush=True)
    sys.stdin.readline()


def main() -> None:
    work(TypeAdapter(Task).validate_json(sys.argv[1]))


if __name__ == "__main__":
    main()
