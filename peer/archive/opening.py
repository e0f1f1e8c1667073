"""Opens an archive, with a pinned key, from what a user typed: an invite, an address or a folder."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2

from barnraise.contract.invite import SCHEME, Invite, parse_invite
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.manifest import MANIFEST
from barnraise.core.errors import InviteError, TrustError, Unreachable, UserError
from barnraise.core.ids import HASH_PATTERN, PublicKey, RunId
from barnraise.network.address_book import AddressBook
from barnraise.network.blobs.rate_limiter import UNLIMITED, RateLimiter
from barnraise.runtime.machine_clocks import wall_ms
from peer.archive.folder import FolderSource
from peer.archive.reading import LoneCheckpoint, RunArchive, read_archive, read_lone
from peer.archive.sources import Missing, Source
from peer.archive.web import WebSource, web_address, web_client
from peer.coordinator_client import CoordinatorClient
from peer.coordinator_search import CoordinatorSearch
from peer.timing import TIMING, Timing

log = logging.getLogger("peer")


@asynccontextmanager
async def open_archive(
    text: str,
    key: str | None = None,
    timing: Timing = TIMING,
    limiter: RateLimiter = UNLIMITED,
    mirrors: Sequence[str] = (),
) -> AsyncIterator[RunArchive | LoneCheckpoint]:
    """The archive at an invite, an http(s) address or a folder.

    key: the run's key, or an invite that contains it; an address may have it as ?key=…, an invite has its
    own. limiter: of what is read from a server. mirrors: addresses of copies, for an invite whose coordinator
    cannot be reached.
    Raises InviteError where the key is not known, UserError, Unreachable, TrustError.
    """
    async with web_client(timing) as client:
        if text.startswith(f"{SCHEME}://"):
            invite = parse_invite(text)
            if key is not None and pinned(key) != invite.key:
                raise InviteError("the invite and --key name two keys", fix="Leave --key out.")
            yield _of_run(await _of_invite(client, invite, timing, limiter, mirrors), invite.run)
        elif "://" in text:
            yield await _read(WebSource(client, text, timing, limiter), address_key(text, key))
        else:
            yield await _read(FolderSource(_folder(text)), _needed(key, "a folder"))


async def _of_invite(
    client: httpx2.AsyncClient, invite: Invite, timing: Timing, limiter: RateLimiter, mirrors: Sequence[str]
) -> RunArchive:
    try:
        search = CoordinatorSearch(
            invite, AddressBook(invite.run, KeysInForce.alone(invite.key)), wall_ms, timing
        )
        address = await search.ask(CoordinatorClient.gateway)
        return await read_archive(WebSource(client, address, timing, limiter), invite.key)
    except Unreachable as away:
        for mirror in mirrors:
            try:
                return await read_archive(WebSource(client, mirror, timing, limiter), invite.key)
            except (Missing, Unreachable, TrustError) as error:
                log.warning("%s", error.problem)
        raise Unreachable(
            away.problem,
            fix=f"{away.fix} A server with a copy of the run works without the coordinator: give its address"
            f" instead of the invite, with ?key={invite.key} behind it.",
        ) from None


async def _read(source: Source, key: PublicKey) -> RunArchive | LoneCheckpoint:
    try:
        return await read_archive(source, key)
    except Missing as missing:
        try:
            return await read_lone(source, key)
        except Missing:
            raise Missing(
                f"{missing.problem}, and no {MANIFEST} of a checkpoint either", fix=missing.fix
            ) from None


def pinned(text: str) -> PublicKey:
    """The run's key in 64 hex digits, or in an invite. Raises InviteError."""
    if text.startswith(f"{SCHEME}://"):
        return parse_invite(text).key
    if not re.fullmatch(HASH_PATTERN, text):
        raise InviteError(
            f"{text[:100]!r} is not a key",
            fix="Give the run's invite, or the 64 hex digits after key= in it.",
        )
    return PublicKey(text)


def address_key(address: str, key: str | None) -> PublicKey:
    """The key in an address, or else the given one. Raises InviteError."""
    web_address(address)
    carried = parse_qs(urlsplit(address).query).get("key", [])
    return pinned(carried[0]) if carried and key is None else _needed(key, "a URL")


def _needed(key: str | None, what: str) -> PublicKey:
    if key is None:
        raise InviteError(
            f"{what} alone does not say whose signature to check",
            fix="Give --key with the run's invite, or with the 64 hex digits after key= in it.",
        )
    return pinned(key)


def _of_run(archive: RunArchive, run: RunId) -> RunArchive:
    if archive.run != run:
        raise UserError(
            f"the coordinator serves the run {archive.run}, the invite is for {run}",
            fix="Ask the maintainer for the invite of the run that you want.",
        )
    return archive


def _folder(text: str) -> Path:
    folder = Path(text)
    if not text or not folder.is_dir():
        raise InviteError(
            f"this is neither an invite, a URL nor a folder: {text[:100]!r}",
            fix=f"Give '{SCHEME}://HOST:PORT/RUN?key=…', 'https://HOST/FOLDER?key=…', or a folder and --key.",
        )
    return folder
