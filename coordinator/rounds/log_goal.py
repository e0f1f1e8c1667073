"""The end of a log that continues ours, as others say it, and who may have it: pure."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.certificates import Certificate
from barnraise.contract.double_signing import Certified
from barnraise.contract.records import Head
from barnraise.contract.tip import Position
from barnraise.core.ids import BlobHash, PublicKey


@dataclass(frozen=True)
class Goal:
    """A `LogEnd` (`barnraise.fold.log_walk`)."""

    epoch: int
    height: int
    entry: BlobHash
    certificate: Certificate
    holders: tuple[PublicKey, ...]
    """Those that voted for it have it, with its blobs."""


def goal_of(certified: Certified, *holders: PublicKey) -> Goal:
    """holders: that have it next to those that voted for it."""
    vote, certificate = certified.vote, certified.certificate
    having = (*holders, *_signers(certificate))
    return Goal(vote.epoch, vote.height + 1, BlobHash(vote.entry), certificate, having)


def goal_of_head(head: Head, here: Position) -> Goal | None:
    """What a head says; None where it is no later than `here`. An epoch begins by a resume, at any height."""
    if head.certificate is None or (head.epoch, head.height) <= (here.epoch, here.height):
        return None
    entry, voters = BlobHash(head.entry), _signers(head.certificate)
    return Goal(head.epoch, head.height, entry, head.certificate, voters)


def _signers(certificate: Certificate) -> tuple[PublicKey, ...]:
    return tuple(PublicKey(key) for key, _ in certificate.signatures)
