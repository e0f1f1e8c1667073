"""A Hub with one model repository, and a package index with one wheel, in a thread of the test's process."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

COMMIT = "c" * 40


@dataclass
class ModelHub:
    """What it serves; a test changes it while it runs."""

    files: Mapping[str, bytes]
    url: str = ""
    token: str | None = None
    """Required in `Authorization`; None: files are public."""
    false: set[str] = field(default_factory=set)
    """Files whose last byte is sent wrong."""
    cut_after: int | None = None
    """Connections are closed after this many bytes of a file."""
    ranges: bool = True
    json_index: bool = True
    """Whether the package index has PEP 691 JSON, or only HTML."""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range of each request."""

    def info(self) -> bytes:
        siblings = [_sibling(name, data) for name, data in self.files.items()]
        return json.dumps({"id": "owner/name", "sha": COMMIT, "siblings": siblings}).encode()

    def page(self) -> bytes:
        """The index page of a package whose wheels are `files`."""
        if self.json_index:
            files = [
                {
                    "filename": name,
                    "url": f"/wheels/{name}",
                    "size": len(data),
                    "hashes": {"sha256": _sha(data)},
                }
                for name, data in self.files.items()
            ]
            return json.dumps({"files": files}).encode()
        links = "".join(
            f'<a href="../../wheels/{name}#sha256={_sha(data)}">{name}</a>'
            for name, data in self.files.items()
        )
        return f"<!DOCTYPE html><html><body>{links}</body></html>".encode()


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sibling(name: str, data: bytes) -> dict[str, object]:
    blob = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
    found: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": blob}
    if name.endswith(".safetensors"):
        found["lfs"] = {"sha256": _sha(data), "size": len(data), "pointerSize": 130}
    return found


class _Request(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: ModelHub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.hub.asked.append((path, self.headers.get("Range")))
        if path.startswith("/api/models/owner/name"):
            self._send(self.hub.info(), "application/json")
        elif path == "/simple/some-model/":
            kind = "application/vnd.pypi.simple.v1+json" if self.hub.json_index else "text/html"
            self._send(self.hub.page(), kind)
        elif self.hub.token not in (None, self.headers.get("Authorization", "").removeprefix("Bearer ")):
            self._send(b"", "text/plain", 401, X_Error_Code="GatedRepo")
        elif (name := path.rpartition("/")[2]) in self.hub.files:
            self._send_file(name)
        else:
            self._send(b"", "text/plain", 404)

    def _send_file(self, name: str) -> None:
        data = self.hub.files[name]
        if name in self.hub.false:
            data = data[:-1] + bytes([data[-1] ^ 1])
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if found is None or not self.hub.ranges:
            self._send(data, "application/octet-stream")
            return
        start = int(found[1])
        extra = {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        self._send(data[start:], "application/octet-stream", 206, **extra)

    def _send(self, data: bytes, kind: str, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "HEAD":
            return
        limit = self.hub.cut_after if kind == "application/octet-stream" else None
        if limit is not None and limit < len(data):
            data, self.close_connection = data[:limit], True
        try:
            self.wfile.write(data)
        except OSError:  # the reader has closed the connection
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def model_hub(files: Mapping[str, bytes]) -> Iterator[ModelHub]:
    hub = ModelHub(files)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("RequestOf", (_Request,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
