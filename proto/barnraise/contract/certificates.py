"""Certificates: signatures, detached from a log entry, that make it valid.

A vote is an Ed25519 signature of `Vote.DOMAIN` and the vote's JSON. It has every field in which two entries
that contradict each other differ. So two certificates prove double signing without the entries themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, field_validator

from barnraise.contract.field_types import Epoch, Height, Kind, RoundNumber, Run
from barnraise.core.errors import BadSignature
from barnraise.core.identity import Identity, verify
from barnraise.core.ids import PublicKey
from barnraise.core.signed import Signable, Signed, sign
from barnraise.core.strict import Hex64, Strict

MAX_CLOSERS = 64

Signature = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class Vote(Signable):
    """The statement that a vote signs: this entry is the one at its place in the log."""

    DOMAIN = b"barnraise/Vote/1\n"

    run: Run
    epoch: Epoch
    height: Height
    round: RoundNumber
    kind: Kind
    entry: Hex64
    """SHA-256 of the entry's payload."""
    ballot: Annotated[int, Field(ge=0, lt=2**53)]
    """Of the closers' agreement on the entry; 0 where the run key decides alone."""


class Certificate(Strict):
    """Votes of one ballot for one entry."""

    ballot: Annotated[int, Field(ge=0, lt=2**53)]
    signatures: Annotated[tuple[tuple[Hex64, Signature], ...], Field(min_length=1, max_length=MAX_CLOSERS)]
    """Keys and their signatures, sorted by key; none occurs twice."""

    @field_validator("signatures")
    @classmethod
    def _sorted(cls, signatures: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        keys = [key for key, _ in signatures]
        if keys != sorted(set(keys)):
            raise ValueError("signatures are not sorted by distinct keys")
        return signatures


@dataclass(frozen=True)
class Authorities:
    """The keys whose votes count at one place of the log. A majority of them certifies an entry."""

    keys: tuple[PublicKey, ...]

    @property
    def majority(self) -> int:
        """Votes that are needed."""
        return len(self.keys) // 2 + 1


def certify(identities: Iterable[Identity], vote: Vote) -> Certificate:
    """A certificate with a vote of each of `identities`."""
    return certificate_of([sign(identity, vote) for identity in identities])


def certificate_of(votes: Sequence[Signed[Vote]]) -> Certificate:
    """The certificate that equal votes make."""
    return Certificate(
        ballot=votes[0].value.ballot,
        signatures=tuple(sorted((vote.signer, vote.signature) for vote in votes)),
    )


def check_certificate(vote: Vote, certificate: Certificate, authorities: Authorities) -> None:
    """Raises BadSignature unless a majority of `authorities` signed `vote`, and nobody else did."""
    if certificate.ballot != vote.ballot:
        raise _refused(vote, f"is of ballot {certificate.ballot}, not {vote.ballot}")
    for key, signature in certificate.signatures:
        if key not in authorities.keys:
            raise _refused(vote, f"has a vote of {key[:8]}, which may not close this round")
        verify(PublicKey(key), vote.message, bytes.fromhex(signature))
    if len(certificate.signatures) < authorities.majority:
        count = f"{len(certificate.signatures)} of {authorities.majority} votes"
        raise _refused(vote, f"has {count} that are needed")


def _refused(vote: Vote, why: str) -> BadSignature:
    return BadSignature(
        f"the certificate of the {vote.kind} of round {vote.round} {why}",
        fix="It is dropped. If it is the run's own record, check that the invite is for this run.",
    )
