"""Which copy of a data folder a program runs from, which distinguishes two programs with one key."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

import psutil

from barnraise.core.ids import PublicKey

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def instance_number(folder: Path, owner: PublicKey) -> str:
    """64 bits in hexadecimal, the same for each start from one folder until the machine starts again.

    Another machine, a virtual machine started from a copy, and a copy of the folder have other numbers; a
    folder that is renamed on its disk keeps its own. Nothing of the machine can be read from it. Raises
    OSError.
    """
    facts = folder.stat()
    text = f"barnraise/instance/1/{owner}/{_this_boot()}/{facts.st_dev}/{facts.st_ino}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _this_boot() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:  # not Linux
        return f"{uuid.getnode()}/{psutil.boot_time():.0f}"
