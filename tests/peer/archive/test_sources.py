"""Where the files of an archive come from: every kind of source gives the same, and no more than that."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from barnraise.contract.archive import INDEX, MAX_INDEX_BYTES
from barnraise.core.errors import InviteError, MalformedRecord, Unreachable
from peer.archive import web
from peer.archive.folder import FolderSource
from peer.archive.sources import Missing, Source
from peer.archive.web import MAX_REDIRECTS, WebSource, web_client
from tests.support.scripted import Scripted
from tests.support.websites import Visit, endless, ranged, shifted, short, stalled, torn, unranged, website

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
async def on_web(folder: Path, answer: Callable[[Visit, bytes], None] = ranged) -> AsyncIterator[Source]:
    with website(folder, answer) as site:
        async with web_client() as client:
            yield WebSource(client, site.url)


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
def test_a_range_is_what_stands_there(folder: Path, opened: Opened, offset: int, length: int) -> None:
    assert asked(opened, folder, lambda it: all_of(it, offset, length)) == DATA[offset : offset + length]


@EVERY
def test_a_small_file_comes_whole_or_is_too_large(folder: Path, opened: Opened) -> None:
    assert asked(opened, folder, lambda it: it.get_small(PATH, len(DATA))) == DATA
    with pytest.raises(MalformedRecord, match="larger than"):
        asked(opened, folder, lambda it: it.get_small(PATH, len(DATA) - 1))


@EVERY
def test_what_is_not_there_is_missing(folder: Path, opened: Opened) -> None:
    with pytest.raises(Missing, match="nothing"):
        asked(opened, folder, lambda it: it.get_small("log/nothing.bin", 10))
    with pytest.raises(Missing, match="nothing"):
        asked(opened, folder, lambda it: all_of(it, 0, 10, "log/nothing.bin"))


@EVERY
def test_a_file_that_ends_early_is_told(folder: Path, opened: Opened) -> None:
    with pytest.raises(Unreachable, match="too early"):
        asked(opened, folder, lambda it: all_of(it, len(DATA) - 5, 10))


@EVERY
@pytest.mark.parametrize(
    "path", ["../secret", "/etc/passwd", "a/../../b", "a//b", ".hidden", "a\\b", "", "a/"]
)
def test_no_path_leaves_the_archive(folder: Path, opened: Opened, path: str) -> None:
    with pytest.raises(MalformedRecord, match="no place in an archive"):
        asked(opened, folder, lambda it: it.get_small(path, 10))
    with pytest.raises(MalformedRecord, match="no place in an archive"):
        asked(opened, folder, lambda it: all_of(it, 0, 10, path))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / INDEX)
    with pytest.raises(Missing):
        asked(in_folder, tmp_path, lambda it: it.get_small(INDEX, 10))


@pytest.mark.parametrize(("answer", "ranges"), [(ranged, True), (unranged, False)])
def test_whether_a_server_knows_ranges_is_found_out(
    folder: Path, answer: Callable[[Visit, bytes], None], ranges: bool
) -> None:
    async def ask() -> bool:
        async with on_web(folder, answer) as source:
            assert await all_of(source, 1000, 70_000) == DATA[1000:71_000]
            return source.ranges

    assert asyncio.run(ask()) is ranges


@pytest.mark.parametrize(
    ("answer", "told"),
    [(short, "too early"), (torn, "cannot be read"), (shifted, "another range")],
)
def test_a_server_that_lies_or_breaks_off_is_told(
    folder: Path, answer: Callable[[Visit, bytes], None], told: str
) -> None:
    with pytest.raises(Unreachable, match=told):
        asked(lambda it: on_web(it, answer), folder, lambda it: all_of(it, 0, len(DATA)))


def test_a_server_that_falls_silent_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "STALL_SECONDS", 0.05)
    with pytest.raises(Unreachable, match="ReadTimeout"):
        asked(lambda it: on_web(it, stalled), folder, lambda it: all_of(it, 0, len(DATA)))


def test_no_more_is_read_of_an_endless_answer_than_was_asked_for(folder: Path) -> None:
    endlessly = lambda it: on_web(it, endless)  # noqa: E731
    assert asked(endlessly, folder, lambda it: all_of(it, 5, 100)) == DATA[5:105]
    with pytest.raises(MalformedRecord, match="larger than the 1000 bytes"):
        asked(endlessly, folder, lambda it: it.get_small(PATH, 1000))


def test_a_giant_index_is_not_read(tmp_path: Path) -> None:
    def giant(visit: Visit, data: bytes) -> None:
        visit.begin(200, 2**40)
        visit.close_connection = True

    (tmp_path / INDEX).write_bytes(b"{}")
    with pytest.raises(MalformedRecord, match="larger than"):
        asked(lambda it: on_web(it, giant), tmp_path, lambda it: it.get_small(INDEX, MAX_INDEX_BYTES))


def test_an_answer_that_is_compressed_unasked_is_refused(folder: Path) -> None:
    def squeezed(visit: Visit, data: bytes) -> None:
        visit.begin(200, len(data), Content_Encoding="gzip")
        visit.wfile.write(data)

    with pytest.raises(Unreachable, match="compressed"):
        asked(lambda it: on_web(it, squeezed), folder, lambda it: it.get_small(PATH, len(DATA)))


def test_a_redirect_to_another_server_is_followed(folder: Path) -> None:
    with website(folder) as true:

        def elsewhere(visit: Visit, data: bytes) -> None:
            visit.begin(302, 0, Location=f"{true.url}{visit.path}")

        where = lambda it: on_web(it, elsewhere)  # noqa: E731
        assert asked(where, folder, lambda it: all_of(it, 7, 100)) == DATA[7:107]
        assert true.asked == [(f"/{PATH}", "bytes=7-106")]


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x", "http://["])
def test_a_redirect_to_anything_but_the_web_is_not_followed(folder: Path, target: str) -> None:
    def away(visit: Visit, data: bytes) -> None:
        visit.begin(302, 0, Location=target)

    with pytest.raises(Unreachable, match="cannot be read"):
        asked(lambda it: on_web(it, away), folder, lambda it: it.get_small(PATH, 10))


def test_what_comes_with_a_redirect_is_not_read(folder: Path) -> None:
    with website(folder) as true:

        def elsewhere(visit: Visit, data: bytes) -> None:
            visit.begin(302, 2**40, Location=f"{true.url}{visit.path}")
            visit.site.over.wait()
            visit.close_connection = True

        where = lambda it: on_web(it, elsewhere)  # noqa: E731
        assert asked(where, folder, lambda it: it.get_small(PATH, len(DATA))) == DATA


def test_a_circle_of_redirects_ends(folder: Path) -> None:
    visits = []

    def around(visit: Visit, data: bytes) -> None:
        visits.append(visit.path)
        visit.begin(302, 0, Location=visit.path)

    with pytest.raises(Unreachable, match="again and again"):
        asked(lambda it: on_web(it, around), folder, lambda it: it.get_small(PATH, 10))
    assert len(visits) == MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    "address", ["", "barn", "ftp://x/y", "http://", "http://[1/x", "http://x:99999/", "http://a\x1b[31m/"]
)
def test_what_is_no_address_is_told(address: str) -> None:
    async def ask() -> None:
        async with web_client() as client:
            WebSource(client, address)

    with pytest.raises(InviteError):
        asyncio.run(ask())
