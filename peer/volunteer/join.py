"""The composition root of `peer join`: from an invite to a volunteer at work."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from barnraise.contract.charter import Charter
from barnraise.contract.invite import Invite
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.records import Head
from barnraise.contract.shards import DataIndex
from barnraise.core.errors import (
    DeviceFailed,
    InvalidRun,
    NewerVersion,
    StateError,
    TooLargeForMemory,
    TrustError,
)
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Round
from barnraise.core.signed import Signed
from barnraise.core.units import format_bytes
from barnraise.network.address_file import AddressFile, load_book
from barnraise.network.address_search import AddressSearch
from barnraise.network.address_upkeep import AddressUpkeep
from barnraise.network.blobs.rate_limiter import Caps
from barnraise.network.swarm import Swarm
from barnraise.runtime.awake_clock import AwakeClock, ticking
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.files import load_identity, owned_folder
from barnraise.runtime.instance import instance_number
from barnraise.runtime.machine_clocks import wall_ms
from barnraise.runtime.run_clock import RunClock
from barnraise.runtime.stop_signals import on_stop_signals
from barnraise.runtime.waits import until_first
from peer.coordinator_client import CoordinatorClient, Joined
from peer.coordinator_search import CoordinatorSearch
from peer.data_dir import PEER_KEY
from peer.timing import TIMING, Timing
from peer.training.trainer import Trainer
from peer.volunteer.admission_renewal import AdmissionRenewal
from peer.volunteer.blob_retention import BlobRetention, newest_close
from peer.volunteer.contribution import ContributionStore
from peer.volunteer.contribution_state import ContributionLifecycle
from peer.volunteer.display import StatusDisplay
from peer.volunteer.durations import RoundTimer
from peer.volunteer.exchange import Exchange
from peer.volunteer.first_rehearsal import must_rehearse, rehearse_run, report_fault
from peer.volunteer.head_follower import HeadFollower
from peer.volunteer.join_options import JoinDisplays, JoinSettings
from peer.volunteer.local_training import LocalTraining
from peer.volunteer.log_copy import NEWEST, LogCopy
from peer.volunteer.log_follower import LogFollower, first_follower
from peer.volunteer.loop import Volunteer
from peer.volunteer.machine import Machine, load_trainer, prepare, without_gpu
from peer.volunteer.prefetch import Prefetch
from peer.volunteer.proofs import PROOFS, Proofs
from peer.volunteer.samples import Samples, fetch_index
from peer.volunteer.saved_state import NotSaved, SavedState, SavedWork
from peer.volunteer.waiting import persist

log = logging.getLogger("peer")

V = TypeVar("V")


@dataclass(frozen=True)
class _Node:
    """What all parts of the volunteer share."""

    identity: Identity
    charter: Charter
    head: Head
    """The head at joining."""
    swarm: Swarm
    blobs: BlobStore
    clock: RunClock
    awake: AwakeClock
    keys: KeysInForce
    timing: Timing


async def join(
    invite: Invite,
    folder: Path,
    cache: Path,
    settings: JoinSettings,
    displays: JoinDisplays,
    timing: Timing = TIMING,
) -> None:
    """Take part in a run until Ctrl-C."""
    leaving = _leave_on_signals()
    with owned_folder(folder, "peer"), ticking(AwakeClock()) as awake:
        identity = load_identity(folder / PEER_KEY)
        instance = instance_number(folder, identity.public)
        book = load_book(folder, invite.run, KeysInForce.alone(invite.key), wall_ms())
        search = CoordinatorSearch(invite, book, wall_ms, timing)
        claiming = functools.partial(_admitted, search, identity, instance, settings)
        joined, clock = await _or_leave(persist(claiming, identity.public, timing), leaving)
        charter, name = joined.charter, settings.name
        log.info("joined %s: %s", charter.run, charter.spec.description or charter.spec.model.source)
        book.learn_head(joined.signed_head)
        preparing = prepare(search.invite, identity.public, charter, cache, settings, displays, timing)
        machine = await _or_leave(preparing, leaving)
        keys = KeysInForce.of(charter)
        keys.heard(joined.head.epoch, joined.head.successors, charter.run)
        admission = AdmissionRenewal(
            lambda: search.invite,
            identity,
            name,
            instance,
            settings.credit,
            joined.admission,
            timing,
            keys,
        )
        starting = functools.partial(
            _start_node, joined, clock, awake, folder, settings, search, admission, keys
        )
        node = await _or_leave(persist(starting, identity.public, timing), leaving)
        upkeep = AddressUpkeep(node.swarm, AddressFile(folder, book), identity.public, keys)
        asking = functools.partial(_newest_head, search, admission, node.clock)
        addresses = AddressSearch(node.swarm, upkeep, asking, node.clock, silent_after=timing.reconnect_after)
        parallel = [asyncio.create_task(admission.keep(node.clock)), asyncio.create_task(addresses.run())]
        try:
            work = _take_part(node, machine, folder, settings, admission, displays, leaving)
            await node.swarm.guard(until_first(work, admission.until_banned()))
            log.info("left; up %s, down %s. Come back with the same command.", *_traffic(node.swarm))
        except InvalidRun as error:
            await report_fault(search.invite, identity, machine.device.name, error, node.clock, timing)
            raise
        finally:
            for task in parallel:
                task.cancel()
            await node.swarm.stop()


async def _admitted(
    search: CoordinatorSearch, identity: Identity, instance: str, settings: JoinSettings
) -> tuple[Joined, RunClock]:
    async def claim(api: CoordinatorClient) -> tuple[Joined, RunClock]:
        clock = await api.clock()  # the claim states the run's time
        joined = await api.join(identity, settings.name, clock, instance=instance, credit=settings.credit)
        return joined, clock

    return await search.ask(claim)


async def _newest_head(
    search: CoordinatorSearch, admission: AdmissionRenewal, clock: RunClock
) -> Signed[Head] | None:
    """The head by gRPC, where the run's nodes are silent: they are away, or have banned us."""
    head = await search.newest_head()
    if head is not None:
        await admission.ask_again(clock)
    return head


async def _take_part(
    node: _Node,
    machine: Machine,
    folder: Path,
    settings: JoinSettings,
    admission: AdmissionRenewal,
    displays: JoinDisplays,
    leaving: asyncio.Event,
) -> None:
    """Train until the user leaves; on the CPU from where a GPU fails, unless the user chose the GPU."""
    while True:
        assembling = functools.partial(
            _volunteer, node, machine, folder, settings.public_name, admission, displays.status, leaving
        )
        try:
            volunteer = await _or_leave(persist(assembling, node.identity.public, node.timing), leaving)
            with displays.status:
                await volunteer.run()
            return
        except (DeviceFailed, TooLargeForMemory) as error:
            if settings.device != "auto" or machine.device.torch_device == "cpu":
                raise
            machine = await without_gpu(machine, error.problem, node.charter, settings, displays)


async def _or_leave(preparing: Coroutine[Any, Any, V], leaving: asyncio.Event) -> V:
    """The result. Ctrl-C ends the program at once: nothing is trained that could be sent."""
    task, left = asyncio.create_task(preparing), asyncio.create_task(leaving.wait())
    await asyncio.wait([task, left], return_when=asyncio.FIRST_COMPLETED)
    left.cancel()
    if not task.done():
        task.cancel()
        await asyncio.wait([task])  # closes the display
        log.info("left before training began; the same command continues")
        os._exit(130)  # threads that load a model cannot be stopped
    return task.result()


async def _start_node(
    joined: Joined,
    clock: RunClock,
    awake: AwakeClock,
    folder: Path,
    settings: JoinSettings,
    search: CoordinatorSearch,
    admission: AdmissionRenewal,
    keys: KeysInForce,
) -> _Node:
    identity, timing = admission.identity, admission.timing
    charter, blobs = joined.charter, BlobStore(folder / "blobs")
    swarm = await Swarm.start(
        identity,
        charter.run,
        keys,
        clock=clock,
        blobs=blobs,
        folder=folder,
        listen=settings.listen,
        bootstrap=joined.head.bootstrap,
        caps=Caps(settings.max_upload, settings.max_download),
        book=search.book,
        admission=admission.text,
    )
    return _Node(identity, charter, joined.head, swarm, blobs, clock, awake, keys, timing)


async def _volunteer(
    node: _Node,
    machine: Machine,
    folder: Path,
    name: str,
    admission: AdmissionRenewal,
    display: StatusDisplay,
    leaving: asyncio.Event,
) -> Volunteer:
    """Load the model and the saved work, and put the volunteer together."""
    charter, swarm, blobs, lifecycle = node.charter, node.swarm, node.blobs, ContributionLifecycle()
    trainer = await asyncio.to_thread(load_trainer, machine, charter)
    saves = SavedState(folder / "work", charter.digest)
    store = ContributionStore(charter, node.identity, saves, blobs, lifecycle)
    follower = await _resume(node, machine.base, store, trainer)
    index = await fetch_index(charter, swarm, blobs, await swarm.peers(), node.keys.at_work)
    samples = Samples(charter, node.identity.public, index, swarm, blobs, follower.others, node.keys)
    if must_rehearse(charter, node.head):
        await rehearse_run(trainer, samples)
    log_copy = LogCopy(charter, swarm, blobs, folder / NEWEST, follower.others, node.timing, node.keys)
    await asyncio.to_thread(log_copy.load)
    retention, timer = BlobRetention(blobs), RoundTimer(began=node.awake())
    last = await asyncio.to_thread(newest_close, follower.newest, charter, blobs)
    if last is not None:
        retention.folded(last, Round(node.head.checkpoint_round))
    blobs.keep_only(_still_needed(charter, index, store) | log_copy.names | retention.names)
    proofs = Proofs(folder / PROOFS, charter, blobs, node.keys.position.successors)
    prefetch = Prefetch(follower, retention, node.timing)
    return Volunteer(
        spec=charter.spec,
        identity=node.identity,
        name=name,
        instance=admission.instance,
        claim=functools.partial(admission.renew, node.clock),
        admission=admission.text,
        clock=node.clock,
        awake=node.awake,
        swarm=swarm,
        samples=samples,
        training=LocalTraining(trainer, lifecycle, follower.tip, follower.state, hint=display.notify),
        exchange=Exchange(
            follower,
            store,
            trainer,
            swarm,
            retention,
            prefetch,
            proofs,
            timer,
            node.awake,
            node.timing,
            display.notify,
        ),
        timer=timer,
        display=display,
        heads=_head_follower(node, timer, display),
        log_copy=log_copy,
        leaving=leaving,
        timing=node.timing,
    )


def _head_follower(node: _Node, timer: RoundTimer, display: StatusDisplay) -> HeadFollower:
    awake = node.awake
    return HeadFollower(
        node.head,
        node.swarm,
        node.clock,
        awake,
        awake.pauses,
        timer,
        display.notify,
        node.timing,
        node.swarm.measures_clock,
    )


async def _resume(node: _Node, base: Path, store: ContributionStore, trainer: Trainer) -> LogFollower:
    """Continue with what the folder holds, or start from the run's newest checkpoint."""
    charter, swarm, blobs = node.charter, node.swarm, node.blobs
    try:
        match await asyncio.to_thread(store.load):
            case SavedWork() as saved:
                trainer.import_inner(saved.inner)
                store.resume(saved)
                log.info("going on with round %d", saved.tip.round)
                passed = {} if saved.certified is None else {saved.certified.vote.height: saved.certified}
                return LogFollower(charter, swarm, blobs, saved.tip, saved.state, passed, keys=node.keys)
            case NotSaved():
                log.info("starting from the run's newest checkpoint")
    except NewerVersion:  # an older save would overwrite it
        raise
    except (StateError, TrustError) as error:
        log.warning("%s %s", error.problem, error.fix)
    return await first_follower(charter, base, swarm, blobs, node.head, node.keys)


def _still_needed(charter: Charter, index: DataIndex, store: ContributionStore) -> set[BlobHash]:
    """Stored blobs that this start of the program still uses."""
    shards = {ref.blob for ref in index.shards}
    return {charter.data_index_hash} | shards | store.names


def _leave_on_signals() -> asyncio.Event:
    """The first Ctrl-C asks to leave, the second stops at once. A closed terminal only asks."""
    leaving = asyncio.Event()

    def handle() -> None:
        if leaving.is_set():
            os._exit(130)
        log.info("leaving; Ctrl-C again to stop at once")
        leaving.set()

    def hang_up() -> None:
        if not leaving.is_set():
            handle()

    on_stop_signals(handle, hang_up)
    return leaving


def _traffic(swarm: Swarm) -> tuple[str, str]:
    return format_bytes(swarm.traffic.up), format_bytes(swarm.traffic.down)
