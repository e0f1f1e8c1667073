"""The folder of a volunteer's key and work."""

from __future__ import annotations

from pathlib import Path

from platformdirs import user_data_path

PEER_KEY = "peer.key"


def own_folder(given: Path | None, run: str) -> Path:
    """The folder for `run`. given: the one that --data-dir names, if any."""
    return given or user_data_path("barnraise") / "peer" / run
