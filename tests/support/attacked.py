"""A run under attack in one process: a coordinator's real session, store, record checks and blob transfer.

What peers send enters as bytes, as from the network: only libp2p's streams are replaced, by socket pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from barnraise.contract.close_rules import open_commits
from barnraise.contract.log_entries import Close, parse_entry
from barnraise.contract.pieces import Wanted
from barnraise.contract.records import Commit, Head, Presence, Record, open_record, seal
from barnraise.contract.rounds import seconds_between
from barnraise.core.errors import TrustError
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Millis, PublicKey, Round, blob_hash
from barnraise.core.signed import Signable, Signed
from barnraise.network.gossip_policy import MAX_COUNTED, RecordCache
from barnraise.network.swarm import Swarm
from coordinator.checkpoints.publisher import publisher_of
from coordinator.rounds.session import Session
from coordinator.store.run_state import CoordinatorAddresses
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import NODE, contribution, until_idle
from tests.support.transfers import Net, Node

COORDINATOR = parts.AUTHORITY.public


def wire_of(by: Identity, model: type[Signable], payload: bytes) -> bytes:
    """The wire form of any payload, correctly signed."""
    return bytes.fromhex(by.public) + by.sign(model.DOMAIN + payload) + payload


def admission(owner: Identity) -> str:
    """One that does not end while a test lasts."""
    return parts.admission(owner, expires=parts.NOW + 10**9)


@dataclass
class WireSwarm:
    """The coordinator's side of the network."""

    store: RunStore
    net: Net
    now: Millis = parts.NOW
    cache: RecordCache = field(default_factory=lambda: RecordCache(limit=MAX_COUNTED))
    refused: list[TrustError] = field(default_factory=list)
    """Records that were not taken."""
    published: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        node = self.net.nodes[COORDINATOR] = self.net.node("coordinator", blobs=self.store.blobs)
        self.transfer = node.transfer

    def receive(self, value: bytes) -> bool:
        """A record arrives, with its tag. Whether it is taken."""
        signers = self.store.snapshot.signers
        try:
            signed = open_record(value, run=parts.RUN, signers=signers, now=self.now)
        except TrustError as error:
            self.refused.append(error)
            return False
        self.cache.receive(signed, self.now)
        return True

    async def fetch(self, name: BlobHash, limit: int, holders: Sequence[PublicKey]) -> Path:
        return await self.transfer.fetch(name, limit, holders)

    async def fetch_pieces(self, wanted: Wanted, holders: Sequence[PublicKey]) -> Path:
        return await self.transfer.fetch_pieces(wanted, holders)

    async def commits(self, round: Round) -> list[Signed[Commit]]:
        return self.cache.commits(round)

    async def peers(self) -> list[Presence]:
        return self.cache.present(self.now)

    async def heads(self) -> list[Head]:
        return [] if self.cache.head is None else [self.cache.head]

    async def publish(self, record: Record) -> bool:
        self.published.append(record)
        assert self.receive(seal(parts.AUTHORITY, record)), "the coordinator's own record is refused"
        return True

    @property
    def as_swarm(self) -> Swarm:
        return cast(Swarm, self)


@dataclass
class Attacked:
    """A coordinator, and the peers that it can reach."""

    store: RunStore
    swarm: WireSwarm
    session: Session

    @classmethod
    def of(cls, store: RunStore, net: Net) -> Attacked:
        """A session that has not ticked yet."""
        swarm = WireSwarm(store, net)
        clock = lambda: swarm.now  # noqa: E731
        addresses = CoordinatorAddresses((NODE,))
        session = Session(store, publisher_of(store, clock), swarm.as_swarm, clock, addresses)
        return cls(store, swarm, session)

    def honest(self, owner: Identity, seed: int) -> BlobHash:
        """An honest peer announces a contribution to the open round, and serves it."""
        commit, blob = contribution(self.store, owner, seed)
        node = self.node(owner)
        node.holds(blob)
        lasting = commit.value.model_copy(update={"admission": admission(owner)})
        assert self.swarm.receive(seal(owner, lasting))
        return blob_hash(blob)

    def node(self, owner: Identity) -> Node:
        """The node of a peer, which serves what it holds."""
        net = self.swarm.net
        return net.node_of(owner.public)

    def present(self, owner: Identity, **other: object) -> bool:
        """A peer's heartbeat, trained in the open round. Whether it is taken."""
        run = self.store.snapshot
        fields: dict[str, object] = {
            "round": run.round,
            "state": run.tip.state,
            "admission": admission(owner),
        }
        return self.swarm.receive(seal(owner, parts.presence(owner, **(fields | other))))

    def later(self, seconds: float) -> None:
        """Let time pass."""
        self.swarm.now = Millis(self.swarm.now + round(1000 * seconds))

    async def ticks(self, count: int = 2) -> None:
        """Let the session decide, each time after all that it began has ended."""
        for _ in range(count):
            await self.session.surviving_tick()
            await until_idle(self.session)

    async def close(self, *owners: Identity) -> None:
        """Let the round's time pass, with heartbeats of these, until it is closed."""
        await self.ticks(1)
        window = self.store.snapshot.window
        self.later(max(0.0, seconds_between(self.swarm.now, window.deadline)) + 1)
        for owner in owners:
            assert self.present(owner, at=self.swarm.now)
        await self.ticks(2)

    @property
    def folded(self) -> list[set[PublicKey]]:
        """Owners of the contributions that each round folded."""
        found = []
        for logged in self.store.snapshot.log:
            entry = parse_entry(self.store.blobs.get(logged.name))
            assert isinstance(entry, Close)
            found.append({PublicKey(commit.owner) for commit in open_commits(entry)})
        return found
