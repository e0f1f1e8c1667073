"""Whether the place that a head names is certified: one closer alone may sign a head of any place.

A head names the newest entry by hash, with its certificate. The signatures cover what a vote says, of which
the head lacks only the entry's kind, and whether it ended a round: all of them are tried.
"""

from __future__ import annotations

from barnraise.contract.certificates import Authorities, Certificate, Vote, check_certificate
from barnraise.contract.log_entries import KINDS
from barnraise.contract.records import Head
from barnraise.contract.rounds import seconds_between
from barnraise.contract.tip import Position
from barnraise.core.errors import BadSignature
from barnraise.core.ids import Millis, PublicKey

AHEAD_SECONDS = 60.0
"""By which a closer's clock may be ahead: two that follow the run's differ by a second or two."""


def is_by_closer(signer: PublicKey, position: Position, first: PublicKey) -> bool:
    """Whether a head that counts is by a closer, and not by a run key of its epoch."""
    return signer in position.named and signer != position.run_key(first)


def is_from_the_future(
    head: Head, signer: PublicKey, position: Position, first: PublicKey, now: Millis
) -> bool:
    """Whether a head has a time of one closer alone, by which it would be the newest for long.

    A run key's clock is the run's. now: the reader's, which follows that.
    """
    is_ahead = seconds_between(now, Millis(head.at)) > AHEAD_SECONDS
    return is_ahead and is_by_closer(signer, position, first)


def is_proved(head: Head, signer: PublicKey, position: Position, first: PublicKey) -> bool:
    """Whether a head is a run key's own, or its newest entry has the votes of those that certify here.

    position: the newest place that is known. first: the charter's run key.
    """
    if not is_by_closer(signer, position, first):
        return True
    if head.height == 0 or head.certificate is None:
        return head.height == 0
    authorities = certifiers_at(position, first)
    return any(_has_votes(vote, head.certificate, authorities) for vote in _votes(head, head.certificate))


def certifiers_at(position: Position, first: PublicKey) -> tuple[Authorities, ...]:
    """Who may certify entries near a place: its closers, those of the next round, and each run key alone."""
    alone = tuple(Authorities((key,)) for key in position.run_keys(first))
    groups = [position.closers, position.next_closers or ()]
    return (*(Authorities(group) for group in groups if group), *alone)


def _votes(head: Head, certificate: Certificate) -> list[Vote]:
    rounds = [round for round in (head.round, head.round - 1) if round >= 0]
    return [
        Vote(
            run=head.run,
            epoch=head.epoch,
            height=head.height - 1,
            round=round,
            kind=kind,
            entry=head.entry,
            ballot=certificate.ballot,
        )
        for kind in sorted(KINDS)
        for round in rounds
    ]


def _has_votes(vote: Vote, certificate: Certificate, authorities: tuple[Authorities, ...]) -> bool:
    return any(is_certified(vote, certificate, each) for each in authorities)


def is_certified(vote: Vote, certificate: Certificate, authorities: Authorities) -> bool:
    """As `check_certificate`."""
    try:
        check_certificate(vote, certificate, authorities)
    except BadSignature:
        return False
    return True
