"""Small disks that a test can fill: one tmpfs for each program's folder. Mounting needs root on Linux."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

DISK_BYTES = 256 * 2**20
FILL = "fill"


@dataclass
class Disks:
    """Small disks; where `can_mount` is False, folders of the large disk."""

    can_mount: bool
    _mounted: list[Path] = field(default_factory=list)

    def small(self, folder: Path) -> None:
        """Make `folder`, on a disk of its own."""
        folder.mkdir(parents=True)
        if self.can_mount:
            options = f"size={DISK_BYTES},mode=755"
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
            self._mounted.append(folder)

    def fill(self, folder: Path) -> None:
        """Leave no free block."""
        with (folder / FILL).open("wb", buffering=0) as file:
            for size in (2**20, 2**12):
                while True:
                    try:
                        if file.write(bytes(size)) < size:
                            break
                    except OSError:
                        break

    def free(self, folder: Path) -> None:
        """Undo `fill`."""
        (folder / FILL).unlink()

    def unmount(self) -> None:
        """Remove the disks with all that is on them."""
        while self._mounted:
            subprocess.run(["umount", "--lazy", self._mounted.pop()], check=True)


@contextmanager
def disks() -> Iterator[Disks]:
    """Small disks, removed at the end. Without root they are ordinary folders."""
    made = Disks(sys.platform == "linux" and os.geteuid() == 0)
    try:
        yield made
    finally:
        made.unmount()
