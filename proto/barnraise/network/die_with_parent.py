"""Run a program that never outlives its parent: `python die_with_parent.py PARENT_PID PROGRAM ARGS…`.

hivemind's libp2p daemon survives a SIGKILL of the program that started it. This script replaces
itself by the daemon, after it has arranged that the daemon is killed with its parent: by the kernel's
parent-death signal on Linux, by a watching process elsewhere. It imports only the standard library,
because it is started without site-packages.
"""

from __future__ import annotations

import os
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
WATCH_SECONDS = 0.5
"""Between two checks of the watching process: how long the daemon may outlive its parent."""


def main(parent: int, command: list[str]) -> None:
    """Become `command`, which is killed when the process `parent` ends."""
    os.setpgid(0, 0)  # Ctrl-C in a terminal reaches only the program, which stops the daemon last
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        daemon = os.getpid()
        if os.fork() == 0:
            _watch(parent, daemon)
    if os.getppid() != parent:  # it died before the signal was set
        sys.exit(1)
    os.execv(command[0], command)


def _watch(parent: int, daemon: int) -> None:
    os.setsid()
    while _lives(daemon):
        if not _lives(parent):
            os.kill(daemon, signal.SIGKILL)
        time.sleep(WATCH_SECONDS)
    os._exit(0)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
