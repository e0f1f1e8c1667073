"""A node of a swarm as a program of its own, without a model: it serves blobs, or asks one node for some.

Its one argument is JSON: run, authority, seed (of its key), folder, listen, bootstrap, blobs (sizes), and
for a node that asks: ask (a key) and direct. It prints its addresses, and each blob that arrived with the
route of its bytes. Blobs are a function of their size, so both sides know their names.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from barnraise.contract.keys_in_force import KeysInForce
from barnraise.core.errors import Unreachable
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, PublicKey, RunId, blob_hash
from barnraise.network.swarm import Swarm
from barnraise.runtime.blob_store import BlobStore

POLL_SECONDS = 0.5


def identity(seed: int) -> Identity:
    return Identity.from_seed(bytes([seed]) * 32)


def blob(size: int) -> bytes:
    return bytes(i * i % 251 for i in range(1000)) * (size // 1000)


def main() -> None:
    logging.basicConfig(stream=sys.stdout)
    settings = json.loads(sys.argv[1])
    folder = Path(settings["folder"])
    folder.mkdir()
    asyncio.run(work(settings, folder))


async def work(settings: dict[str, Any], folder: Path) -> None:
    blobs = BlobStore(folder / "blobs")
    swarm = await Swarm.start(
        identity(settings["seed"]),
        RunId(settings["run"]),
        KeysInForce.alone(PublicKey(settings["authority"])),
        clock=lambda: Millis(time.time_ns() // 1_000_000),
        blobs=blobs,
        folder=folder,
        listen=(settings["listen"],),
        bootstrap=settings["bootstrap"],
    )
    if settings.get("ask"):
        await ask(swarm, PublicKey(settings["ask"]), settings["blobs"], direct=settings["direct"])
    else:
        for size in settings["blobs"]:
            blobs.put(blob(size))
    print("addresses", *await swarm.addresses(), flush=True)
    await asyncio.Event().wait()


async def ask(swarm: Swarm, holder: PublicKey, sizes: list[int], *, direct: bool) -> None:
    """Fetch the first blob over any route, the others once there is a direct one."""
    for number, size in enumerate(sizes):
        if direct and number > 0:
            await until_direct(swarm, holder)
        print("asking for", size, flush=True)
        while not await arrived(swarm, holder, size):  # noqa: ASYNC110  (no event exists)
            await asyncio.sleep(POLL_SECONDS)
        print("got", size, "by", await route(swarm, holder), flush=True)


async def arrived(swarm: Swarm, holder: PublicKey, size: int) -> bool:
    try:
        await swarm.fetch(blob_hash(blob(size)), size, [holder])
    except Unreachable as error:
        print(error.problem, flush=True)
        return False
    return True


async def until_direct(swarm: Swarm, holder: PublicKey) -> None:
    while "p2p-circuit" in await route(swarm, holder):  # noqa: ASYNC110  (libp2p has no event)
        await asyncio.sleep(POLL_SECONDS)


async def route(swarm: Swarm, holder: PublicKey) -> str:
    """The address of the connection to `holder`, the direct one where there are two."""
    found = await swarm.routes(holder)
    return min(found, key=lambda address: "p2p-circuit" in address, default="p2p-circuit (none)")
