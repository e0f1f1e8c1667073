"""What the maintainer orders about keys and invitations: files that commands leave in the run's folder.

Each order is a file of its own, so that two commands never overwrite each other. The next entry of the log
has all of them; they are removed once the log says what they ask for. Closers have no standing: another
delegation takes a closer's part away.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Literal

from pydantic import Field

from barnraise.contract.invitation import InvitationId
from barnraise.contract.log_entries import MAX_CHANGES, MAX_NOTE, Change, StandingChange
from barnraise.contract.standing import Level, first_standing
from barnraise.core.errors import UserError
from barnraise.core.ids import Millis, PublicKey
from barnraise.core.strict import Hex64, Strict
from barnraise.runtime.files import write_atomic
from coordinator.rounds.entrance import closers_of
from coordinator.rounds.order_file import read_order
from coordinator.run_folder import ORDERS
from coordinator.store.next_entry import ordered, standing_change_of
from coordinator.store.run_state import RunState
from coordinator.store.run_store import RunStore


class StandingOrder(Strict):
    """One file."""

    version: Literal[1] = 1
    keys: Annotated[tuple[Hex64, ...], Field(max_length=MAX_CHANGES)] = ()
    level: Level | None = None
    """Of the keys from now on; None: as if the log had never named them."""
    revoked: Annotated[tuple[InvitationId, ...], Field(max_length=MAX_CHANGES)] = ()
    """Invitations that admit nobody any more."""
    continues: bool = False
    """A run that is halted goes on."""
    note: Annotated[str, Field(max_length=MAX_NOTE)] = ""


@dataclass(frozen=True)
class StandingOrders:
    """Of one coordinator. Synchronous; the files are small."""

    store: RunStore

    def entry(self, now: Millis) -> StandingChange | None:
        """The entry that the orders ask for and that may follow now. Raises DiskFull."""
        run = self.store.snapshot
        orders = self._orders()
        if not orders or not run.may_be_amended:
            return None
        changes, revoked = merged(orders.values(), run)
        continues = run.position.halted and any(order.continues for order in orders.values())
        if not changes and not revoked and not continues:
            for path in orders:
                path.unlink(missing_ok=True)
            return None
        entry = standing_change_of(run, changes, revoked, now, halted=False if continues else None)
        return ordered(entry, run, self.store.authority)

    def _orders(self) -> dict[Path, StandingOrder]:
        """By file, the oldest first. A damaged file is set aside: the run continues without it."""
        fault, again = "is no order", "Give the command again"
        paths = sorted((self.store.folder / ORDERS).glob("*.json"))
        read = partial(read_order, self.store.folder, kind=StandingOrder, fault=fault, again=again)
        return {path: order for path in paths if (order := read(path)) is not None}


def merged(orders: Iterable[StandingOrder], run: RunState) -> tuple[list[Change], list[str]]:
    """What the log does not say yet of what orders ask for, oldest first: the newest about a key counts."""
    standings, trust, closers = run.position.standings, run.spec.trust, closers_of(run)
    changes: dict[str, Change] = {}
    revoked: set[str] = set()
    for order in orders:
        revoked.update(order.revoked)
        for key in map(PublicKey, order.keys):
            level = order.level or first_standing(key, trust).level
            work = standings.of(key, trust).work
            cause: Literal["order", "lifted"] = "order" if order.level else "lifted"
            changes[key] = Change(key=key, level=level, work=work, cause=cause, note=order.note)
    wanted = [change for key, change in changes.items() if key not in closers and not _is_so(change, run)]
    return wanted[:MAX_CHANGES], sorted(revoked - standings.revoked)[:MAX_CHANGES]


def _is_so(change: Change, run: RunState) -> bool:
    """Whether a key has its standing already. Trust by order is an entry of the log unless the spec says it:
    such a key needs no invitation, is on the list of those that are admitted, and may audit.
    """
    key = PublicKey(change.key)
    by_name = change.cause == "order" or key in run.spec.trust.vouched
    is_same = run.standing(key).level == change.level
    return is_same and (change.level != "trusted" or run.vouches_for(key) == by_name)


def order_of(keys: tuple[str, ...], level: Level | None, note: str) -> StandingOrder:
    """Raises UserError for too many keys, or a note that is too long."""
    if len(keys) > MAX_CHANGES or len(note) > MAX_NOTE:
        raise UserError(
            f"{len(keys)} keys, and a note of {len(note)} characters",
            fix=f"At most {MAX_CHANGES} keys, and {MAX_NOTE} characters, go into one entry of the log.",
        )
    return StandingOrder(keys=keys, level=level, note=note)


def leave_order(folder: Path, order: StandingOrder) -> None:
    """Have the run in `folder` follow an order. Raises DiskFull."""
    orders = folder / ORDERS
    orders.mkdir(mode=0o700, exist_ok=True)
    write_atomic(orders / f"{time.time_ns():020d}-{token_hex(4)}.json", order.model_dump_json().encode())
