"""The gateway as an ASGI application: an archive folder over HTTP, as plain files and as a Hugging Face Hub.

It only reads. It logs no requests, since Hub clients send their user's token to the server in HF_ENDPOINT.
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import assert_never

from barnraise.contract.archive import INDEX
from barnraise.contract.endpoints import client_group
from barnraise.core.places import Places
from barnraise.gateway.archive_folder import ArchiveFolder, OpenFile
from barnraise.gateway.byte_ranges import (
    FullContent,
    NotModified,
    PartialContent,
    RangeNotSatisfiable,
    http_date,
    select_content,
)
from barnraise.gateway.catalogue import Catalogue
from barnraise.gateway.file_response import READERS, BufferPool, FileResponse
from barnraise.gateway.hub_api import HubFile, JsonReply, NotFound, hub_reply
from barnraise.gateway.landing_page import page
from barnraise.gateway.limits import LIMITS, GatewayLimits
from barnraise.gateway.routes import (
    ArchiveFile,
    LandingPage,
    PathsInfo,
    RepoInfo,
    RepoRefs,
    RepoSearch,
    RepoTree,
    Resolve,
    UnknownPath,
    WhoAmI,
    route,
)

P = ParamSpec("P")
V = TypeVar("V")

MAX_PATHS = 2000
"""Fields of a form that are parsed."""
IMMUTABLE = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"
_HOST = re.compile(r"^[A-Za-z0-9._-]+(:[0-9]{1,5})?$|^\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?$")
_TYPES = {
    ".json": "application/json",
    ".md": "text/plain; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".jinja": "text/plain; charset=utf-8",
    ".jsonl": "application/jsonl",
    ".svg": "image/svg+xml",
}
"""Types that a browser may display; it saves the others."""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_PAGE = {"content-security-policy": _POLICY, "cache-control": REVALIDATE}
_SAFE = {"x-content-type-options": "nosniff", "content-security-policy": f"{_POLICY}; sandbox"}
"""A file of the archive cannot run code in a browser."""


class GatewayApp:
    """Serves one archive folder."""

    def __init__(self, folder: Path, url: str | None = None, limits: GatewayLimits = LIMITS) -> None:
        """url: this server's address on the HTML page; None: the one that the browser requested."""
        self._folder = ArchiveFolder(folder, rescan_seconds=limits.rescan_seconds)
        self._url = url
        self._limits = limits
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="gateway")
        self._pool = BufferPool()
        self._downloads = Places(limits.max_downloads)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except ClientDisconnect:
            return
        if isinstance(response, FileResponse) and request.method != "HEAD":
            group = _group(request)
            self._downloads.enter(group)
            try:
                await response(scope, receive, send)
            finally:
                self._downloads.leave(group)
        else:
            await response(scope, receive, send)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _respond(self, request: Request) -> ASGIApp:
        asked = route(request.scope["raw_path"].decode("latin-1"))
        allowed = ("POST",) if isinstance(asked, PathsInfo) else ("GET", "HEAD")
        if request.method not in allowed:
            return _error(
                405,
                "this server only reads",
                "Checkpoints come from the run.",
                {"allow": ", ".join(allowed)},
            )
        if isinstance(asked, WhoAmI):
            return _error(401, "this server has no accounts", "Send no token.")
        if isinstance(asked, UnknownPath):
            return _error(404, "there is nothing at this path", "See / for what this server has.")
        catalogue = await self._in_thread(self._folder.catalogue)
        if catalogue is None:
            fix = "Try again when the run has its first checkpoint."
            return _error(503, "the archive is empty", fix, self._retry_after())
        match asked:
            case LandingPage():
                return HTMLResponse(page(catalogue, self._address(request)), headers=_PAGE)
            case ArchiveFile():
                return await self._raw(request, catalogue, asked)
            case PathsInfo():
                paths = await _paths(request, self._limits)
                if paths is None:
                    return _error(
                        400,
                        "the body is not a list of paths, or too long",
                        "Send paths=NAME, or JSON.",
                    )
                return await self._hub(request, catalogue, asked, paths)
            case _:
                return await self._hub(request, catalogue, asked)

    async def _raw(self, request: Request, catalogue: Catalogue, asked: ArchiveFile) -> ASGIApp:
        opened = await self._open(asked.path)
        if opened is None:
            return _error(404, f"the archive has no {asked.path}", f"See /{INDEX} for what it has.")
        entry = catalogue.entry(asked.folder, asked.name)
        if asked.folder == "contributions":
            etag = asked.name  # their name is their hash
        elif entry is not None and entry.size == opened.size:
            etag = entry.hash
        else:
            etag = opened.version
        caching = IMMUTABLE if asked.never_changes else REVALIDATE
        return self._file(request, opened, asked.name, {"etag": f'"{etag}"', "cache-control": caching})

    async def _hub(
        self,
        request: Request,
        catalogue: Catalogue,
        asked: RepoSearch | RepoInfo | RepoRefs | RepoTree | PathsInfo | Resolve,
        paths: Collection[str] = (),
    ) -> ASGIApp:
        found = hub_reply(catalogue, asked, request.query_params, paths)
        commit = {} if found.commit is None else {"x-repo-commit": found.commit}
        match found:
            case JsonReply(value):
                return JSONResponse(value, headers={**commit, "cache-control": REVALIDATE})
            case NotFound():
                return _error(404, found.problem, found.fix, {**commit, "x-error-code": found.code})
            case HubFile(path, entry):
                opened = await self._open(path)
                if opened is None or opened.size != entry.size:
                    if opened is not None:
                        opened.close()
                    problem = f"{path} is missing or differs from its manifest"
                    fix = "Report it to the operator of this server, or use another mirror."
                    return _error(404, problem, fix, {**commit, "x-error-code": "EntryNotFound"})
                caching = IMMUTABLE if found.fixed else REVALIDATE
                headers = {**commit, "etag": f'"{entry.hash}"', "cache-control": caching}
                return self._file(request, opened, entry.name, headers)
            case _:
                assert_never(found)

    def _file(self, request: Request, opened: OpenFile, name: str, headers: Mapping[str, str]) -> ASGIApp:
        """The response to a request for an open file, which is closed in every case."""
        sent = {
            **_SAFE, **headers, "accept-ranges": "bytes", "last-modified": http_date(opened.modified),
        }  # fmt: skip
        content = select_content(
            request.method, request.headers, opened.size, headers["etag"], opened.modified
        )
        match content:
            case NotModified():
                opened.close()
                return Response(status_code=304, headers=sent)
            case RangeNotSatisfiable():
                opened.close()
                ranged = {**headers, "content-range": f"bytes */{opened.size}"}
                return _error(416, f"{name} has {opened.size} bytes", "Request a range of them.", ranged)
            case FullContent():
                start, stop, status = 0, opened.size, 200
            case PartialContent(start, stop):
                status = 206
                sent["content-range"] = f"bytes {start}-{stop - 1}/{opened.size}"
            case _:
                assert_never(content)
        if request.method != "HEAD" and not self._downloads.has_room(_group(request)):
            opened.close()
            problem = f"{len(self._downloads)} downloads are in progress"
            return _error(429, problem, "Try again in a minute.", self._retry_after())
        sent["content-type"] = _TYPES.get(Path(name).suffix, "application/octet-stream")
        sent["content-length"] = str(stop - start)
        return FileResponse(
            opened, start, stop, status, sent, self._threads, self._pool, self._limits.fast_chunk_seconds
        )

    def _retry_after(self) -> dict[str, str]:
        return {"retry-after": str(self._limits.retry_after)}

    def _address(self, request: Request) -> str:
        if self._url is not None:
            return self._url
        host = request.headers.get("host", "")
        return f"http://{host if _HOST.fullmatch(host) else 'HOST:PORT'}"

    async def _open(self, path: str) -> OpenFile | None:
        return await self._in_thread(self._folder.open, path)

    async def _in_thread(self, work: Callable[P, V], *args: P.args, **kwargs: P.kwargs) -> V:
        call = functools.partial(work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


async def _paths(request: Request, limits: GatewayLimits) -> Collection[str] | None:
    """The `paths` of a form or of JSON; None where the body is neither, too long, or too slow."""
    try:
        body = await asyncio.wait_for(_body(request, limits.body_bytes), limits.body_seconds)
        if body is None:
            return None
        if request.headers.get("content-type", "").startswith("application/json"):
            paths = json.loads(body)["paths"]
        else:
            paths = parse_qs(body.decode(), max_num_fields=MAX_PATHS).get("paths", [])
    except (ValueError, KeyError, TypeError, RecursionError, asyncio.TimeoutError):
        return None
    paths = [paths] if isinstance(paths, str) else paths
    if isinstance(paths, list) and all(isinstance(path, str) for path in paths):
        return frozenset(paths)
    return None


async def _body(request: Request, limit: int) -> bytes | None:
    """The request's body; None where it exceeds `limit` bytes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            return None
    return bytes(body)


def _group(request: Request) -> str:
    """The address group of the client."""
    return client_group(request.client.host if request.client is not None else "")


def _error(status: int, problem: str, fix: str, headers: Mapping[str, str] | None = None) -> Response:
    line = "".join(c if " " <= c <= "~" else "?" for c in f"{problem}. {fix}")
    return JSONResponse(
        {"error": f"{problem}. {fix}"}, status, {"x-error-message": line, **_SAFE, **(headers or {})}
    )
