"""`coordinator rollback` and `continue`."""

from __future__ import annotations

from pathlib import Path

import click

from barnraise.core.errors import UserError
from barnraise.runtime.console import plain_errors, say
from coordinator.run_folder import JOURNAL, run_folder

_run = click.argument("run", metavar="RUN|FOLDER")
_note = click.option("--note", default="", metavar="TEXT", help="Why: the log says it to everybody.")


@click.command()
@_run
@click.option("--to", type=click.IntRange(min=0), required=True, metavar="ROUND", help="Its state is taken.")
@click.option("--ban", "banned", multiple=True, metavar="KEY", help="Ban a key with it; may be repeated.")
@_note
@plain_errors
def rollback(run: str, to: int, banned: tuple[str, ...], note: str) -> None:
    """Have RUN (or FOLDER) go on from the state that it had at the beginning of ROUND.

    What was contributed from ROUND up to the open round is void: nothing of it is folded again, nor counted,
    and checkpoints of rounds after ROUND are withdrawn. Round numbers go on rising. Volunteers follow by
    themselves, and drop what they trained since. It is an entry of the log, signed by the run key.

    KEY: a public key, or its first digits as `coordinator peers` shows them. --ban names whose contributions
    are the reason.
    """
    from coordinator.peers import chosen_keys
    from coordinator.rounds.rollback_order import RollbackOrder, leave_rollback

    folder = _folder(run)
    keys = chosen_keys(folder, banned, None) if banned else ()
    leave_rollback(folder, RollbackOrder(to=to, banned=tuple(sorted(set(keys))), note=note[:400]))
    say(f"the run goes back to the state of round {to} once the coordinator has entered it into the log")


@click.command("continue")
@_run
@plain_errors
def continue_run(run: str) -> None:
    """Have RUN (or FOLDER), which is halted, go on from its newest state.

    A run halts where audits ban keys soon after a rollback and the losses rose again. `coordinator rollback`
    has it go on as well, from an earlier state.
    """
    from coordinator.rounds.standing_orders import StandingOrder, leave_order

    leave_order(_folder(run), StandingOrder(continues=True))
    say("the run continues once the running coordinator has entered it into the log")


def _folder(run: str) -> Path:
    folder = run_folder(run)
    if not (folder / JOURNAL).exists():
        raise UserError(f"{folder} has no run", fix="Give the name or the folder of a run of this machine.")
    return folder
