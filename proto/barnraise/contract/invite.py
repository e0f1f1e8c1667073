"""The invite: one line with the address of a run's coordinator and the run's key.

barnraise://HOST:PORT/RUN?key=<64 hex digits>
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from barnraise.core.errors import InviteError
from barnraise.core.ids import HASH_PATTERN, RUN_PATTERN, PublicKey, RunId

SCHEME = "barnraise"


@dataclass(frozen=True)
class Invite:
    """The parts of an invite; `str()` is the line that people share."""

    host: str
    port: int
    run: RunId
    key: PublicKey
    """The run authority's public key, which all signed records of the run are checked against."""

    @property
    def url_host(self) -> str:
        """The host as in a URL: IPv6 in brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def address(self) -> str:
        return f"{self.url_host}:{self.port}"

    def __str__(self) -> str:
        return f"{SCHEME}://{self.address}/{self.run}?key={self.key}"


def parse_invite(text: str) -> Invite:
    """Raises InviteError, which says what part is wrong."""
    try:
        url = urlsplit(text.strip())
        host, port = url.hostname, url.port
    except ValueError as error:
        raise _bad(text, str(error)) from None
    run = url.path.strip("/")
    keys = parse_qs(url.query).get("key", [])
    if url.scheme != SCHEME:
        raise _bad(text, f"it does not begin with {SCHEME}://")
    if not host or not port:
        raise _bad(text, "it has no HOST:PORT")
    if not re.fullmatch(RUN_PATTERN, run):
        raise _bad(text, "it has no run name after the port")
    if len(keys) != 1 or not re.fullmatch(HASH_PATTERN, keys[0]):
        raise _bad(text, "its key is not 64 hex digits; was the end cut off?")
    return Invite(host, port, RunId(run), PublicKey(keys[0]))


def _bad(text: str, why: str) -> InviteError:
    return InviteError(
        f"this is not an invite: {text[:100]!r}: {why}",
        fix=f"Copy the whole line that `coordinator serve` printed, in quotes: '{SCHEME}://HOST:PORT/RUN?key=…'",
    )
