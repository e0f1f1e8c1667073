"""One volunteer's exchange and a coordinator's run store: a real log, and a fake swarm."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.records import Commit, Head, blob_name
from barnraise.contract.sample_ranges import SampleRange
from barnraise.contract.tip import genesis_tip
from barnraise.core.errors import BarnraiseError
from barnraise.core.ids import BlobHash, Millis, PublicKey
from barnraise.core.signed import Signed
from barnraise.runtime.blob_store import BlobStore
from coordinator.store.run_store import RunStore
from peer.timing import Timing
from peer.training.trainer import Trainer, Update
from peer.volunteer.actions import Exchanging
from peer.volunteer.blob_retention import BlobRetention
from peer.volunteer.contribution import ContributionStore
from peer.volunteer.contribution_state import ContributionEvent, ContributionLifecycle, ContributionState
from peer.volunteer.durations import RoundTimer
from peer.volunteer.exchange import Exchange
from peer.volunteer.log_follower import LogFollower
from peer.volunteer.prefetch import Prefetch
from peer.volunteer.proofs import PROOFS, Proofs
from peer.volunteer.saved_state import SavedState, SavedWork
from tests.support import parts
from tests.support.coordinators import FakeSwarm, head_of


@dataclass
class Swarm(FakeSwarm):
    """Lets a test decide when a fetch proceeds, how it fails, and when a blob was served."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Fetches wait for it."""
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a fetch starts."""
    served: asyncio.Event = field(default_factory=asyncio.Event)
    unserved: bool = False
    broken: list[BarnraiseError] = field(default_factory=list)
    """What the next fetches raise."""

    async def fetch(self, name: BlobHash, limit: int, holders: Sequence[PublicKey]) -> Path:
        self.asked.set()
        await self.gate.wait()
        if self.broken:
            raise self.broken.pop()
        return await super().fetch(name, limit, holders)

    async def wait_served(self, name: BlobHash, timeout: float) -> bool:
        await self.served.wait()
        return not self.unserved


class Inner:
    """A trainer that has only an inner optimizer."""

    def export_inner(self, *, fresh: bool = False) -> dict[str, npt.NDArray[Any]]:
        return {"steps": np.array([0 if fresh else 3], np.int64)}


@dataclass
class Peer:
    """One volunteer and a coordinator's run store, at the start of the run."""

    store: RunStore
    folder: Path
    now: Millis = parts.NOW

    def __post_init__(self) -> None:
        charter, blobs = self.store.charter, BlobStore(self.folder / "blobs")
        self.saves = SavedState(self.folder / "work", charter.digest)
        self.swarm = Swarm(blobs)
        self.swarm.gate.set()
        self.lifecycle = ContributionLifecycle()
        self.work = ContributionStore(charter, parts.ADA, self.saves, blobs, self.lifecycle)
        self.keys = KeysInForce.of(charter)
        self.follower = LogFollower(
            charter, self.swarm.as_swarm, blobs, genesis_tip(charter), parts.state(), keys=self.keys
        )
        self.retention, self.timer = BlobRetention(blobs), RoundTimer(self.now)
        trainer = cast(Trainer, Inner())
        swarm = self.swarm.as_swarm
        timing = Timing(retry=0.0, state_retry=0.0)
        prefetch = Prefetch(self.follower, self.retention, timing)
        self.exchange = Exchange(
            self.follower,
            self.work,
            trainer,
            swarm,
            self.retention,
            prefetch,
            Proofs(self.folder / PROOFS, charter, blobs),
            self.timer,
            lambda: self.now,
            timing,
        )
        saved = self.work.load()
        if isinstance(saved, SavedWork):
            self.work.resume(saved)
        else:
            self.work.save(self.follower.tip, self.follower.state, {})
        self.offer_blobs()

    def restarted(self) -> Peer:
        """The same volunteer after a crash, restored from its folder."""
        return Peer(self.store, self.folder, self.now)

    def offer_blobs(self) -> None:
        """The swarm holds all blobs of the coordinator's run store."""
        files = (self.store.folder / "blobs").glob("??/*")
        self.swarm.held |= {BlobHash(path.name): path.read_bytes() for path in files}

    @property
    def head(self) -> Head:
        return head_of(self.store)

    async def publish(self, seed: int = 1) -> Signed[Commit]:
        drawn = (SampleRange(round=0, start=0, count=4),)
        update = Update(parts.tensors(seed, scale=0.01), tokens=64, samples=4, loss=2.5, ranges=drawn)
        self.lifecycle.advance(ContributionEvent.TAKE)
        self.exchange.publish(update, parts.admission(parts.ADA))
        await self.exchange.finish()
        assert self.work.pending is not None
        return self.work.pending

    async def catch_up(self, *, from_checkpoint: bool = False, head: Head | None = None) -> None:
        self.offer_blobs()
        await self.try_to_catch_up(from_checkpoint=from_checkpoint, head=head)

    async def try_to_catch_up(self, *, from_checkpoint: bool = False, head: Head | None = None) -> None:
        self.exchange.catch_up(head or self.head, from_checkpoint=from_checkpoint)
        await self.exchange.finish()

    async def prefetch(self) -> None:
        """Until all announced contributions are here or refused."""
        await self.exchange.prefetch.look()
        await self.exchange.prefetch.finish()
        await self.exchange.prefetch.look()

    def accepted(self, commit: Signed[Commit]) -> None:
        """The coordinator fetched the volunteer's contribution."""
        self.store.blobs.put(self.work.blobs.get(blob_name(commit.value)))
        self.store.accept(commit, parts.NOW)

    @property
    def owes(self) -> bool:
        missed = self.lifecycle.state is ContributionState.MISSED
        return missed or any(array.any() for array in self.work.residual.values())

    @property
    def busy(self) -> bool:
        return self.exchange.progress(self.follower.tip) is Exchanging.BUSY


Play = Callable[[Peer], Awaitable[None]]


def played(store: RunStore, folder: Path, play: Play) -> Peer:
    """Run `play` in a new event loop, and stop the exchange at its end."""

    async def run() -> Peer:
        peer = Peer(store, folder / "peer")
        try:
            await play(peer)
        finally:
            peer.exchange.stop()
        return peer

    return asyncio.run(run())
