"""The proof that the keys of a run signed two histories: two certificates that contradict each other.

It needs no entry and no trust in its sender. Only within one epoch do two entries contradict each other: a
resume begins another one, which replaces the end of the epoch before.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import model_validator

from barnraise.contract.certificates import Authorities, Certificate, Vote, check_certificate
from barnraise.core.errors import BadSignature, MalformedRecord
from barnraise.core.strict import Strict

MAX_PROOF_BYTES = 65_536


class Certified(Strict):
    """A statement and the votes for it."""

    vote: Vote
    certificate: Certificate

    @property
    def payload(self) -> bytes:
        """Its bytes as a blob. Volunteers name that of their newest entry in each heartbeat."""
        return self.model_dump_json().encode()


class DoubleSigned(Strict):
    """Two certified entries of which a log can have only one. The one with the lower hash is the first."""

    first: Certified
    second: Certified

    @model_validator(mode="after")
    def _contradict(self) -> DoubleSigned:
        first, second = self.first.vote, self.second.vote
        if not contradict(first, second) or first.entry > second.entry:
            raise ValueError("the two entries do not contradict each other")
        return self

    @property
    def payload(self) -> bytes:
        """The bytes of the proof. Its SHA-256 names it."""
        return self.model_dump_json().encode()


def contradict(one: Vote, other: Vote) -> bool:
    """Whether a log can have only one of two entries."""
    if (one.run, one.epoch) != (other.run, other.epoch) or one.entry == other.entry:
        return False
    both = {one.kind, other.kind}
    same_round = both == {"close"} and one.round == other.round
    return one.height == other.height or same_round or both == {"resume"}


def proof_of(one: Certified, other: Certified) -> DoubleSigned:
    """The proof in two statements that contradict each other."""
    first, second = sorted((one, other), key=lambda certified: certified.vote.entry)
    return DoubleSigned(first=first, second=second)


def open_proof(payload: bytes, *, run: str, authorities: Authorities) -> DoubleSigned:
    """Check a proof: both certificates, and that they contradict each other in this run.

    Raises MalformedRecord, BadSignature.
    """
    try:
        if len(payload) > MAX_PROOF_BYTES:
            raise ValueError("it is too large")
        proof = DoubleSigned.model_validate_json(payload)
        if proof.payload != payload or proof.first.vote.run != run:
            raise ValueError("it is of another run, or not in canonical form")
    except ValueError as error:  # pydantic's ValidationError is one
        raise MalformedRecord(
            f"a proof of double signing is none: {str(error).splitlines()[0]}", fix="It is dropped."
        ) from None
    for certified in (proof.first, proof.second):
        check_certificate(certified.vote, certified.certificate, authorities)
    return proof


def open_proof_of_any(payload: bytes, *, run: str, known: Sequence[Authorities]) -> DoubleSigned:
    """As `open_proof`, where the certificates may be of any of `known`."""
    for authorities in known[:-1]:
        try:
            return open_proof(payload, run=run, authorities=authorities)
        except BadSignature:
            continue
    return open_proof(payload, run=run, authorities=known[-1])
