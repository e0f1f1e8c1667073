"""Formats numbers of bytes, times, and lists of numbers for people."""

from __future__ import annotations

from collections.abc import Sequence


def format_bytes(count: int) -> str:
    """In the largest unit below the value (powers of 1,000), with three digits."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.5 or unit == "TB":
            break
    return f"{value:.3g} {unit}"


def format_seconds(seconds: float) -> str:
    """In the largest unit that the time has two of, such as "36 h"; never below seconds."""
    for name, unit in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def format_rounds(rounds: Sequence[int]) -> str:
    """Such as "rounds 4, 8 and 12", or "round 4"; at least one."""
    *before, last = map(str, rounds)
    return f"rounds {', '.join(before)} and {last}" if before else f"round {last}"


def format_weights(round: int, averaged: bool) -> str:
    """What a checkpoint holds. averaged: whether that is a mean of states."""
    return f"mean of states up to round {round}" if averaged else f"round {round}"


def format_count(number: int, noun: str) -> str:
    """Such as "1,200 rounds" or "1 round"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
