"""Web servers in the test process: correct ones, and faulty ones."""

from __future__ import annotations

import http.server
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Site:
    """A running web server over a folder."""

    folder: Path
    answer: Callable[[WebRequest, bytes], None]
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range of each request."""
    url: str = ""
    over: threading.Event = field(default_factory=threading.Event)
    """Set when the site closes: an answer may wait for it."""

    def ranges(self, name: str) -> list[str | None]:
        """The ranges that were requested of the file `name`."""
        return [wanted for path, wanted in self.asked if path.endswith(f"/{name}")]


class WebRequest(http.server.BaseHTTPRequestHandler):
    """Handles one request as its site configures."""

    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        self.site.asked.append((self.path, self.headers.get("Range")))
        file = self.site.folder / self.path.lstrip("/")
        if file.is_file():
            self.site.answer(self, file.read_bytes())
        else:
            self.send_error(404)

    @property
    def wanted(self) -> tuple[int, int | None]:
        """Start and end (exclusive) of the requested range."""
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "bytes=0-"))
        assert found is not None
        return int(found[1]), int(found[2]) + 1 if found[2] else None

    def begin(self, status: int, length: int, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def ranged(request: WebRequest, data: bytes) -> None:
    """A server with ranges."""
    if "Range" not in request.headers:
        unranged(request, data)
        return
    start, end = request.wanted
    if start >= len(data):
        request.send_error(416)
        return
    part = data[start:end]
    request.begin(206, len(part), Content_Range=f"bytes {start}-{start + len(part) - 1}/{len(data)}")
    request.wfile.write(part)


def unranged(request: WebRequest, data: bytes) -> None:
    """A server without ranges: it sends the whole file."""
    request.begin(200, len(data))
    try:
        request.wfile.write(data)
    except OSError:  # the reader has closed the connection
        request.close_connection = True


def endless(request: WebRequest, data: bytes) -> None:
    request.send_response(200)
    request.send_header("Connection", "close")
    request.end_headers()
    try:
        request.wfile.write(data)
        while not request.site.over.is_set():
            request.wfile.write(bytes(65_536))
    except OSError:
        request.close_connection = True


def short(request: WebRequest, data: bytes) -> None:
    """Claims that the file ends one byte early."""
    ranged(request, data[:-1])


def torn(request: WebRequest, data: bytes) -> None:
    """Half of the range, and then the connection is reset."""
    start, end = request.wanted
    part = data[start:end]
    request.begin(206, len(part), Content_Range=f"bytes {start}-{start + len(part) - 1}/{len(data)}")
    request.wfile.write(part[: len(part) // 2])
    request.wfile.flush()
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.close_connection = True


def stalled(request: WebRequest, data: bytes) -> None:
    """Half of the range, and then nothing."""
    start, end = request.wanted
    part = data[start:end]
    request.begin(206, len(part), Content_Range=f"bytes {start}-{start + len(part) - 1}/{len(data)}")
    request.wfile.write(part[: len(part) // 2])
    request.wfile.flush()
    request.site.over.wait()
    request.close_connection = True


def shifted(request: WebRequest, data: bytes) -> None:
    """Another range than the requested one."""
    start, end = request.wanted
    part = data[start:end]
    request.begin(206, len(part), Content_Range=f"bytes {start + 1}-{start + len(part)}/{len(data)}")
    request.wfile.write(part)


def spoilt(name: str) -> Callable[[WebRequest, bytes], None]:
    """One bit of the last byte of one file is wrong."""

    def answer(request: WebRequest, data: bytes) -> None:
        ranged(request, data[:-1] + bytes([data[-1] ^ 1]) if request.path.endswith(f"/{name}") else data)

    return answer


@contextmanager
def website(folder: Path, answer: Callable[[WebRequest, bytes], None] = ranged) -> Iterator[Site]:
    site = Site(folder, answer)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("VisitOf", (WebRequest,), {"site": site}))
    server.daemon_threads = False
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        site.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
