"""What a closer knows at one place in the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from barnraise.consensus.ballots import Ballots, Pace
from barnraise.consensus.statements import Place, Promise, ProposalMessage, Value, Voted
from barnraise.contract.certificates import Vote
from barnraise.contract.double_signing import Certified
from barnraise.core.ids import Millis, PublicKey
from barnraise.core.signed import Signable, Signed

T = TypeVar("T", bound=Signable)


class Signer(Protocol):
    """Signs with the closer's key."""

    def __call__(self, value: T, /) -> Signed[T]: ...


@dataclass(frozen=True)
class Record:
    """What a closer flushes: without it, it could contradict itself after a crash."""

    place: Place
    promised: int = 0
    """The highest ballot that it promised; 0 before the first."""
    voted: Voted | None = None


@dataclass(frozen=True)
class Seat:
    """What does not change while a closer is at a place."""

    key: PublicKey
    sign: Signer
    ballots: Ballots
    pace: Pace


@dataclass(frozen=True)
class Attempt:
    """A ballot of its own."""

    ballot: int
    promises: tuple[Signed[Promise], ...]
    proposed: bool = False

    def awaits(self, promise: Signed[Promise]) -> bool:
        """Whether it is a promise of this ballot that is still to be counted."""
        signers = {counted.signer for counted in self.promises}
        return not self.proposed and self.ballot == promise.value.ballot and promise.signer not in signers


@dataclass(frozen=True)
class Closer:
    """All that a closer knows at one place. Only `record` outlives a crash."""

    seat: Seat
    record: Record
    candidate: Value | None = None
    """What it proposes where it may choose."""
    checked: frozenset[Value] = frozenset()
    """Entries whose blobs are checked and flushed."""
    attempt: Attempt | None = None
    pending: ProposalMessage | None = None
    """A proposal whose entry is not checked yet."""
    votes: tuple[Signed[Vote], ...] = ()
    """The vote of each closer in its highest ballot."""
    decided: Certified | None = None
    due: Millis | None = None
    """When it begins a ballot, unless another one does."""
    contended: int = 0
    """As in `Pace.wait`."""
    heard: int = 0
    """The highest ballot that others reported."""

    @property
    def key(self) -> PublicKey:
        """Its own key."""
        return self.seat.key

    @property
    def ballots(self) -> Ballots:
        """The ballots of this place."""
        return self.seat.ballots

    @property
    def place(self) -> Place:
        """Where it is."""
        return self.record.place

    @property
    def choice(self) -> Value | None:
        """What it would propose; after a vote, the entry of that vote."""
        return self.record.voted.value if self.record.voted else self.candidate

    @property
    def has_voted(self) -> bool:
        """Whether it voted here, in any ballot."""
        return self.record.voted is not None

    def has_voted_in(self, ballot: int) -> bool:
        """Whether its last vote is of this ballot."""
        return self.record.voted is not None and self.record.voted.ballot == ballot


def start(seat: Seat, record: Record) -> Closer:
    """A closer that arrives at a place, or starts again there. What it voted for is flushed with its vote."""
    return Closer(seat, record, checked=frozenset({record.voted.value} if record.voted else ()))


def vote_in(place: Place, voted: Voted) -> Vote:
    """The statement of a vote."""
    return Vote(
        run=place.run,
        epoch=place.epoch,
        height=place.height,
        round=place.round,
        kind=voted.kind,
        entry=voted.entry,
        ballot=voted.ballot,
    )
