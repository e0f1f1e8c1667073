"""The clocks of this machine. Durations come from `elapsed_ms`: the wall clock may be set at any time."""

from __future__ import annotations

import time
from datetime import datetime, timezone

from barnraise.core.ids import Millis


def elapsed_ms() -> Millis:
    """Milliseconds since some moment, including the time in which the machine slept."""
    # Linux stops CLOCK_MONOTONIC during sleep, macOS does not.
    return Millis(time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)) // 1_000_000)


def running_ms() -> Millis:
    """Milliseconds since some moment; Linux leaves out the time in which the machine slept."""
    return Millis(time.monotonic_ns() // 1_000_000)


def wall_ms() -> Millis:
    """The time of day, in milliseconds since 1970."""
    return Millis(time.time_ns() // 1_000_000)


def utc_now() -> datetime:
    """The date and time of day, for people."""
    return datetime.now(timezone.utc)
