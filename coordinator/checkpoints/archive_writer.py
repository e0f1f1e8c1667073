"""Keeps the archive folder in step with the run store (layout: `barnraise.contract.archive`)."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from barnraise.contract.archive import (
    CHARTER,
    INDEX,
    MAX_PROOFS,
    PROOFS,
    ArchiveIndex,
    Repo,
    Revision,
    Segment,
    average_of,
    contribution_path,
    entry_path,
    folder_of,
    parse_index,
    place_of,
    repo_id,
    round_of,
)
from barnraise.contract.certificates import Certificate
from barnraise.contract.charter import Charter
from barnraise.contract.close_rules import open_commits
from barnraise.contract.log_entries import Close, parse_entry
from barnraise.contract.manifest import MANIFEST, Form, Manifest, open_manifest
from barnraise.contract.records import blob_name
from barnraise.contract.run_keys import Signers
from barnraise.core.errors import StateError, TrustError
from barnraise.core.ids import HASH_PATTERN, BlobHash, blob_hash, short
from barnraise.core.signed import Signed
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.files import Batch, disk_errors, make_folder, write_atomic
from coordinator.checkpoints.revision_names import Place, names_of
from coordinator.store.checkpoints import lay_out
from coordinator.store.history import Logged, epoch_starts
from coordinator.store.promotion import Promotion
from coordinator.store.run_state import RunState

log = logging.getLogger("coordinator.checkpoints.archive_writer")

_OF_ROUNDS: tuple[Form, ...] = ("trained", "merged", "gguf")
"""The forms that have a folder for each round."""


@dataclass(frozen=True)
class ArchiveContent:
    """What the archive has to hold."""

    charter: bytes
    """The signed charter."""
    log: Sequence[Logged]
    """The log's entries, by height."""
    certificate: Certificate | None
    """Of the newest."""
    closed: int
    """Closed rounds."""
    contributions: Mapping[int, Collection[BlobHash]]
    """Blobs of each round from which a replay can start."""
    replay_from: int
    checkpoints: Mapping[int, Signed[Manifest]]
    """Those that are published."""
    shown: Collection[int]
    """Rounds of all that ever were."""
    promotion: Promotion | None
    """None while none is published."""
    averages: Mapping[int, Signed[Manifest]] = field(default_factory=dict)
    """Means of states, by the round of the newest, which is among `checkpoints`."""
    mirrors: Sequence[str] = ()
    """Addresses of other servers with a copy."""
    void: tuple[tuple[int, int], ...] = ()
    """As in `Position`."""

    @property
    def places(self) -> list[Place]:
        """Of all checkpoints."""
        return [*((round, False) for round in self.checkpoints), *((round, True) for round in self.averages)]

    @classmethod
    def of(cls, state: RunState, mirrors: Sequence[str]) -> ArchiveContent:
        """What the archive has to hold in `state`."""
        return cls(
            charter=state.signed_charter.wire,
            log=state.log,
            certificate=state.certificate,
            closed=state.round,
            contributions=state.history.blobs,
            replay_from=state.replay_from,
            checkpoints={round: state.checkpoints[round] for round in state.in_force(state.published)},
            averages={round: state.averages[round] for round in state.in_force(state.averages)},
            shown=state.shown,
            promotion=state.promotion(),
            mirrors=mirrors,
            void=state.position.void,
        )


@dataclass
class ArchiveWriter:
    """Writes new files and removes old ones. Slow where something is new; one thread at a time calls it."""

    charter: Charter
    folder: Path
    blobs: BlobStore
    _entries: int = field(default=0, init=False)
    """This process linked the log's entries below this height."""
    _rounds: set[int] = field(default_factory=set, init=False)
    """Rounds whose contributions it linked."""
    _kept_from: int = field(default=0, init=False)
    """The archive has no contributions to earlier rounds."""
    _swept: bool = field(default=False, init=False)

    def write(self, content: ArchiveContent) -> ArchiveIndex:
        """Bring the folder up to `content`. The next call completes one that was interrupted.

        Raises DiskFull, StateError where the store lacks what the run store names.
        """
        if not self._swept:
            self._sweep()
            self._kept_from = self._written_replay_from()
        if not self._has_charter(content.charter):
            write_atomic(self.folder / CHARTER, content.charter)
        self._link_log(content)
        for signed in (*content.checkpoints.values(), *content.averages.values()):
            self._write_checkpoint(signed, self.folder / place_of(signed.value))
        # The index names only files that exist: it is written after new ones and before old ones are removed.
        index = self._index(content)
        write_atomic(self.folder / INDEX, index.model_dump_json(indent=1).encode())
        self._remove_dropped(content)
        return index

    def _has_charter(self, charter: bytes) -> bool:
        path = self.folder / CHARTER
        return path.is_file() and path.read_bytes() == charter

    def _link_log(self, content: ArchiveContent) -> None:
        rounds = content.contributions.keys() - self._rounds
        with Batch() as batch:
            for height in range(self._entries, len(content.log)):
                logged = content.log[height]
                self._link(logged.name, entry_path(logged.epoch, height), batch)
            for round in rounds:
                for blob in content.contributions[round]:
                    self._link(blob, contribution_path(blob), batch)
        self._entries = len(content.log)
        self._rounds |= rounds

    def _sweep(self) -> None:
        """Remove what an earlier process left unfinished: names of finished files have no leading dot."""
        with disk_errors(self.folder):
            for name in ("log", "contributions"):
                make_folder(self.folder / name)
            for left_over in [
                *self.folder.glob(".*"),
                *self.folder.glob("*/.*"),
                *self.folder.glob("log/*/.*"),
            ]:
                if left_over.is_dir():
                    shutil.rmtree(left_over)
                else:
                    left_over.unlink()
        self._swept = True

    def _link(self, blob: BlobHash, path: str, batch: Batch) -> None:
        try:
            batch.link(self.blobs.path(blob), self.folder / path)
        except FileNotFoundError:
            raise _missing_blob(blob, path) from None

    def _write_checkpoint(self, signed: Signed[Manifest], folder: Path) -> None:
        there = folder / MANIFEST
        if there.is_file() and there.read_bytes() == signed.wire:
            return
        for entry in signed.value.files:
            if BlobHash(entry.hash) not in self.blobs:
                raise _missing_blob(BlobHash(entry.hash), f"{folder.name}/{entry.name}")
        lay_out(signed, self.blobs, folder)

    def _index(self, content: ArchiveContent) -> ArchiveIndex:
        repos = [
            Repo(
                id=repo_id(self.charter, form),
                kind="dataset" if form == "data" else "model",
                form=form,
                revisions=self._revisions(form, content),
                void=content.void if form in _OF_ROUNDS else (),
            )
            for form in ("trained", "merged", "gguf", "base", "data")
        ]
        return ArchiveIndex(
            version=2,
            run=self.charter.run,
            authority=self.charter.authority,
            closed=content.closed,
            entries=len(content.log),
            epochs=_segments(content.log),
            certificate=content.certificate,
            replay_from=content.replay_from,
            repos=tuple(repo for repo in repos if repo.revisions),
            mirrors=tuple(content.mirrors),
            proofs=self._proofs(),
        )

    def _proofs(self) -> tuple[str, ...]:
        """Proofs of double signing that somebody put into the archive. Readers check them."""
        names = (path.name for path in (self.folder / PROOFS).glob("*"))
        return tuple(sorted(name for name in names if re.fullmatch(HASH_PATTERN, name)))[:MAX_PROOFS]

    def _revisions(self, form: Form, content: ArchiveContent) -> tuple[Revision, ...]:
        """Those whose manifest is on disk. Forms other than `trained` exist for some of the rounds."""
        places = [(0, False)] if form in ("base", "data") else content.places
        there = {
            place: manifest
            for place in places
            if (manifest := self._manifest(self.folder / _folder(form, place), form)) is not None
        }
        return tuple(
            Revision(folder=_folder(form, place), manifest=there[place], round=place[0], names=names)
            for place, names in names_of(there, content.promotion).items()
        )

    def _manifest(self, folder: Path, form: Form) -> BlobHash | None:
        """The hash of a folder's manifest; None without a manifest that this run's key signed for `form`."""
        path = folder / MANIFEST
        if not path.is_file():
            return None
        wire = path.read_bytes()
        try:
            signed = open_manifest(wire, run=self.charter.run, signers=Signers(self.charter.authority_key))
        except TrustError as error:
            log.warning("%s is left out of the archive: %s", folder, error.problem)
            return None
        return blob_hash(wire) if signed.value.form == form else None

    def _remove_dropped(self, content: ArchiveContent) -> None:
        """Remove what the run store had and dropped: nothing of which its journal does not know."""
        with disk_errors(self.folder):
            for folder in self._dropped_checkpoints(content):
                shutil.rmtree(folder)
            for blob in self._dropped_contributions(content):
                (self.folder / contribution_path(blob)).unlink(missing_ok=True)
        self._kept_from = content.replay_from
        self._rounds &= content.contributions.keys()

    def _dropped_checkpoints(self, content: ArchiveContent) -> list[Path]:
        """Folders of the checkpoints that were published once, and are not any more."""
        kept, averages = content.checkpoints, content.averages
        return [
            folder
            for form in _OF_ROUNDS
            for folder in (self.folder / folder_of(form, 0)).parent.glob("*")
            if (round_of(folder.name) in content.shown and round_of(folder.name) not in kept)
            or (average_of(folder.name) in content.shown and average_of(folder.name) not in averages)
        ]

    def _dropped_contributions(self, content: ArchiveContent) -> set[BlobHash]:
        """Those to the rounds from `_kept_from` up to the one from which a replay starts now."""
        dropped: set[BlobHash] = set()
        if self._kept_from >= content.replay_from:
            return dropped
        for logged in content.log[self._kept_from :]:  # a round's close is not below that height
            entry = parse_entry(self.blobs.get(logged.name))
            if isinstance(entry, Close) and entry.round >= content.replay_from:
                break
            if isinstance(entry, Close):
                dropped |= {blob_name(commit) for commit in open_commits(entry)}
        return dropped - {blob for blobs in content.contributions.values() for blob in blobs}

    def _written_replay_from(self) -> int:
        """Of the index that an earlier process wrote."""
        try:
            return parse_index((self.folder / INDEX).read_bytes()).replay_from
        except (OSError, TrustError):
            return 0


def _folder(form: Form, place: Place) -> str:
    return folder_of(form, place[0], averaged=place[1])


def _missing_blob(blob: BlobHash, path: str) -> StateError:
    return StateError(
        f"the blob {short(blob)}, which the archive has as {path}, is missing",
        fix="Start `coordinator serve` again: it fetches a copy. Where there is none, bring it back from a"
        " backup: coordinator restore BACKUP FOLDER",
    )


def _segments(log: Sequence[Logged]) -> tuple[Segment, ...]:
    """Which epoch each height is of. A log begins with epoch 0, also without entries."""
    starts = epoch_starts(log)
    if not starts or starts[0][0] != 0:
        starts.insert(0, (0, 0))
    return tuple(Segment(epoch=epoch, start=start) for epoch, start in starts)
