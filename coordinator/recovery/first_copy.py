"""What a new follower copies of a run: the log, the newest checkpoint, and the contributions after it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from barnraise.contract.charter import Charter
from barnraise.contract.log_entries import MAX_ENTRY_BYTES, common_fields
from barnraise.contract.records import Head, wanted
from barnraise.contract.run_keys import Signers
from barnraise.contract.tip import Position, first_position, holders
from barnraise.core.ids import BlobHash, Millis, PublicKey
from barnraise.core.signed import Signed
from barnraise.fold.log import Link, Step, Unreadable, check_step, read_step
from barnraise.network.swarm import Swarm
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.files import write_atomic
from coordinator.checkpoints.copied_checkpoints import copy_checkpoint
from coordinator.store.events import (
    CheckpointPublished,
    CheckpointWritten,
    ContributionsForgotten,
    Journaled,
    RoundOpened,
    RunChartered,
    entered,
)
from coordinator.store.restoring import OWN_FILES


async def first_copy(
    charter: Signed[Charter], head: Head, swarm: Swarm, blobs: BlobStore, now: Millis
) -> list[Journaled]:
    """What a journal has to record to continue from the head's checkpoint, whose files are in the store.

    What the store's folder has for all checkpoints is written. Raises Unreachable, TrustError, StateError.
    """
    present = [PublicKey(presence.owner) for presence in await swarm.peers()]
    steps, position = await _steps(charter.value, head, swarm, blobs, present)
    manifest = await copy_checkpoint(charter.value, swarm, blobs, BlobHash(head.checkpoint), position)
    for entry in manifest.value.files:
        if entry.name in OWN_FILES:
            path, name = blobs.folder.parent / entry.name, BlobHash(entry.hash)
            await asyncio.to_thread(write_atomic, path, blobs.get(name))
    first = manifest.value.round
    events: list[Journaled] = [RunChartered(now, charter)]
    for step in steps:
        events.append(entered(step))
        if isinstance(step, Link) and step.close.round >= first and position.has_effect(step.entry):
            for commit in step.commits:
                having = [PublicKey(commit.owner), *holders(charter.value, position), *present]
                await swarm.fetch_pieces(wanted(commit), having)
    final = manifest.signer in Signers(charter.value.authority_key, manifest.value.successors).run_keys
    events.append(CheckpointPublished(now, manifest) if final else CheckpointWritten(now, manifest))
    if first:
        events.append(ContributionsForgotten(now, first))
    return [*events, RoundOpened(Millis(head.opens), head.round)]


async def _steps(
    charter: Charter, head: Head, swarm: Swarm, blobs: BlobStore, present: Sequence[PublicKey]
) -> tuple[list[Step], Position]:
    """The whole log up to a head, checked, and its end. present: volunteers that have copies of it."""
    found: list[Step | Unreadable] = []
    there = replace(first_position(charter), epoch=head.epoch, successors=head.successors)
    having = [*holders(charter, there), *present]
    name, certificate = BlobHash(head.entry), head.certificate
    while certificate is not None:
        await swarm.fetch(name, MAX_ENTRY_BYTES, having)
        step = read_step(await asyncio.to_thread(blobs.get, name), certificate, charter)
        found.append(step)
        said = common_fields(step.entry)
        name, certificate = BlobHash(said.previous), said.certificate
    position, checked = first_position(charter), list[Step]()
    for step in reversed(found):
        checked.append(check_step(position, step, charter))
        position = position.after(checked[-1].entry)
    return checked, position
