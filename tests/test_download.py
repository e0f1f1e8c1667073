"""`peer download`: whole or refused, resumed where it broke, from a coordinator."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import IO

import grpc
import pytest

from barnraise.errors import (
    BadSignature,
    DiskFull,
    HashMismatch,
    InviteError,
    MachineError,
    MalformedRecord,
    Unreachable,
    UserError,
)
from barnraise.ids import BlobHash, RunId
from barnraise.invite import Invite
from barnraise.v1 import coordinator_pb2 as pb
from coordinator.book import Book
from coordinator.service import CHUNK, Context, Service
from peer import download as module
from peer.download import TRIES, download
from tests import parts
from tests.desk import LARGE, checkpoint, files_in, opened_book, served, session_of, train_round, with_key


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    with opened_book(tmp_path / "coordinator") as made:
        yield made


@pytest.fixture
def fetches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Hash and offset of whatever is fetched."""
    return record_fetches(monkeypatch, cuts=0)


def record_fetches(monkeypatch: pytest.MonkeyPatch, cuts: int) -> list[tuple[str, int]]:
    """The first `cuts` streams of more than one piece break after the first."""
    asked: list[tuple[str, int]] = []
    whole = Service.Fetch
    left = cuts

    async def fetch(
        self: Service, request: pb.FetchRequest, context: Context
    ) -> AsyncIterator[pb.FetchChunk]:
        nonlocal left
        asked.append((request.hash, request.offset))
        async for chunk in whole(self, request, context):
            yield chunk
            if left and len(chunk.data) == CHUNK:
                left -= 1
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the line broke")

    monkeypatch.setattr(Service, "Fetch", fetch)
    return asked


def got(
    book: Book,
    output: Path,
    round: int | None = None,
    invite: Callable[[Invite], Invite] = lambda invite: invite,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    async def ask() -> Path:
        async with served(session_of(book)) as true:
            return await download(str(invite(true)), round, output, None, say)

    return asyncio.run(ask())


def hash_of(book: Book, name: str) -> BlobHash:
    files = book.newest_checkpoint().value.files
    return next(BlobHash(entry.hash) for entry in files if entry.name == name)


def test_a_checkpoint_arrives_whole(book: Book, tmp_path: Path) -> None:
    said: list[str] = []
    folder = got(book, tmp_path / "out", say=said.append)
    assert folder == tmp_path / "out"
    assert files_in(folder) == files_in(checkpoint(book))
    assert said[0].startswith("round 0 of barn: ")


def test_the_newest_one_unless_another_is_wanted(book: Book, tmp_path: Path) -> None:
    train_round(book, parts.ADA)
    assert files_in(got(book, tmp_path / "newest")) == files_in(checkpoint(book, 1))
    assert files_in(got(book, tmp_path / "first", round=0)) == files_in(checkpoint(book, 0))


def test_a_round_without_a_checkpoint_is_told_with_those_there_are(book: Book, tmp_path: Path) -> None:
    train_round(book, parts.ADA)
    with pytest.raises(UserError, match="no checkpoint of round 7") as unknown:
        got(book, tmp_path / "out", round=7)
    assert unknown.value.fix == "There are: 0, 1."
    assert not (tmp_path / "out").exists()


def test_a_stream_that_breaks_is_resumed(book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = record_fetches(monkeypatch, cuts=2)
    said: list[str] = []
    assert files_in(got(book, tmp_path / "out", say=said.append)) == files_in(checkpoint(book))
    large = hash_of(book, LARGE)
    assert [offset for name, offset in asked if name == large] == [0, CHUNK, 2 * CHUNK]
    assert sum("resuming" in line for line in said) == 2


def test_a_line_that_keeps_breaking_is_told_and_the_next_command_goes_on(
    book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (book.folder / "base" / LARGE).write_bytes(bytes(6 * CHUNK))
    train_round(book, parts.ADA)
    asked = record_fetches(monkeypatch, cuts=TRIES)
    with pytest.raises(Unreachable):
        got(book, tmp_path / "out")
    assert not (tmp_path / "out" / LARGE).exists(), "half a file has its final name"
    assert files_in(got(book, tmp_path / "out")) == files_in(checkpoint(book, 1))
    large = hash_of(book, LARGE)
    assert [offset for name, offset in asked if name == large] == [n * CHUNK for n in range(TRIES + 1)]


def test_a_flipped_byte_is_refused_by_name_and_removed(book: Book, tmp_path: Path) -> None:
    blob = book.blobs.path(hash_of(book, LARGE))
    whole = blob.read_bytes()
    blob.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    with pytest.raises(HashMismatch, match=LARGE) as refused:
        got(book, tmp_path / "out")
    assert refused.value.exit_code == 5
    assert not any(LARGE in name for name in files_in(tmp_path / "out"))
    blob.write_bytes(whole)
    assert files_in(got(book, tmp_path / "out")) == files_in(checkpoint(book))


def test_a_checkpoint_of_another_key_is_refused(book: Book, tmp_path: Path) -> None:
    with pytest.raises(BadSignature, match="where only"):
        got(book, tmp_path / "out", invite=lambda it: with_key(it, parts.STRANGER.public))
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_another_run_is_refused(book: Book, tmp_path: Path) -> None:
    with pytest.raises(MalformedRecord, match="the run 'barn'"):
        got(book, tmp_path / "out", invite=lambda it: Invite(it.host, it.port, RunId("shed"), it.key))


def test_what_is_there_and_whole_is_not_fetched_again(
    book: Book, tmp_path: Path, fetches: list[tuple[str, int]]
) -> None:
    folder = got(book, tmp_path / "out")
    (folder / "README.md").write_text("changed", encoding="utf-8")
    fetches.clear()
    assert files_in(got(book, tmp_path / "out")) == files_in(checkpoint(book))
    assert [name for name, _ in fetches] == [hash_of(book, "README.md")]


def test_a_full_disk_is_told_and_the_next_command_goes_on(
    book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fetches: list[tuple[str, int]]
) -> None:
    class Full:
        """A file on a disk that has room for one more piece of the large file."""

        def __init__(self, file: IO[bytes]) -> None:
            self._file = file

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def tell(self) -> int:
            return self._file.tell()

        def write(self, data: bytes) -> int:
            if self._file.tell() >= CHUNK:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self._file.write(data)

    room = module._growing
    monkeypatch.setattr(module, "_growing", lambda part: Full(room(part)))
    with pytest.raises(DiskFull, match="no room left") as full:
        got(book, tmp_path / "out")
    assert full.value.exit_code == 3
    monkeypatch.setattr(module, "_growing", room)
    assert files_in(got(book, tmp_path / "out")) == files_in(checkpoint(book))
    large = hash_of(book, LARGE)
    assert [offset for name, offset in fetches if name == large] == [0, CHUNK]


def test_a_file_where_the_folder_should_be_is_told(book: Book, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine", encoding="utf-8")
    with pytest.raises(MachineError, match="cannot write"):
        got(book, tmp_path / "out")
    assert (tmp_path / "out").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    "source",
    [
        "https://example.org/barn",
        "http://example.org/barn?key=abc",
        "http://[1/x?key=" + "a" * 64,
        "barn",
        "",
    ],
)
def test_a_source_that_cannot_be_is_told(source: str, tmp_path: Path) -> None:
    with pytest.raises(InviteError) as told:
        asyncio.run(download(source, None, tmp_path / "out", None, lambda _: None))
    assert told.value.exit_code == 2
