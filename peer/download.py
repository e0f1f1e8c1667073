"""`peer download`: a checkpoint as a stranger gets it: no joining, every byte checked, resumable."""

from __future__ import annotations

import asyncio
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

from barnraise.edge.files import disk_errors, write_atomic
from barnraise.edge.transfer.blobstore import file_hash
from barnraise.errors import HashMismatch, InviteError, Unreachable, UserError
from barnraise.ids import HASH_PATTERN, BlobHash, PublicKey, short
from barnraise.invite import SCHEME, parse_invite
from barnraise.manifest import MANIFEST, MAX_MANIFEST_BYTES, FileEntry, Manifest, open_manifest
from barnraise.signed import Signed, open_signed
from peer.api import Api, connect
from peer.report import size

TRIES = 3
CHUNK = 256 * 1024
TIMEOUT_SECONDS = 30.0

Say = Callable[[str], None]


class Source(Protocol):
    """Where checkpoints come from."""

    async def manifests(self) -> list[Signed[Manifest]]:
        """Oldest first; their signature is checked."""
        ...

    def read(self, entry: FileEntry, offset: int) -> AsyncGenerator[bytes, None]:
        """The file's bytes from `offset` on. Raises Unreachable when they break off."""
        ...


async def download(text: str, round: int | None, output: Path | None, key: str | None, say: Say) -> Path:
    """Fetch a checkpoint into a folder and return it. What is there and whole is not fetched again.

    Raises InviteError, UserError, Unreachable, TrustError, DiskFull.
    """
    async with _source(text, key) as source:
        manifests = {signed.value.round: signed for signed in await source.manifests()}
        if round is not None and round not in manifests:
            have = ", ".join(map(str, sorted(manifests))) or "none"
            raise UserError(f"there is no checkpoint of round {round}", fix=f"There are: {have}.")
        if not manifests:
            raise UserError("this run has no checkpoint yet", fix="Come back after its first one.")
        signed = manifests[max(manifests) if round is None else round]
        manifest = signed.value
        folder = output or Path(f"{manifest.run}-round-{manifest.round:06d}")
        say(f"round {manifest.round} of {manifest.run}: {len(manifest.files)} files, {size(manifest.size)}")
        for entry in manifest.files:
            await _fetch_file(source, entry, folder, say)
        write_atomic(folder / MANIFEST, signed.wire)
        return folder


async def _fetch_file(source: Source, entry: FileEntry, folder: Path, say: Say) -> None:
    target, part = folder / entry.name, folder / f".{entry.name}.part"
    if target.is_file() and await asyncio.to_thread(file_hash, target) == entry.hash:
        return
    for attempt in range(1, TRIES + 1):
        try:
            await _receive(source, entry, part)
            break
        except Unreachable as error:
            if attempt == TRIES:
                raise
            say(f"{entry.name}: {error.problem}; resuming")
    found = await asyncio.to_thread(file_hash, part)
    if found != entry.hash:
        part.unlink()
        raise HashMismatch(
            f"{entry.name} hashes to {short(found)}, the manifest says {short(entry.hash)}",
            fix="It was removed. Run the command again; if this repeats, do not trust the source.",
        )
    with disk_errors(target):
        part.replace(target)
    say(f"{entry.name}: {size(entry.size)}")


async def _receive(source: Source, entry: FileEntry, part: Path) -> None:
    """Grow `part` to the entry's size. Raises Unreachable when the source ends before."""
    with disk_errors(part), _growing(part) as file:
        got = file.tell()
        if got < entry.size:
            async with aclosing(source.read(entry, got)) as pieces:
                async for piece in pieces:
                    got += file.write(piece[: entry.size - got])
                    if got == entry.size:  # a source may go on for ever
                        break
    if got < entry.size:
        raise Unreachable(
            f"the source ended after {got} of {entry.size} bytes",
            fix="Run the command again: it goes on from there.",
        )


def _growing(part: Path) -> BinaryIO:
    part.parent.mkdir(parents=True, exist_ok=True)
    return part.open("ab")


@asynccontextmanager
async def _source(text: str, key: str | None) -> AsyncIterator[Source]:
    if text.startswith(("http://", "https://")):
        yield _Mirror.of(text, key)
        return
    if not text.startswith(f"{SCHEME}://"):
        raise InviteError(
            f"this is neither an invite nor a URL: {text[:100]!r}",
            fix=f"Give '{SCHEME}://HOST:PORT/RUN?key=…' or 'https://HOST/FOLDER?key=…'.",
        )
    async with connect(parse_invite(text)) as api:
        yield _Coordinator(api)


@dataclass(frozen=True)
class _Coordinator:
    api: Api

    async def manifests(self) -> list[Signed[Manifest]]:
        return await self.api.checkpoints()

    def read(self, entry: FileEntry, offset: int) -> AsyncGenerator[bytes, None]:
        return self.api.fetch(BlobHash(entry.hash), offset)


@dataclass(frozen=True)
class _Mirror:
    """A folder with a checkpoint on any web server; Range requests resume where the server knows them."""

    url: str
    key: PublicKey

    @classmethod
    def of(cls, text: str, key: str | None) -> _Mirror:
        try:
            parts = urlsplit(text)
        except ValueError as error:
            raise InviteError(
                f"this is not a URL: {text[:100]!r}: {error}", fix="Give 'https://HOST/FOLDER?key=…'."
            ) from None
        found = key or next(iter(parse_qs(parts.query).get("key", [])), "")
        if not re.fullmatch(HASH_PATTERN, found):
            raise InviteError(
                "a URL alone does not say whose signature to check",
                fix="Add ?key=… (64 hex digits, from the run's invite) or give --key.",
            )
        return cls(
            urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") + "/", "", "")), PublicKey(found)
        )

    async def manifests(self) -> list[Signed[Manifest]]:
        wire = await asyncio.to_thread(self._get_manifest)
        run = open_signed(Manifest, wire, signer=self.key, limit=MAX_MANIFEST_BYTES).value.run
        return [open_manifest(wire, run=run, authority=self.key)]  # type: ignore[arg-type]

    async def read(self, entry: FileEntry, offset: int) -> AsyncGenerator[bytes, None]:
        response = await asyncio.to_thread(self._open, entry.name, offset)
        with response:
            skip = offset if response.status == 200 else 0
            while chunk := await asyncio.to_thread(self._read, response, entry.name, CHUNK):
                yield chunk[skip:]
                skip = max(0, skip - len(chunk))

    def _get_manifest(self) -> bytes:
        with self._open(MANIFEST, 0) as response:
            return self._read(response, MANIFEST, MAX_MANIFEST_BYTES + 1)

    def _open(self, name: str, offset: int) -> http.client.HTTPResponse:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with self._broken(name):
            request = urllib.request.Request(self.url + quote(name), headers=headers)
            response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
        return response

    def _read(self, response: http.client.HTTPResponse, name: str, limit: int) -> bytes:
        with self._broken(name):
            return response.read(limit)

    @contextmanager
    def _broken(self, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException) as error:  # urllib's own errors are OSErrors
            if isinstance(error, urllib.error.HTTPError):  # it holds the connection
                error.close()
            raise Unreachable(
                f"{self.url}{name} cannot be read: {error}", fix="Check the address, or try another mirror."
            ) from None
