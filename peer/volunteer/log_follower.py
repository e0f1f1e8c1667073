"""Following the log: from the state that a volunteer holds to the run's newest one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

from barnraise.contract.charter import Charter
from barnraise.contract.close_rules import check_close
from barnraise.contract.divergence import LossTrend, round_loss
from barnraise.contract.double_signing import Certified
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.log_entries import MAX_ENTRY_BYTES
from barnraise.contract.records import Commit, Head, Presence, blob_name, wanted
from barnraise.contract.state import Layout, TrainState
from barnraise.contract.tip import Position, Tip, genesis_tip, holders
from barnraise.core.errors import MalformedBlob, Unreachable
from barnraise.core.ids import BlobHash, PublicKey, short
from barnraise.core.signed import Signed
from barnraise.fold.codec import blob_sizes
from barnraise.fold.log import Amendment, Link, Step, advance, amended, certified, check_blob, skipped
from barnraise.fold.log_walk import Place, Walk, walk
from barnraise.models.trainable import initial_state
from barnraise.models.trainable import layout as layout_of
from barnraise.network.state_download import MOST_ASKED
from barnraise.network.swarm import Swarm
from barnraise.runtime.blob_store import BlobStore, Intact
from barnraise.runtime.waits import all_or_none
from peer.volunteer.named_state import StateSearch, TakenState
from peer.volunteer.newest_state import newest_state
from peer.volunteer.samples import read_blob

log = logging.getLogger("peer")

PASSED = 1000
"""Entries that a follower remembers."""
AT_ONCE = 4
"""Blobs fetched in parallel."""


@dataclass
class LogFollower:
    """Holds state[tip.round]; every state that it reaches was checked against the log."""

    charter: Charter
    swarm: Swarm
    blobs: BlobStore
    tip: Tip
    state: TrainState
    passed: dict[int, Certified] = field(default_factory=dict)
    """The newest entries that were passed, by height: compared with those of another history."""
    trend: LossTrend = field(default_factory=LossTrend)
    """Of the training losses in the closes that were folded."""
    keys: KeysInForce | None = None
    """Whose heads and admissions the network layer takes: they change with the tip."""
    _others: Sequence[Presence] = ()
    """Other volunteers, which may hold contributions that we lack."""

    def __post_init__(self) -> None:
        self._moved_to(self.tip)

    def _moved_to(self, tip: Tip) -> None:
        if self.keys is not None:
            before = self.keys.run_key
            self.keys.follow(tip.position)
            tip = Tip(self.keys.position, tip.state)
            if self.keys.run_key != before:
                log.warning(
                    "the run's key was replaced by its successor %s: what %s signs from now on is void",
                    short(self.keys.run_key), short(before),
                )  # fmt: skip
        self.tip = tip

    @property
    def position(self) -> Position:
        """The tip's."""
        return self.tip.position

    @property
    def _at_work(self) -> Position:
        return self.position if self.keys is None else self.keys.at_work

    @property
    def place(self) -> Place:
        """Where the follower is in the log."""
        return Place(self.position, self.passed)

    @property
    def newest(self) -> Certified | None:
        """The entry before the tip; None where the follower began there."""
        return self.passed.get(self.tip.height - 1)

    @property
    def layout(self) -> Layout:
        """The tensors of the run's states."""
        return self.state.layout

    def others(self) -> Sequence[Presence]:
        """The other volunteers, as of the last `update_others`."""
        return self._others

    def update_others(self, others: Sequence[Presence]) -> None:
        """The other volunteers that are present now."""
        self._others = others

    def has(self, blob: BlobHash) -> bool:
        """Whether the blob is stored here."""
        return blob in self.blobs

    def fits(self, commit: Commit) -> bool:
        """Whether a commit can be to the open round, by its state and its blob's size."""
        return commit.size in self._blob_sizes and commit.base_state == self.tip.state

    async def announced(self) -> Sequence[Signed[Commit]]:
        """The commits to the open round that the swarm knows of."""
        return await self.swarm.commits(self.tip.round)

    async def walk(self, head: Head) -> Walk:
        """How the head's log continues from our tip. Raises Unreachable, TrustError, NewerVersion."""
        if self.keys is not None:
            self.keys.heard(head.epoch, head.successors, self.charter.run)
            self._moved_to(self.tip)
        return await walk(head, self.place, self._read, self.charter)

    async def take(self, step: Step, end: Position) -> Link | None:
        """Pass a step, and fold it where it has an effect. end: where the log ends.

        Returns the link that was folded, None where nothing is. Raises as `fold`; BadSignature.
        """
        if not end.has_effect(step.entry):
            self.skip(step)
        elif isinstance(step, Link):
            await self.fold(step)
            return step
        else:
            self.amend(step)
        return None

    def amend(self, amendment: Amendment) -> None:
        """Pass an entry that folds nothing. Raises BadSignature, StateError."""
        self._moved_to(amended(self.tip, amendment, self.charter))
        self._passed(amendment)

    def skip(self, step: Step) -> None:
        """Pass a step that a later rollback made void. Raises BadSignature, StateError."""
        self._moved_to(skipped(self.tip, step, self.charter))
        self._passed(step)

    async def fold(self, link: Link) -> None:
        """Fetch a link's blobs and fold it. Raises Unreachable, StateError, MalformedBlob."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def fetch(commit: Commit) -> None:
            async with gate:
                await self.fetch_contribution(commit)

        standings = self.position.standings
        check_close(link.close, link.commits, standings, self.charter.spec, self._blob_sizes)
        await all_or_none(*(fetch(commit) for commit in link.commits))
        tip, self.state = await asyncio.to_thread(self._advance, link)
        self._moved_to(tip)
        self.trend = self.trend.after(link.close.round, round_loss(link.commits, link.close.weights))
        self._passed(link)

    def _advance(self, link: Link) -> tuple[Tip, TrainState]:
        names = [blob_name(commit) for commit in link.commits]
        try:
            blobs = [self.blobs.view(name) for name in names]
            return advance(self.tip, self.state, link, blobs, self.charter)
        except (MalformedBlob, OSError, ValueError) as error:  # an empty file cannot be mapped
            if all(isinstance(self.blobs.check(name), Intact) for name in names):
                raise  # it is what the log names
            raise Unreachable(
                f"a contribution to round {link.close.round} was damaged on this disk: {error}",
                fix="It is set aside and fetched again. Check the disk.",
            ) from None

    async def fetch_contribution(self, commit: Commit) -> None:
        """Fetch its blob from all that hold parts of it: owner, coordinator, volunteers."""
        having = (PublicKey(other.owner) for other in self._others if other.keeps <= commit.round)
        others = islice(having, MOST_ASKED)
        await self.swarm.fetch_pieces(
            wanted(commit), [PublicKey(commit.owner), *holders(self.charter, self._at_work), *others]
        )

    async def check_contribution(self, commit: Commit) -> None:
        """Remove a blob that is no contribution. Raises MalformedBlob then; Unreachable where it is gone."""
        name = blob_name(commit)
        blob = await read_blob(self.swarm, self.blobs, name, commit.size)
        try:
            await asyncio.to_thread(check_blob, commit, blob, self.charter, self.layout)
        except MalformedBlob:
            self.blobs.remove(name)
            raise

    def remove_download(self, commit: Commit) -> None:
        """Remove what has arrived of a blob that is needed no more."""
        self.blobs.remove_download(wanted(commit))

    async def take_checkpoint(self, head: Head) -> None:
        """Continue from the newest checkpoint's state; from one that the log names where none is served.

        Raises Unreachable, TrustError, StateError.
        """
        try:
            taken = await newest_state(
                self.charter, self.swarm, self.blobs, head, self.keys, layout=lambda: self.layout
            )
        except Unreachable as error:
            taken = await _named_state(self._search, head, error)
        self._moved_to(taken.tip)
        self.state = taken.state
        await self._search.clear()
        self.passed = {}

    @cached_property
    def _search(self) -> StateSearch:
        return StateSearch(self.charter, self.swarm, self.blobs)

    @cached_property
    def _blob_sizes(self) -> range:
        """The same for the whole run, and slow to compute where the codec is sparse."""
        charter = self.charter
        return blob_sizes(charter.spec.codec, self.layout)

    async def _read(self, name: BlobHash) -> bytes:
        """From the coordinator and the closers, or from a volunteer that has a copy of the log."""
        known = holders(self.charter, self._at_work)
        having = [*known, *(PublicKey(other.owner) for other in self._others[:MOST_ASKED])]
        return await read_blob(self.swarm, self.blobs, name, MAX_ENTRY_BYTES, *having)

    def _passed(self, step: Step) -> None:
        self.passed[step.entry.height] = certified(step)
        self.passed.pop(step.entry.height - PASSED, None)


async def first_follower(
    charter: Charter,
    base: Path,
    swarm: Swarm,
    blobs: BlobStore,
    head: Head,
    keys: KeysInForce | None = None,
) -> LogFollower:
    """A follower without saved work: it starts from state[0] computed here, or from a checkpoint.

    The run continues meanwhile: if a checkpoint is dropped during its download, the next one is taken. Where
    nobody serves one, a state that the log names is taken from volunteers.
    Raises Unreachable where none can be fetched, TrustError, StateError.
    """
    while True:
        head = await newest_head(swarm, head)
        try:
            return await _follower_at(charter, base, swarm, blobs, head, keys)
        except Unreachable as error:
            if (await newest_head(swarm, head)).checkpoint == head.checkpoint:
                taken = await _named_state(StateSearch(charter, swarm, blobs), head, error)
                return LogFollower(charter, swarm, blobs, taken.tip, taken.state, keys=keys)


async def _named_state(search: StateSearch, head: Head, error: Unreachable) -> TakenState:
    """A state that the log names. Raises `error` where no volunteer serves one, TrustError."""
    try:
        return await search.take(head)
    except Unreachable as unavailable:
        log.debug("%s", unavailable.problem)
        raise error from None


async def newest_head(swarm: Swarm, known: Head) -> Head:
    """The newest of the swarm's heads and the known one."""
    return max([known, *await swarm.heads()], key=lambda head: head.order)


async def _follower_at(
    charter: Charter,
    base: Path,
    swarm: Swarm,
    blobs: BlobStore,
    head: Head,
    keys: KeysInForce | None,
) -> LogFollower:
    if head.checkpoint_round == 0:  # its state follows from the base model: no manifest is needed
        spec = charter.spec
        state = await asyncio.to_thread(initial_state, base, spec.train.target, spec.seed)
        if await asyncio.to_thread(state.hash) == charter.genesis:
            return LogFollower(charter, swarm, blobs, genesis_tip(charter), state, keys=keys)
    taken = await newest_state(
        charter, swarm, blobs, head, keys, layout=lambda: layout_of(base, charter.spec.train.target)
    )
    return LogFollower(charter, swarm, blobs, taken.tip, taken.state, keys=keys)
