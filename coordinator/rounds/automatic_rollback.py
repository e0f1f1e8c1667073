"""Whether the run goes back to an earlier state by itself: pure.

| what audits found                                              | what follows                             |
|----------------------------------------------------------------|------------------------------------------|
| no key is banned                                               | nothing                                  |
| a key is banned that had no weight while it did harm           | the ban alone                            |
| a key is banned, and the run's losses are as before            | the ban alone: its weight was bounded    |
| a key is banned, and the losses rose                           | a rollback to before its first harm      |
| the same, within `checkpoint.rollback_rounds` of the last one  | the ban, and the run halts               |

A run that went back twice would do so for ever: a person has to look.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from barnraise.contract.close_rules import open_commits
from barnraise.contract.evidence import TOLERANCE, Account
from barnraise.contract.log_entries import (
    Change,
    Close,
    Entry,
    NeedsNewer,
    StandingChange,
    changes_of,
    parse_entry,
)
from barnraise.contract.tip import Position
from barnraise.contract.verdict import Verdict
from barnraise.core.ids import PublicKey
from barnraise.core.signed import open_text
from coordinator.reasons.rounds import (
    HarmAfterRollback,
    LossesUnharmed,
    NoRollback,
    NothingFolded,
    NothingIsBanned,
)
from coordinator.store.rolling_back import Read
from coordinator.store.run_state import RunState

HARM = 0.05
"""Share by which the newest held-out loss is above the lowest one where the losses rose."""


@dataclass(frozen=True)
class Stay:
    """No rollback."""

    reason: NoRollback


@dataclass(frozen=True)
class GoBack:
    """A rollback to the state of a round, with the bans."""

    to: int


@dataclass(frozen=True)
class Halt:
    """The entry with the bans says that the run halts."""

    reason: HarmAfterRollback


def after_verdicts(
    first_harm: Mapping[PublicKey, int | None], harmed: bool, run: RunState
) -> Stay | GoBack | Halt:
    """first_harm: of each key that is banned, the first round in which it may have done harm with a weight;
    None where there is none.

    harmed: whether the losses rose.
    """
    if not first_harm:
        return Stay(NothingIsBanned())
    position = run.position
    harmful = [round for round in first_harm.values() if round is not None]
    folded = [round for round in harmful if round < run.round and position.folds(round)]
    if not folded:
        return Stay(NothingFolded())
    if not harmed:
        return Stay(LossesUnharmed())
    since = rounds_since_rollback(run)
    if since is not None and since <= run.spec.checkpoint.rollback_rounds:
        return Halt(HarmAfterRollback(tuple(sorted(first_harm)), since))
    return GoBack(_in_force(max(run.replay_from, min(folded)), position))


def rounds_since_rollback(run: RunState) -> int | None:
    """Rounds since the last one; None where there was none."""
    return min((run.round - last for _, last in run.position.void), default=None)


def _in_force(to: int, position: Position) -> int:
    """The round with the state of round `to` that a rollback may name: one was rolled back to it already."""
    for first, last in position.void:
        if first == to:
            to = last + 1
    return to


def banned_by_audits(entry: StandingChange) -> list[PublicKey]:
    """The keys that an entry bans by verdicts."""
    return [PublicKey(each.key) for each in entry.changes if each.level == "banned" and each.cause == "audit"]


def first_harm(entry: StandingChange, run: RunState, read: Read) -> dict[PublicKey, int | None]:
    """As in `after_verdicts`. A key that audits ban was suspended before, and weighed nothing since: its harm
    is what the verdict shows that suspended it. The log is read back to where the run can go at most.
    """
    banned = {*banned_by_audits(entry)}
    harmful = {
        PublicKey(each.key): range(harm_since(each, run), run.round)
        for each in entry.changes
        if each.key in banned
    }
    found: dict[PublicKey, int | None] = dict.fromkeys(harmful)
    for before in _newest_first(run, read) if banned else ():
        for key in _weighty(before, [key for key, rounds in harmful.items() if before.round in rounds]):
            found[key] = before.round
        for change in _suspensions(before, banned):
            key = PublicKey(change.key)
            banned.remove(key)
            harmful[key], found[key] = range(harm_since(change, run), before.round), None
        if not banned and before.round <= min(rounds.start for rounds in harmful.values()):
            break
    return found


def _newest_first(run: RunState, read: Read) -> Iterator[Entry]:
    """The entries of the log whose rounds the run can go back to, and that count."""
    for logged in reversed(run.log):
        entry = parse_entry(read(logged.name))
        if isinstance(entry, NeedsNewer) or entry.round < run.replay_from:
            return
        if not isinstance(entry, Close) or run.position.folds(entry.round):
            yield entry


def _suspensions(entry: Entry, keys: Collection[str]) -> list[Change]:
    """The changes by which audits suspended some of these keys."""
    return [
        each
        for each in changes_of(entry)
        if each.key in keys and each.level == "suspended" and each.cause == "audit"
    ]


def _weighty(entry: Entry, keys: Collection[PublicKey]) -> list[PublicKey]:
    """Which of these keys had a weight in a close: a new key has none while trusted ones take part."""
    if not keys or not isinstance(entry, Close):
        return []
    weights = {commit.owner: each for commit, each in zip(open_commits(entry), entry.weights, strict=True)}
    return [key for key in keys if weights.get(key)]


def harm_since(change: Change, run: RunState) -> int:
    """The first round in which the key may have done the harm of a verdict, which was checked when it was
    made: the one after the last audit that shows none. Of a trusted key not each round is audited: where no
    audit was before, the losses say until when all was well.
    """
    assert change.verdict is not None, "an audit is the cause"
    verdict = open_text(Verdict, change.verdict, signer=None).value
    account, lowest, start = Account(verdict.wealth, verdict.recent), verdict.wealth, 0
    is_first = account == Account()
    for number, figures in enumerate(verdict.figures, start=1):
        account = account.after(figures.score, "harm")
        if account.wealth <= lowest and number < len(verdict.figures):
            lowest, start = account.wealth, number
    while start > 0 and verdict.figures[start - 1].score > TOLERANCE:  # no bet was placed on it yet
        start -= 1
    if start > 0:
        return verdict.figures[start - 1].round + 1
    first = verdict.figures[0].round
    return min(first, _lowest_round(run, first)) if is_first else first


def _lowest_round(run: RunState, otherwise: int) -> int:
    """The round whose state has the lowest loss that is known: of held-out text, or else in training."""
    if run.scores:
        return min(run.scores, key=lambda round: run.scores[round].held_out.loss)
    return run.trend.lowest_round if run.trend.recent else otherwise


def losses_rose(run: RunState, chance: float | None) -> bool:
    """Whether training diverges, or the newest held-out loss is far above the lowest one."""
    if run.trend.divergence(chance) is not None:
        return True
    losses = [score.held_out.loss for _, score in sorted(run.scores.items())]
    return bool(losses) and losses[-1] > (1 + HARM) * min(losses)
