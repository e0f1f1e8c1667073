"""What is served is intact: a blob that was damaged since it was stored is set aside before it is sent."""

from __future__ import annotations

import asyncio
import logging

from barnraise.core.ids import BlobHash, short
from barnraise.runtime.blob_store import BlobStore, SetAside

log = logging.getLogger("barnraise.swarm")


async def set_damaged_aside(blobs: BlobStore, name: BlobHash) -> None:
    """Check a blob whose file was written to since it was checked: others would be sent false bytes."""
    if name in blobs and not blobs.is_unchanged(name):
        found = await asyncio.to_thread(blobs.check, name)
        if isinstance(found, SetAside):
            log.warning("the blob %s was damaged: its bytes are in %s", short(name), found.path)
