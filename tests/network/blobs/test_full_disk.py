"""A full disk is this machine's fault: no holder is blamed for it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from barnraise.core.errors import DiskFull
from barnraise.core.ids import blob_hash
from barnraise.network.blobs.rate_limiter import RateLimiter, Traffic
from barnraise.network.blobs.whole_protocol import receive
from barnraise.runtime.blob_store import BlobStore


class Nowhere:
    """A stream's writer."""

    def write(self, data: bytes) -> None: ...


def test_a_download_onto_a_full_disk_is_no_fault_of_its_holder(tmp_path: Path) -> None:
    data = b"x" * 5000
    blobs, name = BlobStore(tmp_path), blob_hash(data)
    blobs.partial(name).symlink_to("/dev/full")

    async def run() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(len(data).to_bytes(8, "little") + data)
        writer = cast(Any, Nowhere())
        await receive(name, len(data), blobs, reader, writer, RateLimiter(None), Traffic())

    with pytest.raises(DiskFull):
        asyncio.run(run())
