"""`scripts/bench records`: what the swarm's records cost its nodes, without any training.

Real nodes, a libp2p daemon each, tell and ask as the programs do: volunteers are there, publish a commit
a round, follow the head, and look for what they may fetch ahead; the coordinator looks who is there and
what was committed, announces the head and opens rounds. Everything goes over the loopback of a network
namespace of its own, whose counter is read.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from barnraise.contract.heartbeat import heartbeat_seconds, parts_for
from barnraise.contract.records import Admission, Commit, Head, Presence
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, Round, RunId, blob_hash
from barnraise.core.signed import sign
from barnraise.network.swarm import Swarm
from barnraise.runtime.blob_store import BlobStore
from coordinator.timing import TIMING
from peer.volunteer.loop import LOOK_SECONDS
from scripts.netns import NetworkFailed

RUN = RunId("records")
AUTHORITY = Identity.from_seed(bytes([1]) * 32)
HASH = blob_hash(b"")
TRAINING, PUBLISHING = 0.7, 0.2
"""Shares of a round: until the commits come, and until then the last of them is there."""


@dataclass
class Stage:
    """Where all nodes are: what the head says is what everybody sees here."""

    seconds: float
    """Of a round."""
    volunteers: int
    opened: float = 0.0
    round: int = 0

    def part(self) -> float:
        """How much of the open round is over."""
        return (time.monotonic() - self.opened) / self.seconds


@dataclass
class Node:
    identity: Identity
    swarm: Swarm
    place: float
    """When in the time of publishing it publishes, from 0 to 1."""

    @property
    def admission(self) -> str:
        return sign(AUTHORITY, Admission(run=RUN, peer=self.identity.public, expires=2**50)).text


def measure_records(counts: Sequence[int], rounds: int, seconds: float) -> str:
    """A markdown table: what a node sends for so many volunteers. Raises NetworkFailed without namespaces."""
    return "\n".join(
        [
            f"Rounds of {seconds:g} s, means of {rounds}",
            "",
            "| volunteers | a node sent, MB a round | kbit/s | CPU of a node but libp2p's, s a round |",
            "| ---: | ---: | ---: | ---: |",
            *(_row(count, rounds, seconds) for count in counts),
        ]
    )


def _row(count: int, rounds: int, seconds: float) -> str:
    """Measured by this program once more, in a network namespace that ends with it."""
    command = ["unshare", "--net", sys.executable, "-m", "scripts.benchmarks.records"]
    done = subprocess.run(
        [*command, str(count), str(rounds), str(seconds)], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise NetworkFailed("the bench of records ended early; it needs root, for a network namespace")
    return done.stdout.strip()


async def _measure(count: int, rounds: int, seconds: float) -> str:
    stage = Stage(seconds, count)
    with tempfile.TemporaryDirectory() as folder:
        coordinator = await _node(Path(folder), AUTHORITY, 0.0, None)
        others: list[Node] = []
        for number in range(count):
            identity = Identity.from_seed(number.to_bytes(31, "big") + b"\x07")
            others.append(await _node(Path(folder), identity, number / count, coordinator.swarm))
        work: list[Coroutine[Any, Any, None]] = [
            _coordinate(coordinator, stage),
            _announce(coordinator, stage),
        ]
        for node in others:
            work += [_watch(node, stage), _be_present(node, stage), _look_ahead(node, stage)]
        tasks = [asyncio.create_task(each) for each in work]
        await _rounds(coordinator, stage, 1)
        before, cpu = _sent(), time.process_time()
        await _rounds(coordinator, stage, rounds)
        sent = (_sent() - before) / (count + 1) / rounds
        took = (time.process_time() - cpu) / (count + 1) / rounds
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for node in [*others, coordinator]:
            await node.swarm.stop()
    return f"| {count} | {sent / 1e6:.2f} | {sent * 8 / seconds / 1e3:.0f} | {took:.2f} |"


async def _node(folder: Path, identity: Identity, place: float, near: Swarm | None) -> Node:
    home = folder / identity.public[:8]
    home.mkdir()
    swarm = await Swarm.start(
        identity, RUN, AUTHORITY.public, clock=_now, blobs=BlobStore(home / "blobs"), folder=home,
        listen="/ip4/127.0.0.1/tcp/0", bootstrap=() if near is None else await near.addresses(),
    )  # fmt: skip
    return Node(identity, swarm, place)


async def _rounds(coordinator: Node, stage: Stage, rounds: int) -> None:
    for _ in range(rounds):
        stage.round, stage.opened = stage.round + 1, time.monotonic()
        await coordinator.swarm.publish(_head(stage))
        await asyncio.sleep(stage.seconds)


async def _coordinate(coordinator: Node, stage: Stage) -> None:
    while True:
        await coordinator.swarm.peers()
        await coordinator.swarm.commits(Round(stage.round))
        await asyncio.sleep(TIMING.tick)


async def _announce(coordinator: Node, stage: Stage) -> None:
    while True:
        await asyncio.sleep(TIMING.head)
        await coordinator.swarm.publish(_head(stage))


async def _watch(node: Node, stage: Stage) -> None:
    while True:
        await node.swarm.heads()
        await asyncio.sleep(LOOK_SECONDS)


async def _be_present(node: Node, stage: Stage) -> None:
    beat = heartbeat_seconds(stage.volunteers)
    while True:
        await node.swarm.publish(
            Presence(
                run=RUN, owner=node.identity.public, admission=node.admission, name="somebody",
                round=stage.round, state=HASH, tokens=7,
                tokens_per_second=100.0, doing="training",
                parts=parts_for(stage.volunteers), beat=beat, keeps=0, at=_now(),
            )
        )  # fmt: skip
        if stage.part() > TRAINING + PUBLISHING * node.place:
            await node.swarm.publish(_commit(node, stage))
        await node.swarm.peers()
        await asyncio.sleep(beat)


async def _look_ahead(node: Node, stage: Stage) -> None:
    while True:
        if stage.part() > TRAINING:
            await node.swarm.commits(Round(stage.round))
        await asyncio.sleep(LOOK_SECONDS)


def _head(stage: Stage) -> Head:
    return Head(
        run=RUN, round=stage.round, close=HASH, state=HASH, opens=_now(), turns=1,
        volunteers=stage.volunteers, tokens=0, checkpoint=HASH, checkpoint_round=0, at=_now(),
        bootstrap=("/ip4/203.0.113.77/tcp/40000/p2p/" + "1" * 52,) * 2,
    )  # fmt: skip


def _commit(node: Node, stage: Stage) -> Commit:
    return Commit(
        run=RUN, round=stage.round, base_state=HASH, owner=node.identity.public, admission=node.admission,
        blob=HASH, size=1, pieces=HASH, tokens=7, samples=1, loss=1.0,
    )  # fmt: skip


def _now() -> Millis:
    return Millis(time.time_ns() // 1_000_000)


def _sent() -> int:
    """Bytes that went over this namespace's loopback."""
    (line,) = (line for line in Path("/proc/net/dev").read_text().splitlines() if "lo:" in line)
    return int(line.split(":")[1].split()[8])


if __name__ == "__main__":
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    print(asyncio.run(_measure(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))))
