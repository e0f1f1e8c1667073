"""What a close has to be, certified by anybody: pure.

Closers apply these rules before they vote, and volunteers and `peer verify` before they fold: a majority of
the closers cannot have them fold what an honest coordinator refuses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from barnraise.contract.commit_rules import commit_misfit
from barnraise.contract.field_types import MAX_EMBEDDED_BYTES, total
from barnraise.contract.log_entries import Close
from barnraise.contract.records import Commit
from barnraise.contract.schedule import Progress
from barnraise.contract.spec import RunSpec
from barnraise.contract.standing import Standings
from barnraise.contract.weights import check_weights, planned_tokens
from barnraise.core.errors import BadSignature, MalformedRecord, StateError
from barnraise.core.ids import PublicKey, Round, short
from barnraise.core.signed import open_text

ANY_SIZE = range(2**40)
"""Where the tensors of the run are not known yet."""


def open_commits(close: Close) -> tuple[Commit, ...]:
    """The commits of a close, checked: signatures, run, round and base state.

    Admissions are not checked against a clock: the closers did that when they accepted the commit.
    Raises MalformedRecord, BadSignature.
    """
    commits = []
    for text in close.commits:
        entry = open_text(Commit, text, signer=None, limit=MAX_EMBEDDED_BYTES)
        commit = entry.value
        if entry.signer != commit.owner:
            raise BadSignature(
                f"a commit of {short(commit.owner)} signed by {short(entry.signer)}", fix="It is dropped."
            )
        if (commit.run, commit.round, commit.base_state) != (close.run, close.round, close.base_state):
            raise _refused(close, "has a commit of another round or state")
        commits.append(commit)
    if len({commit.owner for commit in commits}) != len(commits):
        raise _refused(close, "counts one peer twice")
    return tuple(commits)


def check_close(
    close: Close,
    commits: Sequence[Commit],
    standings: Standings,
    spec: RunSpec,
    blob_sizes: range = ANY_SIZE,
) -> None:
    """Raises StateError unless an honest coordinator could have closed the round so.

    commits: those of the close, opened. standings: in force in the round. blob_sizes: bytes that a
    contribution to the run can have. One of a key on probation counts before it has a weight: a run with few
    trusted volunteers would close no round whose audits give one. Whether commits came in time, and their
    admissions, are the closers' to say: each closer admits keys, so an admission shows no more than that one
    did.
    """
    least, most = spec.round.min_contributions, spec.round.max_contributions
    counted = sum(standings.of(PublicKey(commit.owner), spec.trust).has_weight for commit in commits)
    if counted < least or len(commits) > most:
        raise _unsound(close, f"lists {counted} contributions, where {least} to {most} are folded")
    places = [fold_order(spec.seed, Round(close.round), PublicKey(commit.owner)) for commit in commits]
    if places != sorted(places):
        raise _unsound(close, "lists its contributions in another order")
    for commit in commits:
        owner, length = PublicKey(commit.owner), spec.data.sequence_length
        if not standings.lists(owner, spec.trust):
            raise _unsound(close, f"lists {short(owner)}, which the log bans or the run's list lacks")
        found = commit_misfit(
            commit, round=close.round, base=close.base_state, blob_sizes=blob_sizes, sequence_length=length
        )
        if found is not None:
            raise _unsound(close, f"lists {short(owner)}, which does not fit: {type(found).__name__}")
    check_weights(close, commits, standings, spec.trust)


def check_progress(
    close: Close, commits: Sequence[Commit], standings: Standings, spec: RunSpec, before: Progress
) -> None:
    """Raises StateError unless a close says what the schedule depends on after it. before: at its place."""
    if close.progress != before.after(planned_tokens(commits, standings, spec.trust)):
        raise _unsound(close, "says another progress of the run than its contributions lead to")


def fold_order(seed: int, round: Round, owner: PublicKey) -> bytes:
    """Sort key of a close's commits; seeded, so that no key is always first."""
    return hashlib.sha256(f"{seed}/{round}/{owner}".encode()).digest()


def tokens_after(before: int, commits: Iterable[Commit]) -> int:
    """Tokens that the run has folded after a close, which folded `before` until then."""
    return total((before, *(commit.tokens for commit in commits)))


def _refused(close: Close, why: str) -> MalformedRecord:
    return MalformedRecord(
        f"the close of round {close.round} {why}",
        fix="It is dropped. If this repeats, report it to the run's maintainer.",
    )


def _unsound(close: Close, why: str) -> StateError:
    return StateError(
        f"the close of round {close.round} {why}", fix="It is not folded. Ask the run's maintainer."
    )
