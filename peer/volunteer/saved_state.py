"""A volunteer's saved work: state, residual and inner optimizer, from which a killed peer continues.

Each is a file with its own name; `current.json`, replaced atomically, names those that belong together. The
state before stays until the next one is saved: the newest close names it, so others can use it
(`peer.volunteer.served_states`).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file

from barnraise.contract.double_signing import Certified
from barnraise.contract.field_types import Void
from barnraise.contract.run_keys import Successors
from barnraise.contract.schedule import NO_PROGRESS, Stated
from barnraise.contract.standing import SavedList, restored
from barnraise.contract.state import Array, TrainState
from barnraise.contract.tip import Position, Tip
from barnraise.core.errors import FileDamaged, NewerVersion
from barnraise.core.ids import BlobHash, PublicKey, Round, StateHash, short
from barnraise.core.strict import Strict
from barnraise.models.checkpoint_files import join_groups, split_groups
from barnraise.models.tensor_files import write_tensors
from barnraise.runtime.damaged import DAMAGED, DamagedFiles
from barnraise.runtime.files import Batch, write_atomic
from peer.volunteer.served_states import StateFile

Arrays = Mapping[str, npt.NDArray[Any]]
Folded = tuple[tuple[int, str], ...]
"""Rounds, and the blobs of our contributions to them that closes list."""

_CURRENT = "current.json"
VERSION = 1
RELEASE = "0.1"
"""Of what `current.json` and the files that it names hold. A later one reads the one before it."""


class _Header(BaseModel):
    """What every version of `current.json` has."""

    version: int
    release: str
    """The first release that reads this version."""


class _Before(Strict):
    """The state that was saved before the newest one."""

    step: int
    """As of `TrainState`."""
    state: str
    file: str


class _Current(Strict):
    version: int
    release: str
    charter: str
    """Its digest."""
    round: int
    previous: str
    epoch: int
    height: int
    closers: tuple[str, ...]
    next_closers: tuple[str, ...] | None
    successors: Successors = ()
    standings: SavedList = SavedList()
    void: Void = ()
    halted: bool = False
    progress: Stated = NO_PROGRESS
    certified: Certified | None
    """What certified the newest entry before the tip, where it is known."""
    state: str
    pending: str
    """`Signed[Commit]` in base64 of the contribution whose close is not known; empty where there is none."""
    folded: Folded = ()
    """As in `SavedWork`."""
    files: dict[str, str]
    """File name by kind: state, residual, inner."""
    before: _Before | None = None

    @property
    def tip(self) -> Tip:
        """Where the state is."""
        following = None if self.next_closers is None else tuple(map(PublicKey, self.next_closers))
        position = Position(
            Round(self.round), BlobHash(self.previous), self.epoch, self.height,
            tuple(map(PublicKey, self.closers)), following, self.successors, restored(self.standings),
            tuple((Round(first), Round(last)) for first, last in self.void), self.halted, self.progress,
        )  # fmt: skip
        return Tip(position, StateHash(self.state))


@dataclass(frozen=True)
class SavedWork:
    """What was loaded."""

    tip: Tip
    certified: Certified | None
    """As in `LogFollower`."""
    state: TrainState
    residual: dict[str, Array]
    inner: dict[str, npt.NDArray[Any]]
    pending: str
    folded: Folded
    """Owed again where a resume voids their rounds."""


@dataclass(frozen=True)
class _Place:
    """What a save is of."""

    tip: Tip
    certified: Certified | None
    before: _Before | None


@dataclass(frozen=True)
class Unchanged:
    """The file that was saved last is still valid: at 135M parameters it has half a gigabyte or one."""


@dataclass(frozen=True)
class NotSaved:
    """The folder holds no saved work."""


class SavedState:
    """The saved work of one run in one folder."""

    def __init__(self, folder: Path, charter: str) -> None:
        self._folder, self._charter = folder, charter
        self._files: dict[str, str] = {}
        self._place: _Place | None = None
        self._number = 0

    @property
    def state_files(self) -> dict[StateHash, StateFile]:
        """The newest state and the one before it, where they are saved."""
        if self._place is None:
            return {}
        tip, before = self._place.tip, self._place.before
        found = {tip.state: StateFile(tip.position.step, self._folder / self._files["state"])}
        if before is not None:
            found[StateHash(before.state)] = StateFile(before.step, self._folder / before.file)
        return found

    def params(self, state: StateHash) -> Mapping[str, Array] | None:
        """The parameters of a state; None where it is not saved. Slow; may be called in another thread."""
        if (file := self.state_files.get(state)) is None:
            return None
        with suppress(OSError, SafetensorError):  # another state is saved meanwhile
            groups = split_groups(load_file(file.path))
            found = TrainState(groups.pop("params"), groups, file.step)
            return found.params if found.hash() == state else None
        return None

    def save_state(
        self,
        tip: Tip,
        state: TrainState,
        residual: Arrays | Unchanged,
        inner: Arrays | Unchanged,
        pending: str,
        certified: Certified | None = None,
        folded: Folded = (),
    ) -> None:
        """Save the start of a round. Raises DiskFull; the older save then stays valid."""
        parts = {"residual": residual, "inner": inner}
        changed = {kind: tensors for kind, tensors in parts.items() if not isinstance(tensors, Unchanged)}
        saved = {"state": join_groups({"params": state.params, **state.buffers}), **changed}
        self._write(_Place(tip, certified, self._before(tip)), pending, folded, saved)

    def save_contribution(self, residual: Arrays, pending: str, folded: Folded = ()) -> None:
        """Save the residual and the signed commit of a contribution; "" for none. Raises DiskFull."""
        assert self._place is not None, "save_state or load comes first"
        self._write(self._place, pending, folded, {"residual": residual})

    def _before(self, tip: Tip) -> _Before | None:
        """The state that is before `tip` once that is saved."""
        place = self._place
        if place is None:
            return None
        if place.tip.state == tip.state:
            return place.before
        return _Before(step=place.tip.position.step, state=place.tip.state, file=self._files["state"])

    def load(self) -> SavedWork | NotSaved:
        """Raises FileDamaged, and sets the save aside, when it is damaged or of another run.

        Raises NewerVersion where a newer version wrote it, and leaves it as it is.
        """
        path = self._folder / _CURRENT
        if not path.exists():
            return NotSaved()
        self._check_version(path)
        try:
            current = _Current.model_validate_json(path.read_bytes())
            tensors = {kind: load_file(self._folder / name) for kind, name in current.files.items()}
        except (ValidationError, SafetensorError, OSError) as error:
            raise self._damaged(str(error).splitlines()[0]) from None
        if set(tensors) != {"state", "residual", "inner"}:
            raise self._damaged("it names other files than a save has")
        if current.charter != self._charter:
            raise self._damaged("it is of another run, or of an older run of that name")
        for kind, arrays in tensors.items():
            if not all(np.isfinite(array).all() for array in arrays.values()):
                raise self._damaged(f"its {kind} has values that are not finite")
        groups = split_groups(tensors["state"])
        state = TrainState(groups.pop("params"), groups, current.tip.position.step)
        if state.hash() != current.state:
            raise self._damaged(f"its state is not {short(current.state)}")
        self._files = dict(current.files)
        self._number = max(int(name.rpartition("-")[2].partition(".")[0]) for name in current.files.values())
        before = current.before
        if before is not None and not (self._folder / before.file).is_file():
            before = None
        self._place = _Place(current.tip, current.certified, before)
        tip, residual, inner = current.tip, tensors["residual"], tensors["inner"]
        return SavedWork(tip, current.certified, state, residual, inner, current.pending, current.folded)

    def _check_version(self, path: Path) -> None:
        with suppress(ValidationError, OSError):
            header = _Header.model_validate_json(path.read_bytes())
            if header.version > VERSION:
                raise NewerVersion(f"the saved work in {self._folder}", header.release)

    def _write(self, place: _Place, pending: str, folded: Folded, changed: Mapping[str, Arrays]) -> None:
        self._number += 1
        files = dict(self._files)
        with Batch() as batch:
            for kind, tensors in changed.items():
                files[kind] = f"{kind}-{self._number}.safetensors"
                write_tensors(self._folder / files[kind], tensors, batch)
        current = _Current(
            version=VERSION,
            release=RELEASE,
            charter=self._charter,
            **{**vars(place.tip.position), "standings": place.tip.position.standings.saved},
            certified=place.certified,
            state=place.tip.state,
            pending=pending,
            folded=folded,
            files=files,
            before=place.before,
        )
        write_atomic(self._folder / _CURRENT, current.model_dump_json().encode())
        self._files, self._place = files, place
        named = {*files.values(), *(() if place.before is None else (place.before.file,))}
        for path in self._folder.glob("*.safetensors"):
            if path.name not in named:
                path.unlink()

    def _damaged(self, why: str) -> FileDamaged:
        """Set the whole save aside: nothing overwrites it."""
        aside = DamagedFiles(self._folder.parent / DAMAGED).set_aside(self._folder)
        return FileDamaged(
            f"the saved work cannot be used: {why}",
            fix=f"It is set aside as {aside}. The run's newest checkpoint is taken instead.",
        )
