"""Why no coordinator answers: each cause is found with a real socket."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

import pytest

from peer.timing import TIMING
from peer.unreachable import (
    ConnectionRefused,
    CoordinatorUnreachable,
    NameNotFound,
    NoReply,
    NotGrpc,
    Speaks,
    ThroughProxy,
    TooManyCalls,
    UnreachableCause,
    describe,
    diagnose,
    proxy_of,
)

QUICK = replace(TIMING, diagnosis=0.2)


def diagnosed(answer: bytes | None) -> UnreachableCause:
    """The cause where a server sends `answer`; None: it says nothing."""

    async def run() -> UnreachableCause:
        asked = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if answer is None:
                await asked.wait()
            else:
                writer.write(answer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            return await diagnose("127.0.0.1", port, "unavailable", {}, QUICK)
        finally:
            asked.set()
            server.close()

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", NotGrpc(Speaks.HTTP)),
        (b"\x15\x03\x01\x00\x02\x02\x46", NotGrpc(Speaks.TLS)),
        (b"SSH-2.0-OpenSSH_9.6\r\n", NotGrpc(Speaks.OTHER)),
        (b"", NotGrpc(Speaks.OTHER)),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", NoReply("unavailable")),
        (None, NoReply("unavailable")),
    ],
)
def test_a_server_is_known_by_what_it_sends(answer: bytes | None, cause: UnreachableCause) -> None:
    assert diagnosed(answer) == cause


def test_a_port_without_a_program_refuses() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found = asyncio.run(diagnose("127.0.0.1", free.getsockname()[1], "unavailable", {}, QUICK))
    assert found == ConnectionRefused()


def test_a_name_that_nobody_has_is_named() -> None:
    found = asyncio.run(diagnose("nobody.invalid", 1, "unavailable", {}, replace(TIMING, diagnosis=30.0)))
    assert found == NameNotFound("nobody.invalid")


@pytest.mark.parametrize("variable", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_a_proxy_is_named_by_its_variable_and_without_its_password(variable: str) -> None:
    environment = {variable: "http://ada:secret@proxy.example:3128"}
    found = proxy_of("barn.example", environment)
    assert found == ThroughProxy(variable, "proxy.example:3128")
    assert "secret" not in describe(found)


@pytest.mark.parametrize("exempt", [{"no_proxy": "barn.example"}, {"no_grpc_proxy": "barn.example"}])
def test_an_exempt_host_has_no_proxy(exempt: dict[str, str]) -> None:
    assert proxy_of("barn.example", {"http_proxy": "proxy:1", **exempt}) is None


def test_a_coordinator_that_limits_our_calls_is_described() -> None:
    error = CoordinatorUnreachable("barn.example:7451", TooManyCalls("your key calls too often"))
    assert "answers no more calls for now (your key calls too often)" in error.problem
    assert "by itself" in error.fix
