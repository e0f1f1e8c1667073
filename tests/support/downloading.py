"""Downloads from a coordinator's archive, in one event loop each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from barnraise.contract.archive import CHARTER
from barnraise.contract.invite import Invite
from barnraise.gateway import listen
from coordinator.store.run_store import RunStore
from peer.download.download import Downloaded, DownloadOptions, download
from tests.support import parts
from tests.support.coordinators import (
    archive,
    checkpoint,
    files_in,
    served,
    session_of,
    with_gateway,
)
from tests.support.scripted import NO_PAUSES, RecordingListener


def get(options: DownloadOptions, listener: RecordingListener | None = None) -> Path:
    async def ask() -> Path:
        done = await download(
            options, Path("/nowhere"), listener or RecordingListener(), time.monotonic, NO_PAUSES
        )
        assert isinstance(done, Downloaded)
        return done.folder

    return asyncio.run(ask())


def got(
    store: RunStore,
    output: Path,
    revision: str = "main",
    invite: Callable[[Invite], Invite] = lambda invite: invite,
    listener: RecordingListener | None = None,
) -> Path:
    """Download by the invite, from the real gRPC service and gateway."""

    async def ask() -> Path:
        gateway = await listen(archive(store), "127.0.0.1", 0)
        try:
            async with served(session_of(store, addresses=with_gateway(gateway.port))) as true:
                options = DownloadOptions(str(invite(true)), revision=revision, output=output)
                done = await download(
                    options, Path("/nowhere"), listener or RecordingListener(), time.monotonic, NO_PAUSES
                )
                assert isinstance(done, Downloaded)
                return done.folder
        finally:
            await gateway.stop()

    return asyncio.run(ask())


def all_of(store: RunStore, round: int = 0) -> dict[str, bytes]:
    return files_in(checkpoint(store, round)) | {CHARTER: (archive(store) / CHARTER).read_bytes()}


def in_folder(store: RunStore, output: Path, **other: str) -> Path:
    """Download from the coordinator's archive as a local folder."""
    return get(DownloadOptions(str(archive(store)), key=parts.AUTHORITY.public, output=output, **other))  # type: ignore[arg-type]
