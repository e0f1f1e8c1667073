"""A closer as an acceptor: it answers ballots, and votes."""

from __future__ import annotations

from dataclasses import replace

from barnraise.consensus.ballots import Ballots, in_reach
from barnraise.consensus.events import Obtain, Transition
from barnraise.consensus.learner import count
from barnraise.consensus.state import vote_in
from barnraise.consensus.statements import (
    PrepareMessage,
    Promise,
    PromiseMessage,
    Proposal,
    ProposalMessage,
    Refusal,
    RefusalMessage,
    Value,
    Voted,
    VoteMessage,
    highest_vote,
    place_of,
)
from barnraise.consensus.turn import Turn
from barnraise.contract.certificates import Vote
from barnraise.core.ids import PublicKey
from barnraise.core.signed import Signed


def on_prepare(turn: Turn, message: PrepareMessage) -> None:
    """Promise a ballot that is not below the last promise; send the promise again where it was lost."""
    closer, sender, ballot = turn.closer, message.signed.signer, message.signed.value.ballot
    record = closer.record
    if closer.ballots.owner(ballot) != sender or not in_reach(ballot, record.promised):
        turn.did(Transition.REJECTED)
    elif ballot < record.promised:
        _refuse(turn, ballot, sender)
    elif record.voted is not None and closer.has_voted_in(ballot):
        _vote_again(turn, record.voted, sender)
    else:
        _promise(turn, ballot, sender)


def on_proposal(turn: Turn, message: ProposalMessage) -> None:
    """Vote for a proposal that is fair and not below the last promise, once its entry is checked."""
    closer, sender, proposal = turn.closer, message.signed.signer, message.signed.value
    record = closer.record
    if not is_fair(message, closer.ballots) or not in_reach(proposal.ballot, record.promised):
        turn.did(Transition.REJECTED)
    elif proposal.ballot < record.promised:
        _refuse(turn, proposal.ballot, sender)
    elif record.voted is None or not closer.has_voted_in(proposal.ballot):
        turn.wait()
        consider(turn, message)
    elif record.voted.value == proposal.value:
        _vote_again(turn, record.voted, sender)
    else:
        turn.did(Transition.REJECTED)  # the second proposal of one ballot


def is_fair(message: ProposalMessage, ballots: Ballots) -> bool:
    """Whether the ballot's owner has the promises of a majority, and proposes what they allow."""
    proposal, promises = message.signed.value, [signed.value for signed in message.promises]
    signers = {signed.signer for signed in message.promises}
    ballot, place = proposal.ballot, place_of(proposal)
    return (
        ballots.owner(ballot) == message.signed.signer
        and all((promise.ballot, place_of(promise)) == (ballot, place) for promise in promises)
        and len(signers) == len(promises) >= ballots.majority
        and signers <= set(ballots.closers)
        and _is_allowed(proposal, promises)
    )


def _is_allowed(proposal: Proposal, promises: list[Promise]) -> bool:
    try:
        highest = highest_vote(promises)
    except ValueError:
        return False
    return highest is None or (highest.ballot < proposal.ballot and highest.value == proposal.value)


def consider(turn: Turn, message: ProposalMessage) -> None:
    """Vote for a fair proposal, or obtain its entry first."""
    closer, proposal = turn.closer, message.signed.value
    if proposal.value in closer.checked:
        _vote(turn, proposal)
        return
    pending = None if closer.pending is None else closer.pending.signed.value
    if pending is None or pending.ballot < proposal.ballot:
        turn.closer = replace(closer, pending=message)
    elif pending.value != proposal.value:
        turn.did(Transition.DROPPED)  # what is obtained stays bounded: one entry for each ballot
        return
    voters = [signed.signer for signed in message.promises if _reports(signed.value, proposal)]
    holders = dict.fromkeys([message.signed.signer, *voters])
    turn.do(Obtain(proposal.value, tuple(key for key in holders if key != closer.key)))
    turn.did(Transition.ASKED)


def check(turn: Turn, value: Value) -> None:
    """Vote for the proposal that waits for its entry, unless a higher ballot was promised meanwhile."""
    closer, pending = turn.closer, turn.closer.pending
    turn.closer = replace(closer, checked=closer.checked | {value})
    if pending is None or pending.signed.value.value != value:
        turn.did(Transition.CHECKED)
        return
    turn.closer = replace(turn.closer, pending=None)
    if pending.signed.value.ballot < closer.record.promised:
        turn.did(Transition.CHECKED)
    else:
        _vote(turn, pending.signed.value)


def own_promise(turn: Turn, ballot: int) -> Signed[Promise]:
    """The closer's promise, which has to be in its record."""
    record = turn.closer.record
    return turn.sign(Promise.at(record.place, ballot, voted=record.voted))


def _promise(turn: Turn, ballot: int, sender: PublicKey) -> None:
    if ballot > turn.closer.record.promised:
        turn.give_way()
        turn.keep(replace(turn.closer.record, promised=ballot))
        turn.wait()
        turn.did(Transition.PROMISED)
    else:
        turn.did(Transition.PROMISED_AGAIN)
    turn.send(sender, PromiseMessage(own_promise(turn, ballot)))


def _refuse(turn: Turn, ballot: int, sender: PublicKey) -> None:
    record = turn.closer.record
    refusal = Refusal.at(record.place, ballot, promised=record.promised)
    turn.send(sender, RefusalMessage(turn.sign(refusal)))
    turn.did(Transition.REFUSED)


def _vote(turn: Turn, proposal: Proposal) -> None:
    record = turn.closer.record
    if proposal.ballot > record.promised:
        turn.give_way()
    voted = Voted(ballot=proposal.ballot, entry=proposal.entry, kind=proposal.kind)
    turn.keep(replace(record, promised=proposal.ballot, voted=voted))
    vote = _own_vote(turn, voted)
    turn.send_all(VoteMessage(vote))
    turn.did(Transition.VOTED)
    count(turn, vote)


def _vote_again(turn: Turn, voted: Voted, sender: PublicKey) -> None:
    turn.send(sender, VoteMessage(_own_vote(turn, voted)))
    turn.did(Transition.VOTED_AGAIN)


def _own_vote(turn: Turn, voted: Voted) -> Signed[Vote]:
    return turn.sign(vote_in(turn.closer.place, voted))


def _reports(promise: Promise, proposal: Proposal) -> bool:
    return promise.voted is not None and promise.voted.value == proposal.value
