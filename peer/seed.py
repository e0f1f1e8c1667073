"""`peer seed`: a copy of an archive, or a downloaded checkpoint, served for others to download from."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.archive import CHARTER, INDEX, MAX_INDEX_BYTES, folder_of, parse_index, repo_id
from barnraise.contract.charter import MAX_CHARTER_BYTES, Charter
from barnraise.contract.manifest import MANIFEST, MAX_MANIFEST_BYTES, Manifest
from barnraise.contract.manifest_json import MANIFEST_JSON, manifest_json
from barnraise.core.errors import HashMismatch, TrustError, Unreachable, UserError
from barnraise.core.signed import Signed, open_signed
from barnraise.gateway import listen
from barnraise.runtime.blob_store import file_hash
from barnraise.runtime.files import disk_errors, link_or_copy, scratch_folder, write_atomic
from peer.download.select import index_of

log = logging.getLogger("peer.seed")


@dataclass(frozen=True)
class Seeding:
    what: str
    key: str
    """Whose signature is on it. Downloaders check it against the one that they know."""
    port: int


async def seed(
    folder: Path, host: str, port: int, stop: asyncio.Event, ready: Callable[[Seeding], None]
) -> None:
    """Serve until `stop`; port 0 takes a free one.

    Raises UserError where there is nothing to serve, TrustError where it is damaged, Unreachable, DiskFull.
    """
    with _laid_out(folder) as (archive, what, key):
        try:
            listening = await listen(archive, host, port)
        except Unreachable as error:
            raise Unreachable(error.problem, fix="Choose another --port.") from None
        try:
            ready(Seeding(what, key, listening.port))
            await stop.wait()
        finally:
            await listening.stop()


def until_interrupted() -> asyncio.Event:
    """Set by SIGINT or SIGTERM. Called in a running loop."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


@contextmanager
def _laid_out(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """A folder that is an archive, what is in it, and whose."""
    if (folder / INDEX).is_file():
        index = parse_index(_read(folder / INDEX, MAX_INDEX_BYTES))
        count = sum(len(repo.revisions) for repo in index.repos)
        yield folder, f"an archive of {index.run} with {count} checkpoints", index.authority
    elif (folder / MANIFEST).is_file():
        signed = _checked(folder)
        manifest = signed.value
        with scratch_folder(folder.resolve().parent) as work:
            _lay_out(signed, folder, work)
            yield work, f"round {manifest.round} of {manifest.run} ({manifest.form})", signed.signer
    else:
        raise UserError(
            f"{folder} has neither {INDEX} nor {MANIFEST}",
            fix="Give a folder that `peer download` made, or a copy of a run's archive.",
        )


def _checked(folder: Path) -> Signed[Manifest]:
    """The manifest of a checkpoint all of whose files are as it says. Slow: reads them all.

    Raises HashMismatch, MalformedRecord, BadSignature.
    """
    wire = _read(folder / MANIFEST, MAX_MANIFEST_BYTES)
    signed = open_signed(Manifest, wire, signer=None, limit=MAX_MANIFEST_BYTES)
    for entry in signed.value.files:
        file = folder / entry.name
        if not file.is_file() or file_hash(file) != entry.hash:
            raise HashMismatch(
                f"{file} is not there as {MANIFEST} says",
                fix="Download the checkpoint again, into the same folder.",
            )
    return signed


def _lay_out(signed: Signed[Manifest], folder: Path, work: Path) -> None:
    """An archive with one checkpoint, by hard links where that is possible."""
    manifest = signed.value
    place = work / folder_of(manifest.form, manifest.round)
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
    """The run's, where it was kept: it says the name under which Hub clients find the checkpoint."""
    if not (folder / CHARTER).is_file():
        return None
    try:
        wire = _read(folder / CHARTER, MAX_CHARTER_BYTES)
        return open_signed(Charter, wire, signer=signed.signer, limit=MAX_CHARTER_BYTES)
    except TrustError as error:
        log.warning("%s is left out: %s", folder / CHARTER, error.problem)
        return None


def _read(file: Path, limit: int) -> bytes:
    """One byte more than `limit` at most, so that whoever parses it sees that it is too long."""
    with disk_errors(file), file.open("rb") as opened:
        return opened.read(limit + 1)
