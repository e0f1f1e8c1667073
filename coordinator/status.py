"""Renders a run's status for `coordinator status`."""

from __future__ import annotations

import io

from rich.table import Table

from barnraise.contract.status import RunStatus
from barnraise.core.ids import short
from barnraise.core.plain_text import one_line
from barnraise.runtime.plain_console import PlainConsole


def render(status: RunStatus) -> str:
    """The status as plain text, 100 columns wide.

    A server that is asked may be anybody's: each of its texts is shown as text on one line.
    """
    loss = f"{status.loss:.4f}" if status.loss is not None else "–"
    table = Table(title=f"{len(status.peers)} volunteers", title_justify="left")
    for column in ("name", "key", "round", "tokens", "tokens/s", "seen"):
        table.add_column(column)
    for peer in status.peers:
        table.add_row(
            one_line(peer.name) or "–",
            one_line(short(peer.key)),
            str(peer.round),
            f"{peer.tokens:,}",
            f"{peer.tokens_per_second:.0f}",
            f"{peer.seen_seconds_ago:.0f} s ago",
        )
    text = io.StringIO()
    console = PlainConsole(file=text, width=100, force_terminal=False)
    console.print(f"{one_line(status.run)}: round {status.round}, {one_line(status.phase)}")
    console.print(f"  {one_line(status.waiting_for)}")
    console.print(f"  {one_line(status.length)}")
    console.print(f"  {status.tokens:,} tokens so far, training loss {loss} in the last round")
    console.print(f"  state {one_line(short(status.state))} of round {status.state_round}")
    console.print(f"  newest checkpoint: round {status.checkpoint_round}")
    if status.divergence:
        console.print(f"  training diverges: {one_line(status.divergence)}")
    if not status.rehearsed:
        console.print("  not rehearsed: no step was completed before the run began")
    for fault in status.faults:
        who, device = one_line(short(fault.key)), one_line(fault.device)
        ago = f"{fault.seconds_ago / 60:.0f} minutes ago"
        console.print(f"  {who} reports from {device}, {ago}: {one_line(fault.problem)}")
    if status.evaluation:
        console.print(f"  held-out loss: {one_line(status.evaluation)}")
    for peer in status.peers:
        if peer.not_awaited:
            who = one_line(peer.name) or one_line(short(peer.key))
            console.print(f"  no close waits for {who}: {one_line(peer.not_awaited)}")
    console.print(table)
    return text.getvalue().rstrip()
