"""Renders invitations, and whom an invite admits."""

from __future__ import annotations

from datetime import datetime, timezone

from typing_extensions import assert_never

from coordinator.reasons import entrance as reasons


def entrance_message(entrance: reasons.Entrance) -> str:
    """For the maintainer."""
    match entrance:
        case reasons.OpenToAll():
            return "The run is open: everybody who has this invite can join, on probation."
        case reasons.OpenToList(keys):
            listed = "the keys" if keys is None else f"the {keys} keys" if keys != 1 else "the one key"
            return f"It admits {listed} in trust.vouched, and those that `coordinator vouch` adds."
        case reasons.OpenToInvited(id, uses, expires):
            volunteers = "1 volunteer" if uses == 1 else f"{uses} volunteers"
            return f"It admits {volunteers} until {_day(expires)} (invitation {id})."
        case _:
            assert_never(entrance)


def invitation_line(made: reasons.ListedInvitation) -> str:
    """One line of `coordinator invite --list`."""
    if made.revoked:
        state = "revoked"
    elif made.expires < made.now:
        state = f"ended {_day(made.expires)}"
    elif made.used >= made.uses:
        state = "used up"
    else:
        state = f"until {_day(made.expires)}"
    return f"{made.id}  {made.used} of {made.uses} used  {state}"


def _day(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, timezone.utc).strftime("%d %B %Y, %H:%M UTC")
