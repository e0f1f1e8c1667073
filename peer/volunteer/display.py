"""What a volunteer's user sees: a live panel on a terminal, lines elsewhere."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from rich.live import Live
from rich.table import Table

from barnraise.core.plain_text import one_line
from barnraise.core.units import format_bytes
from barnraise.runtime.console import say_line
from barnraise.runtime.plain_console import PlainConsole
from peer.volunteer.durations import Advice
from peer.volunteer.own_weight import OwnWeight
from peer.volunteer.reasons import ActionReason, Notice

log = logging.getLogger("peer")

Render = Callable[[ActionReason | Advice | Notice | OwnWeight], str]
"""`peer.messages.volunteer.volunteer_message`."""


@dataclass(frozen=True)
class VolunteerStatus:
    """One moment of a volunteer."""

    run: str
    round: int
    doing: ActionReason
    loss: float
    """Training loss of the last step; 0 before the first."""
    tokens: int
    """Tokens trained in this round."""
    tokens_per_second: float
    peers: int
    up: int
    """Bytes of blobs sent."""
    down: int
    """Bytes of blobs received."""
    state: str
    """The state's hash, shortened."""
    weight: OwnWeight | None = None
    """Of our newest contribution that a close lists."""


class StatusDisplay(Protocol):
    """Shows the status; lines only where it is news."""

    def __enter__(self) -> StatusDisplay: ...

    def __exit__(self, *_: object) -> None: ...

    def show(self, status: VolunteerStatus) -> None: ...

    def advise(self, advice: Advice) -> None: ...

    def notify(self, notice: Notice) -> None: ...


class StatusLines:
    """One line for each new round and each new reason."""

    def __init__(self, render: Render) -> None:
        self._render = render
        self._last: deque[VolunteerStatus] = deque(maxlen=2)
        self._weight: OwnWeight | None = None

    def __enter__(self) -> StatusLines:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def show(self, status: VolunteerStatus) -> None:
        """Print `status` where its round or its reason is news; two reasons that alternate are not."""
        self._show_weight(status.weight)
        known = [last.doing for last in self._last if last.round == status.round]
        if any(not status.doing.is_news_after(reason) for reason in known):
            return
        self._last.append(status)
        loss = f"loss {status.loss:.3f}, " if status.loss else ""
        say_line(
            f"round {status.round}: {self._render(status.doing)} "
            f"({loss}{status.tokens_per_second:.0f} tokens/s, {status.peers} peers, "
            f"up {format_bytes(status.up)}, down {format_bytes(status.down)}, state {status.state})"
        )

    def _show_weight(self, weight: OwnWeight | None) -> None:
        """Log it where other limits hold than before."""
        if weight is not None and weight.is_news_after(self._weight):
            log.info("%s", self._render(weight))
            self._weight = weight

    def advise(self, advice: Advice) -> None:
        """Log `advice`."""
        log.info("%s", self._render(advice))

    def notify(self, notice: Notice) -> None:
        """Log `notice`."""
        log.warning("%s", self._render(notice))


class StatusPanel:
    """A few lines at the bottom of the terminal that change in place."""

    def __init__(self, console: PlainConsole, render: Render) -> None:
        self._live, self._render = Live(console=console, refresh_per_second=4), render

    def __enter__(self) -> StatusPanel:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, status: VolunteerStatus) -> None:
        """Replace the panel."""
        weight = None if status.weight is None else self._render(status.weight)
        self._live.update(_table(status, self._render(status.doing), weight))

    def advise(self, advice: Advice) -> None:
        """Log `advice`."""
        log.info("%s", self._render(advice))

    def notify(self, notice: Notice) -> None:
        """Log `notice`."""
        log.warning("%s", self._render(notice))


def display_for(console: PlainConsole, render: Render) -> StatusDisplay:
    """The display that suits `console`."""
    return StatusPanel(console, render) if console.is_terminal else StatusLines(render)


def _table(status: VolunteerStatus, doing: str, weight: str | None) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    table.add_row(status.run, f"round {status.round}, state {status.state}")
    table.add_row("now", one_line(doing))
    loss = f"{status.loss:.3f}" if status.loss else "–"
    table.add_row(
        "loss", f"{loss}   {status.tokens:,} tokens this round, {status.tokens_per_second:.0f} a second"
    )
    table.add_row(
        "swarm", f"{status.peers} peers, up {format_bytes(status.up)}, down {format_bytes(status.down)}"
    )
    if weight is not None:
        table.add_row("weight", weight)
    return table
