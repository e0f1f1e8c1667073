"""The words for calls that are refused because there are too many."""

from __future__ import annotations

from typing_extensions import assert_never

from coordinator.reasons.calls import TooMany, TooManyNewKeys, TooManyOfAddress, TooManyOfKey


def too_many_message(reason: TooMany) -> tuple[str, str]:
    """Problem and fix."""
    match reason:
        case TooManyOfAddress(wait):
            problem = "your address calls too often"
        case TooManyOfKey(wait):
            problem = "your key calls too often"
        case TooManyNewKeys(wait):
            problem = "too many new volunteers joined from your address"
        case _:
            assert_never(reason)
    return problem, f"Wait {max(1.0, wait):.0f} s and try again; a volunteer that runs does so by itself."
