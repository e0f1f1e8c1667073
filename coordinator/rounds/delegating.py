"""The maintainer's request for other closers: a file that `coordinator delegate` writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from barnraise.consensus.vote_store import VoteStore
from barnraise.contract.certificates import MAX_CLOSERS
from barnraise.contract.log_entries import Delegation
from barnraise.core.ids import Millis, PublicKey
from barnraise.core.strict import Hex64, Strict
from barnraise.runtime.files import write_atomic
from coordinator.rounds.order_file import read_order
from coordinator.run_folder import DELEGATION, VOTES
from coordinator.store.next_entry import delegation_of, ordered
from coordinator.store.run_state import RunState
from coordinator.store.run_store import RunStore


class RequestedClosers(Strict):
    """The file."""

    version: Literal[1] = 1
    keys: Annotated[tuple[Hex64, ...], Field(max_length=MAX_CLOSERS - 1)]
    """Of closers next to the run key; none: the run key closes alone."""

    def closers(self, run_key: PublicKey) -> tuple[PublicKey, ...]:
        """As in a delegation."""
        return tuple(sorted({run_key, *map(PublicKey, self.keys)})) if self.keys else ()


@dataclass(frozen=True)
class Delegating:
    """Of one coordinator. Synchronous; the file is small."""

    store: RunStore

    @property
    def _file(self) -> Path:
        return self.store.folder / DELEGATION

    def entry(self, now: Millis) -> Delegation | None:
        """The delegation that is requested and may follow now. Raises DiskFull."""
        request = self._request()
        if request is None:
            return None
        run = self.store.snapshot
        closers = request.closers(run.run_key)
        named = run.position.closers if run.position.next_closers is None else run.position.next_closers
        if closers == named:
            self._file.unlink(missing_ok=True)
            return None
        if not run.may_be_amended:
            return None
        return ordered(delegation_of(run, closers, now), run, self.store.authority)

    def prepare_votes(self, run: RunState) -> None:
        """Let the run key vote from this epoch on, where it closed alone and never voted. Raises DiskFull."""
        votes = self.store.folder / VOTES
        if not votes.exists():
            VoteStore.begin(votes, run.run_key, run.position.epoch)

    def _request(self) -> RequestedClosers | None:
        """None where nothing is requested. A damaged file is set aside: the run continues without it."""
        fault, again = "names no closers", "Delegate again"
        return read_order(self.store.folder, self._file, RequestedClosers, fault=fault, again=again)


def request_closers(folder: Path, keys: tuple[str, ...]) -> None:
    """Have the run in `folder` name other closers. Raises DiskFull."""
    write_atomic(folder / DELEGATION, RequestedClosers(keys=keys).model_dump_json().encode())
