"""The composition root of `peer join`: from an invite to a volunteer at work."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.charter import Charter
from barnraise.contract.invite import Invite
from barnraise.contract.records import blob_name
from barnraise.contract.rounds import seconds_between
from barnraise.contract.shards import DataIndex
from barnraise.core.errors import NetworkError, RefusedError, StateError, TrustError
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Millis
from barnraise.core.strict import Strict
from barnraise.core.units import format_bytes
from barnraise.models.base_model import BaseFolder, resolve
from barnraise.models.causal_lm import model_shape
from barnraise.models.trainable import layout
from barnraise.network.blobs.token_bucket import Caps
from barnraise.network.swarm import Swarm
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.files import load_identity, owned_folder
from peer.coordinator_client import Joined, connect
from peer.data_dir import PEER_KEY
from peer.training.device import Device, DeviceReason, free_memory, pick_device
from peer.training.memory_fit import Fit, FrozenPrecision, Processor, fit
from peer.training.quantized_weights import has_four_bit
from peer.training.trainer import Trainer
from peer.volunteer.blob_retention import BlobRetention
from peer.volunteer.contribution import ContributionStore
from peer.volunteer.display import StatusDisplay
from peer.volunteer.exchange import Exchange
from peer.volunteer.local_training import LocalTraining
from peer.volunteer.log_follower import LogFollower, first_follower
from peer.volunteer.loop import Volunteer
from peer.volunteer.prefetch import Prefetch
from peer.volunteer.samples import Samples, fetch_index
from peer.volunteer.saved_state import NotSaved, SavedState, SavedWork
from peer.volunteer.timings import RoundTimer

log = logging.getLogger("peer")

RENEW_RETRY_SECONDS = 60.0


class JoinSettings(Strict):
    """What may differ between volunteers: not part of the run spec."""

    name: str
    """What the volunteer is called in the run's status; empty for nobody."""
    credit: bool
    """Whether the model cards of checkpoints may name them."""
    device: str
    """auto, cpu, mps, cuda or cuda:N."""
    threads: int | None
    """CPU threads to train with; torch's own choice where None."""
    micro_batch: int | None
    """Samples that go through the model at once; None: what suits the device and its memory."""
    frozen: FrozenPrecision = "auto"
    """How the frozen weights below an adapter are kept; auto: as exactly as memory allows."""
    listen: str
    """Multiaddress that the libp2p daemon listens on."""
    max_upload: int | None
    """Bytes a second of blobs to send at most; None: no limit."""
    max_download: int | None
    """Bytes a second of blobs to receive at most; None: no limit."""
    base: Path | None
    """The base model's folder or GGUF file, where it is not to be fetched."""


@dataclass
class AdmissionRenewal:
    """Our admission, renewed at half of its life."""

    invite: Invite
    identity: Identity
    name: str
    credit: bool
    joined: Joined

    def text(self) -> str:
        return self.joined.admission.text

    async def keep(self, clock: Callable[[], Millis]) -> None:
        while True:
            left = seconds_between(clock(), Millis(self.joined.admission.value.expires))
            await asyncio.sleep(max(left / 2, RENEW_RETRY_SECONDS))
            try:
                async with connect(self.invite) as api:
                    self.joined = await api.join(self.identity, self.name, credit=self.credit, renew=True)
            except (NetworkError, RefusedError) as error:
                log.warning(
                    "our admission was not renewed (%s); it holds for another %.0f h",
                    error.problem,
                    left / 3600,
                )


async def join(
    invite: Invite,
    folder: Path,
    cache: Path,
    settings: JoinSettings,
    display: StatusDisplay,
    message: Callable[[DeviceReason | Fit], str],
) -> None:
    """Take part in a run until Ctrl-C. message: renders what the device and its memory allow."""
    leaving = _leave_on_signals()
    with owned_folder(folder, "peer"):
        identity = load_identity(folder / PEER_KEY)
        async with connect(invite) as api:
            joined = await api.join(identity, settings.name, credit=settings.credit)
        charter = joined.charter
        log.info("joined %s: %s", charter.run, charter.spec.description or charter.spec.model.source)
        device = pick_device(settings.device, settings.threads)
        log.info("training on %s: %s", device.name, message(device.reason))
        source = str(settings.base) if settings.base else charter.spec.model.source
        base = await asyncio.to_thread(
            resolve,
            source,
            charter.spec.model.revision,
            cache,
            expected=charter.model_files,
            progress=log.info,
        )
        fitted = await asyncio.to_thread(_fitted, charter, base, device, settings)
        log.info("%s", message(fitted))
        admission = AdmissionRenewal(invite, identity, settings.name, settings.credit, joined)
        blobs = BlobStore(folder / "blobs")

        def clock() -> Millis:
            return Millis(time.time_ns() // 1_000_000 + joined.ahead)

        swarm = await Swarm.start(
            identity,
            charter.run,
            charter.authority_key,
            clock=clock,
            blobs=blobs,
            folder=folder,
            listen=settings.listen,
            bootstrap=joined.head.bootstrap,
            caps=Caps(settings.max_upload, settings.max_download),
        )
        renewing = asyncio.create_task(admission.keep(clock))
        try:
            trainer = await asyncio.to_thread(
                Trainer,
                base,
                charter.spec,
                device,
                fitted.micro_batch,
                frozen=fitted.frozen,
                checkpointing=fitted.checkpointing,
            )
            work = ContributionStore(
                charter, identity, SavedState(folder / "work", charter.spec.digest()), blobs
            )
            follower = await _take_up(charter, base, swarm, blobs, joined, work, trainer)
            index = await fetch_index(charter, swarm, blobs)
            blobs.keep_only(_still_needed(charter, index, work))
            shelf = BlobRetention(blobs)
            volunteer = Volunteer(
                identity=identity,
                name=settings.name,
                admission=admission.text,
                clock=clock,
                swarm=swarm,
                samples=Samples(charter, identity.public, index, swarm, blobs),
                training=LocalTraining(
                    trainer, follower.tip, follower.state, taken=work.in_round(follower.tip.round)
                ),
                exchange=Exchange(
                    follower,
                    work,
                    trainer,
                    swarm,
                    shelf,
                    Prefetch(follower, shelf),
                    RoundTimer(began=clock()),
                    clock,
                ),
                display=display,
                head=joined.head,
                leaving=leaving,
            )
            with display:
                await swarm.guard(volunteer.run())
            log.info("left; up %s, down %s. Come back with the same command.", *_traffic(swarm))
        finally:
            renewing.cancel()
            await swarm.stop()


async def _take_up(
    charter: Charter,
    base: BaseFolder,
    swarm: Swarm,
    blobs: BlobStore,
    joined: Joined,
    work: ContributionStore,
    trainer: Trainer,
) -> LogFollower:
    """Go on with what this folder holds, or start from the run's newest checkpoint."""
    try:
        match await asyncio.to_thread(work.store.load):
            case SavedWork() as saved:
                trainer.import_inner(saved.inner)
                work.resume(saved)
                log.info("going on with round %d", saved.tip.round)
                return LogFollower(charter, swarm, blobs, saved.tip, saved.state)
            case NotSaved():
                log.info("starting from the run's newest checkpoint")
    except (StateError, TrustError) as error:
        log.warning("%s %s", error.problem, error.fix)
    return await first_follower(charter, base.path, swarm, blobs, joined.head)


def _still_needed(charter: Charter, index: DataIndex, work: ContributionStore) -> set[BlobHash]:
    """Blobs of an earlier visit that are worth their disk."""
    shards = {ref.blob for ref in index.shards}
    sent = {blob_name(work.pending.value)} if work.pending is not None else set()
    return {charter.data_index_hash} | shards | sent


def _fitted(charter: Charter, base: BaseFolder, device: Device, settings: JoinSettings) -> Fit:
    """How to train in the memory that is free. Raises TooLargeForMemory before anything large is loaded."""
    target = charter.spec.train.target
    return fit(
        charter.spec,
        model_shape(base.path),
        layout(base.path, target).parameters,
        free_memory(device),
        Processor(device.torch_device != "cpu", device.autocast, has_four_bit()),
        micro_batch=settings.micro_batch,
        frozen=settings.frozen,
    )


def _leave_on_signals() -> asyncio.Event:
    """The first Ctrl-C asks to leave, the second stops at once."""
    leaving = asyncio.Event()

    def handle() -> None:
        if leaving.is_set():
            os._exit(130)
        log.info("leaving after this step; Ctrl-C again to stop at once")
        leaving.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, handle)
    return leaving


def _traffic(swarm: Swarm) -> tuple[str, str]:
    return format_bytes(swarm.traffic.up), format_bytes(swarm.traffic.down)
