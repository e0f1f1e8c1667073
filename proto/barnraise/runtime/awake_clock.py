"""Time in which this program could work: a clock that leaves pauses out.

A stopped process (SIGSTOP, a debugger) and a sleeping machine (a closed laptop) do not train. A thread reads
the clock often; a gap between two readings that is far longer than that is a pause.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from barnraise.core.ids import Millis
from barnraise.runtime.machine_clocks import elapsed_ms, running_ms
from barnraise.runtime.pauses import TICK_MS, Paused, pause_in


@dataclass
class AwakeClock:
    """Called for milliseconds since some moment, without pauses. Any thread may call it."""

    elapsed: Callable[[], Millis] = elapsed_ms
    """Includes the time in which the machine slept."""
    running: Callable[[], Millis] = running_ms
    """Leaves it out, where the system has such a clock."""
    _paused: int = 0
    _unseen: list[Paused] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._last = self.elapsed(), self.running()

    def __call__(self) -> Millis:
        with self._lock:
            now = self.elapsed(), self.running()
            gap, ran = now[0] - self._last[0], now[1] - self._last[1]
            self._last = now
            if (pause := pause_in(gap, ran)) is not None:
                self._paused += round(1000 * pause.seconds)
                self._unseen.append(pause)
            return Millis(now[0] - self._paused)

    def pauses(self) -> list[Paused]:
        """The pauses since the last call."""
        self()
        with self._lock:
            seen, self._unseen = self._unseen, []
        return seen


@contextmanager
def ticking(clock: AwakeClock) -> Iterator[AwakeClock]:
    """Read `clock` in a thread, so that a gap between two readings is a pause and not a lack of calls."""
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(TICK_MS / 1000):
            clock()

    thread = threading.Thread(target=tick, name="awake-clock", daemon=True)
    thread.start()
    try:
        yield clock
    finally:
        ended.set()
        thread.join()
