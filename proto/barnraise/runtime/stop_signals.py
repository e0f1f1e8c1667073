"""Signals that ask a program to stop: Ctrl-C, `kill`, and a terminal that is closed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable


def until_interrupted() -> asyncio.Event:
    """An event that Ctrl-C, `kill` or a closed terminal sets. Call it in a running event loop."""
    stop = asyncio.Event()
    on_stop_signals(stop.set, stop.set)
    return stop


def on_stop_signals(stop: Callable[[], None], hang_up: Callable[[], None]) -> None:
    """Call `stop` on SIGINT and SIGTERM, and `hang_up` on SIGHUP, in the running event loop.

    A terminal that closes may send SIGHUP twice, from the kernel and from its shell. Where SIGHUP is ignored
    at the start, as below `nohup`, it stays ignored.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, hang_up)
