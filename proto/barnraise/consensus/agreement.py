"""A closer in its program: carries the machine's effects out, and moves from place to place."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from typing_extensions import assert_never

from barnraise.consensus.ballots import Ballots, Pace
from barnraise.consensus.events import (
    Candidate,
    CatchUp,
    Checked,
    Decide,
    Effect,
    Event,
    Flush,
    Inform,
    Learned,
    Obtain,
    Received,
    Send,
    Tick,
)
from barnraise.consensus.lies import Lie, Witness
from barnraise.consensus.machine import step
from barnraise.consensus.state import Closer, Seat, start
from barnraise.consensus.statements import Place, Value, place_of
from barnraise.consensus.vote_store import VoteStore
from barnraise.consensus.wire import Ask, News, decode, encode, encode_ask, encode_news
from barnraise.contract.certificates import check_certificate
from barnraise.contract.double_signing import Certified
from barnraise.contract.tip import Position
from barnraise.core.errors import BadSignature
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Millis, PublicKey, RunId, short
from barnraise.core.signed import sign

log = logging.getLogger("barnraise.closers")


@dataclass(frozen=True)
class Later:
    """A certified entry at a later place than ours, not checked yet, and who has it."""

    certified: Certified
    holder: PublicKey


@dataclass
class Agreement:
    """One closer's part in the agreement on the log. Used by one thread.

    send: does not wait. publish_lie: gets each proof that another closer lied.
    The program calls `arrive` with each place of the log that it reaches, `propose` when it would close,
    `tick` often, and `receive` with what other closers send. It reads `decided`, `wanted` and `later`.
    """

    identity: Identity
    votes: VoteStore
    run: RunId
    first: PublicKey
    """The charter's run key."""
    pace: Pace
    clock: Callable[[], Millis]
    send: Callable[[PublicKey, bytes], None]
    publish_lie: Callable[[Lie], None]
    newest: Certified | None = None
    """The newest entry of the log, for closers that are behind."""
    decided: Certified | None = None
    """The decision at our place."""
    later: Later | None = None
    """An entry beyond our place that another closer has."""
    wanted: dict[Value, tuple[PublicKey, ...]] = field(default_factory=dict)
    """Entries to be checked by the program, and who holds them."""
    _closer: Closer | None = None
    _position: Position | None = None
    _witness: Witness = field(default_factory=Witness)

    def arrive(self, position: Position, newest: Certified | None) -> None:
        """Take part in the agreement on the entry after `position`, where this key is one of its closers."""
        if position == self._position:
            return
        self._position, self.newest = position, newest
        self.decided, self.later = None, None
        self.wanted.clear()
        self._closer = self._at(position)

    @property
    def takes_part(self) -> bool:
        """Whether this closer decides on the next entry with others."""
        return self._closer is not None

    @property
    def has_voted(self) -> bool:
        """Whether this closer voted at its place: from now on it proposes only what has a vote."""
        return self._closer is not None and self._closer.has_voted

    def propose(self, entry: BlobHash, kind: str) -> None:
        """Have an entry to continue the log by, whose blobs are checked and flushed; the last one counts."""
        self._feed(Candidate(Value(entry, kind)))

    def checked(self, value: Value) -> None:
        """An entry of `wanted` continues the log, and its blobs are checked and flushed."""
        self.wanted.pop(value, None)
        self._feed(Checked(value))

    def tick(self) -> None:
        """Let time pass."""
        self._feed(Tick())

    def receive(self, data: bytes) -> None:
        """Take a message. Raises TrustError where it is none, or of a key that is no closer."""
        inbound = decode(data)
        known = self._known()
        if inbound.sender not in known:
            raise BadSignature(
                f"a message of {short(inbound.sender)}, which is no closer", fix="It is dropped."
            )
        match inbound:
            case Ask():
                self._inform(inbound.sender)
            case News(certified, sender):
                self._learn(certified, sender)
            case _:
                for lie in self._witness.hear(inbound.message, known):
                    self.publish_lie(lie)
                self._feed(Received(inbound.message))

    def _known(self) -> set[PublicKey]:
        """Keys that close, or that will after a delegation; none before the first place."""
        position = self._position
        if position is None:
            return set()
        return {*position.named, position.run_key(self.first)}

    def _at(self, position: Position) -> Closer | None:
        authorities = position.authorities(self.first)
        if not position.closers or self.identity.public not in authorities.keys:
            return None
        place = Place(self.run, position.epoch, position.height, position.round)
        record = self.votes.record(place)
        if record is None:
            log.warning("taking no part at height %d: this closer has voted further on", place.height)
            return None
        ballots = Ballots.of(authorities, position.run_key(self.first))
        seat = Seat(self.identity.public, partial(sign, self.identity), ballots, self.pace)
        return start(seat, record)

    def _feed(self, event: Event) -> None:
        if self._closer is None:
            return
        stepped = step(self._closer, event, self.clock())
        self._closer = stepped.closer
        for effect in stepped.effects:
            self._do(effect)

    def _do(self, effect: Effect) -> None:
        match effect:
            case Flush(record):
                self.votes.flush(record)
            case Send(to, message):
                self.send(to, encode(message))
            case Obtain(value, holders):
                self.wanted[value] = holders
            case Inform(to):
                self._inform(to)
            case CatchUp(holder):
                self.send(holder, encode_ask(self.identity, self.run))
            case Decide(certified):
                self.decided = certified
            case _:
                assert_never(effect)

    def _inform(self, to: PublicKey) -> None:
        newest = self.decided or self.newest
        if newest is not None:
            self.send(to, encode_news(self.identity, newest))

    def _learn(self, certified: Certified, sender: PublicKey) -> None:
        position, place = self._position, place_of(certified.vote)
        assert position is not None, "it was checked"
        here = position.epoch, position.height
        if certified.vote.run != self.run or place.order < here:
            return
        if place.order > here:
            self.later = Later(certified, sender)
            return
        check_certificate(certified.vote, certified.certificate, position.authorities(self.first))
        if self._closer is None:
            self.decided = certified
        else:
            self._feed(Learned(certified))
