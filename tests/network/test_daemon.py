"""No daemon or socket remains."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from barnraise.network.peer_ids import remove_stale_sockets
from tests.support.swarms import HIVEMIND_WARNS, SwarmNode, with_two

pytestmark = HIVEMIND_WARNS


def sockets_of(process: int) -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"barnraise-{process}-*"))


def daemons() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if child.name() == "p2pd"]


def test_no_daemon_or_socket_remains_when_a_node_stops(tmp_path: Path) -> None:
    async def scene(coordinator: SwarmNode, ada: SwarmNode) -> None:
        assert len(daemons()) == 2
        assert sockets_of(os.getpid())

    with_two(tmp_path, scene)
    assert daemons() == []
    assert sockets_of(os.getpid()) == []


def test_sockets_of_dead_programs_are_removed_and_no_others() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    folder = Path(tempfile.gettempdir())
    dead, living, foreign = (
        folder / f"barnraise-{name}-p2pd-test.sock" for name in (ended.pid, os.getpid(), "x")
    )
    try:
        for path in (dead, living, foreign):
            path.touch()
        remove_stale_sockets()
        assert [path.exists() for path in (dead, living, foreign)] == [False, True, True]
    finally:
        for path in (dead, living, foreign):
            path.unlink(missing_ok=True)
