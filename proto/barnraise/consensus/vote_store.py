"""A closer's record on the disk. It begins with a marker, before the closer's key can sign anything.

A closer without its record could contradict what it signed. So where the key is there and the record is not,
or is of another key, the closer does not start. Backups never hold a record: an old one is as bad as none.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from barnraise.consensus.state import Record
from barnraise.consensus.statements import MAX_BALLOT, Place, Voted
from barnraise.contract.field_types import Epoch, Height, RoundNumber, Run
from barnraise.core.errors import StateError
from barnraise.core.identity import Identity
from barnraise.core.ids import PublicKey, Round, RunId
from barnraise.core.strict import Hex64, Strict
from barnraise.runtime.files import load_identity, write_atomic

_FIX = (
    "A closer without its votes could contradict them. Remove its key, {key}, to get a new one, and have the"
    " run's maintainer name that one instead by `coordinator delegate`; the run key itself continues by a"
    " resume of the run."
)


class _Kept(Strict):
    """What a closer last promised and voted."""

    run: Run
    epoch: Epoch
    height: Height
    round: RoundNumber
    promised: Annotated[int, Field(ge=0, le=MAX_BALLOT)]
    voted: Voted | None


class _File(Strict):
    """The file. A later version raises `version`."""

    version: Literal[1] = 1
    closer: Hex64
    epoch: Epoch
    """The closer takes part from this epoch on."""
    last: _Kept | None = None


class VoteStore:
    """The record of one closer. Used by one thread."""

    def __init__(self, path: Path, file: _File) -> None:
        self._path, self._file = path, file

    @classmethod
    def begin(cls, path: Path, closer: PublicKey, epoch: int = 0) -> VoteStore:
        """Write the marker of a key that has signed nothing in `epoch` or later."""
        store = cls(path, _File(closer=closer, epoch=epoch))
        store._write(store._file)
        return store

    @classmethod
    def open(cls, path: Path, closer: PublicKey, key: Path) -> VoteStore:
        """The record of a closer that has begun. key: the file of its key. Raises StateError."""
        fix = _FIX.format(key=key)
        try:
            file = _File.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise StateError(f"the votes of this closer, {path}, are missing", fix=fix) from None
        except ValidationError:
            raise StateError(f"the votes of this closer, {path}, are damaged", fix=fix) from None
        if file.closer != closer:
            raise StateError(f"{path} has the votes of another key", fix=fix)
        return cls(path, file)

    def record(self, place: Place) -> Record | None:
        """The record at a place; None where the closer may take no part: it has been further."""
        last = self._file.last
        if place.epoch < self._file.epoch:
            return None
        if last is None or (last.epoch, last.height) < place.order:
            return Record(place)
        kept = Place(RunId(last.run), last.epoch, last.height, Round(last.round))
        return Record(place, last.promised, last.voted) if kept == place else None

    def flush(self, record: Record) -> None:
        """Have a record on the disk when this returns. Raises DiskFull, MachineError."""
        place = record.place
        last = _Kept(
            run=place.run,
            epoch=place.epoch,
            height=place.height,
            round=place.round,
            promised=record.promised,
            voted=record.voted,
        )
        self._write(self._file.model_copy(update={"last": last}))

    def _write(self, file: _File) -> None:
        write_atomic(self._path, file.model_dump_json().encode())
        self._file = file


def open_closer(key: Path, votes: Path) -> tuple[Identity, VoteStore]:
    """A closer's key and its record; both are made where there is no key yet. Raises StateError."""
    if os.path.lexists(key):
        identity = load_identity(key)
        return identity, VoteStore.open(votes, identity.public, key)
    identity = Identity.generate()
    store = VoteStore.begin(votes, identity.public)
    write_atomic(key, identity.seed, mode=0o600)
    return identity, store
