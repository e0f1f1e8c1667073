"""`scripts/bench records`: the traffic of the swarm's records, without any training.

Real nodes, with a libp2p daemon each, publish and read as the programs do. Volunteers send heartbeats,
publish a commit a round, follow the head, and poll for commits to prefetch; the coordinator polls for
volunteers and commits, announces the head and opens rounds. All traffic uses the loopback of a network
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

from barnraise.contract.certificates import Certificate
from barnraise.contract.heartbeat import heartbeat_seconds, parts_for
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.records import Admission, Commit, Head, Presence
from barnraise.contract.sample_ranges import SampleRange
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, Round, RunId, blob_hash
from barnraise.core.signed import sign
from barnraise.network.swarm import Swarm
from barnraise.runtime.blob_store import BlobStore
from coordinator.timing import TIMING
from peer.timing import TIMING as PEER_TIMING
from scripts.netns import NetworkFailed

RUN = RunId("records")
AUTHORITY = Identity.from_seed(bytes([1]) * 32)
HASH = blob_hash(b"")
TRAINING, PUBLISHING = 0.7, 0.2
"""Shares of a round: the time before the first commit, and the time between the first and the last."""


@dataclass
class RoundClock:
    """The open round, as the head announces it; all nodes of this process share it."""

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
    """A volunteer or the coordinator, with its libp2p daemon."""

    identity: Identity
    swarm: Swarm
    place: float
    """When it publishes, as a share of the publishing time."""

    @property
    def admission(self) -> str:
        return sign(AUTHORITY, Admission(run=RUN, peer=self.identity.public, expires=2**47)).text


def measure_records(counts: Sequence[int], rounds: int, seconds: float) -> str:
    """A table of what a node sends, by number of volunteers. Raises NetworkFailed without namespaces."""
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
    """Measured by this module as a program, in a network namespace that ends with it."""
    command = ["unshare", "--net", sys.executable, "-m", "scripts.benchmarks.records"]
    done = subprocess.run(
        [*command, str(count), str(rounds), str(seconds)], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise NetworkFailed("the measurement of records ended early; it needs root, for a network namespace")
    return done.stdout.strip()


async def _measure(count: int, rounds: int, seconds: float) -> str:
    clock = RoundClock(seconds, count)
    with tempfile.TemporaryDirectory() as folder:
        coordinator = await _node(Path(folder), AUTHORITY, 0.0, None)
        others: list[Node] = []
        for number in range(count):
            identity = Identity.from_seed(number.to_bytes(31, "big") + b"\x07")
            others.append(await _node(Path(folder), identity, number / count, coordinator.swarm))
        work: list[Coroutine[Any, Any, None]] = [
            _coordinate(coordinator, clock),
            _announce(coordinator, clock),
        ]
        for node in others:
            work += [_follow_head(node, clock), _heartbeat(node, clock), _prefetch(node, clock)]
        tasks = [asyncio.create_task(each) for each in work]
        await _rounds(coordinator, clock, 1)
        before, cpu = _sent(), time.process_time()
        await _rounds(coordinator, clock, rounds)
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
    keys, blobs = KeysInForce.alone(AUTHORITY.public), BlobStore(home / "blobs")
    swarm = await Swarm.start(
        identity, RUN, keys, clock=_now, blobs=blobs, folder=home, listen=("/ip4/127.0.0.1/tcp/0",),
        bootstrap=() if near is None else await near.addresses(),
    )  # fmt: skip
    return Node(identity, swarm, place)


async def _rounds(coordinator: Node, clock: RoundClock, rounds: int) -> None:
    for _ in range(rounds):
        clock.round, clock.opened = clock.round + 1, time.monotonic()
        await coordinator.swarm.publish(_head(clock))
        await asyncio.sleep(clock.seconds)


async def _coordinate(coordinator: Node, clock: RoundClock) -> None:
    while True:
        await coordinator.swarm.peers()
        await coordinator.swarm.commits(Round(clock.round))
        await asyncio.sleep(TIMING.tick)


async def _announce(coordinator: Node, clock: RoundClock) -> None:
    while True:
        await asyncio.sleep(TIMING.head)
        await coordinator.swarm.publish(_head(clock))


async def _follow_head(node: Node, clock: RoundClock) -> None:
    while True:
        await node.swarm.heads()
        await asyncio.sleep(PEER_TIMING.poll)


async def _heartbeat(node: Node, clock: RoundClock) -> None:
    beat = heartbeat_seconds(clock.volunteers)
    while True:
        await node.swarm.publish(
            Presence(
                run=RUN, owner=node.identity.public, instance="0" * 16,
                admission=node.admission, name="volunteer",
                round=clock.round, state=HASH, tokens=7,
                tokens_per_second=100.0, doing="training",
                parts=parts_for(clock.volunteers), keeps=0, at=_now(),
            )
        )  # fmt: skip
        if clock.part() > TRAINING + PUBLISHING * node.place:
            await node.swarm.publish(_commit(node, clock))
        await node.swarm.peers()
        await asyncio.sleep(beat)


async def _prefetch(node: Node, clock: RoundClock) -> None:
    while True:
        if clock.part() > TRAINING:
            await node.swarm.commits(Round(clock.round))
        await asyncio.sleep(PEER_TIMING.poll)


def _head(clock: RoundClock) -> Head:
    return Head(
        run=RUN, round=clock.round, epoch=0, height=clock.round, entry=HASH,
        certificate=Certificate(ballot=0, signatures=(("0" * 64, "0" * 128),)),
        state=HASH, opens=_now(), turns=1,
        volunteers=clock.volunteers, tokens=0, checkpoint=HASH, checkpoint_round=0, at=_now(),
        bootstrap=("/ip4/203.0.113.77/tcp/40000/p2p/" + "1" * 52,) * 2,
    )  # fmt: skip


def _commit(node: Node, clock: RoundClock) -> Commit:
    return Commit(
        run=RUN, round=clock.round, base_state=HASH, owner=node.identity.public, admission=node.admission,
        blob=HASH, size=1, pieces=HASH, tokens=7, samples=1, loss=1.0,
        ranges=(SampleRange(round=clock.round, start=0, count=1),),
    )  # fmt: skip


def _now() -> Millis:
    return Millis(time.time_ns() // 1_000_000)


def _sent() -> int:
    """Bytes that were sent over the loopback of this namespace."""
    (line,) = (line for line in Path("/proc/net/dev").read_text().splitlines() if "lo:" in line)
    return int(line.split(":")[1].split()[8])


if __name__ == "__main__":
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    print(asyncio.run(_measure(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))))
