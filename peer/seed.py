"""`peer seed`: serve a copy of an archive, or a downloaded checkpoint, to others who download."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.archive import CHARTER, INDEX, MAX_INDEX_BYTES, parse_index, place_of, repo_id
from barnraise.contract.charter import MAX_CHARTER_BYTES, Charter
from barnraise.contract.manifest import MANIFEST, MANIFEST_JSON, MAX_MANIFEST_BYTES, Manifest, manifest_json
from barnraise.core.errors import HashMismatch, TrustError, Unreachable, UserError
from barnraise.core.signed import Signed, open_signed
from barnraise.core.units import format_weights
from barnraise.gateway import listen
from barnraise.runtime.blob_store import file_hash
from barnraise.runtime.files import disk_errors, link_or_copy, scratch_folder, write_atomic
from peer.download.select import index_of

log = logging.getLogger("peer.seed")


@dataclass(frozen=True)
class Seeding:
    """What is being served."""

    content: str
    """For people."""
    key: str
    """The run's key, as the files claim it. Downloaders check the signatures with the key that they know."""
    port: int


async def seed(
    folder: Path, host: str, port: int, stop: asyncio.Event, ready: Callable[[Seeding], None]
) -> None:
    """Serve until `stop`; port 0 takes any free one. ready: called once it listens.

    Raises UserError if there is nothing to serve, TrustError if it is damaged, Unreachable, DiskFull.
    """
    with _as_archive(folder) as (archive, content, key):
        try:
            listening = await listen(archive, host, port)
        except Unreachable as error:
            raise Unreachable(error.problem, fix="Choose another --port.") from None
        try:
            ready(Seeding(content, key, listening.port))
            await stop.wait()
        finally:
            await listening.stop()


@contextmanager
def _as_archive(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """A folder laid out as an archive, its content for people, and the run's key."""
    if (folder / INDEX).is_file():
        index = parse_index(_read(folder / INDEX, MAX_INDEX_BYTES))
        count = sum(len(repo.revisions) for repo in index.repos)
        yield folder, f"an archive of {index.run} with {count} checkpoints", index.authority
    elif (folder / MANIFEST).is_file():
        signed = _checked(folder)
        manifest = signed.value
        with scratch_folder(folder.resolve().parent) as work:
            _lay_out(signed, folder, work)
            what = format_weights(manifest.round, manifest.averaged)
            yield work, f"{what} of {manifest.run} ({manifest.form})", signed.signer
    else:
        raise UserError(
            f"{folder} has neither {INDEX} nor {MANIFEST}",
            fix="Give a folder that `peer download` wrote, or a copy of a run's archive.",
        )


def _checked(folder: Path) -> Signed[Manifest]:
    """The manifest of a checkpoint, after a check of every file. Slow: it reads them all.

    Raises HashMismatch, MalformedRecord, BadSignature.
    """
    wire = _read(folder / MANIFEST, MAX_MANIFEST_BYTES)
    signed = open_signed(Manifest, wire, signer=None, limit=MAX_MANIFEST_BYTES)
    for entry in signed.value.files:
        file = folder / entry.name
        if not file.is_file() or file_hash(file) != entry.hash:
            raise HashMismatch(
                f"{file} is missing or differs from {MANIFEST}",
                fix="Download the checkpoint again, into the same folder.",
            )
    return signed


def _lay_out(signed: Signed[Manifest], folder: Path, work: Path) -> None:
    """An archive with one checkpoint, made of hard links where the file system allows it."""
    manifest = signed.value
    place = work / place_of(manifest)
    with disk_errors(place):
        place.mkdir(parents=True)
    for entry in manifest.files:
        link_or_copy(folder / entry.name, place / entry.name)
    write_atomic(place / MANIFEST, signed.wire)
    write_atomic(place / MANIFEST_JSON, manifest_json(signed))
    charter = _charter(folder, signed)
    own = None
    if charter is not None:
        write_atomic(work / CHARTER, charter.wire)
        own = repo_id(charter.value, manifest.form)
    write_atomic(work / INDEX, index_of(signed, own).model_dump_json(indent=1).encode())


def _charter(folder: Path, signed: Signed[Manifest]) -> Signed[Charter] | None:
    """The run's charter, if the folder has it: it names the repository for Hub clients."""
    if not (folder / CHARTER).is_file():
        return None
    try:
        wire = _read(folder / CHARTER, MAX_CHARTER_BYTES)
        return open_signed(Charter, wire, signer=signed.signer, limit=MAX_CHARTER_BYTES)
    except TrustError as error:
        log.warning("ignoring %s: %s", folder / CHARTER, error.problem)
        return None


def _read(file: Path, limit: int) -> bytes:
    """At most one byte more than `limit`, by which the parser sees that it is too long."""
    with disk_errors(file), file.open("rb") as opened:
        return opened.read(limit + 1)
