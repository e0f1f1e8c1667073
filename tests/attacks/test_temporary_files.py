"""A user of the same machine makes files in the folder for temporary files, named like our sockets."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from barnraise.network.socket_folder import remove_stale_sockets


@pytest.mark.parametrize("separator", ["-p2pd-", "-"])
@pytest.mark.parametrize("suffix", ["x.sock", "x"])
def test_a_folder_with_the_name_of_a_dead_program_s_socket_ends_nothing(separator: str, suffix: str) -> None:
    """Removing it failed, and with it the start of both programs."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with tempfile.TemporaryDirectory() as elsewhere:
        path = Path(tempfile.gettempdir()) / f"barnraise-{ended.pid}{separator}{suffix}"
        path.symlink_to(elsewhere)
        (Path(elsewhere) / "kept").touch()
        try:
            remove_stale_sockets()
            assert (Path(elsewhere) / "kept").exists()
            path.unlink()
            path.mkdir()
            (path / "theirs").touch()
            if os.geteuid() == 0:
                os.chown(path, 12345, 12345)
            remove_stale_sockets()
        finally:
            shutil.rmtree(path)
