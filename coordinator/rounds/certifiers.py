"""Whose votes certified the newest entry of a log, also where it changed the closers: pure."""

from __future__ import annotations

from collections.abc import Callable

from barnraise.contract.certificates import Authorities
from barnraise.contract.log_entries import Close, Delegation, Entry, Resume, Rollback
from barnraise.contract.tip import first_closers
from barnraise.core.ids import BlobHash, PublicKey
from coordinator.store.run_state import RunState

Read = Callable[[BlobHash], Entry]
"""An entry of the log by its name."""


def certifiers_of_newest(run: RunState, read: Read) -> Authorities:
    """The keys at the place before the newest entry. The log has one."""
    first = run.charter.authority_key
    newest = read(run.log[-1].name)
    if isinstance(newest, Resume):
        return Authorities((run.run_key,))
    if not isinstance(newest, Close | Rollback) or not _delegated_in(run, newest, read):
        return run.position.authorities(first)
    return Authorities(_closers_of(newest, run, read) or (run.run_key,))


def _delegated_in(run: RunState, end: Close | Rollback, read: Read) -> bool:
    """Whether a delegation takes effect with the end of a round: one of the same round is before it."""
    for height in range(end.height - 1, -1, -1):
        entry = read(run.log[height].name)
        if entry.round != end.round or isinstance(entry, Close):
            return False
        if isinstance(entry, Delegation):
            return True
    return False


def _closers_of(end: Close | Rollback, run: RunState, read: Read) -> tuple[PublicKey, ...]:
    """The closers of the round that ends: an earlier delegation, a resume or the charter names them."""
    for height in range(end.height - 1, -1, -1):
        entry = read(run.log[height].name)
        if isinstance(entry, Resume):
            return ()
        if isinstance(entry, Delegation) and entry.round < end.round:
            return tuple(map(PublicKey, entry.closers))
    return first_closers(run.charter)
