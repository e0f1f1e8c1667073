"""A copy of the run's archive, in a folder or on a web server: its log and its published checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import httpx2

from barnraise.contract.archive import CHARTER, INDEX, MAX_INDEX_BYTES, ArchiveIndex, parse_index
from barnraise.contract.charter import MAX_CHARTER_BYTES, Charter
from barnraise.contract.log_entries import MAX_ENTRY_BYTES
from barnraise.contract.manifest import MANIFEST, MAX_MANIFEST_BYTES, Manifest, open_manifest
from barnraise.contract.run_keys import Signers
from barnraise.core.errors import TrustError, Unreachable, UserError
from barnraise.core.ids import PublicKey
from barnraise.core.signed import Signed, open_signed
from barnraise.runtime.http_client import is_web_address
from coordinator.recovery.chain import Chain, checked_chain
from coordinator.run_folder import ARCHIVE
from coordinator.store.copies import MIRROR_SECONDS


@dataclass(frozen=True)
class ArchivedRun:
    """What an archive shows of a run."""

    chain: Chain
    manifests: tuple[Signed[Manifest], ...]
    """Of its published checkpoints."""
    replay_from: int
    """It has the contributions from this round on."""


@dataclass(frozen=True)
class ArchiveCopy:
    """Synchronous. Its caller checks every byte."""

    location: str
    """The address of the copy, or its folder."""

    @classmethod
    def at(cls, source: str) -> ArchiveCopy:
        """source: an address, an archive's folder, or the folder of a run."""
        below = Path(source) / ARCHIVE
        return cls(str(below) if (below / INDEX).is_file() else source.rstrip("/"))

    def read_run(self, authority: PublicKey) -> ArchivedRun:
        """Raises UserError where it is another run's, Unreachable, TrustError, StateError."""
        index = parse_index(self._read(INDEX, MAX_INDEX_BYTES))
        wire = self._read(CHARTER, MAX_CHARTER_BYTES)
        charter = open_signed(Charter, wire, signer=None, limit=MAX_CHARTER_BYTES)
        payloads = [self._read(index.path_of(height), MAX_ENTRY_BYTES) for height in range(index.entries)]
        chain = checked_chain(charter, payloads, index.certificate)
        if authority not in chain.position.run_keys(charter.signer):
            raise UserError(
                f"{self.location} is the archive of a run that the key {charter.signer[:8]} signed;"
                f" authority.key here is {authority[:8]}, and its log does not name that as a successor",
                fix="Give the archive of this run, or put the key of that run into the folder.",
            )
        return ArchivedRun(chain, self._manifests(index, charter.value), index.replay_from)

    def _manifests(self, index: ArchiveIndex, charter: Charter) -> tuple[Signed[Manifest], ...]:
        """Those that can be read: another one, or the log, makes up for the rest."""
        found = []
        repo = index.repo("trained")
        for revision in repo.revisions if repo is not None else ():
            try:
                wire = self._read(f"{revision.folder}/{MANIFEST}", MAX_MANIFEST_BYTES)
                found.append(open_manifest(wire, run=charter.run, signers=Signers(charter.authority_key)))
            except (TrustError, Unreachable):
                continue
        return tuple(found)

    def _read(self, path: str, limit: int) -> bytes:
        try:
            if not is_web_address(self.location):
                with (Path(self.location) / path).open("rb") as file:
                    found = file.read(limit + 1)
                _check_size(len(found), limit, path)
                return found
            with httpx2.stream(
                "GET", f"{self.location}/{path}", timeout=MIRROR_SECONDS, follow_redirects=True
            ) as response:
                response.raise_for_status()
                data = bytearray()
                for piece in response.iter_bytes():
                    data += piece
                    _check_size(len(data), limit, path)
                return bytes(data)
        except (OSError, httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise Unreachable(
                f"{self.location}/{path} cannot be read: {error}",
                fix="Give --recover-from the folder or the address of a copy of the run's archive.",
            ) from None


def _check_size(size: int, limit: int, path: str) -> None:
    if size > limit:
        raise Unreachable(f"{path} has more than {limit} bytes", fix="Give another copy of the archive.")
