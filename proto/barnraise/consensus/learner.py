"""A closer as a learner: it counts votes until a majority's are for one entry in one ballot."""

from __future__ import annotations

from dataclasses import replace

from barnraise.consensus.events import Decide, Transition
from barnraise.consensus.statements import place_of
from barnraise.consensus.turn import Turn
from barnraise.contract.certificates import Vote, certificate_of
from barnraise.contract.double_signing import Certified
from barnraise.core.signed import Signed


def count(turn: Turn, vote: Signed[Vote]) -> None:
    """Count a vote. Of each closer, that in the highest ballot counts."""
    closer = turn.closer
    before = next((other for other in closer.votes if other.signer == vote.signer), None)
    if before is not None and before.value.ballot >= vote.value.ballot:
        turn.did(Transition.DROPPED)
        return
    votes = (*(other for other in closer.votes if other is not before), vote)
    turn.closer = replace(closer, votes=votes)
    turn.did(Transition.COUNTED_VOTE)
    equal = [other for other in votes if other.value == vote.value]
    if len(equal) >= closer.ballots.majority:
        turn.did(Transition.DECIDED)
        _decide(turn, Certified(vote=vote.value, certificate=certificate_of(equal)))


def learn(turn: Turn, certified: Certified) -> None:
    """Take over a decision whose certificate is checked."""
    if turn.closer.decided is not None or place_of(certified.vote) != turn.closer.place:
        turn.did(Transition.DROPPED)
        return
    turn.did(Transition.LEARNED)
    _decide(turn, certified)


def _decide(turn: Turn, certified: Certified) -> None:
    turn.closer = replace(turn.closer, decided=certified, attempt=None, pending=None)
    turn.do(Decide(certified))
