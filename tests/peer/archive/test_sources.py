"""The sources of an archive's files: each kind serves the same bytes, and no more than requested."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from barnraise.contract.archive import INDEX, MAX_INDEX_BYTES
from barnraise.core.errors import InviteError, MalformedRecord, Unreachable
from peer.archive.folder import FolderSource
from peer.archive.sources import Missing, Source
from peer.archive.web import MAX_REDIRECTS, WebSource, web_client
from peer.timing import TIMING, Timing
from tests.support.scripted import Scripted
from tests.support.websites import (
    WebRequest,
    endless,
    ranged,
    shifted,
    short,
    stalled,
    torn,
    unranged,
    website,
)

V = TypeVar("V")
DATA = bytes(range(256)) * 2000
PATH = "checkpoints/round-000000/model.bin"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / PATH).parent.mkdir(parents=True)
    (tmp_path / PATH).write_bytes(DATA)
    return tmp_path


@asynccontextmanager
async def in_folder(folder: Path) -> AsyncIterator[Source]:
    yield FolderSource(folder)


@asynccontextmanager
async def in_script(folder: Path) -> AsyncIterator[Source]:
    yield Scripted("script", {PATH: (folder / PATH).read_bytes()}, speed=1e12)


@asynccontextmanager
async def on_web(
    folder: Path, answer: Callable[[WebRequest, bytes], None] = ranged, timing: Timing = TIMING
) -> AsyncIterator[Source]:
    with website(folder, answer) as site:
        async with web_client(timing) as client:
            yield WebSource(client, site.url, timing)


@asynccontextmanager
async def on_simple_web(folder: Path) -> AsyncIterator[Source]:
    async with on_web(folder, unranged) as source:
        yield source


EVERY = pytest.mark.parametrize("opened", [in_folder, in_script, on_web, on_simple_web])
Opened = Callable[[Path], AbstractAsyncContextManager[Source]]


async def all_of(source: Source, offset: int, length: int, path: str = PATH) -> bytes:
    return b"".join([piece async for piece in source.read(path, offset, length)])


def asked(opened: Opened, folder: Path, question: Callable[[Source], Awaitable[V]]) -> V:
    async def ask() -> V:
        async with opened(folder) as source:
            return await question(source)

    return asyncio.run(ask())


@EVERY
@pytest.mark.parametrize(("offset", "length"), [(0, len(DATA)), (0, 1), (777, 300_000), (len(DATA) - 1, 1)])
def test_a_range_has_the_bytes_of_the_file(folder: Path, opened: Opened, offset: int, length: int) -> None:
    assert asked(opened, folder, lambda it: all_of(it, offset, length)) == DATA[offset : offset + length]


@EVERY
def test_a_small_file_is_read_whole_or_is_too_large(folder: Path, opened: Opened) -> None:
    assert asked(opened, folder, lambda it: it.get_small(PATH, len(DATA))) == DATA
    with pytest.raises(MalformedRecord, match="larger than"):
        asked(opened, folder, lambda it: it.get_small(PATH, len(DATA) - 1))


@EVERY
def test_an_absent_file_is_missing(folder: Path, opened: Opened) -> None:
    with pytest.raises(Missing, match="nothing"):
        asked(opened, folder, lambda it: it.get_small("log/nothing.bin", 10))
    with pytest.raises(Missing, match="nothing"):
        asked(opened, folder, lambda it: all_of(it, 0, 10, "log/nothing.bin"))


@EVERY
def test_a_file_that_ends_early_is_an_error(folder: Path, opened: Opened) -> None:
    with pytest.raises(Unreachable, match="too early"):
        asked(opened, folder, lambda it: all_of(it, len(DATA) - 5, 10))


@EVERY
@pytest.mark.parametrize(
    "path", ["../secret", "/etc/passwd", "a/../../b", "a//b", ".hidden", "a\\b", "", "a/"]
)
def test_no_path_leaves_the_archive(folder: Path, opened: Opened, path: str) -> None:
    with pytest.raises(MalformedRecord, match="not a path in an archive"):
        asked(opened, folder, lambda it: it.get_small(path, 10))
    with pytest.raises(MalformedRecord, match="not a path in an archive"):
        asked(opened, folder, lambda it: all_of(it, 0, 10, path))


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / INDEX)
    with pytest.raises(Missing):
        asked(in_folder, tmp_path, lambda it: it.get_small(INDEX, 10))


@pytest.mark.parametrize(("answer", "ranges"), [(ranged, True), (unranged, False)])
def test_support_for_ranges_is_detected(
    folder: Path, answer: Callable[[WebRequest, bytes], None], ranges: bool
) -> None:
    async def ask() -> bool:
        async with on_web(folder, answer) as source:
            assert await all_of(source, 1000, 70_000) == DATA[1000:71_000]
            return source.ranges

    assert asyncio.run(ask()) is ranges


@pytest.mark.parametrize(
    ("answer", "problem"),
    [(short, "too early"), (torn, "cannot be read"), (shifted, "does not start at")],
)
def test_a_wrong_or_broken_answer_is_an_error(
    folder: Path, answer: Callable[[WebRequest, bytes], None], problem: str
) -> None:
    with pytest.raises(Unreachable, match=problem):
        asked(lambda it: on_web(it, answer), folder, lambda it: all_of(it, 0, len(DATA)))


def test_a_silent_server_has_failed(folder: Path) -> None:
    hasty = replace(TIMING, stall=0.05)
    with pytest.raises(Unreachable, match="ReadTimeout"):
        asked(lambda it: on_web(it, stalled, hasty), folder, lambda it: all_of(it, 0, len(DATA)))


def test_an_endless_answer_is_read_only_as_far_as_requested(folder: Path) -> None:
    endlessly = lambda it: on_web(it, endless)  # noqa: E731
    assert asked(endlessly, folder, lambda it: all_of(it, 5, 100)) == DATA[5:105]
    with pytest.raises(MalformedRecord, match="larger than the 1000 bytes"):
        asked(endlessly, folder, lambda it: it.get_small(PATH, 1000))


def test_a_giant_index_is_not_read(tmp_path: Path) -> None:
    def giant(request: WebRequest, data: bytes) -> None:
        request.begin(200, 2**40)
        request.close_connection = True

    (tmp_path / INDEX).write_bytes(b"{}")
    with pytest.raises(MalformedRecord, match="larger than"):
        asked(lambda it: on_web(it, giant), tmp_path, lambda it: it.get_small(INDEX, MAX_INDEX_BYTES))


def test_a_compressed_answer_is_refused(folder: Path) -> None:
    def squeezed(request: WebRequest, data: bytes) -> None:
        request.begin(200, len(data), Content_Encoding="gzip")
        request.wfile.write(data)

    with pytest.raises(Unreachable, match="compressed"):
        asked(lambda it: on_web(it, squeezed), folder, lambda it: it.get_small(PATH, len(DATA)))


def test_a_redirect_to_another_server_is_followed(folder: Path) -> None:
    with website(folder) as true:

        def elsewhere(request: WebRequest, data: bytes) -> None:
            request.begin(302, 0, Location=f"{true.url}{request.path}")

        where = lambda it: on_web(it, elsewhere)  # noqa: E731
        assert asked(where, folder, lambda it: all_of(it, 7, 100)) == DATA[7:107]
        assert true.asked == [(f"/{PATH}", "bytes=7-106")]


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x", "http://["])
def test_a_redirect_to_another_scheme_is_not_followed(folder: Path, target: str) -> None:
    def away(request: WebRequest, data: bytes) -> None:
        request.begin(302, 0, Location=target)

    with pytest.raises(Unreachable, match="cannot be read"):
        asked(lambda it: on_web(it, away), folder, lambda it: it.get_small(PATH, 10))


def test_the_body_of_a_redirect_is_not_read(folder: Path) -> None:
    with website(folder) as true:

        def elsewhere(request: WebRequest, data: bytes) -> None:
            request.begin(302, 2**40, Location=f"{true.url}{request.path}")
            request.site.over.wait()
            request.close_connection = True

        where = lambda it: on_web(it, elsewhere)  # noqa: E731
        assert asked(where, folder, lambda it: it.get_small(PATH, len(DATA))) == DATA


def test_a_redirect_loop_ends(folder: Path) -> None:
    visits = []

    def around(request: WebRequest, data: bytes) -> None:
        visits.append(request.path)
        request.begin(302, 0, Location=request.path)

    with pytest.raises(Unreachable, match="redirected too often"):
        asked(lambda it: on_web(it, around), folder, lambda it: it.get_small(PATH, 10))
    assert len(visits) == MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    "address", ["", "barn", "ftp://x/y", "http://", "http://[1/x", "http://x:99999/", "http://a\x1b[31m/"]
)
def test_a_malformed_address_is_an_error(address: str) -> None:
    async def ask() -> None:
        async with web_client() as client:
            WebSource(client, address)

    with pytest.raises(InviteError):
        asyncio.run(ask())
