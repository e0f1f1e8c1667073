"""The live volunteers by their newest heartbeats, and what they mean for a round: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from barnraise.contract.records import Activity, JoinClaim, Presence
from barnraise.contract.rotation import has_turn
from barnraise.contract.rounds import seconds_between
from barnraise.contract.status import PeerStatus
from barnraise.core.ids import Millis, PublicKey, Round, short
from coordinator.messages.rounds import not_awaited_message
from coordinator.reasons.rounds import NotAwaited


@dataclass(frozen=True)
class Attendance:
    """Who contributes to one round. A name is empty where the volunteer has none."""

    expected: Mapping[PublicKey, str]
    """Names of those that train in the round, or are about to."""
    late: Mapping[PublicKey, str]
    """Names of those whose step ends after the round's time."""
    idle: int
    """Volunteers that sit the round out, or whose turn is another one."""


@dataclass(frozen=True)
class Membership:
    """The volunteers that are live at one time: an immutable view, replaced at every tick."""

    presences: Mapping[PublicKey, Presence] = field(default_factory=dict)

    @classmethod
    def of(cls, heartbeats: Iterable[Presence]) -> Membership:
        """The newest heartbeat of each volunteer, by key; those that are leaving do not count."""
        ordered = sorted(heartbeats, key=lambda beat: beat.owner)  # the network names them in any
        return cls({PublicKey(beat.owner): beat for beat in ordered if beat.doing != "leaving"})

    def __len__(self) -> int:
        return len(self.presences)

    def name(self, owner: PublicKey) -> str:
        """The name of a volunteer, or its short key."""
        presence = self.presences.get(owner)
        return presence.name if presence is not None and presence.name else short(owner)

    def working_on(self, round: Round) -> list[PublicKey]:
        """Volunteers that hold the base of `round`: they exchange its contributions."""
        return [owner for owner, presence in self.presences.items() if presence.round == round]

    def tokens(self, round: Round) -> Mapping[PublicKey, int]:
        """Tokens that each reports to have trained in `round`."""
        return {
            owner: presence.tokens for owner, presence in self.presences.items() if presence.round == round
        }

    def attendance(self, round: Round, seed: int, turns: int) -> Attendance:
        """seed, turns: as of `has_turn`."""
        contributing = {
            owner: presence
            for owner, presence in self.presences.items()
            if presence.doing in ("training", "late") and has_turn(seed, round, owner, turns)
        }

        def doing(what: Activity) -> dict[PublicKey, str]:
            near = {owner: p for owner, p in contributing.items() if round - 1 <= p.round <= round}
            return {owner: p.name for owner, p in near.items() if p.doing == what}

        return Attendance(doing("training"), doing("late"), len(self) - len(contributing))

    def statuses(
        self, now: Millis, claims: Mapping[PublicKey, JoinClaim], not_awaited: Mapping[PublicKey, NotAwaited]
    ) -> tuple[PeerStatus, ...]:
        """The status of each volunteer, by key, for everybody to read.

        claims: the newest of each volunteer, which says whether others may see its name. not_awaited: as of
        `Situation`.
        """
        return tuple(
            PeerStatus(
                name=public_name(claims.get(owner)),
                key=short(owner),
                round=presence.round,
                state=presence.state,
                tokens=presence.tokens,
                tokens_per_second=presence.tokens_per_second,
                seen_seconds_ago=max(0.0, seconds_between(Millis(presence.at), now)),
                not_awaited=not_awaited_message(not_awaited[owner]) if owner in not_awaited else "",
            )
            for owner, presence in sorted(self.presences.items())
        )


def public_name(claim: JoinClaim | None) -> str:
    """The name that everybody may read; empty without consent."""
    return claim.name if claim is not None and claim.credit else ""
