"""How files of base models are fetched: who is shown the progress, at which rate, and how it is stopped."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from barnraise.runtime.fetch_listener import FetchListener

V = TypeVar("V")


class Limiter(Protocol):
    """A limit of the download rate, as `barnraise.network.blobs.rate_limiter` has it."""

    chunk: int
    """Bytes that are received at a time."""

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit."""
        ...

    async def acquire(self, count: int) -> None:
        """Wait until `count` bytes may pass."""
        ...


class NoLimit:
    """Lets all bytes pass."""

    chunk = 256 * 1024
    is_limited = False

    async def acquire(self, count: int) -> None:
        return


NO_LIMIT = NoLimit()


@dataclass
class Interrupt:
    """Ends coroutines of other threads at once, those that begin later as well."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _running: dict[asyncio.Task[Any], asyncio.AbstractEventLoop] = field(default_factory=dict)
    _is_set: bool = False

    def set(self) -> None:
        """Cancel what runs. `run` then raises CancelledError."""
        with self._lock:
            self._is_set = True
            for task, loop in self._running.items():
                loop.call_soon_threadsafe(task.cancel)

    def run(self, work: Coroutine[Any, Any, V]) -> V:
        """The result of `work`, in an event loop of this thread."""
        return asyncio.run(self._registered(work))

    async def _registered(self, work: Coroutine[Any, Any, V]) -> V:
        task = asyncio.ensure_future(work)
        with self._lock:
            self._running[task] = asyncio.get_running_loop()
            if self._is_set:
                task.cancel()
        try:
            return await task
        finally:
            with self._lock:
                del self._running[task]
            if not task.done():  # Ctrl-C in this thread
                task.cancel()
                await asyncio.wait([task])


@dataclass(frozen=True)
class FetchTiming:
    """Intervals in seconds."""

    connect: float = 10.0
    """For a server to accept a connection."""
    stall: float = 30.0
    """A server that sends nothing for this long has failed."""
    retry: float = 1.0
    """After a first failure without a new byte; each further one doubles it."""
    tries: int = 5
    """Failures in a row without a new byte after which a file cannot be fetched."""
    lock_poll: float = 0.5
    """Between two attempts to take a lock that another program holds."""


FETCH_TIMING = FetchTiming()


@dataclass(frozen=True)
class FetchOptions:
    """What all files of one base model are fetched with."""

    listener: FetchListener
    limiter: Limiter = NO_LIMIT
    interrupt: Interrupt = field(default_factory=Interrupt)
    timing: FetchTiming = FETCH_TIMING
