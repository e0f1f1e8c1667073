"""Strangers with invitations that admit nobody: used up, forged, edited, ended, revoked, of another run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from barnraise.contract.invite import parse_invite
from barnraise.contract.records import Admission
from barnraise.contract.spec import TrustSpec
from barnraise.contract.trust_spec import Mode
from barnraise.core.errors import InviteError, KeyBanned, RefusedError
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis
from barnraise.core.signed import open_signed, sign
from barnraise.runtime.run_clock import RunClock
from coordinator.messages.rounds import claim_refusal
from coordinator.reasons import entrance
from coordinator.reasons import rounds as reasons
from coordinator.rounds.membership import Membership
from coordinator.rounds.standing_orders import StandingOrder, StandingOrders, leave_order
from coordinator.store.run_store import RunStore
from peer.coordinator_client import connect
from tests.support import parts
from tests.support.coordinators import api_of, opened_store, reopened, served, session_of

NOW = parts.NOW
KEYS = [Identity.from_seed(bytes([number]) * 32) for number in range(100, 140)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path) as made:
        yield made


def refused(store: RunStore, key: Identity, invitation: str, now: int = NOW) -> RefusedError | None:
    """What `peer join` gets from the real service; None where it is admitted."""

    async def play() -> None:
        async with served(session_of(store, now=Millis(now))) as invite:
            stranger = replace(invite, invitation=invitation)
            async with connect(parse_invite(str(stranger))) as api:
                await api.join(
                    key, "", RunClock(lambda: Millis(0), lambda: Millis(now)), instance=parts.INSTANCE
                )

    try:
        asyncio.run(play())
    except RefusedError as error:
        return error
    return None


def is_for(error: RefusedError | None, reason: reasons.ClaimReason) -> bool:
    expected = claim_refusal(reason)
    return error is not None and expected.problem in error.problem and error.fix == expected.fix


def order(store: RunStore, order: StandingOrder) -> None:
    """As `coordinator ban` and `coordinator invite --revoke` do."""
    leave_order(store.folder, order)
    entry = StandingOrders(store).entry(NOW)
    assert entry is not None
    store.amend(entry, NOW)


def test_without_an_invitation_nobody_is_admitted(store: RunStore) -> None:
    assert is_for(refused(store, parts.ADA, ""), entrance.NotInvited())


def test_an_invitation_admits_as_many_keys_as_it_says(store: RunStore) -> None:
    invitation = parts.invitation(uses=2)
    assert refused(store, KEYS[0], invitation) is None
    assert refused(store, KEYS[0], invitation) is None, "the same key does not count twice"
    assert refused(store, KEYS[1], invitation) is None
    assert is_for(refused(store, KEYS[2], invitation), entrance.InvitationUsedUp(2))
    assert refused(store, KEYS[0], invitation) is None
    with reopened(store) as again:
        assert is_for(refused(again, KEYS[2], invitation), entrance.InvitationUsedUp(2))


def test_a_snapshot_keeps_what_is_used(store: RunStore) -> None:
    invitation = parts.invitation(uses=1)
    assert refused(store, KEYS[0], invitation) is None
    store.save(NOW)
    with reopened(store) as again:
        assert is_for(refused(again, KEYS[1], invitation), entrance.InvitationUsedUp(1))
        assert refused(again, KEYS[0], invitation) is None


def test_forty_keys_that_join_at_once_share_one_use(store: RunStore) -> None:
    """While the disk is waited for."""
    claims = [parts.claim(key, invitation=parts.invitation(uses=1)) for key in KEYS]

    async def play() -> list[object]:
        api = api_of(session_of(store))
        return await asyncio.gather(*map(api.join, claims), return_exceptions=True)

    found = asyncio.run(play())
    assert sum(isinstance(each, RefusedError) for each in found) == len(KEYS) - 1
    assert len(store.snapshot.invited) == 1


def test_what_a_closer_admitted_counts_here_too(store: RunStore) -> None:
    """While the coordinator was away: its heartbeat has the closer's admission."""
    invitation = parts.invitation(uses=1)
    admission = Admission(run=parts.RUN, peer=KEYS[0].public, expires=NOW + 10**6, invitation="1f" * 8)
    beat = parts.presence(KEYS[0], admission=sign(parts.STRANGER, admission).text)
    session = session_of(store)
    session.members = Membership.of([beat])
    api = api_of(session)
    with pytest.raises(RefusedError, match="used up"):
        asyncio.run(api.join(parts.claim(KEYS[1], invitation=invitation)))
    renewed = asyncio.run(api.join(parts.claim(KEYS[0], invitation=invitation)))
    found = open_signed(Admission, renewed.admission, signer=parts.AUTHORITY.public)
    assert found.value.invitation == "1f" * 8
    assert store.snapshot.invited == {KEYS[0].public: "1f" * 8}


@pytest.mark.parametrize(
    "invitation",
    [
        parts.invitation(by=parts.STRANGER),
        parts.invitation(run="shed"),
        parts.invitation(uses=20).replace(".20.", ".99999.", 1),
        parts.invitation(expires=NOW - 1).replace(f".{NOW - 1}.", f".{NOW + 1}.", 1),
        parts.invitation(id="1f" * 8).replace("1f" * 8, "2e" * 8, 1),
    ],
    ids=["another key", "another run", "more uses", "a later end", "another id"],
)
def test_a_forged_or_edited_invitation_admits_nobody(store: RunStore, invitation: str) -> None:
    assert is_for(refused(store, parts.ADA, invitation), entrance.InvitationInvalid())
    assert not store.snapshot.invited


def test_an_invitation_ends(store: RunStore) -> None:
    invitation = parts.invitation(expires=NOW)
    assert refused(store, KEYS[0], invitation) is None
    later = NOW + 3 * 3600 * 1000
    assert is_for(refused(store, KEYS[1], invitation, later), entrance.InvitationExpired(3 * 3600))
    assert refused(store, KEYS[0], invitation, later) is None, "whom it admitted stays"


def test_a_revoked_invitation_admits_nobody_else(store: RunStore) -> None:
    invitation = parts.invitation()
    assert refused(store, KEYS[0], invitation) is None
    order(store, StandingOrder(revoked=("1f" * 8,)))
    assert is_for(refused(store, KEYS[1], invitation), entrance.InvitationRevoked())
    assert refused(store, KEYS[0], invitation) is None
    with reopened(store) as again:
        assert is_for(refused(again, KEYS[1], invitation), entrance.InvitationRevoked())


def test_a_banned_key_reads_why_and_whom_to_ask(store: RunStore) -> None:
    assert refused(store, KEYS[0], parts.invitation()) is None
    order(store, StandingOrder(keys=(KEYS[0].public,), level="banned", note="sent noise"))
    error = refused(store, KEYS[0], parts.invitation())
    assert isinstance(error, KeyBanned)
    assert "sent noise" in error.problem
    order(store, StandingOrder(keys=(KEYS[0].public,)))
    assert refused(store, KEYS[0], parts.invitation()) is None


def test_a_damaged_invite_is_named_before_it_is_sent() -> None:
    invite = f"barnraise://host:1/barn?key={parts.AUTHORITY.public}&invitation={parts.invitation()}"
    assert parse_invite(invite).invitation == parts.invitation()
    with pytest.raises(InviteError, match="cut off"):
        parse_invite(invite[:-3])


def test_an_open_run_admits_everybody_but_banned_keys(tmp_path: Path) -> None:
    spec = parts.run_spec().model_copy(update={"trust": TrustSpec(mode="open")})
    with opened_store(tmp_path, spec) as store:
        assert refused(store, KEYS[0], "") is None
        order(store, StandingOrder(keys=(KEYS[0].public,), level="banned"))
        assert isinstance(refused(store, KEYS[0], ""), KeyBanned)


def test_a_list_admits_its_keys_alone(tmp_path: Path) -> None:
    trust = TrustSpec(mode="allow-list", vouched=(KEYS[0].public,))
    with opened_store(tmp_path, parts.run_spec().model_copy(update={"trust": trust})) as store:
        assert refused(store, KEYS[0], "") is None
        assert is_for(refused(store, KEYS[1], parts.invitation()), entrance.NotOnList(KEYS[1].public))


@pytest.mark.parametrize("mode", ["allow-list", "invite"])
def test_who_is_vouched_for_later_needs_no_invitation(tmp_path: Path, mode: Mode) -> None:
    trust = TrustSpec(mode=mode, vouched=(KEYS[0].public,))
    with opened_store(tmp_path, parts.run_spec().model_copy(update={"trust": trust})) as store:
        assert refused(store, KEYS[1], "") is not None
        for key in (KEYS[0], KEYS[1]):
            leave_order(store.folder, StandingOrder(keys=(key.public,), level="trusted"))
        entry = StandingOrders(store).entry(NOW)
        assert entry is not None
        assert [change.key for change in entry.changes] == [KEYS[1].public], "the spec names the other"
        store.amend(entry, NOW)
        assert StandingOrders(store).entry(NOW) is None
        assert refused(store, KEYS[1], "") is None
        assert refused(store, KEYS[2], "") is not None
