"""`peer download` from a mirror: any web server that has a copy of a checkpoint's folder."""

from __future__ import annotations

import asyncio
import http.server
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from barnraise.errors import BadSignature, HashMismatch, MalformedRecord, Unreachable
from barnraise.ids import PublicKey
from barnraise.manifest import MANIFEST, FileEntry, Manifest
from barnraise.signed import sign
from coordinator.book import Book
from peer.download import CHUNK, download
from tests import parts
from tests.desk import LARGE, checkpoint, files_in, opened_book


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    with opened_book(tmp_path / "coordinator") as made:
        yield made


Serve = Callable[["Mirror", bytes, int], None]


class Mirror(http.server.BaseHTTPRequestHandler):
    folder: Path
    asked: list[tuple[str, str | None]]
    serve: list[Serve]

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.asked.append((self.path, wanted))
        path = self.folder / self.path.rpartition("/")[2]
        if not path.is_file():
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        self.serve[0](self, path.read_bytes(), start)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def with_ranges(mirror: Mirror, data: bytes, start: int) -> None:
    mirror.send_response(206 if start else 200)
    mirror.send_header("Content-Length", str(len(data) - start))
    mirror.end_headers()
    mirror.wfile.write(data[start:])


def without_ranges(mirror: Mirror, data: bytes, start: int) -> None:
    with_ranges(mirror, data, 0)


def short(mirror: Mirror, data: bytes, start: int) -> None:
    """All but the last byte of what was promised."""
    mirror.send_response(206 if start else 200)
    mirror.send_header("Content-Length", str(len(data) - start))
    mirror.end_headers()
    mirror.wfile.write(data[start:-1])


def reset(mirror: Mirror, data: bytes, start: int) -> None:
    """A part, and then the connection is torn down."""
    mirror.send_response(200)
    mirror.send_header("Content-Length", str(len(data)))
    mirror.end_headers()
    mirror.wfile.write(data[: len(data) // 2])
    mirror.wfile.flush()
    mirror.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    mirror.close_connection = True


def endless(mirror: Mirror, data: bytes, start: int) -> None:
    mirror.send_response(200)
    mirror.end_headers()
    mirror.wfile.write(data)
    try:
        while mirror.path.endswith(LARGE):
            mirror.wfile.write(bytes(CHUNK))
    except OSError:  # the reader has had enough
        mirror.close_connection = True


@contextmanager
def mirror(folder: Path, serve: Serve) -> Iterator[tuple[str, type[Mirror]]]:
    made = type("MirrorOf", (Mirror,), {"folder": folder, "asked": [], "serve": [serve]})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), made)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/barn/round-0", made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def mirrored(
    url: str,
    output: Path,
    key: PublicKey = parts.AUTHORITY.public,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    return asyncio.run(download(f"{url}?key={key}", None, output, None, say))


@pytest.mark.parametrize("serve", [with_ranges, without_ranges, endless])
def test_a_mirror_gives_the_same_files(book: Book, tmp_path: Path, serve: Serve) -> None:
    with mirror(checkpoint(book), serve) as (url, _):
        assert files_in(mirrored(url, tmp_path / "out")) == files_in(checkpoint(book))


@pytest.mark.parametrize("serve", [with_ranges, without_ranges])
def test_a_mirror_s_file_is_resumed(book: Book, tmp_path: Path, serve: Serve) -> None:
    part = tmp_path / "out" / f".{LARGE}.part"
    part.parent.mkdir()
    part.write_bytes((checkpoint(book) / LARGE).read_bytes()[:300_000])
    with mirror(checkpoint(book), serve) as (url, made):
        assert files_in(mirrored(url, tmp_path / "out")) == files_in(checkpoint(book))
    assert [wanted for path, wanted in made.asked if path.endswith(LARGE)] == ["bytes=300000-"]


@pytest.mark.parametrize("broken", [short, reset])
def test_a_mirror_that_breaks_off_is_asked_again(book: Book, tmp_path: Path, broken: Serve) -> None:
    def once(handler: Mirror, data: bytes, start: int) -> None:
        if handler.path.endswith(LARGE):
            handler.serve[0] = with_ranges
            broken(handler, data, start)
        else:
            with_ranges(handler, data, start)

    said: list[str] = []
    with mirror(checkpoint(book), once) as (url, made):
        assert files_in(mirrored(url, tmp_path / "out", say=said.append)) == files_in(checkpoint(book))
    assert len([path for path, _ in made.asked if path.endswith(LARGE)]) == 2
    assert any("resuming" in line for line in said)


def test_a_mirror_s_flipped_byte_is_refused_by_name(book: Book, tmp_path: Path) -> None:
    def spoilt(handler: Mirror, data: bytes, start: int) -> None:
        flipped = data[:-1] + bytes([data[-1] ^ 1])
        with_ranges(handler, flipped if handler.path.endswith(LARGE) else data, start)

    with mirror(checkpoint(book), spoilt) as (url, _), pytest.raises(HashMismatch, match=LARGE):
        mirrored(url, tmp_path / "out")


def test_a_mirror_of_another_key_is_refused(book: Book, tmp_path: Path) -> None:
    with mirror(checkpoint(book), with_ranges) as (url, _), pytest.raises(BadSignature, match="where only"):
        mirrored(url, tmp_path / "out", key=parts.STRANGER.public)


@pytest.mark.parametrize("name", ["../escaped", "/escaped", "a/b", ".hidden", "nul"])
def test_a_name_that_leaves_the_folder_is_refused_though_signed(
    book: Book, tmp_path: Path, name: str
) -> None:
    true = book.newest_checkpoint().value
    entry = FileEntry.model_construct(name=name, hash=true.files[0].hash, size=true.files[0].size)
    hostile = Manifest.model_construct(**{**dict(true), "files": (entry,)})
    (checkpoint(book) / MANIFEST).write_bytes(sign(parts.AUTHORITY, hostile).wire)
    with mirror(checkpoint(book), with_ranges) as (url, made), pytest.raises(MalformedRecord, match="plain"):
        mirrored(url, tmp_path / "out")
    assert [path for path, _ in made.asked] == [f"/barn/round-0/{MANIFEST}"]
    assert not (tmp_path / "out").exists()


def test_a_mirror_without_a_checkpoint_is_told(tmp_path: Path) -> None:
    with mirror(tmp_path, with_ranges) as (url, _), pytest.raises(Unreachable, match="404"):
        mirrored(url, tmp_path / "out")
