"""A port that another program uses is named before anything starts."""

from __future__ import annotations

import socket

import pytest

from barnraise.core.errors import MachineError, UserError
from coordinator.addresses.reserved_ports import reserve

HERE = "127.0.0.1"


@pytest.mark.parametrize(
    ("kind", "option", "transport"),
    [
        (socket.SOCK_STREAM, "--port", "TCP"),
        (socket.SOCK_STREAM, "--p2p-port", "TCP"),
        (socket.SOCK_DGRAM, "--p2p-port", "UDP"),
        (socket.SOCK_STREAM, "--http-port", "TCP"),
    ],
)
def test_a_taken_port_is_named(kind: socket.SocketKind, option: str, transport: str) -> None:
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind((HERE, 0))
        taken = other.getsockname()[1]
        ports = {"--port": 0, "--p2p-port": 0, "--http-port": 0} | {option: taken}
        with pytest.raises(MachineError) as caught, reserve(HERE, *ports.values()):
            pass
    assert f"{transport} port {taken} of {HERE}, the {option}," in caught.value.problem


def test_reserved_ports_are_held_until_they_are_released() -> None:
    with reserve(HERE, 0, 0, 0) as first:
        bound = first.bound
        with pytest.raises(MachineError), reserve(HERE, bound.port, 0, 0):
            pass
        first.release()
        with reserve(HERE, bound.port, bound.p2p_port, bound.http_port) as second:
            assert second.bound == bound
    assert len({bound.port, bound.p2p_port, bound.http_port}) == 3


def test_two_servers_cannot_have_one_port() -> None:
    with pytest.raises(UserError) as caught, reserve(HERE, 7451, 7451, 0):
        pass
    assert "--port and --p2p-port are both 7451" in caught.value.problem


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(UserError) as caught, reserve("192.0.2.1", 0, 0, 0):
        pass
    assert "192.0.2.1" in caught.value.problem
