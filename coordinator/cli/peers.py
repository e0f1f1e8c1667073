"""`coordinator peers`, `ban`, `unban` and `vouch`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from barnraise.core.errors import UserError
from barnraise.core.plain_text import json_text
from barnraise.runtime.console import plain_errors, say
from coordinator.run_folder import JOURNAL, run_folder

if TYPE_CHECKING:
    from barnraise.contract.standing import Level

_run = click.argument("run", metavar="RUN|FOLDER")
_keys = click.argument("keys", nargs=-1, metavar="KEY...")
_note = click.option("--note", default="", metavar="TEXT", help="Why: the log says it to everybody.")


@click.command()
@_run
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with whole keys.")
@plain_errors
def peers(run: str, as_json: bool) -> None:
    """Show the keys that take part or took part in RUN (or FOLDER): standing, contributions, credit, and why.

    A running coordinator brings the list up to date every few seconds. Names are of volunteers who let the
    run name them.
    """
    from coordinator.peers import render
    from coordinator.rounds.peers_file import read_peers
    from coordinator.store.kept_clock import kept_time

    folder = _folder(run)
    found = read_peers(folder)
    say(json_text(found.model_dump(mode="json")) if as_json else render(found, kept_time(folder)))


@click.command()
@_run
@_keys
@click.option("--invitation", metavar="ID", help="Also all keys that this invitation admitted.")
@_note
@plain_errors
def ban(run: str, keys: tuple[str, ...], invitation: str | None, note: str) -> None:
    """Ban KEY... from RUN (or FOLDER), within one round: nobody takes their records or serves them any more.

    KEY: a public key, or its first digits as `coordinator peers` shows them. What a key contributed to the
    open round is dropped; what earlier rounds folded stays.
    """
    _order(run, keys, "banned", note, invitation)
    say("banned once the running coordinator has entered it into the log, within some seconds")


@click.command()
@_run
@_keys
@_note
@plain_errors
def unban(run: str, keys: tuple[str, ...], note: str) -> None:
    """Give KEY... of RUN (or FOLDER) the standing of a new key again."""
    _order(run, keys, None, note, None)
    say("no longer banned once the running coordinator has entered it into the log")


@click.command()
@_run
@_keys
@_note
@plain_errors
def vouch(run: str, keys: tuple[str, ...], note: str) -> None:
    """Trust KEY... of RUN (or FOLDER): they leave probation, and need no invitation.

    In a run with `mode = "allow-list"` this adds them to the list. A key that has not joined is given whole.
    """
    _order(run, keys, "trusted", note, None)
    say("trusted once the running coordinator has entered it into the log")


def _folder(run: str) -> Path:
    folder = run_folder(run)
    if not (folder / JOURNAL).exists():
        raise UserError(f"{folder} has no run", fix="Give the name or the folder of a run of this machine.")
    return folder


def _order(run: str, keys: tuple[str, ...], level: Level | None, note: str, invitation: str | None) -> None:
    from coordinator.peers import chosen_keys
    from coordinator.rounds.standing_orders import leave_order, order_of

    folder = _folder(run)
    leave_order(folder, order_of(chosen_keys(folder, keys, invitation), level, note))
