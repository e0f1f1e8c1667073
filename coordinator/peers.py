"""The maintainer's view of the keys of a run, and which of them a command means."""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.table import Table

from barnraise.core.errors import UserError
from barnraise.core.ids import HASH_PATTERN, Millis
from barnraise.core.plain_text import one_line
from barnraise.core.units import format_seconds
from barnraise.runtime.plain_console import PlainConsole
from coordinator.rounds.peers_file import AuditorRow, PeerRow, PeersFile, read_peers

SHORTEST = 8
"""Digits of a key that are shown: more where two keys begin with these."""
_LIST = "`coordinator peers` lists the keys."


def render(found: PeersFile, now: Millis) -> str:
    """Plain text, 110 columns wide."""
    digits = shown_digits([row.key for row in found.peers])
    table = Table(title=f"{len(found.peers)} keys", title_justify="left")
    for column in ("key", "name", "standing", "contributions", "tokens", "audited", "seen", "why"):
        table.add_column(column)
    for row in found.peers:
        table.add_row(
            row.key[:digits],
            one_line(row.name) or "–",
            "closer" if row.closer else row.level,
            str(row.rounds),
            f"{row.tokens:,}",
            str(row.work),
            _seen(row, now),
            one_line(row.why) or "–",
        )
    lines = [_auditor_line(row, digits) for row in found.auditors]
    text = io.StringIO()
    PlainConsole(file=text, width=110, force_terminal=False).print(table)
    return "\n".join([text.getvalue().rstrip(), *lines])


def _auditor_line(row: AuditorRow, digits: int) -> str:
    key = row.key[:digits]
    if row.wrong:
        return f"auditor {key} is not asked any more: {row.wrong}"
    missed = f"; it did not answer the last {row.missed}" if row.missed else ""
    return f"auditor {key}: {row.answered} rounds audited{missed}"


def shown_digits(keys: list[str]) -> int:
    """Digits with which no two keys look alike."""
    digits = SHORTEST
    while digits < 64 and len({key[:digits] for key in keys}) < len(keys):
        digits += 1
    return digits


def chosen_keys(folder: Path, texts: tuple[str, ...], invitation: str | None) -> tuple[str, ...]:
    """The keys that a command names, by whole keys or first digits, or by the invitation that admitted them.

    Raises UserError.
    """
    rows = read_peers(folder).peers if invitation or not all(map(_is_whole, texts)) else ()
    keys = {_chosen(text, rows) for text in texts}
    admitted = {row.key for row in rows if invitation and row.invitation == invitation}
    if invitation and not admitted:
        raise UserError(f"no key was admitted by the invitation {invitation[:40]!r}", fix=_LIST)
    if not keys and not admitted:
        raise UserError("no key is named", fix=f"Give one or more. {_LIST}")
    closers = {row.key for row in rows if row.closer} & keys
    if closers:
        raise UserError(
            f"{min(closers)[:SHORTEST]} is a closer of the run",
            fix="Name other closers first: `coordinator delegate`.",
        )
    return tuple(sorted(keys | admitted))


def _is_whole(text: str) -> bool:
    return re.fullmatch(HASH_PATTERN, text) is not None


def _chosen(text: str, rows: tuple[PeerRow, ...]) -> str:
    if _is_whole(text):
        return text
    found = [row.key for row in rows if row.key.startswith(text.lower())]
    if not text or not found:
        raise UserError(f"no key of the run begins with {text[:80]!r}", fix=_LIST)
    if len(found) > 1:
        raise UserError(f"{len(found)} keys begin with {text[:80]!r}", fix="Give more of its digits.")
    return found[0]


def _seen(row: PeerRow, now: Millis) -> str:
    return "–" if row.seen is None else f"{format_seconds(max(0.0, (now - row.seen) / 1000))} ago"
