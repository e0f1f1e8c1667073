"""Files whose bytes are not those that their name promises: moved to a folder of their own, not deleted.

What is damaged may be the only trace of a fault of the disk, or be repairable by hand. The folder is bounded.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from barnraise.runtime.files import disk_errors, flush, make_folder
from barnraise.runtime.machine_clocks import utc_now

DAMAGED = "damaged"
"""Name of the folder, next to what the files were in."""
KEEP_BYTES = 1_000_000_000
"""Of damaged files: above it the oldest are removed, but never the newest."""


@dataclass(frozen=True)
class DamagedFiles:
    """The damaged files of one program's folder, each named by when it was set aside and what it was."""

    folder: Path
    keep_bytes: int = KEEP_BYTES

    def set_aside(self, file: Path, now: datetime | None = None) -> Path:
        """Move a file or a folder here, and return its new path. Raises DiskFull, MachineError."""
        target = self.folder / f"{now or utc_now():%Y%m%dT%H%M%S.%fZ}-{file.name}"
        with disk_errors(target):
            make_folder(self.folder)
            os.replace(file, target)
            flush(self.folder)
            flush(file.parent)
            self._bound(target)
        return target

    def _bound(self, newest: Path) -> None:
        """Names sort by time."""
        rest = self.keep_bytes - _size(newest)
        for path in sorted(self.folder.iterdir(), reverse=True):
            if path == newest:
                continue
            rest -= _size(path)
            if rest < 0 and path.is_dir():
                shutil.rmtree(path)
            elif rest < 0:
                path.unlink()


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())
