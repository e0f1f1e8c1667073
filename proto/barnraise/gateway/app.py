"""The gateway as an ASGI application: an archive folder over HTTP, as it is and as a Hugging Face Hub.

It reads only. It logs no request: Hub clients send their user's token to whatever HF_ENDPOINT names.
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

MAX_DOWNLOADS = 256
"""Files sent at once. More askers are told to come back: Hub clients and curl --retry do."""
RETRY_AFTER_SECONDS = 5
MAX_BODY_BYTES = 256 * 1024
"""Of a request: a list of paths is the longest that is read."""
MAX_PATHS = 2000
"""Fields of a form that are read."""
BODY_SECONDS = 10.0
FOR_EVER = "public, max-age=31536000, immutable"
ASK_AGAIN = "no-cache"
_HOST = re.compile(r"^[A-Za-z0-9._-]+(:[0-9]{1,5})?$|^\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?$")
_TYPES = {
    ".json": "application/json",
    ".md": "text/plain; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".jinja": "text/plain; charset=utf-8",
    ".jsonl": "application/jsonl",
    ".svg": "image/svg+xml",
}
"""What a browser may show; the rest is saved."""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_PAGE = {"content-security-policy": _POLICY, "cache-control": ASK_AGAIN}
_SAFE = {"x-content-type-options": "nosniff", "content-security-policy": f"{_POLICY}; sandbox"}
"""A file of the archive runs nothing in anybody's browser."""


class GatewayApp:
    def __init__(self, folder: Path, url: str | None = None) -> None:
        """url: the address for people to copy; the one that a browser asked for where it is None."""
        self._folder = ArchiveFolder(folder)
        self._url = url
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="gateway")
        self._pool = BufferPool()
        self._sending = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except ClientDisconnect:
            return
        if isinstance(response, FileResponse) and request.method != "HEAD":
            self._sending += 1
            try:
                await response(scope, receive, send)
            finally:
                self._sending -= 1
        else:
            await response(scope, receive, send)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _respond(self, request: Request) -> ASGIApp:
        asked = route(request.scope["raw_path"].decode("latin-1"))
        allowed = ("POST",) if isinstance(asked, PathsInfo) else ("GET", "HEAD")
        if request.method not in allowed:
            return _error(
                405, "this server only reads", "Checkpoints come from the run.", {"allow": ", ".join(allowed)}
            )
        if isinstance(asked, WhoAmI):
            return _error(401, "there are no accounts here", "Ask without a token.")
        if isinstance(asked, UnknownPath):
            return _error(404, "there is nothing here", "See / for what there is.")
        catalogue = await self._in_thread(self._folder.catalogue)
        if catalogue is None:
            fix = "Come back when the run has its first checkpoint."
            return _error(503, "the archive is empty", fix, {"retry-after": str(RETRY_AFTER_SECONDS)})
        match asked:
            case LandingPage():
                return HTMLResponse(page(catalogue, self._address(request)), headers=_PAGE)
            case ArchiveFile():
                return await self._raw(request, catalogue, asked)
            case PathsInfo():
                paths = await _paths(request)
                if paths is None:
                    return _error(400, "no list of paths of a reasonable size", "Send paths=NAME, or JSON.")
                return await self._hub(request, catalogue, asked, paths)
            case _:
                return await self._hub(request, catalogue, asked)

    async def _raw(self, request: Request, catalogue: Catalogue, asked: ArchiveFile) -> ASGIApp:
        opened = await self._in_thread(self._folder.open, asked.path)
        if opened is None:
            return _error(404, f"the archive has no {asked.path}", f"See /{INDEX} for what it has.")
        entry = catalogue.entry(asked.folder, asked.name)
        if asked.folder == "contributions":
            etag = asked.name  # their name is their hash
        elif entry is not None and entry.size == opened.size:
            etag = entry.hash
        else:
            etag = opened.version
        caching = FOR_EVER if asked.never_changes else ASK_AGAIN
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
                return JSONResponse(value, headers={**commit, "cache-control": ASK_AGAIN})
            case NotFound():
                return _error(404, found.problem, found.fix, {**commit, "x-error-code": found.code})
            case HubFile(path, entry):
                opened = await self._in_thread(self._folder.open, path)
                if opened is None or opened.size != entry.size:
                    if opened is not None:
                        opened.file.close()
                    problem = f"{path} is not there as its manifest says"
                    fix = "Tell whoever serves this archive, or take another mirror."
                    return _error(404, problem, fix, {**commit, "x-error-code": "EntryNotFound"})
                caching = FOR_EVER if found.fixed else ASK_AGAIN
                headers = {**commit, "etag": f'"{entry.hash}"', "cache-control": caching}
                return self._file(request, opened, entry.name, headers)
            case _:
                assert_never(found)

    def _file(self, request: Request, opened: OpenFile, name: str, headers: Mapping[str, str]) -> ASGIApp:
        """Whichever way it goes, `opened` is closed."""
        sent = {
            **_SAFE, **headers, "accept-ranges": "bytes", "last-modified": http_date(opened.modified),
        }  # fmt: skip
        decision = select_content(
            request.method, request.headers, opened.size, headers["etag"], opened.modified
        )
        match decision:
            case NotModified():
                opened.file.close()
                return Response(status_code=304, headers=sent)
            case RangeNotSatisfiable():
                opened.file.close()
                told = {**headers, "content-range": f"bytes */{opened.size}"}
                return _error(416, f"{name} has {opened.size} bytes", "Ask for a range of them.", told)
            case FullContent():
                start, stop, status = 0, opened.size, 200
            case PartialContent(start, stop):
                status = 206
                sent["content-range"] = f"bytes {start}-{stop - 1}/{opened.size}"
            case _:
                assert_never(decision)
        if request.method != "HEAD" and self._sending >= MAX_DOWNLOADS:
            opened.file.close()
            wait = {"retry-after": str(RETRY_AFTER_SECONDS)}
            return _error(429, f"{MAX_DOWNLOADS} downloads are going on", "Try again in a minute.", wait)
        sent["content-type"] = _TYPES.get(Path(name).suffix, "application/octet-stream")
        sent["content-length"] = str(stop - start)
        return FileResponse(opened, start, stop, status, sent, self._threads, self._pool)

    def _address(self, request: Request) -> str:
        if self._url is not None:
            return self._url
        host = request.headers.get("host", "")
        return f"http://{host if _HOST.fullmatch(host) else 'HOST:PORT'}"

    async def _in_thread(self, work: Callable[P, V], *args: P.args, **kwargs: P.kwargs) -> V:
        call = functools.partial(work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


async def _paths(request: Request) -> Collection[str] | None:
    """The `paths` of a form or of JSON; None where the body is neither, too long, or too slow."""
    try:
        body = await asyncio.wait_for(_body(request), BODY_SECONDS)
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


async def _body(request: Request) -> bytes | None:
    """None where it is longer than anybody needs."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


def _error(status: int, problem: str, fix: str, headers: Mapping[str, str] | None = None) -> Response:
    line = "".join(c if " " <= c <= "~" else "?" for c in f"{problem}. {fix}")
    return JSONResponse(
        {"error": f"{problem}. {fix}"}, status, {"x-error-message": line, **_SAFE, **(headers or {})}
    )
