"""How long a volunteer's rounds take: its training, its exchange, and the sending of its contribution."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.rounds import seconds_between
from barnraise.core.ids import Millis


@dataclass
class RoundTimer:
    """The last round's times in seconds, 0 before the first; told of the moments as they come."""

    began: Millis
    """When the state that we train from was taken up."""
    train_seconds: float = 0.0
    """From there until we published, or a step where that took longer: it began in an earlier round."""
    exchange_seconds: float = 0.0
    """From publishing until the round was folded."""
    send_seconds: float = 0.0
    """From publishing until somebody had all of it."""
    _published: Millis | None = None

    def published(self, now: Millis, step_seconds: float) -> None:
        self.train_seconds = max(seconds_between(self.began, now), step_seconds)
        self._published = now

    def sent(self, began: Millis, now: Millis) -> None:
        """Somebody has all of what was published at `began`, even if it missed its round's close by that."""
        self.send_seconds = seconds_between(began, now)

    def folded(self, now: Millis) -> None:
        """Where we had not published there was no exchange of ours to time."""
        if self._published is not None:
            self.exchange_seconds = seconds_between(self._published, now)

    def went_over(self, now: Millis) -> None:
        """To a newer state."""
        self.began, self._published = now, None

    def ahead_seconds(self, now: Millis) -> float:
        """Since we published; 0 where we did not yet."""
        return 0.0 if self._published is None else seconds_between(self._published, now)
