"""The composition root of `coordinator serve`: from a run.toml and settings to a running session.

What is started is stopped in the reverse order, also where a later start fails.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import Self

from barnraise.consensus.vote_store import VoteStore
from barnraise.contract.invite import Invite, parse_node
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.spec import RunSpec
from barnraise.contract.spec_file import read_spec
from barnraise.contract.tip import first_closers
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, RunId
from barnraise.models.base_model import resolve
from barnraise.network.address_file import AddressFile, load_book
from barnraise.network.address_upkeep import AddressUpkeep
from barnraise.network.blobs.rate_limiter import Caps, RateLimiter
from barnraise.network.invite_nodes import dialled
from barnraise.network.swarm import Swarm
from barnraise.runtime.awake_clock import AwakeClock, ticking
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.files import owned_folder
from barnraise.runtime.run_clock import RunClock
from barnraise.runtime.stop_signals import until_interrupted
from barnraise.runtime.waits import end, unless_stopped, until_first
from coordinator.addresses.announced import Announced, Bound
from coordinator.addresses.closer_nodes import closer_nodes
from coordinator.addresses.listening import ListenSettings
from coordinator.addresses.option_checks import check_options, check_tls
from coordinator.addresses.reserved_ports import ReservedPorts
from coordinator.addresses.upkeep import keep_addresses
from coordinator.audits.auditing import Auditing
from coordinator.checkpoints.publisher import Publisher, publisher_of
from coordinator.messages.setup import base_delivery
from coordinator.reasons.addresses import AddressDoubt
from coordinator.recovery.beginning import Asked, Recover
from coordinator.recovery.key_file import keep_key
from coordinator.recovery.opening import known_keys, open_folder
from coordinator.recovery.recover import Recovery, resume_after_recovery
from coordinator.rounds.amending import Amending
from coordinator.rounds.decay_order import leave_decay
from coordinator.rounds.invitations import MadeInvite, invite_to
from coordinator.rounds.joint_closing import JointClosing, LogIsVoid, joint_closing
from coordinator.rounds.log_watch import LogIsBehind
from coordinator.rounds.missing_files import fetch_missing_files, fetch_missing_shards
from coordinator.rounds.peers_file import PeersKeeper
from coordinator.rounds.session import ClosersNamed, Session
from coordinator.run_folder import AUTHORITY_KEY, BLOBS, CLOCK, JOURNAL, VOTES
from coordinator.servers import serving
from coordinator.setup.charter import check_unchanged
from coordinator.setup.data_repair import PreparedData
from coordinator.store.journal import Journal
from coordinator.store.kept_clock import KeptClock
from coordinator.store.restoring import CopiesNeeded
from coordinator.store.row_reader import find_charter
from coordinator.store.run_state import CoordinatorAddresses
from coordinator.store.run_store import RunStore
from coordinator.timing import TIMING, Timing

log = logging.getLogger("coordinator")


class ServeSettings(ListenSettings):
    """What may differ between machines and restarts: no part of the run spec."""

    mirrors: tuple[str, ...]
    """Addresses of other servers with a copy of the archive."""
    invite_nodes: tuple[str, ...]
    """Other nodes of the swarm that the invite names, as KEY@HOST:PORT."""
    max_download: int | None
    """Limit for the download of the base model in bytes per second; None: no limit."""
    rehearsal_memory: int | None
    """Bytes that a new run's rehearsal may take; None: what is free."""
    recover_from: str | None = None
    """An archive or an invite from which to continue a run whose journal is lost, old or cut short."""
    new_run: bool = False
    """Begin a new run where the folder has the key of another one, which is set aside."""
    without_closers: bool = False
    """Resume a run whose closers are lost for good: rounds that they closed without this machine are void."""
    decay: int | None = None
    """Rounds of the decay of the learning rate that ends the run."""

    def on(self, bound: Bound) -> Self:
        """The same on the ports that are bound, with the run that the folder has: it is recovered once, and a
        decay is ordered."""
        once = {"recover_from": None, "new_run": False, "decay": None}
        return super().on(bound).model_copy(update=once)


@dataclass(frozen=True)
class Serving:
    """A coordinator that volunteers can join."""

    made: MadeInvite
    url: str
    """Address of the HTTP gateway."""
    folder: Path
    rehearsed: bool
    """Whether one step was tried before the run began."""
    doubts: tuple[AddressDoubt, ...]
    """Addresses of the invite that not everyone can reach."""


async def serve(
    spec_path: Path,
    folder: Path,
    cache: Path,
    settings: ServeSettings,
    ready: Callable[[Serving], None],
    timing: Timing = TIMING,
) -> None:
    """Serve a run until SIGINT, SIGTERM or SIGHUP. ready: called once volunteers can join, unless the base
    model cannot be evaluated.
    """
    spec = read_spec(spec_path)
    check_options(
        settings.host, settings.public_hosts, settings.invite_nodes, settings.http_url, settings.mirrors
    )
    check_tls(settings.host, settings.public_hosts, tls=settings.tls)
    stop = until_interrupted()
    again: ServeSettings | None = settings
    while again is not None:
        again = await _serve(spec, spec_path, folder, cache, again, ready, stop, timing)


async def _serve(
    spec: RunSpec,
    spec_path: Path,
    folder: Path,
    cache: Path,
    settings: ServeSettings,
    ready: Callable[[Serving], None],
    stop: asyncio.Event,
    timing: Timing,
) -> ServeSettings | None:
    """Serve until `stop`, and return None; or until volunteers hold more of the log than the journal has, or
    other closers are named: then return the settings to start again with, on the same ports.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(owned_folder(folder, "coordinator"))
        ports = stack.enter_context(settings.reserved())
        public = settings.announced(ports.bound)
        awake = stack.enter_context(ticking(AwakeClock()))
        kept = KeptClock(RunClock(), folder / CLOCK, timing.head)
        clock = kept.clock
        authority, beginning = open_folder(folder, Asked(settings.recover_from, settings.new_run))
        nodes = tuple(map(parse_node, settings.invite_nodes))
        recovery = Recovery(folder, authority, spec.name, clock, dialled(nodes))
        copies = (*settings.mirrors, *await asyncio.to_thread(recovery.begin, beginning))
        keys = await asyncio.to_thread(known_keys, folder, spec, authority.public)
        node = functools.partial(_start_swarm, ports, public, folder, settings.max_upload, clock, keys)
        if isinstance(beginning, Recover):
            if not await unless_stopped(stop, recovery.ask_volunteers(node, timing)):
                return None
            await asyncio.to_thread(recovery.check_recovered)
        journal = stack.enter_context(closing(Journal(folder / JOURNAL)))
        kept.resume()
        opened = functools.partial(
            _open_store, spec, spec_path, folder, cache, authority, journal, settings, copies, clock
        )
        while (store := await _opened_or_lacking(opened, authority, folder, node, stop)) is None:
            if stop.is_set():
                return None
        kept.resume(journal.newest_time())
        reached = None if settings.without_closers else recovery.reached
        resume_after_recovery(store, journal, clock(), reached)
        keys.follow(store.snapshot.position)
        leave_decay(store.snapshot, folder, settings.decay)
        publisher = publisher_of(store, clock, settings.mirrors)
        if not await unless_stopped(stop, publisher.try_base()):
            return None
        if not await unless_stopped(stop, _deliver_base(publisher)):
            return None
        swarm = await node(store.authority, store.charter.run, store.blobs)
        stack.push_async_callback(swarm.stop)
        swarm.admit(*store.snapshot.claims)  # they come before strangers from the start
        for head in await swarm.heads():  # a backup is older than what was signed since
            clock.not_before(Millis(head.at))
        absent = PreparedData(store.charter, folder).absent
        shards = asyncio.create_task(fetch_missing_shards(absent, swarm, timing))
        stack.push_async_callback(end, shards)
        addresses = CoordinatorAddresses(await swarm.addresses(), public.api, public.urls)
        joint = _joint(store, swarm, authority, folder, clock, keys, timing)
        auditing = Auditing(store, clock, timing=timing)
        session = Session(
            store,
            publisher,
            swarm,
            clock,
            addresses,
            timing,
            kept.keep,
            awake.pauses,
            joint=joint,
            amending=Amending(store, keys, auditing.entry),
            auditing=auditing,
            nodes=lambda: closer_nodes(swarm.known_addresses(), store.snapshot.position.named),
        )
        await stack.enter_async_context(serving(session, settings, ports.bound))
        plain = Invite(public.endpoints, store.charter.run, store.charter.authority_key, nodes)
        made = invite_to(plain, store.snapshot, folder, authority, clock())
        ready(Serving(made, public.urls[0], folder, store.charter.rehearsed, public.doubts))
        file = AddressFile(folder, swarm.known_addresses())
        upkeep = AddressUpkeep(swarm, file, authority.public, keys)
        keeping = keep_addresses(upkeep, lambda: len(session.members), timing)
        peers = PeersKeeper(
            folder,
            lambda: store.snapshot,
            lambda: session.members.presences,
            clock,
            timing.peers,
            auditing.known_auditors,
        )
        try:
            await swarm.guard(until_first(session.run(stop), keeping, peers.keep(), auditing.run()))
        except (LogIsBehind, LogIsVoid, ClosersNamed) as reason:
            log.warning("%s. %s", reason.problem, reason.fix)
            return _again(reason, journal, settings, ports.bound)
    return None


def _again(
    reason: LogIsBehind | LogIsVoid | ClosersNamed, journal: Journal, settings: ServeSettings, bound: Bound
) -> ServeSettings:
    """How to start again."""
    if isinstance(reason, LogIsBehind | LogIsVoid):
        journal.mark_behind(journal.newest_time())
    return settings.on(bound)


def _joint(
    store: RunStore,
    swarm: Swarm,
    authority: Identity,
    folder: Path,
    clock: RunClock,
    keys: KeysInForce,
    timing: Timing,
) -> JointClosing | None:
    """How rounds are closed with others; None where the run key closes alone. Raises StateError."""
    if not store.snapshot.position.closers:
        return None
    votes = VoteStore.open(folder / VOTES, authority.public, folder / AUTHORITY_KEY)
    return joint_closing(store, swarm, authority, votes, clock, keys, timing)


async def _opened_or_lacking(
    opened: Callable[[], RunStore],
    authority: Identity,
    folder: Path,
    node: Callable[[Identity, RunId, BlobStore], Awaitable[Swarm]],
    stop: asyncio.Event,
) -> RunStore | None:
    """The run store; None after what it lacks was fetched from volunteers, or when `stop` was set."""
    try:
        return await asyncio.to_thread(opened)
    except CopiesNeeded as needed:
        swarm = await node(authority, needed.run, BlobStore(folder / BLOBS))
        try:
            fetching = fetch_missing_files(needed.files, swarm, later=needed.later)
            await unless_stopped(stop, swarm.guard(fetching))
        finally:
            await swarm.stop()
        return None


async def _deliver_base(publisher: Publisher) -> None:
    """Put the base model into the archive, and log how volunteers get it."""
    log.info("%s", base_delivery(await publisher.publish_base()))


def _open_store(
    spec: RunSpec,
    spec_path: Path,
    folder: Path,
    cache: Path,
    authority: Identity,
    journal: Journal,
    settings: ServeSettings,
    copies: Sequence[str],
    clock: RunClock,
) -> RunStore:
    """Charter a new run, or restore the one that the journal records."""
    limiter = RateLimiter(settings.max_download)
    charter = find_charter(journal.rows(), None)
    if charter is None:
        from barnraise.rehearsal.runner import Limits, rehearse
        from coordinator.setup.prepare import prepare  # a resumed run needs no dataset builder

        rehearsing = functools.partial(rehearse, limits=Limits(memory=settings.rehearsal_memory))
        prepared = prepare(spec, authority.public, folder, cache, log.info, rehearsing, limiter)
        if first_closers(prepared.charter):
            VoteStore.begin(folder / VOTES, authority.public)
        store = RunStore.begin(
            authority, prepared.charter, prepared.genesis, prepared.base.path, folder, journal, clock()
        )
        keep_key(folder)
        return store
    check_unchanged(charter.value, spec, spec_path)
    revision, files = charter.value.spec.model.revision, charter.value.model_files
    base = resolve(spec.model.source, revision, cache, expected=files, progress=log.info, limiter=limiter)
    PreparedData(charter.value, folder).repair(spec, base.path)
    return RunStore.restore(authority, charter, base.path, folder, journal, copies)


async def _start_swarm(
    ports: ReservedPorts,
    public: Announced,
    folder: Path,
    max_upload: int | None,
    clock: RunClock,
    keys: KeysInForce,
    authority: Identity,
    run: RunId,
    blobs: BlobStore,
) -> Swarm:
    ports.release()
    return await Swarm.start(
        authority,
        run,
        keys,
        clock=clock,
        blobs=blobs,
        folder=folder,
        listen=ports.bound.listens,
        announce=public.p2p,
        caps=Caps(up=max_upload),
        book=load_book(folder, run, keys.since_the_start(), clock()),
        counts=True,
    )
