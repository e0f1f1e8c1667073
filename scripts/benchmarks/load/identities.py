"""The keys of light volunteers, and the file by which their admissions reach the program that plays them."""

from __future__ import annotations

from pathlib import Path

from barnraise.core.identity import Identity

NEWCOMERS = 1_000_000
"""Numbers from this one on are keys that join and never send a heartbeat."""


def identity_of(number: int) -> Identity:
    """The key of volunteer `number`."""
    return Identity.from_seed(number.to_bytes(31, "big") + b"\x0b")


def read_admissions(file: Path) -> dict[int, str]:
    """The admission of each volunteer that has joined, in base64. The last line may be incomplete."""
    lines = file.read_text(encoding="ascii").split("\n")[:-1] if file.exists() else []
    return {int(number): text for number, _, text in (line.partition(" ") for line in lines)}
