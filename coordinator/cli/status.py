"""`coordinator status`."""

from __future__ import annotations

import asyncio

import click

from barnraise.contract.invite import SCHEME, parse_invite
from barnraise.core.plain_text import json_text
from barnraise.runtime.console import plain_errors, say
from coordinator.cli.options import DEFAULT_PORT


@click.command()
@click.argument("address", metavar="[HOST:PORT|INVITE]", default=f"127.0.0.1:{DEFAULT_PORT}")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@plain_errors
def status(address: str, as_json: bool) -> None:
    """Show the status of the run at HOST:PORT or of INVITE.

    Only an invite says whose key to check. Default: the coordinator on this machine, at 127.0.0.1:7451.
    """
    from coordinator.grpc_service import ask_first, ask_status
    from coordinator.status import render

    if address.startswith(SCHEME):
        found = asyncio.run(ask_first(parse_invite(address)))
    else:
        found = asyncio.run(ask_status(address))
    say(json_text(found.model_dump(mode="json")) if as_json else render(found))
