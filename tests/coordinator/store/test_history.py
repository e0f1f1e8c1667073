"""What the closes add up to: shares up to a round, the names in the credits, and the blobs that are kept."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

from barnraise.contract.records import JoinClaim
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, PublicKey, blob_hash
from barnraise.core.signed import sign
from barnraise.fold.log import Link
from coordinator.checkpoints.card import Credits
from coordinator.checkpoints.card_data import credits
from coordinator.store.history import History, Share
from tests.support import parts
from tests.support.parts import ADA, BEN, STRANGER


def link(round: int, *given: tuple[Identity, int, str]) -> Link:
    """A close with a commit for each owner, tokens and blob."""
    commits = tuple(
        parts.commit(owner, round=round, tokens=tokens, blob=blob_hash(blob.encode()), size=len(blob) * 10)
        for owner, tokens, blob in given
    )
    close = parts.close([sign(parts.ADA, commit) for commit in commits], previous=parts.HASH_A)
    return Link(close, commits, parts.votes(close))


def history_of(links: Iterable[Link]) -> History:
    return reduce(History.with_close, links, History())


LINKS = [
    link(0, (ADA, 100, "a"), (BEN, 50, "bb")),
    link(1, (ADA, 10, "a")),
    link(2, (STRANGER, 7, "ccc"), (BEN, 5, "d")),
]


def test_shares_are_those_of_the_rounds_before() -> None:
    history = history_of(LINKS)
    assert history.shares(before=0) == {}
    assert history.shares(before=1) == {ADA.public: Share(1, 100), BEN.public: Share(1, 50)}
    assert history.shares(before=3) == {
        ADA.public: Share(2, 110), BEN.public: Share(2, 55), STRANGER.public: Share(1, 7)
    }  # fmt: skip


def test_a_blob_is_dropped_once_no_kept_round_folded_it() -> None:
    history = history_of(LINKS)
    assert history.sizes() == {0: 30, 1: 10, 2: 40}
    assert history.only_before(1) == {blob_hash(b"bb")}, "round 1 has `a` too"
    later = history.without_before(1)
    assert later.only_before(1) == set()
    assert later.kept_from == 1
    assert later.blobs.keys() == {1, 2}
    assert later.only_before(3) == {blob_hash(b"a"), blob_hash(b"ccc"), blob_hash(b"d")}
    assert later.without_before(3).sizes() == {}
    assert later.without_before(3).shares(before=3)[ADA.public].tokens == 110, "shares stay known"


def claim(owner: Identity, name: str, credit: bool) -> tuple[PublicKey, JoinClaim]:
    made = JoinClaim(
        run=parts.RUN, owner=owner.public, instance=parts.INSTANCE, name=name, credit=credit, at=Millis(1)
    )
    return owner.public, made


def test_credits_name_only_consenting_volunteers_most_tokens_first() -> None:
    shares = history_of(LINKS).shares(before=3)
    claims = dict([claim(ADA, "ada", False), claim(BEN, "ben", True), claim(STRANGER, "cyd", True)])
    assert credits(shares, claims) == Credits((("ben", Share(2, 55)), ("cyd", Share(1, 7))), 1)


def test_consent_without_a_name_or_a_contribution_adds_no_credit() -> None:
    claims = dict([claim(ADA, "", True), claim(STRANGER, "cyd", True)])
    assert credits({ADA.public: Share(1, 1)}, claims) == Credits((), 1)
    assert credits({BEN.public: Share(1, 1)}, {}) == Credits((), 1)
