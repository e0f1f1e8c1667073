"""An archive at an http(s) address: the run's gateway, `peer seed`, or any web server over a copy."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from urllib.parse import urlsplit, urlunsplit

import httpx2

from barnraise import __version__
from barnraise.core.errors import BarnraiseError, InviteError, Unreachable
from barnraise.network.blobs.rate_limiter import UNLIMITED, RateLimiter
from barnraise.runtime.http_client import cause_of, http_client, through_proxy
from peer.archive.sources import Missing, checked, ended_early, too_large
from peer.timing import TIMING, Timing

SLOWEST = 16_000.0
"""Bytes a second. A file that is read into memory has to arrive faster, however evenly it trickles."""
MAX_REDIRECTS = 5
MAX_CONNECTIONS = 64
_MISSING = (403, 404, 410)
"""403 is what an S3 bucket answers for a file that it does not have."""
_RANGE = re.compile(r"^bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)$")


@asynccontextmanager
async def web_client(timing: Timing = TIMING) -> AsyncIterator[httpx2.AsyncClient]:
    """For any number of `WebSource`s. It requests uncompressed bytes; only `WebSource` follows redirects."""
    async with http_client(
        timeout=httpx2.Timeout(timing.stall, connect=timing.connect, pool=None),
        limits=httpx2.Limits(max_connections=MAX_CONNECTIONS),
        headers={"Accept-Encoding": "identity", "User-Agent": f"barnraise-peer/{__version__}"},
    ) as client:
        yield client


def web_address(text: str) -> str:
    """`text` without its query, ending in a slash. Raises InviteError if it is not an http(s) address."""
    try:
        parts = urlsplit(text)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        httpx2.URL(text)
    except (ValueError, httpx2.InvalidURL) as error:
        raise InviteError(f"this is not a URL: {text[:100]!r}: {error}", fix=_GIVE) from None
    if not fine:
        raise InviteError(f"this is not an http(s) URL: {text[:100]!r}", fix=_GIVE)
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") + "/", "", ""))


_GIVE = "Give 'https://HOST/FOLDER?key=…', with the key from the run's invite."


class WebSource:
    """Serves files below an address. Requests have a deadline, and answers are read only as far as
    requested."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        address: str,
        timing: Timing = TIMING,
        limiter: RateLimiter = UNLIMITED,
    ) -> None:
        """limiter: of all files that `read` reads. Raises InviteError for what is not an http(s) address."""
        self._client, self._timing, self._limiter = client, timing, limiter
        self._address = web_address(address)
        self.name = self._address.rstrip("/")
        self.ranges = True

    async def get_small(self, path: str, limit: int) -> bytes:
        """As `Source.get_small`."""
        seconds = self._timing.stall + limit / SLOWEST
        try:
            return await asyncio.wait_for(self._get_small(path, limit), seconds)
        except asyncio.TimeoutError:
            raise Unreachable(
                f"{self.name}/{path} took longer than {seconds:.0f} s", fix=_ELSEWHERE
            ) from None

    async def _get_small(self, path: str, limit: int) -> bytes:
        data = bytearray()
        async with self._answer(path, {}) as response, aclosing(response.aiter_raw()) as pieces:
            promised = _length(response)
            if promised is not None and promised > limit:
                raise too_large(f"{self.name}/{path}", limit)
            async for piece in pieces:
                data += piece
                if len(data) > limit:
                    raise too_large(f"{self.name}/{path}", limit)
        return bytes(data)

    async def read(self, path: str, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        """As `Source.read`."""
        if length == 0:
            return
        asked = {"Range": f"bytes={offset}-{offset + length - 1}"}
        async with self._answer(path, asked) as response, aclosing(response.aiter_raw()) as pieces:
            skip = self._before(response, path, offset)
            async for piece in pieces:
                wanted = piece[skip : skip + length]
                skip = max(0, skip - len(piece))
                length -= len(wanted)
                for start in range(0, len(wanted), self._limiter.chunk):
                    part = wanted[start : start + self._limiter.chunk]
                    await self._limiter.acquire(len(part))  # a slow limit is not taken for a silent source
                    yield part
                if length == 0:  # a server may send without end
                    return
        raise ended_early(f"{self.name}/{path}", length)

    def _before(self, response: httpx2.Response, path: str, offset: int) -> int:
        """How many bytes of the answer precede `offset`."""
        if response.status_code == 200:
            self.ranges = False
            return offset
        found = _RANGE.match(response.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != offset:
            raise Unreachable(
                f"{self.name}/{path} answers with a range that does not start at {offset}", fix=_ELSEWHERE
            )
        return 0

    @asynccontextmanager
    async def _answer(self, path: str, headers: dict[str, str]) -> AsyncIterator[httpx2.Response]:
        with self._errors(path):
            response = await self._send(path, headers)
            try:
                self._refuse(response, path)
                yield response
            finally:
                await response.aclose()

    async def _send(self, path: str, headers: dict[str, str]) -> httpx2.Response:
        request = self._client.build_request("GET", self._address + checked(path), headers=headers)
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._client.send(request, stream=True)
            if response.next_request is None:
                return response
            await response.aclose()  # unread: it may have any length
            request = response.next_request
        raise Unreachable(f"{self.name}/{path} is redirected too often", fix=_ELSEWHERE)

    def _refuse(self, response: httpx2.Response, path: str) -> None:
        status = response.status_code
        if status in _MISSING:
            raise Missing(f"there is no {path} at {self.name} ({status})", fix=_ELSEWHERE)
        if status not in (200, 206):
            raise Unreachable(f"{self.name}/{path} answers with status {status}", fix=_ELSEWHERE)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise Unreachable(f"{self.name}/{path} is compressed, which was not requested", fix=_ELSEWHERE)

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        try:
            yield
        except BarnraiseError:
            raise
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            where = f"{self.name}/{path}{through_proxy(self._address)}"
            raise Unreachable(f"{where} cannot be read: {cause_of(error)}", fix=_ELSEWHERE) from None


_ELSEWHERE = "Check the address and your connection, or try another source."


def _length(response: httpx2.Response) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None
