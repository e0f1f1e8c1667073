"""Measured rates in bytes a second, smoothed. Pure."""

from __future__ import annotations


def smoothed_rate(before: float | None, newest: float, weight: float) -> float:
    """Exponentially weighted average of a rate. before: None before the first measurement. weight: of
    `newest`."""
    return newest if before is None else (1 - weight) * before + weight * newest
