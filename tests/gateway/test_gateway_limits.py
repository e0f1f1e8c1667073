"""The gateway's limits for one client: memory, connections, and time."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from barnraise.gateway import LIMITS
from barnraise.gateway.archive_folder import ArchiveFolder
from barnraise.gateway.file_response import (
    MAX_CHUNK,
    MIN_CHUNK,
    POOL_BYTES,
    BufferPool,
    FileResponse,
)
from barnraise.gateway.server import TimedConnection
from tests.support.gateways import REPO, lay_out_files, served
from tests.support.programs import DEADLINE
from tests.support.virtual_time import run

LARGE = 48 * 2**20
"""Bytes that do not fit into the buffers between a server and its client."""
SCOPE: dict[str, Any] = {"type": "http", "method": "GET"}
NOW = 0.05
"""Seconds, for limits that a test should not reach."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    lay_out_files(folder, {"model.safetensors": os.urandom(LARGE), "config.json": b"{}"})
    return folder


def place(name: str) -> str:
    return f"/{REPO}/resolve/main/{name}"


def body(folder: Path, stop: int = LARGE, pool: BufferPool | None = None) -> FileResponse:
    opened = ArchiveFolder(folder).open("checkpoints/round-000012/model.safetensors")
    assert opened is not None
    return FileResponse(opened, 0, stop, 200, {}, ThreadPoolExecutor(1), pool or BufferPool())


async def sent_to(response: FileResponse, bytes_per_second: float, gone_after: int = LARGE) -> list[int]:
    """The sizes of the chunks that a client of this speed gets until it disconnects."""
    sizes: list[int] = []
    hung_up = asyncio.Event()

    async def send(message: Any) -> None:
        if message.get("body"):
            sizes.append(len(message["body"]))
            await asyncio.sleep(sizes[-1] / bytes_per_second)
            if sum(sizes) >= gone_after:
                hung_up.set()
                await asyncio.sleep(0)

    async def receive() -> Any:
        await hung_up.wait()
        return {"type": "http.disconnect"}

    await response(SCOPE, receive, send)
    assert response.opened.file.closed
    return sizes


@pytest.mark.parametrize(
    ("bytes_per_second", "largest"),
    [(10_000, MIN_CHUNK), (1e6, 2 * MIN_CHUNK), (1e9, MAX_CHUNK)],
    ids=["modem", "home", "data centre"],
)
def test_chunks_adapt_to_the_speed_of_the_reader(folder: Path, bytes_per_second: float, largest: int) -> None:
    sizes = run(sent_to(body(folder, 10 * 2**20), bytes_per_second))
    assert sum(sizes) == 10 * 2**20
    assert max(sizes) == largest
    assert largest == MIN_CHUNK or largest / 2 / bytes_per_second < LIMITS.fast_chunk_seconds


def test_many_readers_share_the_buffer_pool(folder: Path) -> None:
    pool = BufferPool()

    async def all_at_once() -> list[list[int]]:
        readers = [sent_to(body(folder, 2 * MAX_CHUNK, pool), 1e9) for _ in range(100)]
        return await asyncio.gather(*readers)

    sizes = run(all_at_once())
    assert all(sum(each) == 2 * MAX_CHUNK for each in sizes)
    assert {max(each) for each in sizes} != {MAX_CHUNK}
    assert pool.left == POOL_BYTES, "all of it is returned"


def test_what_is_left_of_the_pool_bounds_a_chunk() -> None:
    pool = BufferPool(MAX_CHUNK + 5 * MIN_CHUNK)
    assert [pool.take(MAX_CHUNK) for _ in range(4)] == [MAX_CHUNK, 5 * MIN_CHUNK, MIN_CHUNK, MIN_CHUNK]
    assert pool.take(10) == 10


def test_nothing_is_read_for_a_disconnected_client(folder: Path) -> None:
    assert sum(run(sent_to(body(folder), 1e9, gone_after=2**20))) < 4 * 2**20


def test_a_file_that_becomes_shorter_is_cut_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lay_out_files(tmp_path, {"model.safetensors": bytes(3 * MIN_CHUNK)})
    response = body(tmp_path, 3 * MIN_CHUNK)
    os.truncate(response.opened.file.name, MIN_CHUNK)
    assert sum(run(sent_to(response, 1e9))) == MIN_CHUNK
    assert "became shorter" in caplog.text


@pytest.fixture
def stubborn() -> Iterator[ExitStack]:
    """Keeps connections open."""
    with ExitStack() as stack:
        yield stack


def ask(stack: ExitStack, url: str, request: str) -> socket.socket:
    """Send a request, or the beginning of one, and read nothing."""
    address = httpx2.URL(url)
    talk = stack.enter_context(socket.create_connection((address.host, address.port or 80), DEADLINE))
    talk.sendall(request.encode())
    return talk


def read_all(talk: socket.socket) -> bytes:
    """All bytes until the server disconnects."""
    came = bytearray()
    try:
        while data := talk.recv(2**20):
            came += data
    except ConnectionResetError:
        pass
    return bytes(came)


def download(name: str) -> str:
    return f"GET {place(name)} HTTP/1.1\r\nHost: x\r\n\r\n"


def test_a_client_that_reads_nothing_is_disconnected(
    folder: Path, stubborn: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung_up = threading.Event()
    close_after = TimedConnection._close_after

    def observed(connection: TimedConnection, seconds: float) -> asyncio.TimerHandle:
        if seconds == NOW:
            connection.loop.call_later(seconds, hung_up.set)
        return close_after(connection, seconds)

    monkeypatch.setattr(TimedConnection, "_close_after", observed)
    with served(folder, replace(LIMITS, stall_seconds=NOW)) as url:
        talk = ask(stubborn, url, download("model.safetensors"))
        assert hung_up.wait(DEADLINE)
        assert len(read_all(talk)) < LARGE, "no more than the system had buffered"


@pytest.mark.parametrize("begun", ["", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\nX: y"])
def test_a_request_that_does_not_end_is_disconnected(folder: Path, stubborn: ExitStack, begun: str) -> None:
    with served(folder, replace(LIMITS, request_seconds=NOW)) as url:
        assert read_all(ask(stubborn, url, begun)) == b""


def test_a_second_request_that_does_not_end_is_disconnected(
    folder: Path, stubborn: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(folder) as url:
        talk = ask(stubborn, url, download("config.json"))
        came = talk.recv(4096)
        while not came.endswith(b"\r\n\r\n{}"):
            came += talk.recv(4096)
        close_after = TimedConnection._close_after
        monkeypatch.setattr(
            TimedConnection, "_close_after", lambda connection, _: close_after(connection, NOW)
        )
        talk.sendall(b"GET / HT")
        assert read_all(talk) == b""


def test_too_many_downloads_get_a_429(folder: Path, stubborn: ExitStack) -> None:
    with served(folder, replace(LIMITS, max_downloads=2)) as url, httpx2.Client(base_url=url) as client:
        held = [ask(stubborn, url, download("model.safetensors")) for _ in range(2)]
        for talk in held:
            assert talk.recv(100).startswith(b"HTTP/1.1 200")
        refused = client.get(place("config.json"))
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        assert "2 downloads" in refused.json()["error"]
        assert client.head(place("config.json")).status_code == 200
        assert client.get(f"/api/models/{REPO}").status_code == 200
        stubborn.close()
        while client.get(place("config.json")).status_code != 200:
            pass  # until the server has noticed the disconnects


def test_too_many_connections_are_refused(folder: Path, stubborn: ExitStack) -> None:
    limits = replace(LIMITS, max_connections=3, request_seconds=10 * DEADLINE)
    with served(folder, limits) as url:
        for _ in range(2):
            ask(stubborn, url, download("model.safetensors")).recv(100)
        busy = ask(stubborn, url, download("config.json"))
        assert read_all(busy).startswith(b"HTTP/1.1 503")
        silent = [ask(stubborn, url, "") for _ in range(5)]
        assert read_all(silent[-1]) == b"", "above twice the limit, connections are closed"
