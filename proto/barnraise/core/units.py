"""Formats numbers of bytes for people."""

from __future__ import annotations


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
