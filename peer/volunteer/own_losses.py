"""Whether our contributions lower the loss of our own samples: a hint for us, which nobody else sees. Pure.

It is no verdict: late work, a second epoch and a loss near its minimum look alike.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from barnraise.core.reason import Reason

LAST, MANY = 5, 3
"""Contributions that are remembered, and how many of them are worth a hint."""


@dataclass(frozen=True)
class OwnLossNotLowered(Reason):
    """Several of our last contributions did not lower the loss of our own samples."""

    failed: int
    of: int


@dataclass
class OwnLosses:
    """Of the last contributions."""

    _failed: deque[bool] = field(default_factory=lambda: deque(maxlen=LAST))
    _hinted: bool = False

    def compare(self, before: float, after: float) -> OwnLossNotLowered | None:
        """Note the loss of the same samples before and after the steps of one contribution.

        Returns a hint where many failed, once until fewer did.
        """
        self._failed.append(not after < before)
        failed = sum(self._failed)
        if failed < MANY:
            self._hinted = False
            return None
        hinted, self._hinted = self._hinted, True
        return None if hinted else OwnLossNotLowered(failed, len(self._failed))
