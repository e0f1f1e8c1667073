"""A closer that contradicts itself is found, and every receiver checks the proof."""

from __future__ import annotations

import pytest

from barnraise.consensus.lies import Lie, LieKind, Witness, Witnessed, lie_in, open_lie
from barnraise.consensus.state import vote_in
from barnraise.consensus.statements import (
    Place,
    Promise,
    PromiseMessage,
    Proposal,
    ProposalMessage,
    Voted,
    VoteMessage,
)
from barnraise.core.errors import BadSignature, MalformedRecord
from barnraise.core.identity import Identity
from barnraise.core.ids import Round
from barnraise.core.signed import sign
from tests.support.closers import PLACE, RUN, value

CLOSER, OTHER = Identity.from_seed(b"c" * 32), Identity.from_seed(b"d" * 32)
CLOSERS = {CLOSER.public, OTHER.public}
NEXT = Place(RUN, PLACE.epoch, PLACE.height + 1, Round(PLACE.round + 1))


def voted(ballot: int, name: int) -> Voted:
    return Voted(ballot=ballot, entry=value(name).entry, kind="close")


def vote(ballot: int, name: int, place: Place = PLACE, by: Identity = CLOSER) -> Witnessed:
    return sign(by, vote_in(place, voted(ballot, name)))


def promise(ballot: int, reported: Voted | None, place: Place = PLACE) -> Witnessed:
    return sign(CLOSER, Promise.at(place, ballot, voted=reported))


def proposal(ballot: int, name: int) -> Witnessed:
    entry = value(name)
    return sign(CLOSER, Proposal.at(PLACE, ballot, entry=entry.entry, kind=entry.kind, promises=("",)))


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        (vote(1, 1), vote(1, 2), LieKind.TWO_VOTES),
        (promise(4, voted(1, 1)), vote(1, 2), LieKind.TWO_VOTES),
        (promise(4, None), vote(1, 1), LieKind.CONCEALED_VOTE),
        (promise(7, voted(1, 1)), vote(4, 1), LieKind.CONCEALED_VOTE),
        (promise(7, None), promise(4, voted(1, 1)), LieKind.CONCEALED_VOTE),
        (promise(4, None), promise(4, voted(1, 1)), LieKind.CONCEALED_VOTE),
        (proposal(1, 1), proposal(1, 2), LieKind.TWO_PROPOSALS),
    ],
)
def test_what_no_honest_closer_signs_is_a_lie(one: Witnessed, other: Witnessed, kind: LieKind) -> None:
    lie = lie_in(one, other)
    assert lie is not None
    assert (lie.closer, lie.kind) == (CLOSER.public, kind)
    assert lie_in(other, one) == lie
    assert open_lie(lie.payload, run=RUN) == lie


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (vote(1, 1), vote(1, 1)),
        (vote(1, 1), vote(4, 2)),
        (vote(1, 1), vote(1, 2, NEXT)),
        (vote(1, 1), vote(1, 2, by=OTHER)),
        (promise(4, voted(1, 1)), vote(1, 1)),
        (promise(4, None), vote(4, 1)),
        (promise(4, None), vote(7, 1)),
        (promise(4, None), promise(7, voted(4, 1))),
        (promise(1, None, NEXT), vote(0 + 1, 1)),
        (proposal(1, 1), proposal(4, 2)),
        (proposal(1, 1), vote(1, 2)),
    ],
)
def test_what_an_honest_closer_may_sign_is_none(one: Witnessed, other: Witnessed) -> None:
    assert lie_in(one, other) is None


def test_a_vote_of_the_run_key_alone_is_none() -> None:
    votes = [sign(CLOSER, vote_in(PLACE, voted(1, name)).model_copy(update={"ballot": 0})) for name in (1, 2)]
    assert lie_in(*votes) is None
    assert lie_in(votes[0], promise(1, None)) is None
    witness = Witness()
    assert [lie for signed in votes for lie in witness.hear(VoteMessage(signed), CLOSERS)] == []


def test_a_witness_finds_a_lie_among_messages() -> None:
    witness = Witness()
    first, second = vote_message(1, 1), PromiseMessage(sign(CLOSER, Promise.at(PLACE, 4, voted=None)))
    assert witness.hear(first, CLOSERS) == []
    assert [lie.kind for lie in witness.hear(second, CLOSERS)] == [LieKind.CONCEALED_VOTE]
    assert witness.hear(second, CLOSERS) == [], "it is reported once"


def test_a_witness_forgets_old_places() -> None:
    witness = Witness()
    witness.hear(vote_message(1, 1), CLOSERS)
    for height in range(8, 13):
        witness.hear(vote_message(1, 1, Place(RUN, 0, height, Round(height))), CLOSERS)
    assert len(witness._heard) == 4


def test_a_witness_reports_one_lie_of_a_kind() -> None:
    witness = Witness()
    lies = [lie for name in range(9) for lie in witness.hear(vote_message(1, name), CLOSERS)]
    assert [lie.kind for lie in lies] == [LieKind.TWO_VOTES]


def test_a_witness_compares_only_what_closers_signed() -> None:
    witness, stranger = Witness(), Identity.from_seed(b"s" * 32)
    said = [sign(stranger, Promise.at(PLACE, 4, voted=voted(1, name))) for name in (1, 2)]
    proposed = sign(CLOSER, Proposal.at(PLACE, 4, entry=value(1).entry, kind="close", promises=("",)))
    assert witness.hear(ProposalMessage(proposed, tuple(said)), CLOSERS) == []
    assert [signer for _, signer in witness._heard] == [CLOSER.public]


def test_a_liar_hides_no_statement_of_another_closer() -> None:
    witness = Witness()
    witness.hear(VoteMessage(sign(OTHER, vote_in(PLACE, voted(1, 1)))), CLOSERS)
    for height in range(8, 13):
        witness.hear(vote_message(1, 1, Place(RUN, 0, height, Round(height))), CLOSERS)
    second = VoteMessage(sign(OTHER, vote_in(PLACE, voted(1, 2))))
    assert [lie.closer for lie in witness.hear(second, CLOSERS)] == [OTHER.public]


def vote_message(ballot: int, name: int, place: Place = PLACE) -> VoteMessage:
    return VoteMessage(sign(CLOSER, vote_in(place, voted(ballot, name))))


def test_a_proof_that_proves_nothing_is_refused() -> None:
    lie = lie_in(vote(1, 1), vote(1, 2))
    assert lie is not None
    honest = Lie(lie.closer, lie.kind, lie.first, vote(4, 2))
    for payload in (honest.payload, b"{}", lie.payload + b" ", b"x" * 2**20):
        with pytest.raises(MalformedRecord):
            open_lie(payload, run=RUN)
    with pytest.raises(MalformedRecord):
        open_lie(lie.payload, run=type(RUN)("another"))
    forged = lie.payload.replace(lie.first.text[60:64].encode(), b"AAAA")
    with pytest.raises((BadSignature, MalformedRecord)):
        open_lie(forged, run=RUN)
