"""A state that the log names, from the volunteers that hold it: no checkpoint's manifest is needed.

A volunteer that joins, or has to leave its state, while nobody serves a checkpoint continues from there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from barnraise.contract.charter import Charter
from barnraise.contract.log_entries import MAX_ENTRY_BYTES
from barnraise.contract.records import Head, Presence
from barnraise.contract.state import TrainState
from barnraise.contract.tip import Tip, first_position, holders
from barnraise.core.errors import BarnraiseError, MachineError, Unreachable
from barnraise.core.ids import BlobHash, PublicKey, StateHash
from barnraise.fold.log import Step
from barnraise.fold.named_states import named_states, wanted_state
from barnraise.network.state_download import download_state
from barnraise.network.swarm import Swarm
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.stored_state import remove_state, stored_state
from peer.volunteer.log_walk import Continues, Place, walk
from peer.volunteer.samples import read_blob

log = logging.getLogger("peer")

MOST_STATES = 8
"""The newest states that are asked for: a volunteer has its newest one, and the one before."""


@dataclass(frozen=True)
class TakenState:
    """A state whose hash the log names, and its place there."""

    tip: Tip
    state: TrainState


async def take_named_state(charter: Charter, swarm: Swarm, blobs: BlobStore, head: Head) -> TakenState:
    """The newest state that a volunteer serves. Raises Unreachable where none does, TrustError, DiskFull."""
    present = await swarm.peers()
    owners = tuple(PublicKey(each.owner) for each in present)

    async def read(name: BlobHash) -> bytes:
        return await read_blob(swarm, blobs, name, MAX_ENTRY_BYTES, *owners, *holders(charter))

    start = first_position(charter)
    walked = await walk(head, Place(start, {}), read, charter)
    steps = walked.steps if isinstance(walked, Continues) else ()
    closed = (named.tip for named in named_states(start, 0, steps))
    for tip in (*_newest(charter, head, steps), *closed)[:MOST_STATES]:
        wanted = wanted_state(tip, charter)
        try:
            await download_state(wanted, swarm, blobs, by_likelihood(present, tip))
            state = await asyncio.to_thread(stored_state, wanted, blobs)
        except MachineError:
            raise
        except BarnraiseError as error:
            log.debug("the state of round %d: %s", tip.round, error.problem)
            continue
        if state is not None:
            await asyncio.to_thread(remove_state, wanted, blobs)
            log.info("took the state of round %d from volunteers: the log names it", tip.round)
            return TakenState(tip, state)
    raise Unreachable(
        "no volunteer that is here serves a state that the log names",
        fix="It is tried again. The coordinator has a checkpoint when it is back.",
    )


def by_likelihood(present: Iterable[Presence], tip: Tip) -> list[PublicKey]:
    """Volunteers in the order in which they are asked for the state of `tip`.

    Those that train from it are first. Those that left it last are next: they have it as the one before.
    """
    order = sorted(present, key=lambda each: (each.state != tip.state, each.round < tip.round, each.round))
    return [PublicKey(each.owner) for each in order]


def _newest(charter: Charter, head: Head, steps: Sequence[Step]) -> tuple[Tip, ...]:
    """The state that the head itself names, which no close names yet."""
    position = first_position(charter)
    for step in steps:
        position = position.after(step.entry)
    if head.state is None or (position.previous, position.height) != (head.entry, head.height):
        return ()
    return (Tip(position, StateHash(head.state)),)
