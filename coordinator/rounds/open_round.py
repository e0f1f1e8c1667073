"""The open round as `decide_close` sees it, and what is remembered from the rounds before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from barnraise.contract.records import Commit
from barnraise.contract.rounds import seconds_between
from barnraise.core.ids import Millis, PublicKey, Round
from barnraise.core.signed import Signed
from barnraise.fold.log import Link
from coordinator.reasons.rounds import NotAwaited
from coordinator.rounds.closing import Decision, Situation, conduct_after, deserted_after
from coordinator.rounds.conduct import Conduct
from coordinator.rounds.membership import Membership
from coordinator.rounds.places import places
from coordinator.rounds.turns import (
    RECENT_ROUNDS,
    Turnout,
    fewer_turns,
    next_turns,
    turnout_of,
    turns_of_open_round,
)
from coordinator.store.run_store import RunStore

RESTORED = 64
"""Rounds whose contributors are remembered after a start."""


@dataclass
class OpenRound:
    """What a session remembers from one tick, and from one round, to the next."""

    store: RunStore
    conduct: Conduct
    """Of the volunteers in the rounds before."""
    turns: int
    """A volunteer contributes to one of this many rounds (`Head.turns`), by the newest close."""
    _deserted: bool = False
    """`Situation.deserted` of the next tick."""
    _turnouts: list[Turnout] = field(default_factory=list)
    _seen: Situation | None = None
    """The newest."""
    _turnout: Turnout = field(default_factory=lambda: Turnout(1, 0))
    """Of the open round, at the last tick."""
    _accepted: tuple[Round, int, Millis] = (Round(-1), 0, Millis(0))
    """The round, how many contributions were accepted, and since when."""

    @classmethod
    def of(cls, store: RunStore) -> OpenRound:
        """At a start: volunteers whose contributions are kept count as contributors."""
        run = store.snapshot
        conduct = Conduct.first(run.spec.round)
        kept = list(enumerate(run.history.tokens, start=run.history.kept_from))
        return cls(
            store,
            conduct.with_contributors((Round(at), tokens) for at, tokens in kept[-RESTORED:]),
            turns_of_open_round(store),
        )

    def situation(
        self,
        now: Millis,
        members: Membership,
        pending: frozenset[PublicKey],
        announced: Iterable[Signed[Commit]],
    ) -> Situation:
        """pending: as of `Intake`. announced: commits to the open round."""
        run = self.store.snapshot
        attendance = members.attendance(run.round, run.spec.seed, self.turns)
        open_to = places(run, members.presences, pending)

        def with_place(names: Mapping[PublicKey, str]) -> dict[PublicKey, str]:
            """A round waits for no other."""
            return {key: name for key, name in names.items() if open_to.counts(key)}

        accepted = {owner: commit.value for owner, commit in run.accepted.items()}
        if self._accepted[:2] != (run.round, len(accepted)):
            self._accepted = run.round, len(accepted), now
        self._seen = Situation(
            now=now,
            window=run.window,
            accepted=accepted,
            weightless=frozenset(owner for owner in accepted if not run.standing(owner).has_weight),
            pending=pending,
            expected=with_place(attendance.expected),
            late=with_place(attendance.late),
            idle=attendance.idle,
            min_contributions=run.spec.round.min_contributions,
            conduct=self.conduct,
            last_accepted=Millis(max(run.opens, self._accepted[2])),
            turns=self.turns,
            swarm_tokens=self.tokens(members, now),
            begun=any(members.tokens(run.round).values()),
            halted=run.position.halted,
            ended_after=run.ended_after,
            deserted=self._deserted,
        )
        self._turnout = turnout_of(
            self._seen, {commit.signer for commit in announced if open_to.counts(commit.signer)}
        )
        return self._seen

    def tokens(self, members: Membership, now: Millis) -> int:
        """Tokens that the volunteers trained in the open round, as far as measured speeds allow."""
        run = self.store.snapshot
        accepted = {owner: commit.value.tokens for owner, commit in run.accepted.items()}
        claimed = {**members.tokens(run.round), **accepted}
        return self.conduct.counted_tokens(claimed, seconds_between(run.opens, now))

    def probe(self, members: Membership, now: Millis) -> None:
        """Compute what decisions and the status compute of heartbeats. Raises what these raise."""
        run = self.store.snapshot
        members.statuses(now, run.claims, self.not_awaited)
        members.attendance(run.round, run.spec.seed, self.turns)
        self.tokens(members, now)

    @property
    def not_awaited(self) -> Mapping[PublicKey, NotAwaited]:
        """The volunteers that train in the open round, and for whom its close does not wait."""
        return {} if self._seen is None else self._seen.passed_over(0.0)

    def decided(self, situation: Situation, decision: Decision, *, any_live: bool) -> None:
        """any_live: as of `deserted_after`."""
        self._deserted = deserted_after(situation, decision, any_live=any_live)

    def next_turns(self, live: int) -> int:
        """`Close.turns` of the open round. live: volunteers with heartbeats."""
        limit = self.store.snapshot.spec.round.max_contributions
        return next_turns(self._turnout, self._turnouts, live, limit)

    def reopens(self) -> None:
        """Too few contributed in time."""
        self.turns = fewer_turns(self.turns) if self.store.snapshot.accepted else 1

    def closed(self, link: Link) -> None:
        """The round was closed by `link`."""
        tokens = {PublicKey(commit.owner): commit.tokens for commit in link.commits}
        if self._seen is not None and self._seen.window.round == link.close.round:
            self.conduct = conduct_after(self._seen, tokens, Millis(link.close.at))
        newest = replace(self._turnout, turns=self.turns, folded=len(tokens))
        self._turnouts = [*self._turnouts, newest][-RECENT_ROUNDS:]
        self.turns = link.close.turns
