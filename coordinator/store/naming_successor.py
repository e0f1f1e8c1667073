"""The successor of the run key that `coordinator key successor` made: entered in the log, where it stands."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.log_entries import Succession
from barnraise.contract.run_keys import MAX_NAMED_BYTES, NamedSuccessor, generation_of, parse_named
from barnraise.core.errors import BadSignature, MalformedRecord
from barnraise.core.ids import Millis
from barnraise.runtime.damaged import DAMAGED, DamagedFiles
from barnraise.runtime.files import write_atomic
from coordinator.run_folder import SUCCESSOR
from coordinator.store.next_entry import succession_of
from coordinator.store.run_store import RunStore

log = logging.getLogger("coordinator")

_MAKE_ANOTHER = "Where the log names none, make another: `coordinator key successor`."


@dataclass(frozen=True)
class NamingSuccessor:
    """Of one coordinator. Synchronous; the file is small."""

    store: RunStore

    def entry(self, now: Millis) -> Succession | None:
        """The entry that names the successor and may follow now. Raises DiskFull.

        A file that is damaged, or that names the successor of another key, is set aside.
        """
        try:
            return self._entry(now)
        except (MalformedRecord, BadSignature) as error:
            folder = self.store.folder
            aside = DamagedFiles(folder / DAMAGED).set_aside(folder / SUCCESSOR)
            log.error("%s: %s is set aside as %s. %s", error.problem, SUCCESSOR, aside, _MAKE_ANOTHER)
            return None

    def _entry(self, now: Millis) -> Succession | None:
        named = read_named(self.store.folder)
        if named is None:
            return None
        run = self.store.snapshot
        if len(run.position.successors) > generation_of(run.position.epoch):
            (self.store.folder / SUCCESSOR).unlink(missing_ok=True)  # the log has one
            return None
        return succession_of(run, named, now) if run.may_be_amended else None


def write_named(folder: Path, named: NamedSuccessor) -> None:
    """Have the run in `folder` name a successor. Raises DiskFull."""
    write_atomic(folder / SUCCESSOR, named.model_dump_json().encode())


def read_named(folder: Path) -> NamedSuccessor | None:
    """None where none waits for its entry. Raises MalformedRecord."""
    path = folder / SUCCESSOR
    try:
        with path.open("rb") as file:
            return parse_named(file.read(MAX_NAMED_BYTES + 1))
    except FileNotFoundError:
        return None
    except MalformedRecord:
        raise MalformedRecord(f"{path} names no successor", fix=f"Remove it. {_MAKE_ANOTHER}") from None
