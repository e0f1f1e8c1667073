"""The state of the newest checkpoint, fetched and checked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from barnraise.contract.charter import Charter
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.manifest import MAX_MANIFEST_BYTES, Manifest, check_interim, open_manifest
from barnraise.contract.records import Head
from barnraise.contract.standing import STANDINGS_FILE
from barnraise.contract.state import Layout
from barnraise.contract.tip import holders
from barnraise.core.errors import MalformedBlob, StateError, Unreachable
from barnraise.core.ids import BlobHash, short
from barnraise.core.signed import Signed
from barnraise.fold.outer import outer_for
from barnraise.models.checkpoint_files import check_sizes, read_state, read_tip
from barnraise.network.swarm import Swarm
from barnraise.runtime.blob_store import BlobStore, Intact
from peer.volunteer.named_state import TakenState
from peer.volunteer.samples import read_blob


async def newest_state(
    charter: Charter,
    swarm: Swarm,
    blobs: BlobStore,
    head: Head,
    keys: KeysInForce | None = None,
    *,
    layout: Callable[[], Layout],
) -> TakenState:
    """The state of the head's checkpoint. layout: of the run's states.

    Raises Unreachable, also where a closer alone signed one that is none; TrustError, MalformedBlob,
    StateError.
    """
    keys = KeysInForce.of(charter) if keys is None else keys
    signed = await _newest_manifest(charter, swarm, blobs, head, keys)
    try:
        return await _state_of(signed.value, charter, swarm, blobs, keys, await asyncio.to_thread(layout))
    except (MalformedBlob, StateError) as error:
        if signed.signer in keys.signers.run_keys:
            raise
        raise Unreachable(
            f"the checkpoint of round {signed.value.round} by {short(signed.signer)} alone is none:"
            f" {error.problem}",
            fix="Another one, or a state that the log names, is taken.",
        ) from None


async def _state_of(
    manifest: Manifest,
    charter: Charter,
    swarm: Swarm,
    blobs: BlobStore,
    keys: KeysInForce,
    layout: Layout,
) -> TakenState:
    check_sizes(manifest, layout, len(outer_for(charter.spec.outer, max(1, manifest.step)).buffer_names))
    having = holders(charter, keys.at_work)
    for entry in manifest.files:
        if entry.name.endswith(".safetensors") or entry.name == STANDINGS_FILE:
            name = BlobHash(entry.hash)
            await swarm.fetch(name, entry.size, having)
            if not isinstance(await asyncio.to_thread(blobs.check, name), Intact):  # of an earlier download
                await swarm.fetch(name, entry.size, having)
    state = await asyncio.to_thread(read_state, manifest, charter.layout, blobs.path)
    return TakenState(await asyncio.to_thread(read_tip, manifest, blobs.path), state)


async def _newest_manifest(
    charter: Charter, swarm: Swarm, blobs: BlobStore, head: Head, keys: KeysInForce
) -> Signed[Manifest]:
    having = holders(charter, keys.at_work)
    wire = await read_blob(swarm, blobs, BlobHash(head.checkpoint), MAX_MANIFEST_BYTES, *having)
    signed = open_manifest(wire, run=charter.run, signers=keys.signers)
    check_interim(signed, keys.signers, keys.position, charter.spec.train.schedule)
    return signed
