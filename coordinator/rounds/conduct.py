"""For whom a close waits, by what volunteers did in earlier rounds: pure.

A heartbeat says that its sender trains, and costs nothing. So it does not hold up a round for long:

| volunteer                                     | a close waits for it                                |
|-----------------------------------------------|-----------------------------------------------------|
| steady: `STEADY` contributions, and no miss   | while the allowance and a reserve last              |
| new, or contributed since it missed a round   | while the allowance lasts                           |
| missed a round: it waited in vain             | no, until it contributed: once, then twice, 4 times |
| the same, many rounds ago                     | for one round, while the allowance lasts            |

The allowance is the time that rounds may wait in vain: `SHARE` of the run's time. Each such wait is taken
from it, so the rounds of a run take at most so much longer, however many keys take part, and for how long.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from types import MappingProxyType

from barnraise.contract.field_types import total
from barnraise.contract.spec import RoundSpec
from barnraise.core.ids import PublicKey, Round
from coordinator.reasons.rounds import AllowanceSpent, MissedRounds, NotAwaited

SHARE = 0.1
"""Of the run's time, in which rounds may wait in vain."""
MOST_OWED = 64
"""Contributions that a volunteer owes at most; for as many at once its misses are forgotten."""
FIRST_RETRY, LONGEST_RETRY = 8, 256
"""Rounds after which a close waits again for a volunteer that owes contributions; it doubles. A slow machine
cannot contribute where nobody waits for it."""
STEADY = 8
"""Contributions in a row that make a volunteer steady."""
RECENT = 8
"""Turns in which a volunteer counts as one that contributes."""
MOST_RECORDS = 2**15
MAX_SPEED = 4.0
"""Times the median speed that a volunteer's tokens count at most before they are accepted."""
FASTER = 1.5
"""Times its last speed, likewise: a round's length varies."""


@dataclass(frozen=True)
class Record:
    """What one volunteer did."""

    streak: int = 0
    """Contributions since it last let a round wait in vain."""
    misses: int = 0
    """Rounds that waited for it in vain, until `MOST_OWED` contributions in a row."""
    owed: int = 0
    """Contributions before a close waits for it again."""
    retry: int = 0
    """Round from which on one waits all the same."""
    last: int = -1
    """Round of its last contribution; -1 before the first."""
    speed: float = 0.0
    """Tokens a second of its last contribution."""

    @property
    def is_steady(self) -> bool:
        """Whether it may use the reserve."""
        return self.streak >= STEADY and self.misses == 0

    def contributed(self, round: Round, speed: float) -> Record:
        """After a contribution that a close lists."""
        streak = self.streak + 1
        misses = 0 if streak >= MOST_OWED else self.misses
        return replace(
            self, streak=streak, misses=misses, owed=max(0, self.owed - 1), last=round, speed=speed
        )

    def missed(self, round: Round) -> Record:
        """After a round that waited for it in vain."""
        pause = min(FIRST_RETRY << min(self.misses, 8), LONGEST_RETRY)
        owed = min(1 << min(self.misses, 8), MOST_OWED)
        return replace(self, streak=0, misses=self.misses + 1, owed=owed, retry=round + pause)


@dataclass(frozen=True)
class RoundEnd:
    """What became of a round that is closed."""

    round: Round
    tokens: Mapping[PublicKey, int]
    """Of the contributions that the close lists."""
    seconds: float
    """From the beginning of its training to its close."""
    held_by: Collection[PublicKey]
    """Volunteers for whom it waited in vain."""
    waited: float
    """Seconds of that."""


NEW = Record()


@dataclass(frozen=True)
class Conduct:
    """What the volunteers did in the rounds so far. Immutable."""

    allowance: float
    """Seconds for which rounds may wait in vain from now on."""
    most: float
    """Limit of the allowance, and of the reserve: the longest round."""
    records: Mapping[PublicKey, Record] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def first(cls, spec: RoundSpec) -> Conduct:
        """Before any round."""
        longest = spec.seconds + spec.grace
        return cls(longest, longest)

    def with_contributors(self, rounds: Iterable[tuple[Round, Collection[PublicKey]]]) -> Conduct:
        """After a start. rounds: who contributed to each."""
        found = {owner: Record(streak=STEADY, last=round) for round, owners in rounds for owner in owners}
        return replace(self, records=MappingProxyType(found))

    def of(self, owner: PublicKey) -> Record:
        return self.records.get(owner, NEW)

    def why_not_awaited(self, owner: PublicKey, round: Round, waited: float) -> NotAwaited | None:
        """Why a close does not wait for a volunteer without a contribution; None where it does.

        waited: seconds for which the round has waited for nothing but such volunteers.
        """
        record = self.of(owner)
        if record.owed and round < record.retry:
            return MissedRounds(record.misses, record.owed)
        if waited >= self.allowance + (self.most if record.is_steady else 0.0):
            return AllowanceSpent(record.misses)
        return None

    def contributes(self, owner: PublicKey, round: Round, turns: int) -> bool:
        """Whether a volunteer contributed lately."""
        last = self.of(owner).last
        return last >= 0 and round - last <= RECENT * turns

    def after(self, end: RoundEnd) -> Conduct:
        """After one more round."""
        records = dict(self.records)
        for owner, tokens in end.tokens.items():
            record = records.pop(owner, NEW)
            records[owner] = record.contributed(end.round, tokens / max(1.0, end.seconds))
        for owner in end.held_by:
            records[owner] = records.pop(owner, NEW).missed(end.round)
        waited = end.waited if end.held_by else 0.0
        earned = max(0.0, end.seconds - waited) * SHARE
        kept = list(records.items())[-MOST_RECORDS:]
        return replace(
            self,
            allowance=min(self.most, self.allowance + earned) - waited,
            records=MappingProxyType(dict(kept)),
        )

    def counted_tokens(self, claimed: Mapping[PublicKey, int], seconds: float) -> int:
        """Tokens of a round that count before they are accepted: what measured speeds allow.

        claimed: what heartbeats say. seconds: since the round's training began.
        """
        speeds = {owner: self.of(owner).speed for owner in claimed}
        measured = [speed for speed in speeds.values() if speed > 0]
        if not measured:
            return 0
        highest = MAX_SPEED * median(measured)
        return total(
            min(tokens, round(FASTER * min(speeds[owner], highest) * max(0.0, seconds)))
            for owner, tokens in claimed.items()
        )
