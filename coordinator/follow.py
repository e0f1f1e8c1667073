"""The composition root of `coordinator follow`: a closer of a run that another machine serves."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from barnraise.consensus.vote_store import open_closer
from barnraise.contract.charter import Charter
from barnraise.contract.endpoints import MAX_HOSTS, Endpoint
from barnraise.contract.invite import Invite, InviteNode
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.records import Head
from barnraise.contract.shards import MAX_INDEX_BYTES, DataIndex
from barnraise.contract.tip import holders
from barnraise.core.errors import BarnraiseError, Unreachable
from barnraise.core.ids import PublicKey
from barnraise.core.signed import Signed
from barnraise.network.address_book import AddressBook
from barnraise.network.address_file import AddressFile, load_book
from barnraise.network.address_search import AddressSearch
from barnraise.network.address_upkeep import AddressUpkeep
from barnraise.network.blobs.rate_limiter import Caps
from barnraise.network.swarm import Swarm
from barnraise.runtime.awake_clock import AwakeClock, ticking
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.files import owned_folder
from barnraise.runtime.machine_clocks import wall_ms
from barnraise.runtime.run_clock import RunClock
from barnraise.runtime.stop_signals import until_interrupted
from barnraise.runtime.waits import end, unless_stopped, until_first
from coordinator.addresses.announced import Announced
from coordinator.addresses.closer_nodes import closer_nodes
from coordinator.addresses.listening import ListenSettings
from coordinator.addresses.option_checks import check_options, check_tls
from coordinator.addresses.reserved_ports import ReservedPorts
from coordinator.addresses.upkeep import keep_addresses
from coordinator.checkpoints.copied_checkpoints import CopiedCheckpoints
from coordinator.follower_claims import FollowerClaims, Joined
from coordinator.reasons.addresses import AddressDoubt
from coordinator.recovery.first_copy import first_copy
from coordinator.recovery.key_file import set_journal_aside
from coordinator.rounds.joint_closing import LogIsVoid, joint_closing
from coordinator.rounds.missing_files import fetch_missing_files
from coordinator.rounds.session import Session
from coordinator.run_folder import BLOBS, CLOSER_KEY, JOURNAL, VOTES
from coordinator.servers import serving
from coordinator.store.events import RunChartered
from coordinator.store.journal import Journal
from coordinator.store.restoring import CopiesNeeded
from coordinator.store.row_reader import find_charter
from coordinator.store.run_state import MAX_NODES, OWN_NODES, CoordinatorAddresses
from coordinator.store.run_store import RunStore
from coordinator.timing import TIMING, Timing

log = logging.getLogger("coordinator")


@dataclass(frozen=True)
class Following:
    """A follower that takes part."""

    key: PublicKey
    closes: bool
    """Whether the run names its key."""
    node: InviteNode
    """Where other nodes find it: an invite may name it."""
    url: str
    """Address of the HTTP gateway."""
    doubts: tuple[AddressDoubt, ...]
    """Addresses that not everyone can reach."""


async def follow(
    invite: Invite,
    folder: Path,
    settings: ListenSettings,
    ready: Callable[[Following], None],
    timing: Timing = TIMING,
) -> None:
    """Follow a run until SIGINT, SIGTERM or SIGHUP; close its rounds with others where it names our key.

    Where nobody of the run is there, it tries again.
    """
    check_options(settings.host, settings.public_hosts, (), settings.http_url, ())
    check_tls(settings.host, settings.public_hosts, tls=settings.tls)
    stop = until_interrupted()
    again: ListenSettings | None = settings
    pause = timing.retry
    while again is not None:
        try:
            again = await _follow(invite, folder, again, ready, stop, timing)
            pause = timing.retry
        except Unreachable as error:
            log.warning("%s. Trying again in %.0f s; Ctrl-C ends", error.problem, pause)
            if not await unless_stopped(stop, asyncio.sleep(pause)):
                return
            pause = min(2 * pause, timing.longest_search)


async def _follow(
    invite: Invite,
    folder: Path,
    settings: ListenSettings,
    ready: Callable[[Following], None],
    stop: asyncio.Event,
    timing: Timing,
) -> ListenSettings | None:
    """Follow until `stop`, and return None; or until the run resumed at an earlier place: then return the
    settings to start again with, on the same ports.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(owned_folder(folder, "follower"))
        ports = stack.enter_context(settings.reserved())
        public = settings.announced(ports.bound)
        awake = stack.enter_context(ticking(AwakeClock()))
        identity, votes = open_closer(folder / CLOSER_KEY, folder / VOTES)
        journal = stack.enter_context(closing(Journal(folder / JOURNAL)))
        clock, blobs = RunClock(), BlobStore(folder / BLOBS)
        known = find_charter(journal.rows(), invite.key)
        book = _book(invite, folder, known)
        claims = FollowerClaims(invite, identity, book, clock, timing, public.endpoints)
        joined = await claims.join(known)
        charter = joined.charter.value
        keys = KeysInForce.of(charter)
        keys.heard(joined.head.epoch, joined.head.successors, charter.run)
        swarm = await _start_swarm(ports, public, settings, folder, blobs, joined, claims, keys)
        stack.push_async_callback(swarm.stop)
        if book.head is not None:
            swarm.learn(book.head)  # where nobody else is there, its age shows that this closer has to lead
        if not await unless_stopped(stop, _copy(joined, swarm, blobs, journal, clock, timing)):
            return None
        restore = functools.partial(RunStore.restore, identity, joined.charter, folder, folder, journal)
        store = await _restored(restore, swarm, stop, timing)
        if store is None:
            return None
        store.blobs.put(joined.charter.payload)  # for a coordinator that has lost all but its key
        joint = joint_closing(store, swarm, identity, votes, clock, keys, timing)
        checkpoints = CopiedCheckpoints.of(store, swarm, clock, timing)
        addresses = _addresses(await swarm.addresses(), public, joined.head)
        session = Session(
            store,
            checkpoints,
            swarm,
            clock,
            addresses,
            timing,
            pauses=awake.pauses,
            joint=joint,
            nodes=lambda: closer_nodes(swarm.known_addresses(), store.snapshot.position.named),
        )
        await checkpoints.update_archive()
        await stack.enter_async_context(serving(session, settings, ports.bound))
        node = InviteNode(identity.public, Endpoint(public.endpoints[0].host, _p2p_port(settings, ports)))
        closes = identity.public in store.snapshot.position.named
        ready(Following(identity.public, closes, node, public.urls[0], public.doubts))
        upkeep = AddressUpkeep(swarm, AddressFile(folder, book), identity.public, keys)
        stack.push_async_callback(end, asyncio.create_task(_copy_data(charter, swarm, blobs, keys, timing)))
        keeping = keep_addresses(upkeep, lambda: len(session.members), timing)
        searching = AddressSearch(
            swarm, upkeep, claims.newest_head, clock, silent_after=timing.coordinator_silent
        )
        try:
            await swarm.guard(until_first(session.run(stop), keeping, searching.run(), claims.renew()))
        except LogIsVoid as void:
            log.warning("%s. %s", void.problem, void.fix)
            journal.close()
            set_journal_aside(folder)
            with closing(Journal(folder / JOURNAL)) as begun:
                begun.append(RunChartered(clock(), joined.charter).row())
            return settings.on(ports.bound)
    return None


async def _copy(
    joined: Joined, swarm: Swarm, blobs: BlobStore, journal: Journal, clock: RunClock, timing: Timing
) -> None:
    """Begin the journal by what others hold, unless it has. Raises TrustError, StateError, DiskFull."""
    begun = len(list(islice(journal.rows(), 2)))  # the charter alone, where the log was found void
    while begun < 2:
        head = max([joined.head, *await swarm.heads()], key=lambda head: head.order)
        try:
            events = await first_copy(joined.charter, head, swarm, blobs, clock())
        except Unreachable as error:
            log.info("the run is not copied yet: %s", error.problem)
            await asyncio.sleep(timing.retry)
        else:
            journal.extend([event.row() for event in events[begun:]])
            return


def _book(invite: Invite, folder: Path, known: Signed[Charter] | None) -> AddressBook:
    """known: the charter, where this folder has followed the run before."""
    keys = KeysInForce.alone(invite.key) if known is None else KeysInForce.of(known.value)
    return load_book(folder, invite.run, keys, wall_ms(), knows_closers=known is not None)


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


async def _start_swarm(
    ports: ReservedPorts,
    public: Announced,
    settings: ListenSettings,
    folder: Path,
    blobs: BlobStore,
    joined: Joined,
    claims: FollowerClaims,
    keys: KeysInForce,
) -> Swarm:
    charter, is_reached = joined.charter.value, settings.is_reached(public)
    await AddressFile(folder, claims.book).save()
    ports.release()
    return await Swarm.start(
        claims.identity,
        charter.run,
        keys,
        clock=claims.clock,
        blobs=blobs,
        folder=folder,
        listen=ports.bound.listens,
        bootstrap=joined.head.bootstrap,
        announce=public.p2p if is_reached else (),
        caps=Caps(up=settings.max_upload),
        book=claims.book,
        admission=claims.admission,
        relays=is_reached,
        counts=True,
        may_be_first=joined.is_known,
    )


def _p2p_port(settings: ListenSettings, ports: ReservedPorts) -> int:
    return settings.public_p2p_port or ports.bound.p2p_port


def _addresses(own: tuple[str, ...], public: Announced, head: Head) -> CoordinatorAddresses:
    """What heads of this follower say: it is called first, and the coordinator may be back."""
    return CoordinatorAddresses(
        tuple(dict.fromkeys((*own[:OWN_NODES], *head.bootstrap)))[:MAX_NODES],
        tuple(dict.fromkeys((*public.api, *head.api)))[:MAX_HOSTS],
        tuple(dict.fromkeys((*public.urls, *head.gateways)))[:MAX_HOSTS],
    )


async def _copy_data(
    charter: Charter, swarm: Swarm, blobs: BlobStore, keys: KeysInForce, timing: Timing
) -> None:
    """Have the run's data, so that volunteers get it while the coordinator is away."""
    while True:
        try:
            await swarm.fetch(charter.data_index_hash, MAX_INDEX_BYTES, holders(charter, keys.at_work))
            index = DataIndex.from_bytes(await asyncio.to_thread(blobs.get, charter.data_index_hash))
            for ref in index.shards:
                await swarm.fetch(ref.blob, ref.size, holders(charter, keys.at_work))
            return
        except BarnraiseError as error:
            log.info("the run's data is not copied yet: %s", error.problem)
            await asyncio.sleep(timing.retry)
