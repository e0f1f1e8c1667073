"""The composition root of `coordinator follow`: a closer of a run that another machine serves."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from barnraise.consensus.vote_store import open_closer
from barnraise.contract.charter import MAX_CHARTER_BYTES, Charter
from barnraise.contract.invite import Invite
from barnraise.contract.log_entries import MAX_ENTRY_BYTES
from barnraise.contract.records import Head, JoinClaim, open_record, wanted
from barnraise.contract.shards import MAX_INDEX_BYTES, DataIndex
from barnraise.contract.tip import first_closers, first_position, holders
from barnraise.core.errors import BarnraiseError, MalformedRecord, Unreachable, UserError
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Millis, PublicKey
from barnraise.core.signed import Signed, open_signed, sign
from barnraise.fold.log import Link, Step, Unreadable, check_step, read_step
from barnraise.network.swarm import Swarm
from barnraise.runtime.awake_clock import AwakeClock, ticking
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.files import owned_folder, write_atomic
from barnraise.runtime.run_clock import RunClock
from barnraise.runtime.stop_signals import on_stop_signals
from coordinator.checkpoints.copied_checkpoints import CopiedCheckpoints, copy_checkpoint
from coordinator.grpc_service import ask_join
from coordinator.rounds.joint_closing import joint_closing
from coordinator.rounds.missing_files import fetch_missing_files
from coordinator.rounds.session import Session
from coordinator.run_folder import ADDRESSES, BLOBS, CLOSER_KEY, JOURNAL, VOTES
from coordinator.stopping import unless_stopped
from coordinator.store.events import (
    CheckpointWritten,
    ContributionsForgotten,
    Journaled,
    RoundOpened,
    RunChartered,
    entered,
)
from coordinator.store.journal import Journal
from coordinator.store.restoring import CopiesNeeded
from coordinator.store.row_reader import find_charter
from coordinator.store.run_state import CoordinatorAddresses
from coordinator.store.run_store import RunStore
from coordinator.timing import TIMING, Timing

log = logging.getLogger("coordinator")

MAX_ADDRESSES, OWN_ADDRESSES = 16, 8
"""Addresses in a head, and those of the follower among them."""


@dataclass(frozen=True)
class Following:
    """A follower that takes part."""

    key: PublicKey
    closes: bool
    """Whether the run names its key."""


@dataclass(frozen=True)
class _Joined:
    charter: Signed[Charter]
    head: Head | None
    """None where the coordinator is away."""
    addresses: tuple[str, ...]


async def follow(
    invite: Invite,
    folder: Path,
    listen: Sequence[str],
    ready: Callable[[Following], None],
    timing: Timing = TIMING,
) -> None:
    """Follow a run until SIGINT, SIGTERM or SIGHUP; close its rounds with others where it names our key."""
    stop = asyncio.Event()
    on_stop_signals(stop.set, stop.set)
    async with AsyncExitStack() as stack:
        stack.enter_context(owned_folder(folder, "follower"))
        awake = stack.enter_context(ticking(AwakeClock()))
        identity, votes = open_closer(folder / CLOSER_KEY, folder / VOTES)
        journal = stack.enter_context(closing(Journal(folder / JOURNAL)))
        clock = RunClock()
        joined = await _join(invite, identity, folder, journal, clock, timing)
        charter, blobs = joined.charter.value, BlobStore(folder / BLOBS)
        if not first_closers(charter):
            raise UserError(
                f"the run {charter.run} names no closers: its coordinator alone closes its rounds",
                fix="`coordinator publish` copies its archive. For the next run, what `coordinator closer-key"
                " FOLDER` prints belongs into `closers.keys`.",
            )
        swarm = await Swarm.start(
            identity,
            charter.run,
            invite.key,
            clock=clock,
            blobs=blobs,
            folder=folder,
            listen=listen,
            bootstrap=joined.addresses,
            closers=first_closers(charter),
        )
        stack.push_async_callback(swarm.stop)
        if find_charter(journal.rows(), invite.key) is None:
            assert joined.head is not None, "it was joined"
            for event in await _history(joined.charter, joined.head, swarm, blobs, clock()):
                journal.append(event.row())
        restore = functools.partial(RunStore.restore, identity, joined.charter, folder, folder, journal)
        store = await _restored(restore, swarm, stop, timing)
        if store is None:
            return
        joint = joint_closing(store, swarm, identity, votes, clock, timing)
        checkpoints = CopiedCheckpoints(store, swarm, clock, timing)
        session = Session(
            store,
            checkpoints,
            swarm,
            clock,
            _addresses(await swarm.addresses(), joined),
            timing,
            pauses=awake.pauses,
            joint=joint,
        )
        ready(Following(identity.public, identity.public in first_closers(charter)))
        data = asyncio.create_task(_copy_data(charter, swarm, blobs, timing))
        try:
            await swarm.guard(session.run(stop))
        finally:
            data.cancel()


def _addresses(own: tuple[str, ...], joined: _Joined) -> CoordinatorAddresses:
    """What heads of this follower say: it is dialled first, and the coordinator may be back."""
    known = joined.addresses[: MAX_ADDRESSES - len(own[:OWN_ADDRESSES])]
    head = joined.head
    p2p = (*own[:OWN_ADDRESSES], *known)
    return CoordinatorAddresses(p2p, head.api if head else (), head.gateways if head else ())


async def _restored(
    restore: Callable[[], RunStore], swarm: Swarm, stop: asyncio.Event, timing: Timing
) -> RunStore | None:
    """The run store, once what it lacks was fetched from others; None when `stop` is set before."""
    while True:
        try:
            return await asyncio.to_thread(restore)
        except CopiesNeeded as needed:
            if not await unless_stopped(stop, fetch_missing_files(needed.files, swarm, timing)):
                return None


async def _join(
    invite: Invite, identity: Identity, folder: Path, journal: Journal, clock: RunClock, timing: Timing
) -> _Joined:
    """Raises Unreachable where the coordinator is away and this folder has not followed the run before."""
    claim = JoinClaim(run=invite.run, owner=identity.public, name="", credit=False, at=clock())
    known = find_charter(journal.rows(), invite.key)
    try:
        reply = await ask_join(invite.endpoints, sign(identity, claim), timing)
    except Unreachable as error:
        if known is None or not (folder / ADDRESSES).exists():
            raise
        log.info("%s; following without it", error.problem)
        return _Joined(known, None, tuple(json.loads((folder / ADDRESSES).read_bytes())))
    charter = open_signed(Charter, reply.charter, signer=invite.key, limit=MAX_CHARTER_BYTES)
    closers = first_closers(charter.value)
    head = open_record(reply.head, run=invite.run, authority=invite.key, now=Millis(0), closers=closers).value
    if not isinstance(head, Head):
        raise MalformedRecord("the coordinator sent a record that is not a head", fix="Report it.")
    clock.head_received(Millis(head.at))
    write_atomic(folder / ADDRESSES, json.dumps(head.bootstrap).encode())
    return _Joined(charter, head, head.bootstrap)


async def _history(
    charter: Signed[Charter], head: Head, swarm: Swarm, blobs: BlobStore, now: Millis
) -> list[Journaled]:
    """What a journal has to record to continue from the head's checkpoint. Its files are in the store."""
    manifest = await copy_checkpoint(charter.value, swarm, blobs, BlobHash(head.checkpoint))
    first = manifest.value.round
    events: list[Journaled] = [RunChartered(now, charter)]
    having = await _holders(charter.value, swarm)
    for step in await _steps(charter.value, head, swarm, blobs, having):
        events.append(entered(step))
        if isinstance(step, Link) and step.close.round >= first:
            for commit in step.commits:
                await swarm.fetch_pieces(wanted(commit), [PublicKey(commit.owner), *having])
    events.append(CheckpointWritten(now, manifest))
    if first:
        events.append(ContributionsForgotten(now, first))
    return [*events, RoundOpened(Millis(head.opens), head.round)]


async def _holders(charter: Charter, swarm: Swarm) -> tuple[PublicKey, ...]:
    """Who may have the log and the newest contributions: the coordinator, closers, and volunteers."""
    present = (PublicKey(presence.owner) for presence in await swarm.peers())
    return tuple(dict.fromkeys((*holders(charter), *present)))


async def _steps(
    charter: Charter, head: Head, swarm: Swarm, blobs: BlobStore, having: Sequence[PublicKey]
) -> list[Step]:
    """The whole log up to a head, checked. Raises Unreachable, TrustError, StateError."""
    found: list[Step] = []
    name, certificate = BlobHash(head.entry), head.certificate
    while certificate is not None:
        await swarm.fetch(name, MAX_ENTRY_BYTES, having)
        step = read_step(await asyncio.to_thread(blobs.get, name), certificate, charter)
        if isinstance(step, Unreadable):
            raise MalformedRecord("the run's log is of a newer version", fix="Update Barnraise.")
        found.append(step)
        name, certificate = BlobHash(step.entry.previous), step.entry.certificate
    position = first_position(charter)
    for step in reversed(found):
        position = position.after(check_step(position, step, charter).entry)
    return found[::-1]


async def _copy_data(charter: Charter, swarm: Swarm, blobs: BlobStore, timing: Timing) -> None:
    """Have the run's data, so that volunteers get it while the coordinator is away."""
    while True:
        try:
            await swarm.fetch(charter.data_index_hash, MAX_INDEX_BYTES, holders(charter))
            index = DataIndex.from_bytes(await asyncio.to_thread(blobs.get, charter.data_index_hash))
            for ref in index.shards:
                await swarm.fetch(ref.blob, ref.size, holders(charter))
            return
        except BarnraiseError as error:
            log.info("the run's data is not copied yet: %s", error.problem)
            await asyncio.sleep(timing.retry)
