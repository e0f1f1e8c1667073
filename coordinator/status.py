"""Renders a run's status for `coordinator status`."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table

from barnraise.contract.status import RunStatus
from barnraise.core.ids import short


def render(status: RunStatus) -> str:
    """The status as plain text, 100 columns wide.

    Volunteers choose their names: none is read as rich's markup, and none controls a terminal.
    """
    loss = f"{status.loss:.4f}" if status.loss is not None else "–"
    table = Table(title=f"{len(status.peers)} volunteers", title_justify="left")
    for column in ("name", "key", "round", "tokens", "tokens/s", "seen"):
        table.add_column(column)
    for peer in status.peers:
        table.add_row(
            peer.name or "–",
            short(peer.key),
            str(peer.round),
            f"{peer.tokens:,}",
            f"{peer.tokens_per_second:.0f}",
            f"{peer.seen_seconds_ago:.0f} s ago",
        )
    text = io.StringIO()
    console = Console(file=text, width=100, force_terminal=False, markup=False)
    console.print(f"{status.run}: round {status.round}, {status.phase}")
    console.print(f"  {status.waiting_for}")
    console.print(f"  {status.tokens:,} tokens so far, training loss {loss} in the last round")
    console.print(f"  state {short(status.state)} of round {status.state_round}")
    console.print(f"  newest checkpoint: round {status.checkpoint_round}")
    if status.divergence:
        console.print(f"  training diverges: {status.divergence}")
    if not status.rehearsed:
        console.print("  not rehearsed: no step was completed before the run began")
    for fault in status.faults:
        ago = f"{fault.seconds_ago / 60:.0f} minutes ago"
        console.print(f"  {short(fault.key)} reports from {fault.device}, {ago}: {fault.problem}")
    if status.evaluation:
        console.print(f"  held-out loss: {status.evaluation}")
    console.print(table)
    return "".join(each if each.isprintable() or each == "\n" else " " for each in text.getvalue()).rstrip()
