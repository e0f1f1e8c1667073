"""Blobs between real nodes on this machine, whole and in pieces."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from barnraise.contract.pieces import PIECE_BYTES, Wanted, piece_list, pieces_hash
from barnraise.core.identity import Identity
from barnraise.core.ids import blob_hash
from barnraise.network.blobs.holder_outcomes import BlobUnavailable, NotHeld, Rejected, WrongSize
from barnraise.network.blobs.piece_protocol import REQUEST_BYTES
from barnraise.network.blobs.transfer import PIECE_PROTOCOL, WHOLE_PROTOCOL
from barnraise.runtime.blob_store import FilePart
from tests.support import parts
from tests.support.swarms import HIVEMIND_WARNS, SwarmNode, node, with_two

pytestmark = HIVEMIND_WARNS

CLEO = Identity.from_seed(b"c" * 32)
BLOB = np.random.default_rng(0).bytes(3 * 2**20)
NAME = blob_hash(BLOB)
WANTED = Wanted(NAME, len(BLOB), pieces_hash(BLOB), parts.STRANGER.public)


# Whole blobs


def test_a_blob_is_fetched_and_counted(tmp_path: Path) -> None:
    async def scene(coordinator: SwarmNode, ada: SwarmNode) -> None:
        ada.blobs.put(BLOB)
        path = await coordinator.swarm.fetch(NAME, len(BLOB), [ada.key])
        assert path.read_bytes() == BLOB
        assert (coordinator.swarm.traffic.down, ada.swarm.traffic.up) == (len(BLOB), len(BLOB))
        assert await ada.swarm.wait_served(NAME, timeout=60)
        again = await coordinator.swarm.fetch(NAME, len(BLOB), [])
        assert (again, coordinator.swarm.traffic.down) == (path, len(BLOB)), "what is here is not fetched"

    with_two(tmp_path, scene)


def test_a_part_of_another_file_is_served_by_its_hash_until_it_is_taken_back(tmp_path: Path) -> None:
    async def scene(coordinator: SwarmNode, ada: SwarmNode) -> None:
        file = tmp_path / "state"
        file.write_bytes(b"header" + BLOB + b"another tensor")
        ada.blobs.lend({NAME: FilePart(file, 6, len(BLOB))})
        coordinator.blobs.partial(NAME).write_bytes(BLOB[:1_000_000])
        await coordinator.swarm.fetch(NAME, len(BLOB), [ada.key])
        assert coordinator.blobs.get(NAME) == BLOB
        assert coordinator.swarm.traffic.down == len(BLOB) - 1_000_000
        coordinator.blobs.remove(NAME)
        ada.blobs.lend({})
        with pytest.raises(BlobUnavailable) as failed:
            await coordinator.swarm.fetch(NAME, len(BLOB), [ada.key])
        assert failed.value.outcomes == {ada.key: NotHeld()}

    with_two(tmp_path, scene)


def test_a_part_that_is_here_is_not_fetched_again(tmp_path: Path) -> None:
    async def scene(coordinator: SwarmNode, ada: SwarmNode) -> None:
        ada.blobs.put(BLOB)
        coordinator.blobs.partial(NAME).write_bytes(BLOB[:2_000_000])
        await coordinator.swarm.fetch(NAME, len(BLOB), [ada.key])
        assert coordinator.blobs.get(NAME) == BLOB
        assert coordinator.swarm.traffic.down == len(BLOB) - 2_000_000

    with_two(tmp_path, scene)


def test_the_next_holder_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ada does not hold it, Ben serves junk of the right size, the coordinator has it."""

    async def scene(coordinator: SwarmNode, ada: SwarmNode) -> None:
        coordinator.blobs.put(BLOB)
        async with node(tmp_path, parts.BEN, coordinator) as ben, node(tmp_path, parts.STRANGER, ben) as late:
            junk = ben.blobs.path(NAME)
            junk.parent.mkdir(parents=True)
            junk.write_bytes(bytes(len(BLOB)))
            monkeypatch.setattr(ben.blobs, "is_unchanged", lambda name: True)
            with pytest.raises(BlobUnavailable) as failed:
                await late.swarm.fetch(NAME, len(BLOB), [ada.key, ben.key])
            assert failed.value.outcomes[ada.key] == NotHeld()
            assert isinstance(failed.value.outcomes[ben.key], Rejected)
            assert not late.blobs.partial(NAME).exists(), "junk would be resumed"
            await late.swarm.fetch(NAME, len(BLOB), [ada.key, ben.key, coordinator.key])
            assert late.blobs.get(NAME) == BLOB

    with_two(tmp_path, scene)


def test_more_than_was_promised_is_not_read(tmp_path: Path) -> None:
    async def scene(coordinator: SwarmNode, ada: SwarmNode) -> None:
        ada.blobs.put(BLOB)
        with pytest.raises(BlobUnavailable) as failed:
            await coordinator.swarm.fetch(NAME, 1000, [ada.key])
        assert failed.value.outcomes == {ada.key: WrongSize(len(BLOB), 1000)}
        assert coordinator.swarm.traffic.down == 0

    with_two(tmp_path, scene)


def test_a_blob_without_known_holders_is_unavailable(tmp_path: Path) -> None:
    async def scene(coordinator: SwarmNode, _: SwarmNode) -> None:
        with pytest.raises(BlobUnavailable) as failed:
            await coordinator.swarm.fetch(NAME, len(BLOB), [])
        assert failed.value.outcomes == {}

    with_two(tmp_path, scene)


@pytest.mark.parametrize("request_bytes", [bytes(40), bytes(32) + b"\xff" * 8])
def test_a_request_for_a_blob_that_is_not_held_is_answered(tmp_path: Path, request_bytes: bytes) -> None:
    async def scene(coordinator: SwarmNode, ada: SwarmNode) -> None:
        reader, writer = await coordinator.open_stream(ada, WHOLE_PROTOCOL)
        writer.write(request_bytes)
        assert await asyncio.wait_for(reader.readexactly(8), 60) == b"\xff" * 8
        writer.close()

    with_two(tmp_path, scene)


def test_an_offset_after_the_end_gives_no_bytes(tmp_path: Path) -> None:
    async def scene(coordinator: SwarmNode, ada: SwarmNode) -> None:
        name = ada.blobs.put(b"short")
        reader, writer = await coordinator.open_stream(ada, WHOLE_PROTOCOL)
        writer.write(bytes.fromhex(name) + (2**64 - 1).to_bytes(8, "little"))
        assert await asyncio.wait_for(reader.readexactly(8), 60) == (5).to_bytes(8, "little")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()

    with_two(tmp_path, scene)


# Blobs in pieces


def has_pieces(node: SwarmNode, *indices: int) -> None:
    """As if an earlier download had left these, before the program was started again."""
    node.blobs.claimed_listing(WANTED).write_bytes(piece_list(BLOB))
    part = bytearray(len(BLOB))
    for index in indices:
        place = slice(index * PIECE_BYTES, (index + 1) * PIECE_BYTES)
        part[place] = BLOB[place]
    node.blobs.in_pieces(WANTED).write_bytes(part)


def test_two_halves_and_a_holder_of_junk_make_whole_copies(tmp_path: Path) -> None:
    """The owner has left. Ada and Ben have a half each, the coordinator serves junk."""

    async def scene(coordinator: SwarmNode, ada: SwarmNode) -> None:
        async with node(tmp_path, parts.BEN, coordinator) as ben, node(tmp_path, CLEO, ada) as cleo:
            junk = coordinator.blobs.path(NAME)
            coordinator.blobs.listing(NAME).write_bytes(piece_list(BLOB))
            junk.write_bytes(bytes(len(BLOB)))
            has_pieces(ada, *range(6))
            has_pieces(ben, *range(6, 12))
            holders = [parts.STRANGER.public, coordinator.key, ada.key, ben.key, cleo.key]
            downloads = (each.swarm.fetch_pieces(WANTED, holders) for each in (ada, ben, cleo))
            paths = await asyncio.gather(*downloads)
            assert [blob_hash(path.read_bytes()) for path in paths] == [NAME] * 3
            assert cleo.swarm.traffic.down >= len(BLOB)
            assert min(ada.swarm.traffic.up, ben.swarm.traffic.up) > 0

    with_two(tmp_path, scene)


def test_a_contribution_is_served_in_pieces(tmp_path: Path) -> None:
    async def scene(coordinator: SwarmNode, ada: SwarmNode) -> None:
        ada.blobs.put(BLOB)
        path = await coordinator.swarm.fetch_pieces(WANTED, [ada.key])
        assert path.read_bytes() == BLOB
        assert await ada.swarm.wait_served(NAME, timeout=60)

    with_two(tmp_path, scene)


def test_a_malformed_request_for_a_piece_ends_the_stream(tmp_path: Path) -> None:
    async def scene(coordinator: SwarmNode, ada: SwarmNode) -> None:
        ada.blobs.put(BLOB)
        reader, writer = await coordinator.open_stream(ada, PIECE_PROTOCOL)
        writer.write(b"\xff" * REQUEST_BYTES)
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()

    with_two(tmp_path, scene)
