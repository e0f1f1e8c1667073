"""A time limit for Python code that comes from others: chat templates, whose loops have no bound together.

A template runs in a thread of the builder, where no signal can end it. Another thread raises the exception in
it instead, which CPython does between two bytecodes.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from threading import Lock, Thread, get_ident
from typing import TypeVar

from barnraise.runtime.awake_clock import AwakeClock

_POLL_SECONDS = 0.05

T = TypeVar("T")


class OutOfTime(Exception):
    """Raised in a call that takes longer than its limit."""


class TimeLimit:
    """Ends calls that take longer than `seconds`; cheap for calls of microseconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._lock = Lock()
        self._clock = AwakeClock()  # the watcher reads it: a pause of the program is no time of a call
        self._deadlines: dict[int, int] = {}
        self._watcher: Thread | None = None
        """None while there is no call."""

    def run(self, call: Callable[[], T]) -> T:
        """The result of a call. Raises OutOfTime."""
        thread = get_ident()
        with self._lock:
            self._deadlines[thread] = self._clock() + round(1000 * self.seconds)
            if self._watcher is None:
                self._watcher = Thread(target=self._watch, daemon=True, name="time-limit")
                self._watcher.start()
        try:
            return call()
        finally:
            with self._lock:  # the watcher raises under the lock, so nothing is raised after it
                self._deadlines.pop(thread, None)

    def _watch(self) -> None:
        while True:
            time.sleep(_POLL_SECONDS)
            with self._lock:
                if not self._deadlines:
                    self._watcher = None
                    return
                now = self._clock()
                for thread in [each for each, deadline in self._deadlines.items() if deadline < now]:
                    del self._deadlines[thread]
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(
                        ctypes.c_ulong(thread), ctypes.py_object(OutOfTime)
                    )
