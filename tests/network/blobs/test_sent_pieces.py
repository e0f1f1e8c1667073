"""What a node remembers of the pieces that it sent."""

from __future__ import annotations

import asyncio

from barnraise.core.ids import BlobHash
from barnraise.network.blobs.sent_pieces import REMEMBERED, SentPieces
from tests.support import virtual_time


def test_memory_of_what_was_sent_is_bounded_but_keeps_what_is_waited_for() -> None:
    async def scene() -> None:
        sent, names = SentPieces(), [BlobHash(f"{number:064x}") for number in range(3 * REMEMBERED)]
        waiting = asyncio.ensure_future(sent.wait(names[0], 1000))
        await asyncio.sleep(1)
        sent.piece_sent(names[0], 1, 2)
        for name in names[1:]:
            sent.all_sent(name)
        assert len(sent._sent) <= REMEMBERED + 1
        sent.piece_sent(names[0], 0, 2)
        assert await waiting
        assert not await sent.wait(names[1], 1), "forgotten"
        assert await sent.wait(names[-1], 1)

    virtual_time.run(scene())
