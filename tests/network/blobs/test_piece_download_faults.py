"""Holders that serve junk, stall, trickle or leave: reported, dropped, and others asked. In virtual time."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from barnraise.contract.pieces import PIECE_BYTES, Wanted, piece_list, pieces_hash
from barnraise.core.errors import DiskFull, HashMismatch, Unreachable
from barnraise.network.blobs.holder_outcomes import (
    BlobUnavailable,
    ConnectionFailed,
    Faulted,
    NothingMissing,
    Untrusted,
    describe_fault,
)
from barnraise.network.blobs.piece_protocol import (
    HAVE,
    HAVING,
    LIST,
    LISTING,
    PIECE,
    REQUEST_BYTES,
    Request,
    open_request,
)
from barnraise.network.blobs.rate_limiter import Caps
from barnraise.network.blobs.reputation import FaultKind, remembered_for
from barnraise.network.timing import TIMING
from tests.support.transfers import (
    ALL,
    COUNT,
    DATA,
    NAME,
    SIZE,
    Net,
    blob,
    elapsed,
    get,
    holder,
    honest,
    key,
    play,
)


def junk_piece(request: Request) -> bytes:
    reply = honest(request)
    return reply[:-1] + bytes([reply[-1] ^ 1]) if request.index < COUNT else reply


def junk_list(request: Request) -> bytes:
    reply = honest(request)
    return reply[:-1] + bytes([reply[-1] ^ 1]) if request.index == LIST else reply


def denies(request: Request) -> bytes:
    return bytes([HAVING]) + ALL if request.index < COUNT else honest(request)


def shrinks(request: Request) -> bytes:
    return bytes([PIECE]) + bytes(1) + honest(request)[2:] if request.index < COUNT else honest(request)


def beyond(request: Request) -> bytes:
    return bytes([HAVING]) + b"\xff"


def unknown(request: Request) -> bytes:
    return b"\x09" * 50


def unasked(request: Request) -> bytes:
    return bytes([LISTING]) + ALL + piece_list(DATA) if request.index < COUNT else honest(request)


def silent(request: Request) -> bytes | None:
    return None if request.index < COUNT else honest(request)


def mute(request: Request) -> bytes | None:
    return None


FAULTY: list[tuple[Callable[[Request], bytes | None], FaultKind]] = [
    (junk_piece, FaultKind.BAD_HASH),
    (junk_list, FaultKind.BAD_HASH),
    (denies, FaultKind.BROKEN_PROMISE),
    (shrinks, FaultKind.BROKEN_PROMISE),
    (beyond, FaultKind.BROKEN_PROMISE),
    (unknown, FaultKind.BROKEN_PROMISE),
    (unasked, FaultKind.BROKEN_PROMISE),
    (silent, FaultKind.STALLED),
    (mute, FaultKind.STALLED),
]
each_faulty = pytest.mark.parametrize(
    ("answer", "kind"), FAULTY, ids=lambda case: getattr(case, "__name__", "")
)


@each_faulty
def test_the_fault_of_a_lone_holder_is_reported(
    tmp_path: Path,
    answer: Callable[[Request], bytes | None],
    kind: FaultKind,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene(net: Net) -> None:
        net.scripted[key("owner")] = holder(answer)
        with pytest.raises(BlobUnavailable) as failed:
            await get(net.node("ada"), "owner")
        assert failed.value.outcomes == {key("owner"): Faulted(kind)}
        assert failed.value.pieces == (0, COUNT)
        assert elapsed() <= TIMING.stall

    with caplog.at_level(logging.INFO, "barnraise.swarm"):
        play(tmp_path, scene)
    assert [describe_fault(kind) in record.message for record in caplog.records] == [True], "logged once"


@each_faulty
def test_another_holder_serves_what_a_faulty_one_does_not(
    tmp_path: Path, answer: Callable[[Request], bytes | None], kind: FaultKind
) -> None:
    """Also where the faulty one claims to have all pieces."""

    async def scene(net: Net) -> None:
        net.scripted[key("owner")] = holder(answer)
        ben, ada = net.node("ben"), net.node("ada")
        ben.holds(DATA)
        assert await get(ada, "owner", "ben") == DATA
        assert elapsed() < TIMING.stall + 1
        assert net.opened.count(("ada", key("owner"))) == 1

    play(tmp_path, scene)


@each_faulty
def test_a_faulty_holder_is_not_asked_again_soon(
    tmp_path: Path, answer: Callable[[Request], bytes | None], kind: FaultKind
) -> None:
    async def scene(net: Net) -> None:
        net.scripted[key("owner")] = holder(answer)
        ada = net.node("ada")
        with pytest.raises(BlobUnavailable):
            await get(ada, "owner")
        assert net.opened.count(("ada", key("owner"))) == 1, "dropped at its first fault"
        with pytest.raises(BlobUnavailable) as again:
            await get(ada, "owner")
        stalled = kind is FaultKind.STALLED
        assert again.value.outcomes == {key("owner"): Faulted(kind) if stalled else Untrusted()}
        assert net.opened.count(("ada", key("owner"))) == 1 + stalled, "a stall may be bad luck"
        await asyncio.sleep(remembered_for(kind))
        net.scripted[key("owner")] = holder(honest)
        assert await get(ada, "owner") == DATA

    play(tmp_path, scene)


def test_a_holder_that_ends_in_the_middle_of_a_piece_is_dropped(tmp_path: Path) -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            request = Request(NAME, SIZE, pieces_hash(DATA), HAVE)
            while request.index > COUNT:
                request = open_request(await reader.readexactly(REQUEST_BYTES))
                writer.write(honest(request)[: PIECE_BYTES // 2])

    async def scene(net: Net) -> None:
        net.scripted[key("owner")] = half
        ben = net.node("ben")
        ben.holds(DATA)
        assert await get(net.node("ada"), "owner", "ben") == DATA

    play(tmp_path, scene)


def test_a_holder_that_trickles_is_dropped(tmp_path: Path) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(asyncio.IncompleteReadError, OSError):
            while True:
                reply = honest(open_request(await reader.readexactly(REQUEST_BYTES)))
                if len(reply) < PIECE_BYTES:
                    writer.write(reply)
                    continue
                for byte in reply:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(TIMING.stall - 1)

    async def scene(net: Net) -> None:
        net.scripted[key("owner")] = drip
        with pytest.raises(BlobUnavailable) as failed:
            await get(net.node("ada"), "owner")
        assert failed.value.outcomes == {key("owner"): Faulted(FaultKind.STALLED)}
        assert elapsed() < 200

    play(tmp_path, scene)


def test_a_false_piece_is_not_kept(tmp_path: Path) -> None:
    async def scene(net: Net) -> None:
        net.scripted[key("owner")] = holder(junk_piece)
        ada = net.node("ada")
        with pytest.raises(BlobUnavailable) as failed:
            await get(ada, "owner")
        assert failed.value.pieces == (0, COUNT)
        assert NAME not in ada.blobs

    play(tmp_path, scene)


def test_no_answer_is_read_after_a_false_piece(tmp_path: Path) -> None:
    """The holder is fast, so that three requests are in flight when the third piece turns out false."""
    served = 0

    def junk_at_third(request: Request) -> bytes:
        nonlocal served
        served += request.index < COUNT - 1
        return junk_piece(request) if served == 3 else honest(request)

    async def scene(net: Net) -> None:
        net.scripted[key("owner")] = holder(junk_at_third)
        ada = net.node("ada")
        with pytest.raises(BlobUnavailable):
            await get(ada, "owner")
        await asyncio.sleep(1)
        assert served > 3
        assert ada.transfer.traffic.down < 3.5 * PIECE_BYTES

    play(tmp_path, scene)


def test_a_commit_whose_pieces_are_not_its_blob_is_detected(tmp_path: Path) -> None:
    """The owner signed the piece list of other bytes: all pieces fit, and the whole does not."""
    other = blob(5)
    false_commit = Wanted(NAME, SIZE, pieces_hash(other), key("owner"))

    async def scene(net: Net) -> None:
        net.scripted[key("owner")] = holder(lambda request: honest(request, other))
        ada = net.node("ada")
        with pytest.raises(HashMismatch, match="are not its blob"):
            await ada.transfer.fetch_pieces(false_commit, [key("owner")])
        assert NAME not in ada.blobs
        assert not ada.blobs.in_pieces(false_commit).exists()
        with pytest.raises(BlobUnavailable) as again:
            await get(ada, "owner")
        assert again.value.outcomes == {key("owner"): Untrusted()}

    play(tmp_path, scene)


def test_a_blob_that_is_here_must_fit_the_commit_as_well(tmp_path: Path) -> None:
    """A commit that names another's blob with its own list would keep others from downloading it."""

    async def scene(net: Net) -> None:
        ada = net.node("ada")
        ada.holds(DATA)
        for size, pieces in ((SIZE, pieces_hash(blob(5))), (SIZE - 1, pieces_hash(DATA))):
            with pytest.raises(HashMismatch, match="a piece list of"):
                await ada.transfer.fetch_pieces(Wanted(NAME, size, pieces, key("owner")), [])
        assert await get(ada) == DATA

    play(tmp_path, scene)


def test_the_error_says_what_came_of_each_holder(tmp_path: Path) -> None:
    async def scene(net: Net) -> None:
        net.node("ben")
        net.node("cleo").begins(DATA, 0)
        with pytest.raises(BlobUnavailable) as failed:
            await get(net.node("ada"), "owner", "ben", "cleo")
        assert failed.value.outcomes == {
            key("owner"): ConnectionFailed("ConnectionRefusedError no such peer"),
            key("ben"): NothingMissing(),
            key("cleo"): NothingMissing(),
        }
        assert failed.value.pieces == (0, COUNT)
        assert TIMING.no_progress <= elapsed() < 2 * TIMING.no_progress
        with pytest.raises(BlobUnavailable) as alone:
            await get(net.node("dora"), "dora")
        assert alone.value.outcomes == {}, "it is not its own holder"

    play(tmp_path, scene)


def test_a_blob_of_another_size_is_not_served(tmp_path: Path) -> None:
    async def scene(net: Net) -> None:
        net.node("owner").holds(DATA)
        ada = net.node("ada")
        with pytest.raises(BlobUnavailable):
            await ada.transfer.fetch_pieces(
                Wanted(NAME, SIZE + 1, pieces_hash(DATA), key("owner")), [key("owner")]
            )
        assert ada.transfer.traffic.down < 1000

    play(tmp_path, scene)


def test_a_cancelled_download_keeps_its_pieces_for_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer in flight is read to its end, so that the holder is not blamed."""

    async def scene(net: Net) -> None:
        owner, ada = net.node("owner", Caps(up=200_000)), net.node("ada")
        owner.holds(DATA)
        getting = asyncio.ensure_future(get(ada, "owner"))
        await asyncio.sleep(5)
        getting.cancel()
        with suppress(asyncio.CancelledError):
            await getting
        before = ada.transfer.traffic.down
        assert await get(ada, "owner") == DATA
        assert ada.transfer.traffic.down - before < SIZE - PIECE_BYTES // 2

    with caplog.at_level(logging.INFO, "barnraise.swarm"):
        play(tmp_path, scene)
    assert caplog.messages == []


def test_a_full_disk_ends_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    async def scene(net: Net) -> None:
        net.node("owner").holds(DATA)
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(DiskFull):
            await get(net.node("ada"), "owner")

    play(tmp_path, scene)


def test_a_blob_that_is_removed_meanwhile_is_no_holders_fault(tmp_path: Path) -> None:
    async def scene(net: Net) -> None:
        owner, ada = net.node("owner", Caps(up=200_000)), net.node("ada")
        owner.holds(DATA)
        getting = asyncio.ensure_future(get(ada, "owner"))
        await asyncio.sleep(5)
        ada.blobs.remove(NAME)
        with pytest.raises(Unreachable, match="was removed while it was fetched"):
            await getting

    play(tmp_path, scene)


def test_many_holders_are_asked_until_one_has_it(tmp_path: Path) -> None:
    async def scene(net: Net) -> None:
        names = [f"peer{number}" for number in range(20)]
        nodes = [net.node(name) for name in names]
        nodes[13].holds(DATA)
        assert await get(net.node("ada"), *names) == DATA

    play(tmp_path, scene)


def test_a_blob_counts_as_served_once_every_piece_was_sent(tmp_path: Path) -> None:
    async def scene(net: Net) -> None:
        owner, ada = net.node("owner"), net.node("ada")
        owner.holds(DATA)
        ada.begins(DATA, 3)
        assert await get(ada, "owner") == DATA
        assert not await owner.transfer.wait_served(NAME, 1)
        ben = net.node("ben")
        ben.begins(DATA, 0, 1, 2, 4, 5, 6)
        assert await get(ben, "owner") == DATA
        assert await owner.transfer.wait_served(NAME, 1)

    play(tmp_path, scene)
