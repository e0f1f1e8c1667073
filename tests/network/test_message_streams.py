"""Messages behind their length, and who closes a stream first."""

from __future__ import annotations

import asyncio

from barnraise.network.message_streams import acknowledge
from barnraise.network.timing import TIMING
from tests.support.transfers import stream_pair


def test_the_receiver_keeps_the_stream_until_the_sender_has_read_its_answer() -> None:
    """The daemon drops what is under way when an end is closed."""

    async def play() -> None:
        (ours, our_end), (theirs, their_end) = await stream_pair()
        receiving = asyncio.create_task(acknowledge(theirs, their_end, TIMING))
        await ours.readexactly(1)
        assert not receiving.done()
        our_end.close()
        await receiving
        their_end.close()

    asyncio.run(play())
