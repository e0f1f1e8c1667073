"""Whether an entry that another closer proposes may continue the log: pure, decided before its blobs are
fetched."""

from __future__ import annotations

from barnraise.contract.certificates import Authorities, check_certificate
from barnraise.contract.close_rules import check_close, check_progress, open_commits
from barnraise.contract.entry_order import check_order
from barnraise.contract.log_entries import (
    Decay,
    Delegation,
    Entry,
    Ordered,
    Resume,
    Rollback,
    StandingChange,
    Succession,
    changes_of,
    vote_on,
)
from barnraise.contract.records import Commit, check_admission
from barnraise.contract.tip import check_decay, check_succession
from barnraise.contract.verdict import check_verdict
from barnraise.core.errors import MalformedRecord, UserError
from barnraise.core.ids import Millis, PublicKey
from barnraise.fold.log import check_follows
from coordinator.store.rolling_back import Read, check_target, state_named, tokens_at
from coordinator.store.run_state import RunState

AHEAD_SECONDS = 60
"""A close may be dated at most so far ahead of a closer's clock: the next round opens at its time."""


def check_candidate(
    entry: Entry,
    run: RunState,
    before: tuple[Entry, Authorities] | None,
    now: Millis,
    blob_sizes: range,
    read: Read = lambda _: b"",
) -> tuple[Commit, ...]:
    """The commits of an entry that an honest closer may vote for once it has their blobs.

    before: the newest entry of the log and the keys that certify it; None at the log's beginning. read: the
    payload of an entry of the log. Raises MalformedRecord, BadSignature, StateError.
    """
    if isinstance(entry, Resume):
        raise _refused("a resume, which no closer proposes")
    check_follows(run.position, entry, run.spec)
    _check_previous(entry, before)
    if isinstance(entry, Succession):
        check_succession(run.position, entry, run.charter.authority_key)
        return ()
    if isinstance(entry, Delegation | StandingChange | Rollback | Decay):
        check_order(entry, run.run_key)
        _check_changes(entry, run, read)
        return ()
    commits = open_commits(entry)  # of banned keys no admission counts
    # Whether a commit came in time is the proposer's to say: its close is what closers agree on.
    check_close(entry, commits, run.position.standings, run.spec, blob_sizes)
    check_progress(entry, commits, run.position.standings, run.spec, run.position.progress)
    if entry.at > now + 1000 * AHEAD_SECONDS:
        raise _refused("a close that is dated ahead")
    if entry.base_state != run.tip.state:
        raise _refused("a close of another state")
    for commit in commits:
        owner, at = PublicKey(commit.owner), Millis(entry.at)
        check_admission(commit.admission, owner, run=run.charter.run, signers=run.signers, now=at)
    return commits


def _check_rollback(entry: Rollback, run: RunState, read: Read) -> None:
    try:
        check_target(entry.to, run)
    except UserError as error:
        raise _refused(f"a rollback that is not possible: {error.problem}") from None
    if entry.state != state_named(entry.to, run, read):
        raise _refused("a rollback to another state than its round had")
    if entry.tokens != tokens_at(entry.to, run, read):
        raise _refused("a rollback with another number of tokens than its state has")


def _check_changes(entry: Ordered, run: RunState, read: Read) -> None:
    if isinstance(entry, Decay):
        check_decay(run.position, entry, run.spec)
    if isinstance(entry, Rollback):
        _check_rollback(entry, run, read)
    for change in changes_of(entry):
        check_verdict(change, run.charter.run, run.run_key)


def _check_previous(entry: Entry, before: tuple[Entry, Authorities] | None) -> None:
    """The certificate in an entry becomes part of the log: a false one would end it."""
    if (entry.certificate is None) != (before is None):
        raise _refused("an entry without the certificate of the one before")
    if entry.certificate is not None and before is not None:
        last, authorities = before
        check_certificate(vote_on(last, entry.certificate.ballot), entry.certificate, authorities)


def _refused(what: str) -> MalformedRecord:
    return MalformedRecord(what, fix="It gets no vote.")
