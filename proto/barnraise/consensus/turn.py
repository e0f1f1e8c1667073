"""One step of a closer under way: what acceptor, proposer and learner change it by."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeVar

from barnraise.consensus.events import Effect, Flush, Send, Transition
from barnraise.consensus.state import Closer, Record
from barnraise.consensus.statements import Message
from barnraise.core.ids import Millis, PublicKey
from barnraise.core.signed import Signable, Signed

T = TypeVar("T", bound=Signable)


@dataclass
class Turn:
    """The closer as far as the step got, and the step's effects."""

    closer: Closer
    now: Millis
    effects: list[Effect] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)

    def did(self, transition: Transition) -> None:
        """Note what the step did."""
        self.transitions.append(transition)

    def do(self, effect: Effect) -> None:
        """Add an effect."""
        self.effects.append(effect)

    def keep(self, record: Record) -> None:
        """Change the record, and flush it before what follows."""
        self.closer = replace(self.closer, record=record)
        self.do(Flush(record))

    def send(self, to: PublicKey, message: Message) -> None:
        """Send a message to one closer."""
        self.do(Send(to, message))

    def send_all(self, message: Message) -> None:
        """Send a message to all other closers."""
        for other in self.closer.ballots.others(self.closer.key):
            self.send(other, message)

    def sign(self, statement: T) -> Signed[T]:
        """A statement, signed by the closer."""
        return self.closer.seat.sign(statement)

    def wait(self) -> None:
        """Leave the next ballot to another closer for a while."""
        closer, seat = self.closer, self.closer.seat
        wait = seat.pace.wait(seat.ballots, seat.key, closer.place, closer.contended)
        self.closer = replace(closer, due=Millis(self.now + wait))

    def give_way(self) -> None:
        """Give up a ballot of its own, if there is one."""
        if self.closer.attempt is not None:
            self.closer = replace(self.closer, attempt=None)
            self.did(Transition.GAVE_WAY)
