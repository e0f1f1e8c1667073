"""The archive of a run whose key is pinned: what is read from it is checked against the key."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.archive import (
    CHARTER,
    INDEX,
    MAX_INDEX_BYTES,
    ArchiveIndex,
    Revision,
    parse_index,
    tag_of,
)
from barnraise.contract.charter import MAX_CHARTER_BYTES, Charter
from barnraise.contract.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    Form,
    Manifest,
    open_any_manifest,
    open_manifest,
)
from barnraise.contract.run_keys import Signers
from barnraise.core.errors import HashMismatch, MalformedRecord, TrustError
from barnraise.core.ids import PublicKey, RunId, blob_hash
from barnraise.core.signed import Signed, open_signed
from peer.archive.sources import Source


@dataclass(frozen=True)
class RunArchive:
    """A whole archive. Its methods raise Missing, Unreachable, and MalformedRecord for what is too large."""

    key: PublicKey
    """The run authority's, pinned by the user."""
    index: ArchiveIndex
    """What the archive has. It is not signed; it names this run and this key."""
    signed_charter: Signed[Charter]
    """Signed by `key`."""
    source: Source

    @property
    def charter(self) -> Charter:
        """What `signed_charter` says."""
        return self.signed_charter.value

    @property
    def run(self) -> RunId:
        """The run's id."""
        return self.charter.run

    async def manifest(self, revision: Revision, form: Form) -> Signed[Manifest]:
        """Raises BadSignature, MalformedRecord, HashMismatch unless it is the one that the index names."""
        wire = await self.source.get_small(f"{revision.folder}/{MANIFEST}", MAX_MANIFEST_BYTES)
        signed = open_manifest(wire, run=self.run, signers=Signers(self.key))
        of = signed.value
        if (of.form, of.round, of.averaged) != (form, revision.round, revision.averaged):
            raise MalformedRecord(
                f"{self.source.name} serves the {of.form} form of {tag_of(of)} as the {form} form"
                f" of {revision.tag}",
                fix="Try another source, and inform the operator of this one.",
            )
        if blob_hash(wire) != revision.manifest:
            raise HashMismatch(
                f"the manifest in {revision.folder} is another one than {INDEX} names",
                fix="The run may have published something meanwhile: run the command again.",
            )
        return signed


@dataclass(frozen=True)
class LoneCheckpoint:
    """A folder that holds one checkpoint and nothing else: no charter, no log."""

    key: PublicKey
    signed: Signed[Manifest]
    source: Source


async def read_archive(source: Source, key: PublicKey) -> RunArchive:
    """Raises Missing where there is no archive, Unreachable, BadSignature, MalformedRecord."""
    index = parse_index(await source.get_small(INDEX, MAX_INDEX_BYTES))
    wire = await source.get_small(CHARTER, MAX_CHARTER_BYTES)
    try:
        signed = open_signed(Charter, wire, signer=key, limit=MAX_CHARTER_BYTES)
    except TrustError as error:
        raise type(error)(f"{CHARTER} of {source.name}: {error.problem}", fix=error.fix) from None
    charter = signed.value
    if (index.run, index.authority, charter.authority) != (charter.run, key, key):
        raise MalformedRecord(
            f"{INDEX} of {source.name} is about the run {index.run} of {index.authority[:8]}…,"
            f" its charter about {charter.run} of {charter.authority[:8]}…",
            fix="Try another source, and inform the operator of this one.",
        )
    return RunArchive(key, index, signed, source)


async def read_lone(source: Source, key: PublicKey) -> LoneCheckpoint:
    """Raises Missing where there is no checkpoint, Unreachable, BadSignature, MalformedRecord."""
    wire = await source.get_small(MANIFEST, MAX_MANIFEST_BYTES)
    return LoneCheckpoint(key, open_any_manifest(wire, Signers(key)), source)
