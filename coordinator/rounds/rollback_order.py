"""The maintainer's order to roll the run back: a file that `coordinator rollback` leaves in its folder."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from barnraise.contract.field_types import RoundNumber
from barnraise.contract.log_entries import MAX_CHANGES, MAX_NOTE, Change, Rollback
from barnraise.contract.standing import Standing
from barnraise.core.errors import UserError
from barnraise.core.ids import Millis, PublicKey
from barnraise.core.strict import Hex64, Strict
from barnraise.runtime.files import write_atomic
from coordinator.rounds.entrance import closers_of
from coordinator.rounds.order_file import read_order
from coordinator.run_folder import ROLLBACK
from coordinator.store.next_entry import ordered
from coordinator.store.rolling_back import rollback_to
from coordinator.store.run_state import RunState
from coordinator.store.run_store import RunStore

log = logging.getLogger("coordinator")


class RollbackOrder(Strict):
    """The file."""

    version: Literal[1] = 1
    to: RoundNumber
    """The round whose state the run goes back to."""
    banned: Annotated[tuple[Hex64, ...], Field(max_length=MAX_CHANGES)] = ()
    """Keys that are banned with it."""
    note: Annotated[str, Field(max_length=MAX_NOTE)] = ""


@dataclass(frozen=True)
class RollbackOrders:
    """Of one coordinator. Synchronous; the file is small."""

    store: RunStore

    @property
    def _file(self) -> Path:
        return self.store.folder / ROLLBACK

    def entry(self, now: Millis) -> Rollback | None:
        """The rollback that is ordered and may follow now. Raises DiskFull."""
        order, run = self._order(), self.store.snapshot
        if order is None:
            return None
        if (state := now_state_of(order.to, run)) is not None:
            log.info("the state of round %d is that of round %d now: it was rolled back", order.to, state)
            self._file.unlink(missing_ok=True)
            return None
        if not run.may_be_amended:
            return None
        try:
            entry = rollback_to(order.to, bans(order, run), order.note, run, self.store.blobs.get, now)
        except UserError as error:
            log.error("the run is not rolled back: %s. %s", error.problem, error.fix)
            self._file.unlink(missing_ok=True)
            return None
        return ordered(entry, run, self.store.authority)

    def _order(self) -> RollbackOrder | None:
        """None where nothing is ordered. A damaged file is set aside: the run continues without it."""
        fault, again = "is no order", "Give the command again"
        return read_order(self.store.folder, self._file, RollbackOrder, fault=fault, again=again)


def now_state_of(to: int, run: RunState) -> int | None:
    """The round that begins with the state of round `to`, where the log has a rollback to it; else None."""
    return next((last + 1 for first, last in run.position.void if first == to), None)


def bans(order: RollbackOrder, run: RunState) -> list[Change]:
    """The changes that go with it. Closers have no standing."""
    known = run.position.standings.by_key
    return [
        Change(
            key=key,
            level="banned",
            work=known.get(key, Standing("probation")).work,
            cause="order",
            note=order.note,
        )
        for key in map(PublicKey, sorted({*order.banned} - closers_of(run)))
    ]


def leave_rollback(folder: Path, order: RollbackOrder) -> None:
    """Have the run in `folder` rolled back. Raises DiskFull."""
    write_atomic(folder / ROLLBACK, order.model_dump_json().encode())
