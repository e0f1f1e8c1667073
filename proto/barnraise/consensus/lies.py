"""Proof that a closer lied: two statements that it signed and that no honest closer signs both of.

Closers are vouched for. Against one that lies there is this proof, not a larger quorum.

| a lie                    | the two statements                                                            |
|--------------------------|-------------------------------------------------------------------------------|
| two votes in one ballot  | votes, or promises that report them, for two entries in one ballot            |
| a promise conceals a vote | a promise, and a vote above the one that it reports and below its own ballot |
| two proposals in one ballot | proposals of two entries                                                   |

A vote below a promised ballot that is made after the promise is the second kind too.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import assert_never

from barnraise.consensus.statements import (
    Message,
    Place,
    PrepareMessage,
    Promise,
    PromiseMessage,
    Proposal,
    ProposalMessage,
    RefusalMessage,
    Voted,
    VoteMessage,
    place_of,
)
from barnraise.contract.certificates import Vote
from barnraise.core.errors import MalformedRecord
from barnraise.core.ids import PublicKey, RunId
from barnraise.core.signed import Signed, open_text
from barnraise.core.strict import Strict

MAX_LIE_BYTES = 2**19
MAX_STATEMENT_BYTES = 2**17
PLACES_KEPT = 4
STATEMENTS_KEPT = 64
"""Statements that a witness keeps of one closer about one place. Its later ones are compared with these."""

Witnessed = Signed[Vote] | Signed[Promise] | Signed[Proposal]


class LieKind(Enum):
    """What is signed that contradicts itself. The strings are part of the format of a proof."""

    TWO_VOTES = "two-votes"
    CONCEALED_VOTE = "concealed-vote"
    TWO_PROPOSALS = "two-proposals"


@dataclass(frozen=True)
class Lie:
    """Two statements of one closer that contradict each other."""

    closer: PublicKey
    kind: LieKind
    first: Witnessed
    second: Witnessed

    @property
    def payload(self) -> bytes:
        """The bytes of the proof. Their SHA-256 names it."""
        return _Proof(first=_Said.of(self.first), second=_Said.of(self.second)).model_dump_json().encode()


class _Said(Strict):
    """A signed statement in a proof."""

    statement: Literal["vote", "promise", "proposal"]
    signed: Annotated[str, Field(max_length=2 * MAX_STATEMENT_BYTES)]
    """In base64."""

    @classmethod
    def of(cls, signed: Witnessed) -> _Said:
        kind: Literal["vote", "promise", "proposal"] = "vote"
        if not isinstance(signed.value, Vote):
            kind = "promise" if isinstance(signed.value, Promise) else "proposal"
        return cls(statement=kind, signed=signed.text)

    def open(self) -> Witnessed:
        """Raises MalformedRecord, BadSignature."""
        match self.statement:
            case "vote":
                return open_text(Vote, self.signed, signer=None)
            case "promise":
                return open_text(Promise, self.signed, signer=None)
            case "proposal":
                return open_text(Proposal, self.signed, signer=None, limit=MAX_STATEMENT_BYTES)


class _Proof(Strict):
    """The wire form of a lie."""

    first: _Said
    second: _Said


def open_lie(payload: bytes, *, run: RunId) -> Lie:
    """Check a proof: both signatures, and that the statements contradict each other in this run.

    Raises MalformedRecord, BadSignature.
    """
    try:
        if len(payload) > MAX_LIE_BYTES:
            raise ValueError("it is too large")
        proof = _Proof.model_validate_json(payload)
    except ValueError as error:  # pydantic's ValidationError is one
        raise _no_proof(str(error).splitlines()[0]) from None
    lie = lie_in(proof.first.open(), proof.second.open())
    if lie is None or lie.payload != payload or lie.first.value.run != run:
        raise _no_proof("its statements do not contradict each other, or it is of another run")
    return lie


def _no_proof(why: str) -> MalformedRecord:
    return MalformedRecord(f"a proof that a closer lied is none: {why}", fix="It is dropped.")


def lie_in(one: Witnessed, other: Witnessed) -> Lie | None:
    """The lie that two statements prove; None where an honest closer may sign both."""
    if one.signer != other.signer or place_of(one.value) != place_of(other.value):
        return None
    first, second = sorted((one, other), key=lambda signed: signed.wire)
    kind = _kind(one.value, other.value)
    return None if kind is None else Lie(one.signer, kind, first, second)


def _kind(one: Vote | Promise | Proposal, other: Vote | Promise | Proposal) -> LieKind | None:
    if isinstance(one, Proposal) and isinstance(other, Proposal):
        return LieKind.TWO_PROPOSALS if one.ballot == other.ballot and one.value != other.value else None
    if isinstance(one, Proposal) or isinstance(other, Proposal):
        return None
    reported, also = _vote_of(one), _vote_of(other)
    if reported and also and reported.ballot == also.ballot and reported != also:
        return LieKind.TWO_VOTES
    return LieKind.CONCEALED_VOTE if _conceals(one, also) or _conceals(other, reported) else None


def _vote_of(statement: Vote | Promise) -> Voted | None:
    """The vote that a statement admits."""
    if isinstance(statement, Promise):
        return statement.voted
    if statement.ballot == 0:
        return None  # no ballot of the closers' agreement
    return Voted(ballot=statement.ballot, entry=statement.entry, kind=statement.kind)


def _conceals(statement: Vote | Promise, vote: Voted | None) -> bool:
    """Whether `statement` is a promise that should report `vote`, or a later one."""
    if isinstance(statement, Vote) or vote is None:
        return False
    reported = 0 if statement.voted is None else statement.voted.ballot
    return reported < vote.ballot < statement.ballot


@dataclass
class Witness:
    """Compares what closers sign about the newest places. Its memory, and what it reports, are bounded."""

    _heard: dict[tuple[Place, PublicKey], list[Witnessed]] = field(default_factory=dict)
    _proven: set[tuple[PublicKey, LieKind]] = field(default_factory=set)

    def hear(self, message: Message, closers: Container[PublicKey]) -> list[Lie]:
        """The lies that a message proves, with earlier ones: the first of each kind of each closer.

        The promises in a proposal may have any signer: only what `closers` signed counts.
        """
        said = [signed for signed in witnessed(message) if signed.signer in closers]
        return [lie for signed in said for lie in self._compare(signed) if self._is_first(lie)]

    def _is_first(self, lie: Lie) -> bool:
        kind = lie.closer, lie.kind
        is_first = kind not in self._proven
        self._proven.add(kind)
        return is_first

    def _compare(self, said: Witnessed) -> list[Lie]:
        known = self._heard.setdefault((place_of(said.value), said.signer), [])
        if said in known:
            return []
        lies = [lie for other in known if (lie := lie_in(other, said)) is not None]
        if len(known) < STATEMENTS_KEPT:
            known.append(said)
        self._forget(said.signer)
        return lies

    def _forget(self, closer: PublicKey) -> None:
        """Keep the newest places of a closer. Those that it makes up replace no statements of others."""
        keys = [key for key in self._heard if key[1] == closer]
        for old in sorted(keys, key=lambda key: key[0].order)[:-PLACES_KEPT]:
            del self._heard[old]


def witnessed(message: Message) -> list[Witnessed]:
    """The statements in a message that a lie may be made of."""
    match message:
        case ProposalMessage(proposal, promises):
            return [proposal, *promises]
        case PromiseMessage(promise):
            return [promise]
        case VoteMessage(vote):
            return [vote]
        case PrepareMessage() | RefusalMessage():
            return []
        case _:
            assert_never(message)
