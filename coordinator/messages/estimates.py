"""Renders estimates: the memory of volunteers as a table, and how fast they train."""

from __future__ import annotations

from collections.abc import Sequence

from barnraise.core.units import format_bytes, format_count
from barnraise.models.memory_estimate import Precision
from coordinator.reasons.estimates import MemoryAt, Pace

Rows = list[tuple[str, str]]
"""Label and value."""

_COLUMN = 10
_SAVES = 0.9
"""Activation checkpointing has a row where it needs at most this share of the memory."""
_NAMES: dict[Precision, str] = {"fp32": "fp32", "bf16": "bf16", "8bit": "8 bits", "4bit": "4 bits"}


def memory_rows(memory: Sequence[MemoryAt]) -> Rows:
    """A table: a row for each kind of machine, a column for each precision of the frozen weights."""
    checkpointing = any(at.laptop_checkpointing <= _SAVES * at.laptop for at in memory)
    rows = [
        ("laptop", [at.laptop for at in memory]),
        *_row("  with activation checkpointing", [at.laptop_checkpointing for at in memory], checkpointing),
        ("GPU's own memory", [at.gpu for at in memory]),
        *_row("  with activation checkpointing", [at.gpu_checkpointing for at in memory], checkpointing),
        ("  memory next to that GPU", [at.gpu_host for at in memory]),
    ]
    head = ("", _columns([_NAMES[at.precision] for at in memory]))
    return [head, *((label, _columns([format_bytes(count) for count in row])) for label, row in rows)]


def pace_rows(peers: int, paces: Sequence[Pace]) -> Rows:
    """A row for each kind of machine."""
    return [(format_count(peers, pace.machine), _pace(pace)) for pace in paces]


def _pace(pace: Pace) -> str:
    day = f"{rounded(pace.tokens_a_day)} tokens a day = {rounded(pace.epochs_a_day)} epochs"
    if pace.round_epochs > 1:
        return f"a round trains on the data {rounded(pace.round_epochs)} times; {day}"
    return f"1 epoch in about {format_count(pace.rounds, 'round')}, {_duration(pace.epoch)}; {day}"


def _row(label: str, values: list[int], wanted: bool) -> list[tuple[str, list[int]]]:
    return [(label, values)] if wanted else []


def _columns(cells: list[str]) -> str:
    return "".join(f"{cell:<{_COLUMN}}" for cell in cells).rstrip()


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{rounded(seconds / 3600)} hours" if seconds < 72 * 3600 else f"{seconds / 86_400:,.0f} days"


def rounded(number: float) -> str:
    """To two digits: estimates have no more."""
    digits = float(f"{number:.2g}")
    for size, name in ((1e12, " trillion"), (1e9, " billion"), (1e6, " million")):
        if digits >= size:
            return f"{digits / size:g}{name}"
    return f"{digits:,.0f}" if digits >= 10 else f"{digits:g}"
