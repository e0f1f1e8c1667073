"""A state that the log names, from the volunteers that hold it: no checkpoint's manifest is needed.

A volunteer that joins, or has to leave its state, while nobody serves a checkpoint continues from there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from barnraise.contract.charter import Charter
from barnraise.contract.log_entries import MAX_ENTRY_BYTES
from barnraise.contract.records import Head
from barnraise.contract.state import TrainState
from barnraise.contract.state_index import WantedState
from barnraise.contract.tip import Tip, first_position, holders
from barnraise.core.errors import BarnraiseError, MachineError, Unreachable
from barnraise.core.ids import BlobHash, PublicKey, StateHash
from barnraise.fold.log_walk import NewestPart, newest_part
from barnraise.fold.named_states import named_states, wanted_state
from barnraise.network.state_download import MOST_ASKED, download_state, likely_holders
from barnraise.network.swarm import Swarm
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.stored_state import remove_state, stored_state
from peer.volunteer.samples import read_blob

log = logging.getLogger("peer")

MOST_STATES = 8
"""The newest states that are asked for: a volunteer has its newest one, and the one before."""


@dataclass(frozen=True)
class TakenState:
    """A state to continue from, and its place in the log."""

    tip: Tip
    state: TrainState


@dataclass
class StateSearch:
    """Looks for a state that the log names. Keeps what arrived of one until a state is taken."""

    charter: Charter
    swarm: Swarm
    blobs: BlobStore
    _begun: dict[StateHash, WantedState] = field(default_factory=dict)
    """States of which blobs may be here."""

    async def take(self, head: Head) -> TakenState:
        """The newest state that a volunteer serves.

        Raises Unreachable where none does, TrustError, NewerVersion, DiskFull.
        """
        present = await self.swarm.peers()
        tips = await self._named(head, [PublicKey(each.owner) for each in present[:MOST_ASKED]])
        await self._remove({state for state in self._begun if state not in {tip.state for tip in tips}})
        for tip in tips:
            state = await self._fetched(tip, likely_holders(present, tip))
            if state is not None:
                await self.clear()
                log.info("took the state of round %d from volunteers: the log names it", tip.round)
                return TakenState(tip, state)
        raise Unreachable(
            "no volunteer that is here serves a state that the log names",
            fix="It is tried again. The coordinator has a checkpoint when it is back.",
        )

    async def clear(self) -> None:
        """Remove what was fetched. Raises DiskFull."""
        await self._remove(set(self._begun))

    async def _named(self, head: Head, owners: Sequence[PublicKey]) -> list[Tip]:
        """The newest states that a head's log names, newest first."""

        async def read(name: BlobHash) -> bytes:
            there = replace(first_position(self.charter), epoch=head.epoch, successors=head.successors)
            having = (*owners, *holders(self.charter, there))
            return await read_blob(self.swarm, self.blobs, name, MAX_ENTRY_BYTES, *having)

        part = await newest_part(head, head.successors, read, self.charter, MOST_STATES)
        closed = [named.tip for named in named_states(part.start, 0, part.steps)]
        return [*_newest(part, head), *closed][:MOST_STATES]

    async def _fetched(self, tip: Tip, having: Sequence[PublicKey]) -> TrainState | None:
        wanted = self._begun.setdefault(tip.state, wanted_state(tip, self.charter))
        try:
            await download_state(wanted, self.swarm, self.blobs, having)
            return await asyncio.to_thread(stored_state, wanted, self.blobs)
        except MachineError:
            raise
        except BarnraiseError as error:
            log.debug("the state of round %d: %s", tip.round, error.problem)
            return None

    async def _remove(self, states: Collection[StateHash]) -> None:
        for state in states:
            await asyncio.to_thread(remove_state, self._begun.pop(state), self.blobs)


def _newest(part: NewestPart, head: Head) -> tuple[Tip, ...]:
    """The state that the head itself names, which no close names yet."""
    position = part.start
    for step in part.steps:
        position = position.after(step.entry)
    if head.state is None or (position.previous, position.height) != (head.entry, head.height):
        return ()
    return (Tip(position, StateHash(head.state)),)
