"""Nodes that transfer blobs over socket pairs in one process, in virtual time."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from barnraise.contract.pieces import (
    PIECE_BYTES,
    Wanted,
    bitmap,
    every_piece,
    piece_count,
    piece_list,
    pieces_hash,
)
from barnraise.core.ids import BlobHash, PublicKey, blob_hash
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
from barnraise.network.blobs.rate_limiter import UNCAPPED, Caps
from barnraise.network.blobs.transfer import PIECE_PROTOCOL, Transfer
from barnraise.network.streams import Stream
from barnraise.runtime.blob_store import BlobStore
from tests.support import parts, virtual_time

V = TypeVar("V")
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

SIZE = 6 * PIECE_BYTES + 1000


def blob(seed: int = 0, size: int = SIZE) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def key(name: str) -> PublicKey:
    return PublicKey(hashlib.sha256(name.encode()).hexdigest())


def wanted(data: bytes, owner: str = "owner") -> Wanted:
    return Wanted(blob_hash(data), len(data), pieces_hash(data), key(owner))


async def stream_pair() -> tuple[Stream, Stream]:
    one, two = socket.socketpair()
    return await asyncio.open_connection(sock=one), await asyncio.open_connection(sock=two)


@dataclass
class Node:
    """A node without libp2p and DHT."""

    name: str
    blobs: BlobStore
    transfer: Transfer

    def holds(self, data: bytes) -> BlobHash:
        return self.blobs.put(data)

    def begins(self, data: bytes, *pieces: int) -> None:
        """It has these pieces from an earlier download."""
        self.blobs.claimed_listing(wanted(data)).write_bytes(piece_list(data))
        part = self.blobs.in_pieces(wanted(data))
        part.write_bytes(bytes(len(data)))
        with part.open("r+b") as file:
            for index in pieces:
                file.seek(index * PIECE_BYTES)
                file.write(data[index * PIECE_BYTES : (index + 1) * PIECE_BYTES])


@dataclass
class Net:
    """The nodes that can be reached, and how they answer."""

    folder: Path
    nodes: dict[PublicKey, Node] = field(default_factory=dict)
    scripted: dict[PublicKey, Serve] = field(default_factory=dict)
    """Peers that answer requests for pieces in their own way."""
    opened: list[tuple[str, str]] = field(default_factory=list)
    """The asker and the holder of each stream for pieces that was opened."""
    _serving: set[asyncio.Future[None]] = field(default_factory=set)

    def node(self, name: str, caps: Caps = UNCAPPED, blobs: BlobStore | None = None) -> Node:
        async def open_stream(peer: PublicKey, protocol: str) -> Stream:
            return await self._open(name, peer, protocol)

        blobs = blobs or BlobStore(self.folder / name)
        node = Node(name, blobs, Transfer(key(name), blobs, caps, open_stream, parts.guard()))
        self.nodes[key(name)] = node
        return node

    def node_of(self, peer: PublicKey) -> Node:
        """The node of a real key, made at the first call."""
        if peer not in self.nodes:
            self.nodes[peer] = self.node(peer)
        return self.nodes[peer]

    async def _open(self, asker: str, peer: PublicKey, protocol: str) -> Stream:
        if peer not in self.nodes and peer not in self.scripted:
            raise ConnectionRefusedError("no such peer")
        self.opened.append((asker, peer))
        ours, (reader, writer) = await stream_pair()
        if peer in self.scripted:
            work = self.scripted[peer](reader, writer)
        else:
            transfer = self.nodes[peer].transfer
            serve = transfer.serve_pieces if protocol == PIECE_PROTOCOL else transfer.serve
            work = serve(key(asker), reader, writer)
        task = asyncio.ensure_future(work)
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        return ours


DATA = blob()
"""The blob that tests download by default."""
NAME, COUNT = blob_hash(DATA), piece_count(SIZE)
ALL = bitmap(every_piece(COUNT), COUNT)


def play(folder: Path, scene: Callable[[Net], Awaitable[V]]) -> V:
    async def go() -> V:
        net = Net(folder)
        result = await scene(net)
        for node in net.nodes.values():
            node.transfer.close()
        return result

    return virtual_time.run(go())


def elapsed() -> float:
    return asyncio.get_running_loop().time()


async def get(node: Node, *holders: str, data: bytes = DATA) -> bytes:
    path = await node.transfer.fetch_pieces(wanted(data), [key(holder) for holder in holders])
    return path.read_bytes()


def holder(answer: Callable[[Request], bytes | None]) -> Serve:
    """A peer that sends what `answer` returns; after None it stays silent."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(asyncio.IncompleteReadError, OSError):
            while True:
                reply = answer(open_request(await reader.readexactly(REQUEST_BYTES)))
                if reply is None:
                    await asyncio.Event().wait()
                    return
                writer.write(reply)
                await writer.drain()

    return serve


def honest(request: Request, data: bytes = DATA) -> bytes:
    count = piece_count(len(data))
    everything = bitmap(every_piece(count), count)
    if request.index == HAVE:
        return bytes([HAVING]) + everything
    if request.index == LIST:
        return bytes([LISTING]) + everything + piece_list(data)
    return bytes([PIECE]) + everything + data[request.index * PIECE_BYTES : (request.index + 1) * PIECE_BYTES]
