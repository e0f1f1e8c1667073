"""The composition root of `peer join`: from an invite to a volunteer at work."""

from __future__ import annotations

import asyncio
import functools
import logging
from pathlib import Path

from barnraise.contract.charter import Charter
from barnraise.contract.invite import Invite
from barnraise.contract.shards import DataIndex
from barnraise.core.errors import (
    DeviceFailed,
    InvalidRun,
    NewerVersion,
    StateError,
    TooLargeForMemory,
    TrustError,
)
from barnraise.core.ids import BlobHash, Round
from barnraise.core.units import format_bytes
from barnraise.network.swarm import Swarm
from barnraise.runtime.awake_clock import AwakeClock, ticking
from barnraise.runtime.files import owned_folder
from peer.auditing.auditor import Auditor, Material
from peer.timing import TIMING, Timing
from peer.training.trainer import Trainer
from peer.volunteer.blob_retention import BlobRetention, newest_close
from peer.volunteer.contribution import ContributionStore
from peer.volunteer.contribution_state import ContributionLifecycle
from peer.volunteer.durations import RoundTimer
from peer.volunteer.exchange import Exchange
from peer.volunteer.first_rehearsal import must_rehearse, rehearse_run, report_fault
from peer.volunteer.join_options import JoinDisplays, JoinSettings
from peer.volunteer.local_training import LocalTraining
from peer.volunteer.log_copy import NEWEST, LogCopy
from peer.volunteer.log_follower import LogFollower, first_follower
from peer.volunteer.loop import Volunteer
from peer.volunteer.machine import Machine, load_trainer, prepare, without_gpu
from peer.volunteer.node import Entered, Node, enter, leave_on_signals, or_leave, start_node
from peer.volunteer.prefetch import Prefetch
from peer.volunteer.proofs import PROOFS, Proofs
from peer.volunteer.reasons import RunOver
from peer.volunteer.samples import Samples, fetch_index
from peer.volunteer.saved_state import NotSaved, SavedState, SavedWork
from peer.volunteer.waiting import Loop, persist

log = logging.getLogger("peer")

AUDIT_SHARE = 0.1
"""Of a core's time, which audits take at most where a volunteer trains, too."""


async def join(
    invite: Invite,
    folder: Path,
    cache: Path,
    settings: JoinSettings,
    displays: JoinDisplays,
    timing: Timing = TIMING,
) -> None:
    """Take part in a run until Ctrl-C, or until it ends."""
    leaving = leave_on_signals()
    with owned_folder(folder, "peer"), ticking(AwakeClock()) as awake:
        entering = enter(invite, folder, settings.name, credit=settings.credit, timing=timing)
        entered = await or_leave(entering, leaving)
        charter, identity = entered.charter, entered.identity
        if (ended := ended_after(entered)) is not None:
            log.info("%s", displays.parting(RunOver(ended)))
            return
        log.info("joined %s: %s", charter.run, charter.spec.description or charter.spec.model.source)
        at = entered.search.invite
        preparing = prepare(at, identity.public, charter, cache, settings, displays, timing)
        machine = await or_leave(preparing, leaving)
        starting = functools.partial(start_node, entered, awake, folder, settings.network)
        node = await or_leave(persist(starting, identity.public, timing), leaving)
        try:
            await node.kept(_take_part(node, machine, folder, settings, displays, leaving))
        except InvalidRun as error:
            await report_fault(
                entered.search.invite, identity, machine.device.name, error, node.clock, timing
            )
            raise


def ended_after(entered: Entered) -> int | None:
    """Rounds that are folded where the run has ended, by the head of a run key; None where it has not, or a
    closer alone says so: then the log shows it.
    """
    head = entered.joined.signed_head
    return head.value.ended_after if head.signer in entered.keys.signers.run_keys else None


async def _take_part(
    node: Node,
    machine: Machine,
    folder: Path,
    settings: JoinSettings,
    displays: JoinDisplays,
    leaving: asyncio.Event,
) -> None:
    """Train until the user leaves or the run ends; on the CPU where a GPU fails, unless it was chosen."""
    while True:
        assembling = functools.partial(_volunteer, node, machine, folder, settings, displays, leaving)
        try:
            volunteer = await or_leave(persist(assembling, node.identity.public, node.timing), leaving)
            with displays.status:
                reason = await volunteer.run()
            log.info("left; up %s, down %s. %s", *_traffic(node.swarm), displays.parting(reason))
            return
        except (DeviceFailed, TooLargeForMemory) as error:
            if settings.device != "auto" or machine.device.torch_device == "cpu":
                raise
            machine = await without_gpu(machine, error.problem, node.charter, settings, displays)


async def _volunteer(
    node: Node,
    machine: Machine,
    folder: Path,
    settings: JoinSettings,
    displays: JoinDisplays,
    leaving: asyncio.Event,
) -> Volunteer:
    """Load the model and the saved work, and put the volunteer together."""
    charter, swarm, blobs, lifecycle = node.charter, node.swarm, node.blobs, ContributionLifecycle()
    display = displays.status
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
        name=settings.public_name,
        instance=node.admission.instance,
        claim=functools.partial(node.admission.renew, node.clock),
        admission=node.admission.text,
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
        heads=node.head_follower(timer, display.notify),
        log_copy=log_copy,
        leaving=leaving,
        timing=node.timing,
        others=(_auditing(node, machine.base, index, saves, folder, displays),) if settings.audit else (),
    )


def _auditing(
    node: Node, base: Path, index: DataIndex, saves: SavedState, folder: Path, displays: JoinDisplays
) -> Loop:
    """Audits in parallel with the training, by one core at low priority."""
    material = Material(node.charter, base, index, node.swarm, node.blobs, node.keys, saves, folder)
    return Auditor(
        node.identity,
        node.search,
        material,
        node.clock,
        displays.audit,
        threads=1,
        share=AUDIT_SHARE,
        timing=node.timing,
    ).run


async def _resume(node: Node, base: Path, store: ContributionStore, trainer: Trainer) -> LogFollower:
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


def _traffic(swarm: Swarm) -> tuple[str, str]:
    return format_bytes(swarm.traffic.up), format_bytes(swarm.traffic.down)
