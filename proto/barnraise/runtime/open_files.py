"""Raises the limit of open files: a coordinator has a socket for each volunteer that is connected."""

from __future__ import annotations

import sys

WANTED = 65_536
"""Open files that a program asks for: a system may allow less, and macOS refuses "unlimited"."""


def raise_open_files() -> int | None:
    """Raise this process's limit, and that of its child processes, as far as the system allows.

    Returns the limit; None on Windows, where there is none.
    """
    if sys.platform == "win32":
        return None
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if soft == resource.RLIM_INFINITY or soft >= allowed:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (ValueError, OSError):  # macOS has a further limit of its own (kern.maxfilesperproc)
        return soft
    return allowed
