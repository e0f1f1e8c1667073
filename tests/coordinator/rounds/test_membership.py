"""The live volunteers, and their attendance in a round."""

from __future__ import annotations

import pytest

from barnraise.contract.records import Activity, JoinClaim, Presence
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, PublicKey, Round, short
from coordinator.reasons.rounds import MissedRounds
from coordinator.rounds.membership import Attendance, Membership
from tests.support.parts import ADA, BEN, NOW, RUN, STRANGER, presence

OPEN = Round(3)


def beat(owner: Identity, doing: Activity = "training", round: int = 3, name: str = "") -> Presence:
    update = {"doing": doing, "round": round, "name": name, "tokens": 64}
    return presence(owner).model_copy(update=update)


def claim(owner: Identity, name: str, *, credit: bool) -> JoinClaim:
    return JoinClaim(run=RUN, owner=owner.public, name=name, credit=credit, at=NOW)


def key(owner: Identity) -> PublicKey:
    return PublicKey(owner.public)


def test_the_order_does_not_follow_that_of_the_heartbeats() -> None:
    """The network names them in another one each time, and each change of a report is a log line."""
    heartbeats = [presence(who) for who in (ADA, BEN, STRANGER)]
    there, back = Membership.of(heartbeats), Membership.of(heartbeats[::-1])
    assert [*there.presences] == [*back.presences] == sorted(there.presences)


def test_volunteers_that_leave_do_not_count() -> None:
    members = Membership.of([beat(ADA), beat(BEN, "leaving")])
    assert len(members) == 1
    assert members.working_on(OPEN) == [ADA.public]


def test_volunteers_without_a_name_have_a_short_key() -> None:
    members = Membership.of([beat(ADA, name="Ada"), beat(BEN)])
    assert members.name(key(ADA)) == "Ada"
    assert members.name(key(BEN)) == BEN.public[:8]
    assert members.name(key(STRANGER)) == STRANGER.public[:8]


def test_only_the_tokens_and_holders_of_the_open_round_count() -> None:
    members = Membership.of([beat(ADA), beat(BEN, round=2)])
    assert members.tokens(OPEN) == {key(ADA): 64}
    assert members.working_on(OPEN) == [ADA.public]


@pytest.mark.parametrize(
    ("doing", "round", "attendance"),
    [
        ("training", 3, Attendance({key(ADA): "Ada"}, {}, 0)),
        ("training", 2, Attendance({key(ADA): "Ada"}, {}, 0)),
        ("training", 1, Attendance({}, {}, 0)),
        ("training", 4, Attendance({}, {}, 0)),
        ("late", 3, Attendance({}, {key(ADA): "Ada"}, 0)),
        ("late", 1, Attendance({}, {}, 0)),
        ("waiting", 3, Attendance({}, {}, 1)),
    ],
)
def test_a_volunteer_s_attendance_in_the_round(doing: Activity, round: int, attendance: Attendance) -> None:
    members = Membership.of([beat(ADA, doing, round, name="Ada")])
    assert members.attendance(OPEN, seed=0, turns=1) == attendance


def test_a_volunteer_whose_turn_is_another_round_is_idle() -> None:
    members = Membership.of([beat(ADA)])
    found = [members.attendance(Round(round), seed=0, turns=3) for round in (3, 4, 5)]
    assert sorted(each.idle for each in found) == [0, 1, 1]


def test_the_status_lists_volunteers_by_key_with_the_age_of_their_heartbeat() -> None:
    members = Membership.of([beat(ADA), beat(BEN)])
    first, second = members.statuses(Millis(NOW + 2_500), {}, {key(BEN): MissedRounds(1, 1)})
    assert [first.key, second.key] == sorted([short(ADA.public), short(BEN.public)])
    assert first.seen_seconds_ago == 2.5
    assert {each.key: bool(each.not_awaited) for each in (first, second)}[short(key(BEN))]
    assert members.statuses(Millis(NOW - 2_500), {}, {})[0].seen_seconds_ago == 0.0


def test_the_status_names_only_those_who_consented() -> None:
    members = Membership.of([beat(ADA, name="Ada"), beat(BEN, name="Ben"), beat(STRANGER, name="Eve")])
    claims = {key(ADA): claim(ADA, "Ada", credit=True), key(BEN): claim(BEN, "Ben", credit=False)}
    shown = {each.key: each.name for each in members.statuses(NOW, claims, {})}
    assert shown == {short(ADA.public): "Ada", short(BEN.public): "", short(STRANGER.public): ""}
