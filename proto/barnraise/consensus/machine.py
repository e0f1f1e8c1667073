"""Agreement on one entry of the log: single-decree Paxos (Lamport 2001) as a pure state machine.

`step(closer, event, now)` returns the closer after the event, and effects to carry out in their order. A
closer keeps these laws for every message that it receives, and across crashes:

1. It promises a ballot only if that is above all that it promised, and votes only in a ballot that is not
   below its promise. Its record is flushed before a promise or a vote is sent, or its own ballot begins.
2. It votes once in a ballot, for an entry whose blobs are checked and flushed.
3. It proposes once in a ballot: one that a crash interrupted is not used again, since it is not above the
   promise in the record.
4. A proposal has the promises of a majority and the entry of their highest vote; where they report no vote,
   the proposer's choice. Voters check that.

So no two entries get the votes of majorities. What a crash loses, all but the record, costs time alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import assert_never

from barnraise.consensus.acceptor import check, on_prepare, on_proposal
from barnraise.consensus.events import (
    Candidate,
    CatchUp,
    Checked,
    Effect,
    Event,
    Inform,
    Learned,
    Received,
    Tick,
    Transition,
)
from barnraise.consensus.learner import count, learn
from barnraise.consensus.proposer import on_promise, on_refusal, take, tick
from barnraise.consensus.state import Closer
from barnraise.consensus.statements import (
    Message,
    PrepareMessage,
    PromiseMessage,
    ProposalMessage,
    RefusalMessage,
    VoteMessage,
    place_of,
)
from barnraise.consensus.turn import Turn
from barnraise.core.ids import Millis


@dataclass(frozen=True)
class Stepped:
    """The result of a step."""

    closer: Closer
    effects: tuple[Effect, ...]
    transitions: tuple[Transition, ...]


def step(closer: Closer, event: Event, now: Millis) -> Stepped:
    """The closer after `event`, and what is to be done, in this order."""
    turn = Turn(closer, now)
    match event:
        case Received(message):
            _receive(turn, message)
        case Learned(certified):
            learn(turn, certified)
        case Candidate() | Checked() | Tick() if closer.decided is not None:
            turn.did(Transition.IDLE)
        case Candidate(value):
            take(turn, value)
        case Checked(value):
            check(turn, value)
        case Tick():
            tick(turn)
        case _:
            assert_never(event)
    return Stepped(turn.closer, tuple(turn.effects), tuple(turn.transitions))


def _receive(turn: Turn, message: Message) -> None:
    closer, sender = turn.closer, message.signed.signer
    about = place_of(message.signed.value)
    if sender not in closer.ballots.others(closer.key):
        turn.did(Transition.REJECTED)
    elif about.order > closer.place.order:
        turn.do(CatchUp(sender))
        turn.did(Transition.FELL_BEHIND)
    elif about.order < closer.place.order or closer.decided is not None:
        _answer_from_behind(turn, message)
    elif about != closer.place:
        turn.did(Transition.REJECTED)
    else:
        _receive_here(turn, message)


def _answer_from_behind(turn: Turn, message: Message) -> None:
    if isinstance(message, PrepareMessage | ProposalMessage):
        turn.do(Inform(message.signed.signer))
        turn.did(Transition.INFORMED)
    else:
        turn.did(Transition.DROPPED)


def _receive_here(turn: Turn, message: Message) -> None:
    match message:
        case PrepareMessage():
            on_prepare(turn, message)
        case PromiseMessage():
            on_promise(turn, message)
        case RefusalMessage():
            on_refusal(turn, message)
        case ProposalMessage():
            on_proposal(turn, message)
        case VoteMessage(vote):
            count(turn, vote)
        case _:
            assert_never(message)
