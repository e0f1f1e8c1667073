"""The folder of a volunteer's key and work."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path

from barnraise.core.identity import Identity

PEER_KEY = "peer.key"


def own_folder(given: Path | None, run: str) -> Path:
    """The folder for `run`. given: the one that --data-dir names, if any."""
    return given or user_data_path("barnraise") / "peer" / run


def own_key(folder: Path) -> Identity:
    """The key in a volunteer's folder, also while the volunteer runs there. A new one is made in a folder of
    this user alone.

    Raises StateError, MachineError, DiskFull, FolderInUse.
    """
    from barnraise.runtime.files import load_identity, owned_folder

    key = folder / PEER_KEY
    if os.path.lexists(key):
        return load_identity(key)
    with owned_folder(folder, "volunteer"):
        return load_identity(key)
