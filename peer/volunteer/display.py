"""What a volunteer sees: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from barnraise.core.units import format_bytes


@dataclass(frozen=True)
class VolunteerStatus:
    run: str
    round: int
    doing: str
    """What goes on and why."""
    loss: float
    """Training loss of the last step; 0 before the first."""
    tokens: int
    """Tokens trained in this round."""
    tokens_per_second: float
    peers: int
    up: int
    """Bytes of blobs sent."""
    down: int
    state: str
    """The state's hash, shortened."""


class StatusDisplay(Protocol):
    def __enter__(self) -> StatusDisplay: ...

    def __exit__(self, *_: object) -> None: ...

    def show(self, progress: VolunteerStatus) -> None: ...


class StatusLines:
    """One line whenever the reason changes (seconds that pass are no change)."""

    def __init__(self) -> None:
        self._last = ""

    def __enter__(self) -> StatusLines:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def show(self, progress: VolunteerStatus) -> None:
        kind = f"{progress.round} {re.sub(r'[0-9.]+', '', progress.doing)}"
        if kind == self._last:
            return
        self._last = kind
        loss = f"loss {progress.loss:.3f}, " if progress.loss else ""
        click.echo(
            f"round {progress.round}: {progress.doing} "
            f"({loss}{progress.tokens_per_second:.0f} tokens/s, {progress.peers} peers, "
            f"up {format_bytes(progress.up)}, down {format_bytes(progress.down)}, state {progress.state})"
        )


class StatusPanel:
    """A few lines at the bottom of the terminal that change in place."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=4)

    def __enter__(self) -> StatusPanel:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, progress: VolunteerStatus) -> None:
        self._live.update(_table(progress))


def display_for(console: Console) -> StatusDisplay:
    return StatusPanel(console) if console.is_terminal else StatusLines()


def _table(progress: VolunteerStatus) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    table.add_row(progress.run, f"round {progress.round}, state {progress.state}")
    table.add_row("now", progress.doing)
    loss = f"{progress.loss:.3f}" if progress.loss else "–"
    table.add_row(
        "loss", f"{loss}   {progress.tokens:,} tokens this round, {progress.tokens_per_second:.0f} a second"
    )
    table.add_row(
        "swarm", f"{progress.peers} peers, up {format_bytes(progress.up)}, down {format_bytes(progress.down)}"
    )
    return table
