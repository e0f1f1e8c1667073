"""What a closer proposes at its place of the log."""

from __future__ import annotations

from dataclasses import dataclass, field

from barnraise.consensus.agreement import Agreement
from barnraise.contract.log_entries import Close, Requested
from barnraise.contract.tip import Position
from barnraise.core.ids import Millis
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
    _entries: list[Close | Requested] = field(default_factory=list)
    """What it proposed there, the newest last."""

    @property
    def may_propose(self) -> bool:
        """Whether this closer takes part, and has proposed nothing at this place of the log yet."""
        return self._place != self._here and self.agreement.takes_part

    def close(self, reason: str, now: Millis, turns: int) -> None:
        """Have the accepted contributions closed."""
        if self.may_propose or self._misses_some:
            self._propose(self.store.candidate(reason, now, turns))

    def amend(self, entry: Requested) -> None:
        """Have the log say what is requested."""
        if self.may_propose:
            self.store.blobs.put(entry.payload)
            self._propose(entry)

    def arrive(self) -> None:
        """The log has a new entry: remove what was proposed in its place."""
        place, here = self._place, self._here
        if place is not None and (here.epoch, here.height) == (place.epoch, place.height + 1):
            self.store.remove([entry.name for entry in self._entries if entry.name != here.previous])
        if place != here:
            self._entries.clear()

    @property
    def _here(self) -> Position:
        run = self.store.snapshot
        return run.position

    @property
    def _misses_some(self) -> bool:
        """Whether contributions were accepted since a close was proposed here, and it may still list them."""
        newest = self._entries[-1] if self._place == self._here else None
        if not isinstance(newest, Close) or self.agreement.has_voted:
            return False
        run = self.store.snapshot
        return len(run.accepted) > len(newest.commits)

    def _propose(self, entry: Close | Requested) -> None:
        self._place = self._here
        self._entries.append(entry)
        self.agreement.propose(entry.name, entry.kind)
