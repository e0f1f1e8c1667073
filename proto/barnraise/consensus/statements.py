"""What closers sign and send to each other about one place in the log.

| statement | its signer states                                                    | sent to          |
|-----------|----------------------------------------------------------------------|------------------|
| Prepare   | I begin this ballot, which is mine                                   | all closers      |
| Promise   | I take part in no lower ballot; my last vote is this one             | the ballot's owner |
| Refusal   | I take part in a higher ballot                                       | the ballot's owner |
| Proposal  | a majority promised: their newest vote, or my choice, is to be voted | all closers      |
| Vote      | this entry is the one at its place (`barnraise.contract.certificates`) | all closers      |
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from typing_extensions import Self

from barnraise.contract.certificates import MAX_CLOSERS, Vote
from barnraise.contract.field_types import Embedded, Epoch, Height, Kind, RoundNumber, Run
from barnraise.core.ids import BlobHash, Round, RunId
from barnraise.core.signed import Signable, Signed, open_text
from barnraise.core.strict import Hex64, Strict

MAX_BALLOT = 2**53 - 1

Ballot = Annotated[int, Field(ge=1, le=MAX_BALLOT)]


@dataclass(frozen=True)
class Place:
    """A place in the log, at which closers agree on one entry."""

    run: RunId
    epoch: int
    height: int
    round: Round
    """The open round there."""

    @property
    def order(self) -> tuple[int, int]:
        """A later place has a higher one."""
        return self.epoch, self.height


@dataclass(frozen=True)
class Value:
    """What is agreed on: an entry of the log."""

    entry: BlobHash
    kind: str


class Voted(Strict):
    """A vote, as its voter reports it in a promise."""

    ballot: Ballot
    entry: Hex64
    kind: Kind

    @property
    def value(self) -> Value:
        """What the vote was for."""
        return Value(BlobHash(self.entry), self.kind)


class _Statement(Signable):
    """What Prepare, Promise, Refusal and Proposal have in common."""

    run: Run
    epoch: Epoch
    height: Height
    round: RoundNumber
    ballot: Ballot

    @classmethod
    def at(cls, place: Place, ballot: int, **fields: object) -> Self:
        """The statement about a place."""
        said = {"run": place.run, "epoch": place.epoch, "height": place.height, "round": place.round}
        return cls.model_validate({**said, "ballot": ballot, **fields})


class Prepare(_Statement):
    """The owner of a ballot begins it."""

    DOMAIN = b"barnraise/Prepare/1\n"


class Promise(_Statement):
    """The signer votes in no lower ballot from now on."""

    DOMAIN = b"barnraise/Promise/1\n"

    voted: Voted | None
    """The signer's vote in the highest ballot below; None where it has not voted at this place."""


class Refusal(_Statement):
    """The signer promised another ballot, which is higher."""

    DOMAIN = b"barnraise/Refusal/1\n"

    promised: Ballot


class Proposal(_Statement):
    """The owner of a ballot asks for votes."""

    DOMAIN = b"barnraise/Proposal/1\n"

    entry: Hex64
    kind: Kind
    promises: Annotated[tuple[Embedded, ...], Field(min_length=1, max_length=MAX_CLOSERS)]
    """`Signed[Promise]` in base64, of a majority."""

    @property
    def value(self) -> Value:
        """What is proposed."""
        return Value(BlobHash(self.entry), self.kind)


Statement = Prepare | Promise | Refusal | Proposal | Vote


# Messages: statements as a closer receives them, with all signatures checked


@dataclass(frozen=True)
class PrepareMessage:
    """A ballot begins."""

    signed: Signed[Prepare]


@dataclass(frozen=True)
class PromiseMessage:
    """An answer to a Prepare."""

    signed: Signed[Promise]


@dataclass(frozen=True)
class RefusalMessage:
    """An answer to a Prepare or a Proposal."""

    signed: Signed[Refusal]


@dataclass(frozen=True)
class ProposalMessage:
    """A proposal, with its promises opened."""

    signed: Signed[Proposal]
    promises: tuple[Signed[Promise], ...]


@dataclass(frozen=True)
class VoteMessage:
    """A vote."""

    signed: Signed[Vote]


Message = PrepareMessage | PromiseMessage | RefusalMessage | ProposalMessage | VoteMessage


def open_proposal(signed: Signed[Proposal]) -> ProposalMessage:
    """Open the promises of a proposal. Raises MalformedRecord, BadSignature."""
    promises = (open_text(Promise, text, signer=None) for text in signed.value.promises)
    return ProposalMessage(signed, tuple(promises))


def place_of(statement: Statement) -> Place:
    """The place in the log that a statement is about."""
    return Place(RunId(statement.run), statement.epoch, statement.height, Round(statement.round))


def highest_vote(promises: Iterable[Promise]) -> Voted | None:
    """The vote of the highest ballot among promises: its value is the one to propose.

    Raises ValueError where two promises report different entries in that ballot: one of their signers, or
    the ballot's owner, lies.
    """
    votes = [promise.voted for promise in promises if promise.voted is not None]
    highest = max((vote.ballot for vote in votes), default=0)
    found = {vote.value: vote for vote in votes if vote.ballot == highest}
    if len(found) > 1:
        raise ValueError(f"two entries have votes in ballot {highest}")
    return next(iter(found.values()), None)
