"""Closers' programs agree: real signatures, records on the disk, messages as bytes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from barnraise.consensus.agreement import Agreement, Later
from barnraise.consensus.ballots import Pace
from barnraise.consensus.lies import Lie, LieKind
from barnraise.consensus.state import vote_in
from barnraise.consensus.statements import Promise, Voted, VoteMessage
from barnraise.consensus.vote_store import VoteStore
from barnraise.consensus.wire import encode
from barnraise.contract.certificates import Vote, certify, check_certificate
from barnraise.contract.double_signing import Certified
from barnraise.contract.tip import Position
from barnraise.core.errors import BadSignature, MalformedRecord
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Millis, PublicKey, Round
from barnraise.core.signed import sign
from tests.support.closers import PLACE, RUN, value

CLOSERS = [Identity.from_seed(bytes([index]) * 32) for index in (1, 2, 3)]
RUN_KEY, STRANGER = CLOSERS[0].public, Identity.from_seed(b"s" * 32)
HERE = Position(Round(6), BlobHash("b" * 64), height=7, closers=tuple(key.public for key in CLOSERS))
NEXT = Position(Round(7), value(1).entry, height=8, closers=HERE.closers)
VOTED = Voted(ballot=1, entry=value(1).entry, kind="close")
NEWS = Certified(
    vote=vote_in(PLACE, VOTED),
    certificate=certify(CLOSERS[:2], vote_in(PLACE, VOTED)),
)


@dataclass
class Town:
    """Three programs, and the messages between them."""

    folder: Path
    now: int = 0
    lies: list[Lie] = field(default_factory=list)
    programs: dict[PublicKey, Agreement] = field(default_factory=dict)
    mail: deque[tuple[PublicKey, bytes]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        for identity in CLOSERS:
            VoteStore.begin(self.votes(identity), identity.public)
            self.start(identity)

    def votes(self, identity: Identity) -> Path:
        return self.folder / identity.public[:8]

    def has_voted(self, identity: Identity) -> bool:
        record = VoteStore.open(self.votes(identity), identity.public, self.folder).record(PLACE)
        return record is not None and record.voted is not None

    def start(self, identity: Identity, position: Position = HERE, newest: Certified | None = None) -> None:
        """Start a program, again after a crash."""
        store = VoteStore.open(self.votes(identity), identity.public, self.folder)
        program = Agreement(
            identity, store, RUN, RUN_KEY, Pace(30_000, 0), lambda: Millis(self.now),
            lambda to, data: self.mail.append((to, data)), self.lies.append,
        )  # fmt: skip
        program.arrive(position, newest)
        self.programs[identity.public] = program

    def settle(self, *away: Identity) -> None:
        """Deliver all mail, and check what is wanted. away: programs that get nothing."""
        while self.mail:
            to, data = self.mail.popleft()
            if to not in {identity.public for identity in away}:
                program = self.programs[to]
                program.receive(data)
                for wanted in list(program.wanted):
                    program.checked(wanted)

    def decisions(self) -> list[str | None]:
        found = [self.programs[identity.public].decided for identity in CLOSERS]
        return [None if certified is None else certified.vote.entry for certified in found]


def test_the_first_closer_proposes_and_all_decide(tmp_path: Path) -> None:
    town = Town(tmp_path)
    town.programs[CLOSERS[0].public].propose(value(1).entry, "close")
    town.settle()
    assert town.decisions() == [value(1).entry] * 3
    decided = town.programs[CLOSERS[2].public].decided
    assert decided is not None
    check_certificate(decided.vote, decided.certificate, HERE.authorities(RUN_KEY))


def test_another_closer_goes_on_with_what_was_voted(tmp_path: Path) -> None:
    town = Town(tmp_path)
    first, second, third = CLOSERS
    town.programs[first.public].propose(value(1).entry, "close")
    while not town.has_voted(second):
        to, data = town.mail.popleft()
        if to != third.public:
            town.programs[to].receive(data)
            for wanted in list(town.programs[to].wanted):
                town.programs[to].checked(wanted)
    town.mail.clear()  # the first crashes with all that was sent
    town.start(second)
    town.programs[third.public].propose(value(3).entry, "close")
    town.now += 30_000
    town.programs[third.public].tick()
    town.settle(first)
    assert town.decisions()[1:] == [value(1).entry] * 2


def test_a_closer_that_is_behind_learns_where_the_log_is(tmp_path: Path) -> None:
    town = Town(tmp_path)
    town.start(CLOSERS[0], NEXT, NEWS)
    town.programs[CLOSERS[0].public].propose(value(2).entry, "close")
    town.settle()
    assert town.decisions()[1:] == [value(1).entry] * 2, "of the place before"
    far = Position(Round(9), value(1).entry, height=10, closers=HERE.closers)
    late = Certified(vote=NEWS.vote.model_copy(update={"height": 9}), certificate=NEWS.certificate)
    town.start(CLOSERS[0], far, late)
    town.start(CLOSERS[1])
    town.programs[CLOSERS[0].public].propose(value(2).entry, "close")
    town.settle()
    assert town.programs[CLOSERS[1].public].later == Later(late, CLOSERS[0].public)


def test_a_false_certificate_and_a_stranger_are_refused(tmp_path: Path) -> None:
    town = Town(tmp_path)
    false = Certified(vote=NEWS.vote, certificate=certify(CLOSERS[:1], NEWS.vote))
    town.start(CLOSERS[0], NEXT, false)
    town.programs[CLOSERS[0].public].propose(value(2).entry, "close")
    with pytest.raises(BadSignature):
        town.settle()
    stranger = VoteMessage(sign(STRANGER, vote_in(PLACE, VOTED)))
    with pytest.raises(BadSignature):
        town.programs[CLOSERS[1].public].receive(encode(stranger))


@pytest.mark.parametrize(
    ("tag", "statement"),
    [
        (b"V", vote_in(PLACE, VOTED)),  # its signature would not be valid in a certificate
        (b"M", Promise.at(PLACE, 1, voted=None)),  # a proposal could not embed it
    ],
)
def test_a_statement_in_another_form_is_refused(
    tmp_path: Path, tag: bytes, statement: Vote | Promise
) -> None:
    town = Town(tmp_path)
    town.programs[CLOSERS[0].public].propose(value(1).entry, "close")
    payload = statement.payload + 5_000 * b" "
    signature = CLOSERS[2].sign(statement.DOMAIN + payload)
    with pytest.raises(MalformedRecord, match="canonical"):
        town.programs[CLOSERS[0].public].receive(tag + bytes.fromhex(CLOSERS[2].public) + signature + payload)
    town.settle()
    assert town.decisions() == [value(1).entry] * 3


def test_two_votes_in_one_ballot_are_published(tmp_path: Path) -> None:
    town = Town(tmp_path)
    for name in (1, 2):
        voted = Voted(ballot=1, entry=value(name).entry, kind="close")
        vote = sign(CLOSERS[1], vote_in(PLACE, voted))
        town.programs[CLOSERS[2].public].receive(encode(VoteMessage(vote)))
    assert [(lie.closer, lie.kind) for lie in town.lies] == [(CLOSERS[1].public, LieKind.TWO_VOTES)]


def test_where_no_closers_are_named_nobody_takes_part(tmp_path: Path) -> None:
    town = Town(tmp_path)
    town.start(CLOSERS[0], Position(Round(0), BlobHash("c" * 64)))
    program = town.programs[CLOSERS[0].public]
    program.propose(value(1).entry, "close")
    program.tick()
    assert not program.takes_part
    assert not town.mail
