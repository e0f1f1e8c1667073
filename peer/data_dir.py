"""Where a volunteer's key for a run is kept."""

from __future__ import annotations

from pathlib import Path

from platformdirs import user_data_path

PEER_KEY = "peer.key"


def own_folder(given: Path | None, run: str) -> Path:
    """The folder of a volunteer's key and work. given: what was asked for instead of the usual one."""
    return given or user_data_path("barnraise") / "peer" / run
