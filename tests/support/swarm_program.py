"""A node of a swarm as a program of its own, without a model: it serves blobs, or asks one node for some.

Its one argument is JSON: run, authority, seed (of its key), folder, listen, bootstrap, blobs (sizes), and
for one that asks: ask (a key) and direct. It says its addresses, and each blob that came with the route
that it came by. Blobs are a function of their size, so both sides know their names.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from hivemind.p2p import PeerID

from barnraise.core.errors import Unreachable
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, PublicKey, RunId, blob_hash
from barnraise.network.peer_ids import peer_id_bytes
from barnraise.network.swarm import Swarm
from barnraise.runtime.blob_store import BlobStore

LOOK_SECONDS = 0.5


def identity(seed: int) -> Identity:
    return Identity.from_seed(bytes([seed]) * 32)


def blob(size: int) -> bytes:
    return bytes(i * i % 251 for i in range(1000)) * (size // 1000)


def main() -> None:
    logging.basicConfig(stream=sys.stdout)
    told = json.loads(sys.argv[1])
    folder = Path(told["folder"])
    folder.mkdir()
    asyncio.run(work(told, folder))


async def work(told: dict[str, Any], folder: Path) -> None:
    blobs = BlobStore(folder / "blobs")
    swarm = await Swarm.start(
        identity(told["seed"]),
        RunId(told["run"]),
        PublicKey(told["authority"]),
        clock=lambda: Millis(time.time_ns() // 1_000_000),
        blobs=blobs,
        folder=folder,
        listen=told["listen"],
        bootstrap=told["bootstrap"],
    )
    if told.get("ask"):
        await ask(swarm, PublicKey(told["ask"]), told["blobs"], direct=told["direct"])
    else:
        for size in told["blobs"]:
            blobs.put(blob(size))
    print("addresses", *await swarm.addresses(), flush=True)
    await asyncio.Event().wait()


async def ask(swarm: Swarm, holder: PublicKey, sizes: list[int], *, direct: bool) -> None:
    """Get the first blob by whatever route there is; the others only once there is a direct one."""
    for number, size in enumerate(sizes):
        if direct and number > 0:
            await until_direct(swarm, holder)
        print("asking for", size, flush=True)
        while not await came(swarm, holder, size):  # noqa: ASYNC110  (nothing tells us)
            await asyncio.sleep(LOOK_SECONDS)
        print("got", size, "by", await route(swarm, holder), flush=True)


async def came(swarm: Swarm, holder: PublicKey, size: int) -> bool:
    try:
        await swarm.fetch(blob_hash(blob(size)), size, [holder])
    except Unreachable as error:
        print(error.problem, flush=True)
        return False
    return True


async def until_direct(swarm: Swarm, holder: PublicKey) -> None:
    while "p2p-circuit" in await route(swarm, holder):  # noqa: ASYNC110  (libp2p does not tell of it)
        await asyncio.sleep(LOOK_SECONDS)


async def route(swarm: Swarm, holder: PublicKey) -> str:
    """The address of the connection to `holder`, the direct one where there are two."""
    peer = PeerID(peer_id_bytes(holder))
    found = [str(a) for info in await swarm._p2p.list_peers() if info.peer_id == peer for a in info.addrs]
    return min(found, key=lambda address: "p2p-circuit" in address, default="p2p-circuit (none)")
