"""No daemon or socket remains."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import Process
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from barnraise.network.socket_folder import socket_folder
from barnraise.network.timing import TIMING
from tests.support.swarms import HIVEMIND_WARNS, SwarmNode, presence, until, with_two

pytestmark = HIVEMIND_WARNS


def sockets() -> list[Path]:
    return list(socket_folder().iterdir())


def daemons() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if child.name() == "p2pd"]


def test_no_daemon_or_socket_remains_when_a_node_stops(tmp_path: Path) -> None:
    async def scene(coordinator: SwarmNode, ada: SwarmNode) -> None:
        assert len(daemons()) == 2
        assert sockets()

    with_two(tmp_path, scene)
    assert daemons() == []
    assert sockets() == []


def test_a_daemon_that_hangs_has_ended_when_its_node_stops(tmp_path: Path) -> None:
    """The coordinator's node is the last to stop: no loop runs afterwards."""

    async def scene(coordinator: SwarmNode, ada: SwarmNode) -> Process:
        daemon = coordinator.swarm._daemon
        daemon.timing = replace(TIMING, stop=0.1)
        child: Process = daemon.p2p._child
        os.kill(_p2pd(child.pid), signal.SIGSTOP)
        return child

    assert with_two(tmp_path, scene).returncode == -signal.SIGKILL
    assert daemons() == []


@pytest.mark.parametrize(
    ("whose", "number"), [("coordinator", signal.SIGSTOP), ("ada", signal.SIGKILL), ("ada", signal.SIGSTOP)]
)
def test_a_daemon_that_ends_or_hangs_is_started_again(
    tmp_path: Path, whose: str, number: signal.Signals
) -> None:
    """Records reach the other node afterwards, with the key and the port that the node had before."""

    async def scene(coordinator: SwarmNode, ada: SwarmNode) -> None:
        broken = coordinator if whose == "coordinator" else ada
        daemon = broken.swarm._daemon
        daemon.timing = broken.swarm._timing = replace(
            TIMING, daemon_poll=0.05, daemon_answer=0.5, daemon_restart=0.1
        )
        before = await broken.swarm.addresses()
        child = daemon.p2p._child

        async def is_started_again() -> bool:
            return daemon.p2p._child not in (child, None)

        async def is_reconnected() -> bool:
            return await ada.swarm.reconnect(await coordinator.swarm.addresses())

        async def ada_is_present() -> bool:
            await ada.swarm.publish(presence())
            return ada.key in [peer.owner for peer in await coordinator.swarm.peers()]

        async def work() -> None:
            os.kill(_p2pd(child.pid), number)
            await until(is_started_again)
            await until(is_reconnected)
            await until(ada_is_present)

        await asyncio.wait_for(broken.swarm.guard(work()), 60)
        after = await broken.swarm.addresses()
        assert {address for address in before if "/tcp/" in address} <= set(after)

    with_two(tmp_path, scene)


def test_streams_open_for_as_long_as_a_node_runs(tmp_path: Path) -> None:
    """A QUIC connection whose streams libp2p's daemon did not end takes no more after about 400."""
    count, protocol = 600, "/barnraise/echo"

    async def echo(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(4))
        await reader.read(1)
        writer.close()

    async def scene(coordinator: SwarmNode, ada: SwarmNode) -> int:
        ada.swarm._daemon.timing = replace(TIMING, open_stream=3.0)
        await coordinator.swarm._daemon.serve(protocol, echo)
        echoed = 0
        for _ in range(count):
            reader, writer = await ada.open_stream(coordinator, protocol)
            writer.write(b"ping")
            echoed += await reader.readexactly(4) == b"ping"
            writer.close()
        return echoed

    assert with_two(tmp_path, scene) == count


def _p2pd(pid: int) -> int:
    return next(child.pid for child in daemons() if child.pid == pid)
