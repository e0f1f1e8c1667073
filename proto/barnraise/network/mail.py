"""Short messages between two nodes over libp2p streams. No libp2p in here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from barnraise.core.errors import TrustError
from barnraise.core.ids import PublicKey, short
from barnraise.network.message_streams import acknowledge, read_message, send_message
from barnraise.network.peer_guard import PeerGuard
from barnraise.network.stream_limits import StreamLimits, message_rates
from barnraise.network.streams import OpenStream
from barnraise.network.timing import TIMING, Timing

log = logging.getLogger("barnraise.swarm")

MAIL_PROTOCOL = "barnraise/mail/1"
"""Name of the libp2p protocol: four bytes of length, a message, and one byte back on receipt."""
MAX_MAIL_BYTES = 2**17
MAX_QUEUED = 256
"""Messages that are being sent at once; further ones are dropped. Their senders repeat what matters."""


def _drop(data: bytes) -> None:
    """Until a program receives messages."""


@dataclass
class Mail:
    """What one node sends to others, and receives from them."""

    open_stream: OpenStream
    guard: PeerGuard
    timing: Timing = TIMING
    deliver: Callable[[bytes], None] = _drop
    """Takes a message. Raises TrustError where it is none."""
    _sending: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._limits = StreamLimits(self.guard, message_rates())

    def send(self, to: PublicKey, data: bytes) -> None:
        """Send a message in the background, in one try."""
        if len(self._sending) < MAX_QUEUED:
            task = asyncio.create_task(self._send(to, data))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def serve(
        self, peer: PublicKey, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Receive one message from a peer's stream."""
        try:
            with self._limits.admitted(peer, writer) as stream:
                if stream is not None:
                    stream.set_idle(True)  # evict silent streams first
                    self.deliver(await read_message(reader, MAX_MAIL_BYTES, "a message", self.timing))
                    await acknowledge(reader, writer, self.timing)
        except TrustError as error:
            log.debug("%s sent %s", peer, error.problem)
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            log.debug("a message of %s ended early: %s", peer, error)
        finally:
            self._limits.end(writer)

    def close(self) -> None:
        """End what is under way."""
        for task in self._sending:
            task.cancel()

    async def _send(self, to: PublicKey, data: bytes) -> None:
        try:
            await send_message(to, MAIL_PROTOCOL, data, self.open_stream, self.timing)
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            log.debug("could not send to %s: %s %s", short(to), type(error).__name__, error)
