"""A fake Hub over HTTP, in memory: the requests that huggingface_hub 2.4 makes when it publishes."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

WRITER, READER = "hf_writer", "hf_reader"
"""Tokens with and without permission to write."""
_LARGE = (".safetensors", ".gguf", ".bin")
_REPO = r"/api/(model|dataset)s/([^/]+/[^/]+)"


@dataclass
class HubRepo:
    branches: dict[str, str] = field(default_factory=dict)
    """Commit by name, as are tags."""
    tags: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Files by commit."""
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, message: str, files: dict[str, bytes]) -> str:
        oid = hashlib.sha1(f"{len(self.commits)} {message}".encode()).hexdigest()
        self.commits[oid] = files
        self.branches[branch] = oid
        self.messages.append(message)
        return oid

    def files(self, revision: str) -> dict[str, bytes]:
        found = self.branches.get(revision) or self.tags.get(revision) or revision
        return self.commits[found]


@dataclass
class FakeHub:
    url: str = ""
    repos: dict[tuple[str, str], HubRepo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    """Large files by SHA-256."""
    asked: list[str] = field(default_factory=list)
    uploads_left: int | None = None
    """Number of large files after which uploads fail."""

    def model(self, name: str) -> HubRepo:
        return self.repos["model", name]


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    hub = FakeHub()

    class Handler(_Handler):
        state = hub

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    state: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self) -> None:
        body = self._body()
        path = unquote(urlsplit(self.path).path)
        self.state.asked.append(f"{self.command} {path}")
        status, value = self._allowed() or self._route(path, body)
        data = json.dumps(value).encode()
        self.send_response(status)
        if status >= 400:
            self.send_header("X-Error-Message", value["error"])
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _allowed(self) -> tuple[int, Any] | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.path.startswith("/lfs/") or token == WRITER:
            return None
        if token != READER:
            return 401, {"error": "Invalid credentials in Authorization header"}
        if self.command != "GET":
            return 403, {"error": "You don't have the rights to create a model under this namespace"}
        return None

    def _route(self, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return 200, {"warnings": [], "errors": []}
        if found := re.fullmatch(r"/lfs/([0-9a-f]{64})", path):
            return self._upload(found[1], body)
        if re.fullmatch(r"/(datasets/)?[^/]+/[^/]+\.git/info/lfs/objects/batch", path):
            return 200, self._batch(json.loads(body))
        found = re.fullmatch(rf"{_REPO}(?:/(\w+))?(?:/(.+))?", path)
        assert found, path
        repo = self.state.repos.get((found[1], found[2]))
        if repo is None:
            return 404, {"error": "Repository not found"}
        return self._repo(repo, found[3] or "info", found[4] or "", body)

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        key = asked["type"], f"{asked['organization']}/{asked['name']}"
        if key in self.state.repos:
            return 409, {"error": "You already created this repo", "url": f"{self.state.url}/{key[1]}"}
        repo = self.state.repos[key] = HubRepo()
        repo.commit("main", "initial commit", {".gitattributes": b"*.safetensors filter=lfs\n"})
        return 200, {"url": f"{self.state.url}/{key[1]}", "name": key[1]}

    def _upload(self, oid: str, body: bytes) -> tuple[int, Any]:
        if self.state.uploads_left == 0:
            return 400, {"error": "the upload broke off"}
        if self.state.uploads_left is not None:
            self.state.uploads_left -= 1
        assert hashlib.sha256(body).hexdigest() == oid
        self.state.objects[oid] = body
        return 200, {}

    def _batch(self, asked: dict[str, Any]) -> dict[str, Any]:
        objects = [
            {
                **each,
                **(
                    {}
                    if each["oid"] in self.state.objects
                    else {"actions": {"upload": {"href": f"{self.state.url}/lfs/{each['oid']}"}}}
                ),
            }
            for each in asked["objects"]
        ]
        return {"transfer": "basic", "objects": objects}

    def _repo(self, repo: HubRepo, what: str, rest: str, body: bytes) -> tuple[int, Any]:
        asked = json.loads(body) if body and what != "commit" else {}
        match self.command, what:
            case "GET", "info":
                return 200, {"id": "", "sha": repo.branches["main"]}
            case "GET", "refs":
                return 200, {
                    "branches": [_ref("heads", *pair) for pair in repo.branches.items()],
                    "tags": [_ref("tags", *pair) for pair in repo.tags.items()],
                    "converts": [],
                }
            case "GET", "tree":
                return 200, [_entry(path, data) for path, data in repo.files(rest).items()]
            case "POST", "branch":
                if rest in repo.branches:
                    return 409, {"error": "Reference already exists"}
                repo.branches[rest] = repo.branches[asked.get("startingPoint", "main")]
            case "POST", "tag":
                if asked["tag"] in repo.tags:
                    return 409, {"error": "Tag reference exists already"}
                repo.tags[asked["tag"]] = repo.branches.get(rest, rest)
            case "DELETE", "tag":
                del repo.tags[rest]
            case "POST", "preupload":
                return 200, {"files": [_mode(each, repo.files(rest)) for each in asked["files"]]}
            case "POST", "commit":
                oid = self._commit(repo, rest, [json.loads(line) for line in body.splitlines()])
                return 200, {"success": True, "commitOid": oid, "commitUrl": f"{self.state.url}/c/{oid}"}
            case _:
                raise AssertionError(f"{self.command} {what}")
        return 200, {}

    def _commit(self, repo: HubRepo, branch: str, lines: list[dict[str, Any]]) -> str:
        files = dict(repo.files(branch))
        for line in lines[1:]:
            value = line["value"]
            match line["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.state.objects[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
                case other:
                    raise AssertionError(other)
        return repo.commit(branch, lines[0]["value"]["summary"], files)


def _ref(kind: str, name: str, commit: str) -> dict[str, str]:
    return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit}


def _entry(path: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": _git(data)}
    if path.endswith(_LARGE):
        sha256 = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"oid": sha256, "size": len(data), "pointerSize": 130}
    return entry


def _mode(asked: dict[str, Any], there: dict[str, bytes]) -> dict[str, Any]:
    path = asked["path"]
    oid = _git(there[path]) if path in there and not path.endswith(_LARGE) else None
    mode = "lfs" if path.endswith(_LARGE) else "regular"
    return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid}


def _git(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
