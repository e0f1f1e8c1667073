"""The mirrors that an archive names. They are untrusted: every file from them is checked by its hash."""

from __future__ import annotations

import logging

import httpx2

from barnraise.contract.archive import ArchiveIndex
from barnraise.core.errors import InviteError
from barnraise.network.blobs.rate_limiter import UNLIMITED, RateLimiter
from peer.archive.web import WebSource
from peer.timing import TIMING, Timing

log = logging.getLogger("peer")

MAX_NAMED_MIRRORS = 16
"""At most this many of the mirrors that an archive names are used."""


def named_mirrors(
    client: httpx2.AsyncClient,
    index: ArchiveIndex,
    timing: Timing = TIMING,
    limiter: RateLimiter = UNLIMITED,
) -> list[WebSource]:
    """The mirrors with a valid address."""
    found = []
    for address in index.mirrors[:MAX_NAMED_MIRRORS]:
        try:
            found.append(WebSource(client, address, timing, limiter))
        except InviteError as error:
            log.info("ignoring a mirror that the archive names: %s", error.problem)
    return found
