"""What is found in the folders of a run's programs, read by another program while they work.

`Reference` folds the log again: an independent replica that no fault reaches.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from barnraise.contract.charter import Charter
from barnraise.contract.double_signing import Certified
from barnraise.contract.records import Commit, blob_name
from barnraise.contract.state import TrainState
from barnraise.contract.tip import first_position
from barnraise.contract.weights import check_weights
from barnraise.core.ids import BlobHash, Millis, blob_hash, short
from barnraise.core.signed import open_signed, open_text
from barnraise.fold.log import Link, check_blob, fold_at
from barnraise.models.checkpoint_files import read_state
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.files import load_identity
from coordinator.run_folder import AUTHORITY_KEY, BLOBS, JOURNAL
from coordinator.store.events import CheckpointWritten, Kind, RoundClosed, Row
from coordinator.store.row_reader import RowReader, find_charter


def read_blob(blobs: BlobStore, name: BlobHash) -> bytes:
    """A blob that has its hash. Unlike `BlobStore.get` it moves no damaged file: a program uses the store."""
    data = blobs.path(name).read_bytes()
    assert blob_hash(data) == name, f"blob {short(name)} is damaged"
    return data


@dataclass
class JournalReader:
    """Reads the coordinator's journal and blobs. It changes neither."""

    folder: Path

    def __post_init__(self) -> None:
        self.blobs = BlobStore(self.folder / BLOBS)
        charter = find_charter(self.rows(), load_identity(self.folder / AUTHORITY_KEY).public)
        assert charter is not None, "no run was chartered"
        self.charter: Charter = charter.value
        self._reader = RowReader(self.charter, self.blobs, self._entry)

    def _entry(self, votes: Certified) -> bytes:
        return read_blob(self.blobs, BlobHash(votes.vote.entry))

    def rows(self) -> list[Row]:
        """Those that the journal has not pruned."""
        return [row for _, row in self.rows_after(0)]

    def rows_after(self, id: int) -> list[tuple[int, Row]]:
        """The rows after the one with this id, each with its own."""
        with closing(sqlite3.connect(f"file:{self.folder / JOURNAL}?mode=ro", uri=True)) as journal:
            query = "SELECT id, kind, at, round, body FROM events WHERE id > ? ORDER BY id"
            found = journal.execute(query, (id,)).fetchall()
        return [(id, Row(Kind(kind), Millis(at), round, body)) for id, kind, at, round, body in found]

    def accepted(self, rows: list[Row]) -> list[Commit]:
        """The contributions that `rows` accept."""
        return [open_signed(Commit, row.body, signer=None).value for row in rows if row.kind is Kind.ACCEPTED]

    def links(self, rows: list[Row]) -> list[Link]:
        """The closes that `rows` record."""
        events = (self._reader.read(row) for row in rows if row.kind is Kind.CLOSED)
        return [event.link for event in events if isinstance(event, RoundClosed)]

    def checkpoints(self, rows: list[Row]) -> list[CheckpointWritten]:
        """The checkpoints that `rows` record and that are still kept."""
        events = (self._reader.read(row) for row in rows if row.kind is Kind.CHECKPOINTED)
        return [event for event in events if isinstance(event, CheckpointWritten)]


@dataclass
class Reference:
    """An independent replica: it folds what the closes list, from the contributions in the folder."""

    journal: JournalReader
    states: dict[int, str] = field(default_factory=dict)
    """The state (shortened hash) that each round starts from."""
    listed: dict[int, frozenset[BlobHash]] = field(default_factory=dict)
    """By round: the contributions in its close."""
    accepted: dict[int, dict[BlobHash, Commit]] = field(default_factory=dict)
    """By round: the contributions that the journal accepted."""
    _newest: int = 0
    """Id of the newest row that was read."""

    def __post_init__(self) -> None:
        first = self.journal.checkpoints(self.journal.rows())[0].manifest.value
        assert first.round == 0, "the first state was dropped"
        charter = self.journal.charter
        self._state: TrainState = read_state(first, charter.layout, self.journal.blobs.path)
        assert self._state.hash() == charter.genesis
        self.states[0] = short(charter.genesis_hash)

    def catch_up(self) -> None:
        """Fold what was closed since. Raises what a false close or contribution raises."""
        found = self.journal.rows_after(self._newest)
        rows = [row for _, row in found]
        self._newest = found[-1][0] if found else self._newest
        for commit in self.journal.accepted(rows):
            self.accepted.setdefault(commit.round, {})[blob_name(commit)] = commit
        for link in self.journal.links(rows):
            self._fold(link)

    def _fold(self, link: Link) -> None:
        charter, blobs, round = self.journal.charter, self.journal.blobs, link.close.round
        assert self._state.hash() == link.close.base_state, f"the close of round {round} has another base"
        layout = self._state.layout
        decoders = [
            check_blob(commit, read_blob(blobs, blob_name(commit)), charter, layout)
            for commit in link.commits
        ]
        position = first_position(charter)
        assert link.close.standings is None, "this run bans nobody"
        check_weights(link.close, link.commits, position.standings, charter.spec.trust)
        self._state = fold_at(position, self._state, link, decoders, charter.spec)
        self.states[round + 1] = short(self._state.hash())
        self.listed[round] = frozenset(blob_name(commit) for commit in link.commits)


@dataclass
class SentWork:
    """The contributions that a volunteer has signed, as its folder showed them."""

    folder: Path
    commits: dict[BlobHash, Commit] = field(default_factory=dict)
    pending: Commit | None = None
    """The one whose close the volunteer does not know yet."""
    _text: str = ""

    def look(self) -> None:
        """Read the folder again."""
        try:
            text = json.loads((self.folder / "work" / "current.json").read_bytes())["pending"]
        except FileNotFoundError:
            text = ""
        if text == self._text:
            return
        self._text, self.pending = text, open_text(Commit, text, signer=None).value if text else None
        if self.pending is not None:
            self.commits[blob_name(self.pending)] = self.pending

    def has_blob(self, name: BlobHash) -> bool:
        """Whether its bytes are in the folder."""
        store = BlobStore(self.folder / "blobs")
        return name in store and blob_hash(store.path(name).read_bytes()) == name
