"""Fetches files over HTTP into a folder: resumed after an interruption, hashed, within a rate limit.

A file has its final name only once its size and hash are right.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

import httpx2
from filelock import FileLock, Timeout

from barnraise import __version__
from barnraise.core.errors import DiskFull, HashMismatch, Unreachable, UserError
from barnraise.core.units import format_bytes
from barnraise.models.fetching import FETCH_TIMING, FetchOptions, FetchTiming
from barnraise.runtime.files import keep_file, make_folder, sweep
from barnraise.runtime.http_client import cause_of, http_client, through_proxy

MAX_REDIRECTS = 5
_RANGE = re.compile(r"^bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)$")
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Digest:
    """A hash of a file's content."""

    kind: Literal["sha256", "git"]
    """git: SHA-1 of a Git blob, which the Hub has of small files."""
    hex: str

    def matches(self, file: Path) -> bool:
        """Slow: reads the file."""
        if self.kind == "sha256":
            digest = hashlib.sha256()
        else:
            digest = hashlib.sha1(f"blob {file.stat().st_size}\0".encode(), usedforsecurity=False)
        with file.open("rb") as opened:
            while piece := opened.read(1 << 20):
                digest.update(piece)
        return digest.hexdigest() == self.hex


@dataclass(frozen=True)
class RemoteFile:
    """A file of a server."""

    name: str
    """Its plain name in the folder."""
    url: str
    size: int
    digest: Digest
    headers: Mapping[str, str] = field(default_factory=dict)


def shown(url: str) -> str:
    """An address without the name and password in it, and without its query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class FetchRefused(Unreachable):
    """The server does not give the file."""

    def __init__(self, url: str, response: httpx2.Response) -> None:
        self.status = response.status_code
        self.code = response.headers.get("X-Error-Code", "")
        super().__init__(
            f"{shown(url)} answers with status {self.status}", fix="Check the address and your access."
        )


@asynccontextmanager
async def fetch_client(
    timing: FetchTiming = FETCH_TIMING, certificates: str | None = None
) -> AsyncIterator[httpx2.AsyncClient]:
    """certificates: a file of trusted ones; None for the default. Proxies are those of the environment."""
    async with http_client(
        verify=_trusted(certificates) if certificates else True,
        timeout=httpx2.Timeout(timing.stall, connect=timing.connect, pool=None),
        headers={"Accept-Encoding": "identity", "User-Agent": f"barnraise/{__version__}"},
        follow_redirects=True,  # without the token where the host changes
        max_redirects=MAX_REDIRECTS,
    ) as client:
        yield client


def _trusted(certificates: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=certificates)
    except OSError as error:
        raise UserError(
            f"the trusted certificates {certificates} cannot be read: {error.strerror or error}",
            fix="Correct pip's setting: `pip config set global.cert FILE`.",
        ) from None


@asynccontextmanager
async def locked(path: Path, options: FetchOptions) -> AsyncIterator[None]:
    """One program at a time fetches into a folder; another one waits, and can be interrupted.

    What a killed program left unfinished there is removed; partial downloads stay, to be resumed.
    """
    make_folder(path.parent)
    lock, said = FileLock(path), False
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except Timeout:
            if not said:
                options.listener.say(f"another program fetches into {path.parent}: waiting for it")
                said = True
            await asyncio.sleep(options.timing.lock_poll)
    try:
        sweep(path.parent)
        yield
    finally:
        lock.release()


async def fetch_files(
    client: httpx2.AsyncClient,
    files: Sequence[RemoteFile],
    folder: Path,
    options: FetchOptions,
) -> None:
    """Fetch what the folder lacks. The caller holds its lock.

    Raises FetchRefused, Unreachable, HashMismatch, DiskFull, OSError.
    """
    await asyncio.to_thread(make_folder, folder)
    downloads = [_Download(client, file, folder, options) for file in files]
    lacking = [each for each in downloads if not each.is_complete()]
    _check_free_space(folder, sum(each.file.size - each.here for each in lacking))
    for each in lacking:
        options.listener.file(each.file.name, each.file.size, each.here)
    for each in lacking:
        await each.run()


def _check_free_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DiskFull(
            f"{folder} needs {format_bytes(needed)} more, its disk has {format_bytes(free)} left",
            fix="Free some space, or choose another folder with --cache-dir.",
        )


class _Download:
    """One file."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        file: RemoteFile,
        folder: Path,
        options: FetchOptions,
    ) -> None:
        self.file, self._client, self._options, self._timing = file, client, options, options.timing
        self._target = folder / file.name
        self._part = folder / f".{file.name}.{file.digest.hex[:16]}.part"
        self.here = self._part.stat().st_size if self._part.is_file() else 0
        """Bytes that an earlier process received."""
        if self.here > file.size:
            self._part.unlink()
            self.here = 0

    def is_complete(self) -> bool:
        """Whether the file is there, as far as its size says."""
        return self._target.is_file() and self._target.stat().st_size == self.file.size

    async def run(self) -> None:
        """Raises as `fetch_files`. A file with a wrong hash is fetched once more."""
        for last in (False, True):
            await self._receive_all()
            if await asyncio.to_thread(self.file.digest.matches, self._part):
                await asyncio.to_thread(keep_file, self._part, self._target)
                self._options.listener.done(self.file.name)
                return
            self._restart(reported=not last)
        raise HashMismatch(
            f"{self.file.name} of {shown(self.file.url)} has another hash than its index says",
            fix="Try again later, or use another server.",
        )

    def _restart(self, *, reported: bool = True) -> None:
        self._part.unlink(missing_ok=True)
        self.here = 0
        if reported:
            self._options.listener.again(self.file.name)

    async def _receive_all(self) -> None:
        self._part.touch()
        failures = 0
        while self.here < self.file.size:
            before = self.here
            try:
                await self._receive()
                problem = f"{shown(self.file.url)} ended {self.file.size - self.here} bytes too early"
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                where = f"{shown(self.file.url)}{through_proxy(self.file.url)}"
                problem = f"{where} cannot be read: {cause_of(error)}"
            except FetchRefused as error:
                if error.status not in _TRANSIENT:
                    raise
                problem = error.problem
            if self.here >= self.file.size:
                return
            failures = 0 if self.here > before else failures + 1
            if failures >= self._timing.tries:
                raise Unreachable(problem, fix="Check the connection; the same command resumes.")
            await asyncio.sleep(self._timing.retry * 2**failures)

    async def _receive(self) -> None:
        headers = {**self.file.headers, "Range": f"bytes={self.here}-{self.file.size - 1}"}
        async with self._client.stream("GET", self.file.url, headers=headers) as response:
            self._accept(response)
            with self._part.open("r+b", buffering=0) as file:
                file.seek(self.here)
                async for piece in response.aiter_raw(self._options.limiter.chunk):
                    wanted = piece[: self.file.size - self.here]
                    await self._options.limiter.acquire(len(wanted))
                    rest = memoryview(wanted)
                    while rest:  # a nearly full disk takes some of it
                        rest = rest[file.write(rest) :]
                    self.here += len(wanted)
                    self._options.listener.got(self.file.name, len(wanted))
                    if self.here == self.file.size:  # a server may send without end
                        return

    def _accept(self, response: httpx2.Response) -> None:
        """Refuse an answer, or start again where the server sends the file from its start."""
        if response.status_code == 200:
            if self.here:
                self._restart()
                self._part.touch()
            return
        found = _RANGE.match(response.headers.get("Content-Range", ""))
        if response.status_code != 206 or found is None or int(found[1]) != self.here:
            raise FetchRefused(self.file.url, response)
