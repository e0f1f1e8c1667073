"""Three closers with real run stores, on a network that is a list of messages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from barnraise.consensus.vote_store import VoteStore
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.log_entries import Rollback
from barnraise.contract.pieces import Wanted
from barnraise.core.errors import TrustError, Unreachable
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Millis, PublicKey
from barnraise.fold.log import Link, Step, in_effect
from barnraise.network.mail import Mail
from barnraise.network.swarm import Swarm
from coordinator.rounds.delegating import Delegating, request_closers
from coordinator.rounds.joint_closing import JointClosing, joint_closing
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import contribution, opened_store

CLOSERS = [parts.AUTHORITY, *(Identity.from_seed(bytes([n]) * 32) for n in (7, 8))]


@dataclass
class Hub:
    """The network of three closers: mail, and blobs that any present one serves."""

    now: int = parts.NOW
    stores: dict[PublicKey, RunStore] = field(default_factory=dict)
    joints: dict[PublicKey, JointClosing] = field(default_factory=dict)
    away: set[PublicKey] = field(default_factory=set)
    mail: list[tuple[PublicKey, bytes]] = field(default_factory=list)

    def post(self, to: PublicKey, data: bytes) -> None:
        """Send a message, which arrives when the hub settles."""
        self.mail.append((to, data))

    async def settle(self) -> list[str]:
        """Let time pass until nothing is sent, and enter what was agreed on. Returns who entered an entry."""
        entered: list[str] = []
        for _ in range(20):
            for key, joint in self.joints.items():
                if key not in self.away:
                    joint.tick()
                    await asyncio.gather(*joint._checks.values())
                    entered += [key for _ in enter(joint, await joint.next_steps([]))]
            sent, self.mail = self.mail, []
            for to, data in sent:
                if to not in self.away:
                    with suppress(TrustError):  # as `Mail` does: the sender may close no longer
                        self.joints[to].agreement.receive(data)
        return entered


@dataclass
class Node:
    """What a closer uses of its swarm."""

    hub: Hub
    own: PublicKey
    mail: Any = None

    async def fetch(self, name: BlobHash, limit: int, holders: Sequence[PublicKey]) -> Path:
        blobs = self.hub.stores[self.own].blobs
        for holder in holders:
            theirs = self.hub.stores[holder].blobs if holder in self.hub.stores else None
            if theirs is not None and holder not in self.hub.away and name in theirs:
                blobs.put(theirs.get(name))
        if name not in blobs:
            raise Unreachable("nobody has it", fix="It is fetched again.")
        return blobs.path(name)

    async def fetch_pieces(self, wanted: Wanted, holders: Sequence[PublicKey]) -> Path:
        return await self.fetch(wanted.blob, wanted.size, holders)


@contextmanager
def three_closers(folder_of_all: Path) -> Iterator[Hub]:
    """The network of CLOSERS, each with a run store and votes of its own in `folder_of_all`."""
    keys = tuple(identity.public for identity in CLOSERS[1:])
    spec = parts.run_spec()
    spec = spec.model_copy(update={"closers": spec.closers.model_copy(update={"keys": keys})})
    made = Hub()
    with ExitStack() as stack:
        for identity in CLOSERS:
            folder = folder_of_all / identity.public[:8]
            store = stack.enter_context(opened_store(folder, spec, published=False))
            node = Node(made, identity.public)
            node.mail = cast(Mail, _Outbox(made))
            votes = VoteStore.begin(folder / "votes.json", identity.public)
            made.stores[identity.public] = store
            made.joints[identity.public] = joint_closing(
                store,
                cast(Swarm, node),
                identity,
                votes,
                lambda: Millis(made.now),
                KeysInForce.of(store.charter),
            )
        yield made


@dataclass
class _Outbox:
    hub: Hub
    deliver: Any = None

    def send(self, to: PublicKey, data: bytes) -> None:
        self.hub.post(to, data)


def enter(joint: JointClosing, steps: Sequence[Step]) -> Sequence[Step]:
    """As the session does."""
    counting = in_effect(joint.store.snapshot.position, steps)
    for step in steps:
        joint.enter(step)
        if step in counting and isinstance(step, Link):
            joint.store.fold(step)
        elif step in counting and isinstance(step.entry, Rollback):
            joint.store.rebuild()
    return steps


def accept(store: RunStore) -> None:
    """Accept two contributions to the open round, which this closer alone holds."""
    for owner in (parts.ADA, parts.BEN):
        accept_of(store, owner)


def accept_of(store: RunStore, owner: Identity) -> None:
    commit, blob = contribution(store, owner, (owner is parts.BEN) + 10 * store.snapshot.round)
    store.blobs.put(blob)
    store.accept(commit, parts.NOW)


def propose(hub: Hub, identity: Identity) -> None:
    accept(hub.stores[identity.public])
    hub.joints[identity.public].propose("all contributed", parts.NOW)


def states(hub: Hub) -> list[tuple[int, str]]:
    tips = [store.snapshot.tip for store in hub.stores.values()]
    return [(tip.round, tip.state) for tip in tips]


def delegate(hub: Hub, *keys: str) -> None:
    """Have the coordinator propose other closers."""
    first = CLOSERS[0]
    store = hub.stores[first.public]
    request_closers(store.folder, keys)
    entry = Delegating(store).entry(Millis(hub.now))
    assert entry is not None
    hub.joints[first.public].propose_amendment(entry)
