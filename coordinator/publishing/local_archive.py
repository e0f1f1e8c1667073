"""Reads the archive on this machine's disk, and checks each file before it is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.archive import (
    CHARTER,
    INDEX,
    MAX_INDEX_BYTES,
    ArchiveIndex,
    Repo,
    Revision,
    contribution_path,
    parse_index,
    tag_of,
)
from barnraise.contract.certificates import Authorities, Certificate, check_certificate
from barnraise.contract.charter import MAX_CHARTER_BYTES, Charter
from barnraise.contract.log_entries import MAX_ENTRY_BYTES, certificate_in
from barnraise.contract.manifest import (
    MANIFEST,
    MANIFEST_JSON,
    MAX_MANIFEST_BYTES,
    FileEntry,
    Form,
    Manifest,
    manifest_json,
    open_manifest,
)
from barnraise.contract.run_keys import Signers
from barnraise.core.errors import HashMismatch, MalformedRecord, StateError, UserError
from barnraise.core.ids import BlobHash, PublicKey, blob_hash, short
from barnraise.core.signed import open_signed
from barnraise.fold.log import certified, read_step
from barnraise.runtime.blob_store import file_hash


class ArchiveChanged(StateError):
    """The archive changed while it was read, because its run continues. Try again."""


@dataclass(frozen=True)
class Checkpoint:
    """A revision's folder, by its signed manifest."""

    revision: Revision
    manifest: Manifest
    hashes: dict[str, BlobHash]
    """Of every file to send, by name: the manifest's two forms come last."""
    sizes: dict[str, int]
    """In bytes."""

    @property
    def size(self) -> int:
        return sum(self.sizes.values())


@dataclass(frozen=True)
class LocalArchive:
    """An archive by its index. Methods raise ArchiveChanged where the disk lacks what the index names."""

    folder: Path
    index: ArchiveIndex
    charter: Charter

    @classmethod
    def of(cls, folder: Path) -> LocalArchive:
        """Raises UserError where there is no archive, TrustError for a damaged one."""
        try:
            index = parse_index(_read(folder / INDEX, MAX_INDEX_BYTES))
            wire = _read(folder / CHARTER, MAX_CHARTER_BYTES)
        except FileNotFoundError as error:
            raise UserError(
                f"{folder} is not an archive: it has no {Path(error.filename).name}",
                fix="Give the name of a run that is served on this machine, or the folder of its archive.",
            ) from None
        charter = open_signed(Charter, wire, signer=None, limit=MAX_CHARTER_BYTES)
        if (index.run, index.authority, charter.value.authority) != (
            charter.value.run, charter.signer, charter.signer,
        ):  # fmt: skip
            raise MalformedRecord(
                f"{folder / INDEX} and {CHARTER} next to it are not about the same run",
                fix="Start the run's coordinator once: it writes its archive again.",
            )
        return cls(folder, index, charter.value)

    def index_of(self, repos: Sequence[Repo]) -> ArchiveIndex:
        """The index, with these repositories alone."""
        return self.index.model_copy(update={"repos": tuple(repos)})

    def check_unchanged(self) -> None:
        """Raises ArchiveChanged where the index on disk differs by now."""
        with self._present():
            if parse_index(_read(self.folder / INDEX, MAX_INDEX_BYTES)) != self.index:
                raise _archive_changed(INDEX)

    def contributions(self) -> dict[str, int]:
        """Size in bytes by path: all that the index requires, and possibly more."""
        with self._present():
            found = [path for path in (self.folder / "contributions").iterdir() if path.name[0] != "."]
            sizes = {contribution_path(BlobHash(path.name)): path.stat().st_size for path in found}
        self.check_unchanged()
        return sizes

    def entries(self) -> dict[str, int]:
        """Size in bytes of the log's entries by path, oldest first."""
        paths = [self.index.path_of(height) for height in range(self.index.entries)]
        with self._present():
            return {path: (self.folder / path).stat().st_size for path in paths}

    def manifest(self, revision: Revision) -> bytes:
        """The signed manifest of a revision, unchecked."""
        with self._present():
            return _read(self.folder / revision.folder / MANIFEST, MAX_MANIFEST_BYTES)

    def checkpoint(self, form: Form, revision: Revision) -> Checkpoint:
        """Raises TrustError unless the run's key signed the manifest."""
        wire = self.manifest(revision)
        if blob_hash(wire) != revision.manifest:
            raise _archive_changed(f"{revision.folder}/{MANIFEST}")
        signed = open_manifest(wire, run=self.charter.run, signers=Signers(self.charter.authority_key))
        of = signed.value
        if (of.form, of.round, of.averaged) != (form, revision.round, revision.averaged):
            raise MalformedRecord(
                f"{self.folder / revision.folder} holds the {of.form} form of {tag_of(of)}, not"
                f" the {form} form of {revision.tag}",
                fix="Start the run's coordinator once: it writes its archive again.",
            )
        view = manifest_json(signed)
        entries = [
            *signed.value.files,
            FileEntry(name=MANIFEST_JSON, hash=blob_hash(view), size=len(view)),
            FileEntry(name=MANIFEST, hash=blob_hash(wire), size=len(wire)),
        ]
        return Checkpoint(
            revision,
            signed.value,
            {entry.name: BlobHash(entry.hash) for entry in entries},
            {entry.name: entry.size for entry in entries},
        )

    def checked_file(self, checkpoint: Checkpoint, name: str) -> Path:
        """Raises HashMismatch unless the file is the one that the manifest names."""
        return self._checked(f"{checkpoint.revision.folder}/{name}", checkpoint.hashes[name])

    def checked_contribution(self, path: str) -> Path:
        """Raises HashMismatch unless its name is its hash."""
        return self._checked(path, BlobHash(Path(path).name))

    def checked_entry(self, height: int) -> Path:
        """Raises MalformedRecord, BadSignature unless its certificate is of this entry of the run."""
        path = self.folder / self.index.path_of(height)
        certificate = self._certificate(height)
        with self._present():
            step = read_step(_read(path, MAX_ENTRY_BYTES), certificate, self.charter)
        # Which keys may certify it, readers find out: here a damaged file has to be noticed.
        keys = tuple(PublicKey(key) for key, _ in certificate.signatures)
        check_certificate(certified(step).vote, certificate, Authorities(keys))
        return path

    def _certificate(self, height: int) -> Certificate:
        """Of the entry of a height: in the entry after it, or in the index."""
        after = height + 1
        found = self.index.certificate
        if after < self.index.entries:
            with self._present():
                found = certificate_in(_read(self.folder / self.index.path_of(after), MAX_ENTRY_BYTES))
        if found is None:
            raise MalformedRecord(
                f"{self.folder / self.index.path_of(height)} has no certificate",
                fix="Start the run's coordinator once: it writes its archive again.",
            )
        return found

    def _checked(self, path: str, expected: BlobHash) -> Path:
        with self._present():
            found = file_hash(self.folder / path)
        if found != expected:
            raise HashMismatch(
                f"{self.folder / path} is damaged: its hash is {short(found)}, not {short(expected)}",
                fix=f"Nothing of it was sent. Check the disk. In a run's folder, remove the file and"
                f" blobs/{expected[:2]}/{expected}, and start `coordinator serve` again: it looks for"
                " another copy.",
            )
        return self.folder / path

    @contextmanager
    def _present(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise _archive_changed(str(error.filename)) from None


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        return file.read(limit + 1)  # the parser refuses more than the limit


def _archive_changed(what: str) -> ArchiveChanged:
    return ArchiveChanged(
        f"the archive changed while it was read: {what} is different or missing",
        fix="Run the command again. If this repeats while no coordinator runs, start it once: it writes its"
        " archive again.",
    )
