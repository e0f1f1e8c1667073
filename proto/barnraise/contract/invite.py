"""The invite: one line with the addresses of a run's coordinator and the run's key.

barnraise://HOST:PORT[,HOST:PORT…]/RUN?key=<64 hex digits>
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs

from barnraise.contract.endpoints import Endpoint, parse_endpoint
from barnraise.core.errors import InviteError
from barnraise.core.ids import HASH_PATTERN, RUN_PATTERN, PublicKey, RunId

SCHEME = "barnraise"
MAX_HOSTS = 8
MAX_INVITE = 4096
"""Longest invite in characters: eight of the longest names, the run and the key."""


@dataclass(frozen=True)
class Invite:
    """The parts of an invite; `str()` is the line that people share."""

    endpoints: tuple[Endpoint, ...]
    """Where the coordinator's gRPC service may be, at least one: each is tried in turn."""
    run: RunId
    key: PublicKey
    """The run authority's public key, which all signed records of the run are checked against."""

    @property
    def address(self) -> str:
        """HOST:PORT, separated by commas where there are several."""
        return ",".join(map(str, self.endpoints))

    def __str__(self) -> str:
        return f"{SCHEME}://{self.address}/{self.run}?key={self.key}"


def parse_invite(text: str) -> Invite:
    """Raises InviteError, which says what part is wrong."""
    stripped = text.strip()
    if len(stripped) > MAX_INVITE:
        raise _bad(text, f"it is longer than {MAX_INVITE} characters")
    scheme, _, rest = stripped.partition("://")
    if scheme.lower() != SCHEME:
        raise _bad(text, f"it does not begin with {SCHEME}://")
    authority, _, tail = rest.partition("/")
    path, _, query = tail.partition("?")
    endpoints = _endpoints(text, authority.partition("?")[0])
    run = path.rstrip("/")
    if not re.fullmatch(RUN_PATTERN, run):
        raise _bad(text, "it has no run name after the port")
    keys = parse_qs(query).get("key", [])
    if len(keys) != 1 or not re.fullmatch(HASH_PATTERN, keys[0]):
        raise _bad(text, "its key is not 64 hex digits; was the end cut off?")
    return Invite(endpoints, RunId(run), PublicKey(keys[0]))


def _endpoints(text: str, authority: str) -> tuple[Endpoint, ...]:
    parts = authority.split(",")
    if len(parts) > MAX_HOSTS:
        raise _bad(text, f"it has {len(parts)} hosts, at most {MAX_HOSTS} are allowed")
    found = []
    for part in parts:
        try:
            found.append(parse_endpoint(part))
        except ValueError as error:
            raise _bad(text, f"{part[:60]!r}: {error}") from None
    return tuple(dict.fromkeys(found))


def _bad(text: str, why: str) -> InviteError:
    return InviteError(
        f"this is not an invite: {text[:100]!r}: {why}",
        fix=f"Copy the whole line that `coordinator serve` printed, in quotes: '{SCHEME}://HOST:PORT/RUN?key=…'",
    )
