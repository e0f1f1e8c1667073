"""What a closer proposes at its place of the log."""

from __future__ import annotations

from dataclasses import dataclass, field

from barnraise.consensus.agreement import Agreement
from barnraise.contract.log_entries import Close, Requested
from barnraise.contract.tip import Position
from barnraise.core.ids import BlobHash, Millis
from coordinator.store.run_store import RunStore


@dataclass
class Proposing:
    """One closer's own entries. After an amendment nothing else is proposed at the same place.

    All but the first closer wait before they begin a ballot, and longer while no majority is there. So a
    close is proposed again with what was accepted since, until this closer votes.
    """

    store: RunStore
    agreement: Agreement
    _place: Position | None = None
    """Where it proposed last."""
    _listed: int | None = None
    """Contributions of the close that it proposed there; None where it proposed an amendment."""
    _entries: list[BlobHash] = field(default_factory=list)
    """What it proposed there."""

    @property
    def may_propose(self) -> bool:
        """Whether this closer takes part, and has proposed nothing at this place of the log yet."""
        return self._place != self._here and self.agreement.takes_part

    def close(self, reason: str, now: Millis, turns: int) -> None:
        """Have the accepted contributions closed."""
        if self.may_propose or self._misses_some:
            close = self.store.candidate(reason, now, turns)
            self._propose(close, len(close.commits))

    def amend(self, entry: Requested) -> None:
        """Have the log say what is requested."""
        if self.may_propose:
            self.store.blobs.put(entry.payload)
            self._propose(entry, None)

    def arrive(self) -> None:
        """The log goes on: remove what was proposed before and is not its newest entry."""
        place, here = self._place, self._here
        if place is not None and (here.epoch, here.height) == (place.epoch, place.height + 1):
            self.store.remove([entry for entry in self._entries if entry != here.previous])
        if place != here:
            self._entries.clear()

    @property
    def _here(self) -> Position:
        run = self.store.snapshot
        return run.position

    @property
    def _misses_some(self) -> bool:
        """Whether contributions were accepted since a close was proposed here, and it may still list them."""
        if self._place != self._here or self._listed is None or self.agreement.has_voted:
            return False
        run = self.store.snapshot
        return len(run.accepted) > self._listed

    def _propose(self, entry: Close | Requested, listed: int | None) -> None:
        self._place, self._listed = self._here, listed
        self._entries.append(entry.name)
        self.agreement.propose(entry.name, entry.kind)
