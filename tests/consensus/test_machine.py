"""A closer's answers to what is unfair, and how long closers wait."""

from __future__ import annotations

from dataclasses import replace

import pytest

from barnraise.consensus.ballots import LEAP, Ballots
from barnraise.consensus.events import Candidate, Event, Received, Send, Tick, Transition
from barnraise.consensus.machine import Stepped, step
from barnraise.consensus.state import Closer, start
from barnraise.consensus.statements import (
    Message,
    Prepare,
    PrepareMessage,
    Promise,
    PromiseMessage,
    Proposal,
    ProposalMessage,
    Refusal,
    RefusalMessage,
    Voted,
)
from barnraise.consensus.wire import Agreed, decode, encode
from barnraise.contract.certificates import Authorities
from barnraise.core.errors import BadSignature, MalformedRecord
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis
from barnraise.core.signed import sign
from tests.support.closers import PLACE, FakeSigner, fresh, key, seat, value

NOW = Millis(0)


def closer(index: int, count: int = 3) -> Closer:
    return start(seat(index, count), fresh())


def take(state: Closer, *events: Event) -> Stepped:
    stepped = Stepped(state, (), ())
    for event in events:
        stepped = step(stepped.closer, event, NOW)
    return stepped


def prepare(index: int, ballot: int) -> PrepareMessage:
    return PrepareMessage(FakeSigner(key(index))(Prepare.at(PLACE, ballot)))


def promise(index: int, ballot: int, voted: Voted | None = None) -> PromiseMessage:
    return PromiseMessage(FakeSigner(key(index))(Promise.at(PLACE, ballot, voted=voted)))


def proposal(ballot: int, name: int, *promises: PromiseMessage, by: int = 0) -> ProposalMessage:
    entry = value(name)
    texts = tuple(message.signed.text for message in promises)
    said = Proposal.at(PLACE, ballot, entry=entry.entry, kind=entry.kind, promises=texts)
    return ProposalMessage(FakeSigner(key(by))(said), tuple(message.signed for message in promises))


def voted(ballot: int, name: int) -> Voted:
    return Voted(ballot=ballot, entry=value(name).entry, kind="close")


def sent(stepped: Stepped) -> list[Message]:
    return [effect.message for effect in stepped.effects if isinstance(effect, Send)]


@pytest.mark.parametrize(
    "message",
    [
        prepare(1, 1),
        prepare(0, 1 + 3 * LEAP),
        prepare(5, 1),
        proposal(1, 1, promise(0, 1)),
        proposal(1, 1, promise(0, 1), promise(0, 1)),
        proposal(1, 1, promise(0, 1), promise(5, 1)),
        proposal(1, 1, promise(0, 1), promise(1, 4)),
        proposal(1, 1, promise(0, 1), promise(1, 1), by=1),
        proposal(4, 1, promise(0, 4), promise(1, 4, voted(2, 2))),
        proposal(4, 1, promise(0, 4, voted(2, 1)), promise(1, 4, voted(2, 2))),
        proposal(4, 2, promise(0, 4), promise(1, 4, voted(5, 2))),
        RefusalMessage(FakeSigner(key(0))(Refusal.at(PLACE, 1, promised=2 * LEAP))),
    ],
)
def test_a_message_that_breaks_the_rules_changes_nothing(message: Message) -> None:
    state = closer(2)
    stepped = take(state, Received(message))
    assert stepped == Stepped(state, (), (Transition.REJECTED,))


def test_a_second_proposal_of_a_ballot_gets_no_vote() -> None:
    promises = promise(0, 1), promise(1, 1)
    state = replace(closer(2), checked=frozenset({value(1), value(2)}))
    state = take(state, Received(proposal(1, 1, *promises))).closer
    stepped = take(state, Received(proposal(1, 2, *promises)))
    assert stepped == Stepped(state, (), (Transition.REJECTED,))


def test_a_second_proposal_of_a_ballot_is_not_obtained() -> None:
    promises = promise(0, 1), promise(1, 1)
    state = take(closer(2), Received(proposal(1, 1, *promises))).closer
    stepped = take(state, Received(proposal(1, 2, *promises)))
    assert (stepped.closer.pending, stepped.transitions) == (state.pending, (Transition.DROPPED,))
    assert not stepped.effects
    again = take(state, Received(proposal(1, 1, *promises)))
    assert again.transitions == (Transition.ASKED,), "it may not be obtained yet"


def test_promises_that_contradict_each_other_lead_to_no_proposal() -> None:
    state = take(closer(0, 5), Candidate(value(0))).closer
    state = take(state, Received(promise(1, 1, None)), Received(promise(2, 1, None))).closer
    assert state.attempt is not None
    assert state.attempt.proposed, "three of five"
    late = take(replace(closer(0, 5), heard=5), Candidate(value(0)), Received(promise(1, 6, voted(2, 1))))
    stepped = take(late.closer, Received(promise(2, 6, voted(2, 2))))
    assert Transition.UNDECIDABLE in stepped.transitions
    assert sent(stepped) == []


def test_the_first_closer_begins_at_once_and_the_others_wait_for_it() -> None:
    assert sent(take(closer(0), Candidate(value(0))))
    assert not sent(take(closer(1), Candidate(value(1)), Tick()))
    waits = [seat(index, 3).pace.first_wait(seat(index, 3).ballots, key(index)) for index in range(3)]
    assert waits == [0, 5000, 10_000], "a sixth of the grace each"


def test_a_closer_that_votes_again_after_a_crash_keeps_its_vote() -> None:
    promises = promise(0, 1), promise(1, 1)
    state = replace(closer(2), checked=frozenset({value(1)}))
    before = take(state, Received(proposal(1, 1, *promises)))
    again = take(start(seat(2, 3), before.closer.record), Received(proposal(1, 1, *promises)))
    assert again.transitions == (Transition.VOTED_AGAIN,)
    assert sent(again) == sent(before)[:1]


def test_the_run_key_proposes_first() -> None:
    keys = Authorities((key(1), key(2), key(3)))
    assert Ballots.of(keys, run_key=key(3)).closers == (key(3), key(1), key(2))
    assert Ballots.of(keys, run_key=key(9)).closers == (key(1), key(2), key(3))


def test_each_ballot_has_one_owner() -> None:
    ballots = Ballots(tuple(map(key, range(3))))
    for above in range(7):
        found = [ballots.next_of(key(index), above) for index in range(3)]
        assert sorted(found) == [above + 1, above + 2, above + 3]
        assert [ballots.owner(ballot) for ballot in found] == [key(0), key(1), key(2)]


def test_messages_are_read_as_they_were_sent() -> None:
    identity = Identity.from_seed(b"c" * 32)
    promised = sign(identity, Promise.at(PLACE, 4, voted=voted(1, 1)))
    asked = Proposal.at(PLACE, 4, entry=value(1).entry, kind="close", promises=(promised.text,))
    messages: list[Message] = [
        PrepareMessage(sign(identity, Prepare.at(PLACE, 4))),
        PromiseMessage(promised),
        RefusalMessage(sign(identity, Refusal.at(PLACE, 4, promised=5))),
        ProposalMessage(sign(identity, asked), (promised,)),
    ]
    for message in messages:
        assert decode(encode(message)) == Agreed(message)
        with pytest.raises(BadSignature):
            decode(encode(message)[:-3] + b"9" + encode(message)[-2:])
    forged = Proposal.at(PLACE, 4, entry=value(1).entry, kind="close", promises=(promised.text[:-8],))
    for data in (b"", b"X" + encode(messages[0])[1:], encode(PrepareMessage(messages[0].signed))[:50]):  # type: ignore[arg-type]
        with pytest.raises(MalformedRecord):
            decode(data)
    with pytest.raises((BadSignature, MalformedRecord)):
        decode(b"O" + sign(identity, forged).wire)
