"""A coordinator in this process: a real run store and session on small tensors, and a fake swarm."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
import pytest

from barnraise.contract.archive import folder_of
from barnraise.contract.endpoints import Endpoint
from barnraise.contract.invite import Invite
from barnraise.contract.manifest import HeldOut
from barnraise.contract.pieces import Wanted, pieces_hash
from barnraise.contract.records import Commit, Head, Presence, Record
from barnraise.contract.spec import RunSpec
from barnraise.contract.state import TrainState
from barnraise.core.errors import BarnraiseError, HashMismatch, Unreachable
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Millis, PublicKey, Round, blob_hash
from barnraise.core.signed import Signed, sign
from barnraise.fold.codec import encode_in_place
from barnraise.fold.log import Link
from barnraise.models.lora_files import ADAPTER_CONFIG
from barnraise.network.swarm import Swarm
from barnraise.network.tls.certificates import issue
from barnraise.runtime.blob_store import BlobStore
from coordinator.call_limits import LIMITS, CallLimits
from coordinator.checkpoints.archive_writer import ArchiveContent, ArchiveWriter
from coordinator.checkpoints.card_data import card_files
from coordinator.checkpoints.publisher import Publisher, publisher_of
from coordinator.grpc_service import serve
from coordinator.rounds.amending import Amending
from coordinator.rounds.coordinator_api import CoordinatorApi
from coordinator.rounds.session import Session
from coordinator.run_folder import ARCHIVE, CHAT_TEMPLATE
from coordinator.store.journal import Journal
from coordinator.store.row_reader import find_charter
from coordinator.store.run_state import CoordinatorAddresses
from coordinator.store.run_store import RunStore
from coordinator.timing import TIMING, Timing
from tests.support import parts

NODE = f"/ip4/127.0.0.1/tcp/7452/p2p/{'Qm'.ljust(46, 'x')}"
ADDRESSES = CoordinatorAddresses((NODE,))


def with_gateway(port: int) -> CoordinatorAddresses:
    """The addresses of a coordinator whose archive is at a port of this machine."""
    return CoordinatorAddresses((NODE,), (), (f"http://127.0.0.1:{port}",))


LARGE = "tokenizer.json"
"""The one file of a checkpoint that travels in more than one piece."""


@dataclass
class FakeSwarm:
    """The blobs and records of other peers, without a network."""

    blobs: BlobStore
    held: dict[BlobHash, bytes] = field(default_factory=dict)
    """The bytes that holders send for a name."""
    announced: list[Signed[Commit]] = field(default_factory=list)
    present: list[Presence] = field(default_factory=list)
    published: list[Record] = field(default_factory=list)
    fetched: list[BlobHash] = field(default_factory=list)
    asked_of: set[PublicKey] = field(default_factory=set)
    """The holders that were named."""
    answering: set[PublicKey] = field(default_factory=set)
    """Nodes that exchange addresses."""

    async def fetch(self, name: BlobHash, limit: int, holders: Sequence[PublicKey]) -> Path:
        self.asked_of |= set(holders)
        if name in self.blobs:
            return self.blobs.path(name)
        self.fetched.append(name)
        if name not in self.held:
            raise Unreachable(f"no holder served the blob {name[:8]}", fix="It is fetched again.")
        self.blobs.partial(name).write_bytes(self.held[name][:limit])
        try:
            return self.blobs.accept(name)
        except HashMismatch as error:
            raise Unreachable(
                f"no holder served the blob {name[:8]} ({error.problem})", fix=error.fix
            ) from None

    async def fetch_pieces(self, wanted: Wanted, holders: Sequence[PublicKey]) -> Path:
        return await self.fetch(wanted.blob, wanted.size, holders)

    async def commits(self, round: Round) -> list[Signed[Commit]]:
        return [commit for commit in self.announced if commit.value.round == round]

    async def peers(self) -> list[Presence]:
        return self.present

    async def heads(self) -> list[Head]:
        return [record for record in self.published if isinstance(record, Head)][-1:]

    async def exchange_addresses(self, peer: PublicKey) -> bool:
        return peer in self.answering

    async def publish(self, record: Record) -> bool:
        self.published.append(record)
        return True

    @property
    def as_swarm(self) -> Swarm:
        return cast(Swarm, self)


def head_of(store: RunStore) -> Head:
    """The head that the coordinator of a run store signs."""
    return store.snapshot.head(parts.NOW, CoordinatorAddresses(), turns=1, volunteers=1, tokens=0)


@contextmanager
def opened_store(
    folder: Path,
    spec: RunSpec | None = None,
    genesis: TrainState | None = None,
    *,
    published: bool = True,
) -> Iterator[RunStore]:
    """A new run of two adapter-like tensors. published: its checkpoint of round 0 is in the archive."""
    genesis = genesis or parts.state()
    base = folder / "base"
    base.mkdir(parents=True)
    (base / LARGE).write_bytes(np.random.default_rng(0).bytes(700_000))
    (folder / CHAT_TEMPLATE).write_text("{{ messages }}", encoding="utf-8")
    (folder / ADAPTER_CONFIG).write_text("{}", encoding="utf-8")
    journal = Journal(folder / "journal.sqlite")
    try:
        charter = parts.charter(spec or parts.run_spec(), genesis)
        store = RunStore.begin(parts.AUTHORITY, charter, genesis, base, folder, journal, parts.NOW)
        if published:
            show(store)
        yield store
    finally:
        journal.close()


@contextmanager
def reopened(
    store: RunStore, mirrors: Sequence[str] = (), by: Identity = parts.AUTHORITY
) -> Iterator[RunStore]:
    """The run store that a coordinator with the key `by` restores from the folder of `store` after a kill."""
    journal = Journal(store.folder / "journal.sqlite")
    try:
        charter = find_charter(journal.rows(), parts.AUTHORITY.public)
        assert charter is not None
        yield RunStore.restore(by, charter, store.base, store.folder, journal, mirrors)
    finally:
        journal.close()


def contribution(store: RunStore, owner: Identity, seed: int = 1) -> tuple[Signed[Commit], bytes]:
    """A commit that fits the open round, and its blob, which no store holds yet."""
    codec = store.charter.spec.codec
    blob = bytes(
        encode_in_place(codec, parts.tensors(seed, store.state.layout, scale=0.01), store.state.layout)
    )
    return announce(store, owner, blob), blob


def announce(store: RunStore, owner: Identity, blob: bytes) -> Signed[Commit]:
    """A commit that fits the open round and names `blob`, valid or not."""
    tip = store.snapshot.tip
    commit = parts.commit(
        owner, round=tip.round, base=tip.state, blob=blob_hash(blob), size=len(blob),
        pieces=pieces_hash(blob),
    )  # fmt: skip
    return sign(owner, commit)


def train_round(store: RunStore, *owners: Identity, loss: float | None = None) -> Link:
    """Accept a contribution of each, close, fold, write the checkpoint, and show it in the archive.

    loss: the checkpoint's held-out loss.
    """
    link = fold_round(store, *owners)
    store.write_checkpoint(parts.NOW)
    show(store, loss)
    return link


def fold_round(store: RunStore, *owners: Identity) -> Link:
    """Accept a contribution of each, close, and fold."""
    for seed, owner in enumerate(owners, start=store.snapshot.tip.round * 10):
        commit, blob = contribution(store, owner, seed)
        store.blobs.put(blob)
        store.accept(commit, parts.NOW)
    link = store.close("all contributed", parts.NOW)
    store.fold(link)
    return link


def show(store: RunStore, loss: float | None = None) -> None:
    """Publish each checkpoint that is not, with that held-out loss, and bring the archive up to date."""
    held_out = None if loss is None else HeldOut(loss=loss, tokens=1000)
    for round in store.snapshot.unpublished:
        store.publish(round, held_out, card_files(store.snapshot, round, held_out), parts.NOW)
    ArchiveWriter(store.charter, archive(store), store.blobs).write(ArchiveContent.of(store.snapshot, ()))


def archive(store: RunStore) -> Path:
    return store.folder / ARCHIVE


def checkpoint(store: RunStore, round: int = 0) -> Path:
    """The folder of a checkpoint in the coordinator's archive."""
    return archive(store) / folder_of("trained", round)


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def session_of(
    store: RunStore,
    swarm: FakeSwarm | None = None,
    now: Millis = parts.NOW,
    *,
    publisher: Publisher | None = None,
    timing: Timing = TIMING,
    addresses: CoordinatorAddresses = ADDRESSES,
) -> Session:
    """A session that is not running. now: the time of its clock."""
    fake = swarm or FakeSwarm(store.blobs)
    publisher = publisher or publisher_of(store, lambda: now)
    return Session(store, publisher, fake.as_swarm, lambda: now, addresses, timing)


def amending_session_of(store: RunStore, swarm: FakeSwarm | None = None) -> Session:
    """The same, of a coordinator that carries out its maintainer's orders."""
    found = session_of(store, swarm)
    found.amending = Amending(store)
    return found


def api_of(session: Session) -> CoordinatorApi:
    """The API that the gRPC service of a coordinator with this session calls."""
    return CoordinatorApi(session.store, session.publisher, session, session.clock, session.timing)


class Waited(asyncio.Event):
    """An event that records that a task waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = asyncio.Event()

    async def wait(self) -> Literal[True]:
        self.waited.set()
        return await super().wait()


async def until_published(publisher: Publisher) -> None:
    """Run a publisher until it is idle, and cancel it. Raises its errors."""
    new = Waited()
    run = asyncio.create_task(replace(publisher, _new=new).run())
    idle = asyncio.create_task(new.waited.wait())
    await asyncio.wait([run, idle], return_when=asyncio.FIRST_COMPLETED)
    for task in (run, idle):
        task.cancel()
    await asyncio.wait([run, idle])
    if not run.cancelled():
        run.result()


@asynccontextmanager
async def served(session: Session, *, tls: bool = True, limits: CallLimits = LIMITS) -> AsyncIterator[Invite]:
    """The real gRPC service on a free port of this machine, and the invite to it."""
    store = session.store
    successors = store.snapshot.position.successors
    certificate = issue(store.authority, store.charter.run, successors) if tls else None
    server, port = await serve(api_of(session), "127.0.0.1", 0, certificate, limits)
    try:
        endpoints, key = (Endpoint("127.0.0.1", port),), parts.AUTHORITY.public
        yield Invite(endpoints, parts.RUN, key, invitation=parts.invitation())
    finally:
        await server.stop(None)


def with_key(invite: Invite, key: PublicKey) -> Invite:
    return replace(invite, key=key)


def unused_port() -> int:
    """A port of this machine without a server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until_idle(session: Session) -> None:
    """Until every fetch that a tick started has ended."""
    await session.contributions.wait()


@contextmanager
def raises_with_fix(kind: type[BarnraiseError], status: int, *words: str) -> Iterator[None]:
    """Assert that an error of exactly this kind is raised, with `words` in its problem or fix."""
    with pytest.raises(kind) as caught:
        yield
    error = caught.value
    assert type(error) is kind
    assert error.exit_code == status
    assert all(word in str(error) for word in words), str(error)
    assert error.problem.strip()
    assert error.fix.strip().endswith((".", ")", "'", "`"))
