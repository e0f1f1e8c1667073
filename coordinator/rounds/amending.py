"""What the maintainer asks the log to say: standings, closers, a successor of the run key, an end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from typing_extensions import assert_never

from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.log_entries import Decay, Delegation, Requested, Rollback, StandingChange, Succession
from barnraise.contract.tip import Position
from barnraise.core.errors import UserError
from barnraise.core.ids import Millis, short
from barnraise.core.plain_text import one_line
from coordinator.messages.audits import standing_message
from coordinator.messages.rounds import HALTED_FIX, no_rollback_message, void_decay_message
from coordinator.reasons.rounds import HarmAfterRollback
from coordinator.rounds.automatic_rollback import (
    GoBack,
    Halt,
    Stay,
    after_verdicts,
    banned_by_audits,
    first_harm,
    losses_rose,
    rounds_since_rollback,
)
from coordinator.rounds.decay_order import DecayOrders
from coordinator.rounds.delegating import Delegating
from coordinator.rounds.rollback_order import RollbackOrders
from coordinator.rounds.standing_orders import StandingOrders
from coordinator.store.naming_successor import NamingSuccessor
from coordinator.store.next_entry import ordered
from coordinator.store.rolling_back import rollback_to
from coordinator.store.run_store import RunStore

log = logging.getLogger("coordinator")


@dataclass(frozen=True)
class Amending:
    """Of one coordinator. Synchronous; the files are small."""

    store: RunStore
    keys: KeysInForce | None = None
    """Whose records the network layers take."""
    audits: Callable[[Millis], StandingChange | None] = lambda _: None
    """As `Auditing.entry`."""

    def entry(self, now: Millis) -> Requested | None:
        """The entry that is asked for and may follow now: bans come first. Raises DiskFull."""
        store = self.store
        asked = (
            RollbackOrders(store).entry,
            StandingOrders(store).entry,
            NamingSuccessor(store).entry,
            Delegating(store).entry,
            DecayOrders(store).entry,
            self.audits,
        )
        entry = next((entry for each in asked if (entry := each(now)) is not None), None)
        return self._with_rollback(entry, now) if isinstance(entry, StandingChange) else entry

    def _with_rollback(self, entry: StandingChange, now: Millis) -> StandingChange | Rollback:
        """The rollback that goes with bans by audits, where one does."""
        run = self.store.snapshot
        match decision_on(entry, self.store):
            case GoBack(to=to) if not entry.revoked:
                note = "audits banned keys, and the losses rose"
                try:
                    back = rollback_to(to, entry.changes, note, run, self.store.blobs.get, now)
                except UserError as error:
                    log.error("the run is not rolled back: %s. %s", error.problem, error.fix)
                    return entry
                return ordered(back, run, self.store.authority)
            case Halt():
                return ordered(entry.model_copy(update={"halted": True}), run, self.store.authority)
            case _:
                return entry

    def enter(self, entry: Requested, now: Millis) -> Position:
        """Have the run key certify it alone. Returns the place before it. Raises DiskFull."""
        before = self.store.snapshot.position
        if isinstance(entry, Delegation):
            Delegating(self.store).prepare_votes(self.store.snapshot)
        self.store.amend(entry, now)
        if self.keys is not None:
            run = self.store.snapshot
            self.keys.follow(run.position)
        return before


def decision_on(entry: StandingChange, store: RunStore) -> Stay | GoBack | Halt:
    """Whether bans by audits lead to a rollback."""
    run = store.snapshot
    harm = first_harm(entry, run, store.blobs.get)
    return after_verdicts(harm, bool(harm) and losses_rose(run, store.chance), run)


def report_amended(entry: Requested, before: Position, store: RunStore) -> None:
    """Log what the log says now. before: the place before the entry."""
    match entry:
        case Delegation(closers=closers):
            log.info("from round %d on %d closers close rounds", entry.round + 1, len(closers) or 1)
        case Succession(named=named):
            log.info("the log names %s as the successor of the run key", short(named.successor))
        case StandingChange(changes=changes, halted=halted):
            for change in changes:
                log.info("%s", standing_message(change))
            if halted is not None:
                _report_halted(entry, store)
            elif isinstance(stay := decision_on(entry, store), Stay) and banned_by_audits(entry):
                log.info("no rollback: %s", no_rollback_message(stay.reason))
        case Decay(round=round, rounds=rounds):
            log.info(
                "from round %d on the learning rate falls; round %d is the last one",
                round + 1,
                round + rounds,
            )
        case Rollback():
            _report_rollback(entry, before)
        case _:
            assert_never(entry)


def _report_rollback(entry: Rollback, before: Position) -> None:
    for change in entry.changes:
        log.info("%s", standing_message(change))
    log.warning(
        "round %d folds nothing: the run goes back to the state of round %d%s",
        entry.round, entry.to, f" ({one_line(entry.note)})" if entry.note else "",
    )  # fmt: skip
    ordered_decay = before.progress.decay
    if ordered_decay is not None and before.after(entry).progress.decay is None:
        log.warning("%s", void_decay_message(ordered_decay.rounds))


def _report_halted(entry: StandingChange, store: RunStore) -> None:
    if not entry.halted:
        log.info("the run continues, by its maintainer's order")
        return
    reason = HarmAfterRollback(tuple(banned_by_audits(entry)), rounds_since_rollback(store.snapshot) or 0)
    log.error("%s. %s", no_rollback_message(reason), HALTED_FIX)
