"""Holders of pieces that cheat, stall, drip or leave: named, left, and another one asked. In virtual time."""

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
from barnraise.network.blobs.piece_download import PATIENCE_SECONDS
from barnraise.network.blobs.piece_protocol import HAVE, HAVING, LIST, LISTING, PIECE, Request, open_request
from barnraise.network.blobs.token_bucket import Caps
from barnraise.network.blobs.whole_protocol import STALL_SECONDS
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
    said = honest(request)
    return said[:-1] + bytes([said[-1] ^ 1]) if request.index < COUNT else said


def junk_list(request: Request) -> bytes:
    said = honest(request)
    return said[:-1] + bytes([said[-1] ^ 1]) if request.index == LIST else said


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


CHEATS: list[tuple[Callable[[Request], bytes | None], str]] = [
    (junk_piece, "served bytes of a wrong hash"),
    (junk_list, "served bytes of a wrong hash"),
    (denies, "did not give what it had offered"),
    (shrinks, "did not give what it had offered"),
    (beyond, "did not give what it had offered"),
    (unknown, "did not give what it had offered"),
    (unasked, "did not give what it had offered"),
    (silent, "stopped in the middle of an answer"),
    (mute, "stopped in the middle of an answer"),
]


@pytest.mark.parametrize(("cheat", "told"), CHEATS, ids=lambda case: getattr(case, "__name__", ""))
def test_a_cheat_alone_is_named(
    tmp_path: Path, cheat: Callable[[Request], bytes | None], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(net: Net) -> None:
        net.strange[key("owner")] = holder(cheat)
        with pytest.raises(Unreachable) as nobody:
            await get(net.node("ada"), "owner")
        assert f"{key('owner')[:8]} {told}" in nobody.value.problem
        assert "pieces are here" in nobody.value.problem
        assert elapsed() <= STALL_SECONDS

    with caplog.at_level(logging.INFO, "barnraise.swarm"):
        play(tmp_path, scene)
    assert [told in record.message for record in caplog.records] == [True], "said once"


@pytest.mark.parametrize(("cheat", "told"), CHEATS, ids=lambda case: getattr(case, "__name__", ""))
def test_a_cheat_does_not_keep_the_blob_from_us(
    tmp_path: Path, cheat: Callable[[Request], bytes | None], told: str
) -> None:
    """Another holder gives it: of what is missing, where the cheat claims to have all."""

    async def scene(net: Net) -> None:
        net.strange[key("owner")] = holder(cheat)
        ben, ada = net.node("ben"), net.node("ada")
        ben.holds(DATA)
        assert await get(ada, "owner", "ben") == DATA
        assert elapsed() < STALL_SECONDS + 1
        assert net.opened.count(("ada", key("owner"))) == 1

    play(tmp_path, scene)


@pytest.mark.parametrize(("cheat", "told"), CHEATS, ids=lambda case: getattr(case, "__name__", ""))
def test_a_cheat_is_not_asked_again_soon(
    tmp_path: Path, cheat: Callable[[Request], bytes | None], told: str
) -> None:
    async def scene(net: Net) -> None:
        net.strange[key("owner")] = holder(cheat)
        ada = net.node("ada")
        with pytest.raises(Unreachable):
            await get(ada, "owner")
        assert net.opened.count(("ada", key("owner"))) == 1, "left at its first fault"
        with pytest.raises(Unreachable, match=r"lost our trust|stopped in the middle"):
            await get(ada, "owner")
        stalled = "stopped" in told
        assert net.opened.count(("ada", key("owner"))) == 1 + stalled, "a stall may be bad luck"
        await asyncio.sleep(600)
        net.strange[key("owner")] = holder(honest)
        assert await get(ada, "owner") == DATA

    play(tmp_path, scene)


def test_who_ends_in_the_middle_of_a_piece_is_left_for_another(
    tmp_path: Path,
) -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            request = Request(NAME, SIZE, HAVE)
            while request.index > COUNT:
                request = open_request(await reader.readexactly(44))
                writer.write(honest(request)[: PIECE_BYTES // 2])

    async def scene(net: Net) -> None:
        net.strange[key("owner")] = half
        ben = net.node("ben")
        ben.holds(DATA)
        assert await get(net.node("ada"), "owner", "ben") == DATA

    play(tmp_path, scene)


def test_who_drips_is_given_up_after_a_while(tmp_path: Path) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(asyncio.IncompleteReadError, OSError):
            while True:
                said = honest(open_request(await reader.readexactly(44)))
                if len(said) < PIECE_BYTES:
                    writer.write(said)
                    continue
                for byte in said:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(STALL_SECONDS - 1)

    async def scene(net: Net) -> None:
        net.strange[key("owner")] = drip
        with pytest.raises(Unreachable, match="stopped in the middle"):
            await get(net.node("ada"), "owner")
        assert elapsed() < 200

    play(tmp_path, scene)


def test_junk_leaves_no_trace_and_no_piece(tmp_path: Path) -> None:
    async def scene(net: Net) -> None:
        net.strange[key("owner")] = holder(junk_piece)
        ada = net.node("ada")
        with pytest.raises(Unreachable, match=f"0 of {COUNT} pieces"):
            await get(ada, "owner")
        assert NAME not in ada.blobs

    play(tmp_path, scene)


def test_a_commit_whose_pieces_are_not_its_blob_is_found_out(tmp_path: Path) -> None:
    """The owner signed the piece list of other bytes: all pieces fit, and the whole does not."""
    other = blob(5)
    lie = Wanted(NAME, SIZE, pieces_hash(other), key("owner"))

    async def scene(net: Net) -> None:
        net.strange[key("owner")] = holder(lambda request: honest(request, other))
        ada = net.node("ada")
        with pytest.raises(HashMismatch, match="are not its blob"):
            await ada.transfer.fetch_pieces(lie, [key("owner")])
        assert NAME not in ada.blobs
        assert not ada.blobs.in_pieces(NAME).exists()

    play(tmp_path, scene)


def test_a_blob_that_is_here_must_fit_the_commit_as_well(tmp_path: Path) -> None:
    """Who names another's blob with a list of its own would keep everybody else from gathering it."""

    async def scene(net: Net) -> None:
        ada = net.node("ada")
        ada.holds(DATA)
        for size, pieces in ((SIZE, pieces_hash(blob(5))), (SIZE - 1, pieces_hash(DATA))):
            with pytest.raises(HashMismatch, match="a piece list of"):
                await ada.transfer.fetch_pieces(Wanted(NAME, size, pieces, key("owner")), [])
        assert await get(ada) == DATA

    play(tmp_path, scene)


def test_what_nobody_has_is_told_with_what_each_did(tmp_path: Path) -> None:
    async def scene(net: Net) -> None:
        net.node("ben")
        net.node("cleo").begins(DATA, 0)
        with pytest.raises(Unreachable) as nobody:
            await get(net.node("ada"), "owner", "ben", "cleo")
        assert f"{key('owner')[:8]} cannot be reached: ConnectionRefusedError" in nobody.value.problem
        assert f"{key('ben')[:8]} holds nothing that is missing" in nobody.value.problem
        assert PATIENCE_SECONDS <= elapsed() < 2 * PATIENCE_SECONDS
        with pytest.raises(Unreachable, match="no holder is known"):
            await get(net.node("dora"), "dora")

    play(tmp_path, scene)


def test_a_blob_of_another_size_is_not_given(tmp_path: Path) -> None:
    async def scene(net: Net) -> None:
        net.node("owner").holds(DATA)
        ada = net.node("ada")
        with pytest.raises(Unreachable):
            await ada.transfer.fetch_pieces(
                Wanted(NAME, SIZE + 1, pieces_hash(DATA), key("owner")), [key("owner")]
            )
        assert ada.transfer.traffic.down < 1000

    play(tmp_path, scene)


def test_who_gives_up_leaves_what_came_for_the_next_try(tmp_path: Path) -> None:
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

    play(tmp_path, scene)


def test_a_full_disk_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    async def scene(net: Net) -> None:
        net.node("owner").holds(DATA)
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(DiskFull):
            await get(net.node("ada"), "owner")

    play(tmp_path, scene)


def test_a_blob_that_is_dropped_meanwhile_is_no_fault_of_anybody(tmp_path: Path) -> None:
    async def scene(net: Net) -> None:
        owner, ada = net.node("owner", Caps(up=200_000)), net.node("ada")
        owner.holds(DATA)
        getting = asyncio.ensure_future(get(ada, "owner"))
        await asyncio.sleep(5)
        ada.blobs.remove(NAME)
        with pytest.raises(Unreachable, match="was dropped while it was fetched"):
            await getting

    play(tmp_path, scene)


def test_many_holders_are_tried_until_one_has_it(tmp_path: Path) -> None:
    async def scene(net: Net) -> None:
        names = [f"peer{number}" for number in range(20)]
        nodes = [net.node(name) for name in names]
        nodes[13].holds(DATA)
        assert await get(net.node("ada"), *names) == DATA

    play(tmp_path, scene)


def test_not_all_was_sent_until_every_piece_was(tmp_path: Path) -> None:
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
