"""A closer as a proposer: it begins ballots of its own."""

from __future__ import annotations

from dataclasses import replace

from barnraise.consensus.acceptor import consider, own_promise
from barnraise.consensus.ballots import in_reach
from barnraise.consensus.events import Transition
from barnraise.consensus.state import Attempt
from barnraise.consensus.statements import (
    MAX_BALLOT,
    Prepare,
    PrepareMessage,
    PromiseMessage,
    Proposal,
    ProposalMessage,
    RefusalMessage,
    Value,
    highest_vote,
)
from barnraise.consensus.turn import Turn
from barnraise.core.ids import Millis


def take(turn: Turn, value: Value) -> None:
    """Have a choice: the closer would continue the log by this entry."""
    closer = turn.closer
    turn.closer = replace(closer, candidate=value, checked=closer.checked | {value})
    tick(turn)


def tick(turn: Turn) -> None:
    """Begin a ballot if one is due."""
    closer, seat = turn.closer, turn.closer.seat
    if closer.choice is None:
        turn.did(Transition.IDLE)
        return
    due = closer.due
    if due is None:
        due = Millis(turn.now + seat.pace.first_wait(seat.ballots, seat.key))
        turn.closer = replace(closer, due=due)
    if turn.now >= due:
        begin(turn)
    else:
        turn.did(Transition.IDLE)


def begin(turn: Turn) -> None:
    """Begin a ballot. Its number is in the record before anybody learns of it."""
    closer = turn.closer
    if closer.attempt is not None and closer.attempt.proposed:
        closer = replace(closer, contended=closer.contended + 1)
    ballot = closer.ballots.next_of(closer.key, max(closer.record.promised, closer.heard))
    if ballot > MAX_BALLOT:
        turn.did(Transition.IDLE)
        return
    turn.closer = closer
    turn.keep(replace(closer.record, promised=ballot))
    turn.closer = replace(turn.closer, attempt=Attempt(ballot, (own_promise(turn, ballot),)))
    turn.wait()
    turn.send_all(PrepareMessage(turn.sign(Prepare.at(closer.place, ballot))))
    turn.did(Transition.BEGAN)
    _propose(turn)


def on_promise(turn: Turn, message: PromiseMessage) -> None:
    """Count a promise of the present ballot."""
    attempt, promise, voted = turn.closer.attempt, message.signed, message.signed.value.voted
    if attempt is None or not attempt.awaits(promise):
        turn.did(Transition.DROPPED)
    elif voted is not None and voted.ballot >= attempt.ballot:
        turn.did(Transition.REJECTED)
    else:
        counted = replace(attempt, promises=(*attempt.promises, promise))
        turn.closer = replace(turn.closer, attempt=counted)
        turn.did(Transition.COUNTED_PROMISE)
        _propose(turn)


def on_refusal(turn: Turn, message: RefusalMessage) -> None:
    """Go on above a ballot that was not known here."""
    closer, refusal = turn.closer, message.signed.value
    if not in_reach(refusal.promised, closer.record.promised):
        turn.did(Transition.REJECTED)
        return
    turn.closer = replace(closer, heard=max(closer.heard, refusal.promised))
    if closer.attempt is not None and closer.attempt.ballot == refusal.ballot:
        turn.give_way()
        turn.wait()
    else:
        turn.did(Transition.DROPPED)


def _propose(turn: Turn) -> None:
    """Propose, once a majority promised the ballot."""
    closer, attempt, choice = turn.closer, turn.closer.attempt, turn.closer.choice
    if attempt is None or choice is None or len(attempt.promises) < closer.ballots.majority:
        return
    try:
        highest = highest_vote(promise.value for promise in attempt.promises)
    except ValueError:
        turn.closer = replace(closer, attempt=None)
        turn.did(Transition.UNDECIDABLE)
        return
    turn.closer = replace(closer, attempt=replace(attempt, proposed=True))
    turn.did(Transition.CHOSE if highest is None else Transition.REPEATED)
    proposal = _proposal(turn, attempt, choice if highest is None else highest.value)
    turn.send_all(proposal)
    consider(turn, proposal)


def _proposal(turn: Turn, attempt: Attempt, value: Value) -> ProposalMessage:
    texts = tuple(promise.text for promise in attempt.promises)
    proposal = Proposal.at(
        turn.closer.place, attempt.ballot, entry=value.entry, kind=value.kind, promises=texts
    )
    return ProposalMessage(turn.sign(proposal), attempt.promises)
