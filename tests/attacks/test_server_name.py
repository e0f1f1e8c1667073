"""A stranger asks the gRPC service for a server name with terminal escapes: nothing of it is printed."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from barnraise.runtime.console import start_logging
from tests.support.programs import ROOT

NAME = "evil\x1b[31mred\x1b]0;title\x07.example"


def ask(port: int) -> None:
    """The service refuses the name or answers with its own certificate; either is fine."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with (
        suppress(OSError),
        socket.create_connection(("127.0.0.1", port)) as connection,
        context.wrap_socket(connection, server_hostname=NAME),
    ):
        pass


def main() -> None:
    """The service of a run in the folder that is the argument, as `coordinator serve` logs."""
    start_logging(debug=False)
    from tests.support.coordinators import opened_store, served, session_of  # as a command: grpc comes later

    async def play() -> None:
        with opened_store(Path(sys.argv[1])) as store:
            async with served(session_of(store)) as invite:
                await asyncio.to_thread(ask, invite.endpoints[0].port)

    asyncio.run(play())
    print("asked")


def test_a_server_name_with_escapes_is_not_printed(tmp_path: Path) -> None:
    code = "from tests.attacks.test_server_name import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True, cwd=ROOT, check=True,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert ran.stdout == b"asked\n"
    assert b"evil" not in ran.stderr
    assert b"\x1b" not in ran.stderr
