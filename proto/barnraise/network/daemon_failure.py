"""How the libp2p daemon fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from typing_extensions import assert_never

from barnraise.core.errors import Unreachable
from barnraise.core.reason import Reason

log = logging.getLogger("barnraise.swarm")


@dataclass(frozen=True)
class DaemonEnded(Reason):
    """The daemon ended before it was stopped."""

    status: int


@dataclass(frozen=True)
class DaemonHangs(Reason):
    """The daemon runs and does not answer."""


DaemonFailure = DaemonEnded | DaemonHangs


def describe_failure(failure: DaemonFailure) -> str:
    """What happened to the daemon, in words."""
    match failure:
        case DaemonEnded(status):
            return f"the libp2p daemon ended by itself (status {status})"
        case DaemonHangs():
            return "the libp2p daemon no longer answers"
        case _:
            assert_never(failure)


def no_node_answered(bootstrap: Sequence[str]) -> Unreachable:
    """The error of a node that cannot join."""
    return Unreachable(
        f"none of the swarm's nodes answered: {', '.join(bootstrap)}",
        fix="Is the coordinator's libp2p port open to you? Check its --p2p-port and any firewall.",
    )


def quiet_about(lost: type[Exception]) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """An exception handler of event loops. lost: the error of a daemon that is gone.

    hivemind's own tasks, which nothing awaits, fail when the daemon or a neighbour goes.
    """

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if isinstance(context.get("exception"), (OSError, EOFError, lost)):
            log.debug("%s: %s", context["message"], context["exception"])
        else:
            loop.default_exception_handler(context)

    return handle
