"""The address book on disk. It is a copy of what others know, so one that cannot be read is replaced."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.contacts import MAX_PAGE_BYTES, open_page
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.core.errors import MachineError, TrustError
from barnraise.core.ids import Millis, RunId
from barnraise.network.address_book import AddressBook
from barnraise.runtime.files import write_atomic

log = logging.getLogger("barnraise.swarm")

ADDRESS_FILE = "addresses.json"


def load_book(
    folder: Path, run: RunId, keys: KeysInForce, now: Millis, *, knows_closers: bool = False
) -> AddressBook:
    """The book in a folder; an empty one where there is none of this run. The rest is as in `AddressBook`."""
    book, path = AddressBook(run, keys, knows_closers=knows_closers), folder / ADDRESS_FILE
    try:
        with path.open("rb") as file:
            page = open_page(file.read(MAX_PAGE_BYTES + 1))
    except FileNotFoundError:
        return book
    except (TrustError, OSError) as error:
        log.warning("the addresses in %s cannot be read (%s): they are collected again", path, error)
        return book
    if refused := book.learn(page, now):
        log.warning("%d of the addresses in %s are not valid: they are dropped", refused, path)
    return book


@dataclass
class AddressFile:
    """Saves a book where something new was learned."""

    folder: Path
    book: AddressBook
    _saved: int = 0

    async def save(self) -> None:
        """Write the book, durably. A full disk costs only addresses, so it is logged."""
        changes = self.book.changes
        if changes == self._saved:
            return
        wire = self.book.page().model_dump_json().encode()  # streams change the book while it is written
        try:
            await asyncio.to_thread(write_atomic, self.folder / ADDRESS_FILE, wire)
        except MachineError as error:
            log.warning("known addresses are not saved: %s", error.problem)
            return
        self._saved = changes
