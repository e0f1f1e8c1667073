"""`coordinator invite`."""

from __future__ import annotations

import re

import click

from barnraise.core.errors import UserError
from barnraise.runtime.console import plain_errors, say
from coordinator.run_folder import run_folder


@click.command()
@click.argument("run", metavar="RUN|FOLDER")
@click.option(
    "--uses", type=click.IntRange(1, 100_000), default=20, show_default=True, help="Volunteers it admits."
)
@click.option(
    "--days", type=click.IntRange(1, 3650), default=7, show_default=True, help="Days that it is valid."
)
@click.option("--list", "listed", is_flag=True, help="List the invitations that were made here.")
@click.option("--revoke", metavar="ID", help="Let an invitation admit nobody any more.")
@plain_errors
def invite(run: str, uses: int, days: int, listed: bool, revoke: str | None) -> None:
    """Make an invite to RUN that admits a number of volunteers for some days.

    It is signed by the run's key, and needs no running coordinator. A volunteer that joins again, or renews
    its admission, does not count. Those whom an invitation admitted stay when it ends or is revoked.

    RUN: the name of a run that is served on this machine without --data-dir. FOLDER: the folder of a run.
    """
    from coordinator.messages.invitations import entrance_message, invitation_line
    from coordinator.recovery.key_copies import needed_key
    from coordinator.rounds.invitations import known_invite, listed_invitations, make_invite
    from coordinator.rounds.standing_orders import StandingOrder, leave_order

    folder = run_folder(run)
    known = known_invite(folder)
    if listed:
        for each in listed_invitations(folder, known.parsed.run):
            say(invitation_line(each))
        return
    if revoke is not None:
        if not re.fullmatch("[0-9a-f]{16}", revoke):
            raise UserError(f"{revoke[:40]!r} is no invitation", fix="--list shows their ids.")
        leave_order(folder, StandingOrder(revoked=(revoke,)))
        say(f"{revoke} will be revoked by the running coordinator, within some seconds")
        return
    made = make_invite(folder, known, lambda: needed_key(folder), uses, days)
    say(f"peer join '{made.invite}'\n")
    say(entrance_message(made.entrance))
