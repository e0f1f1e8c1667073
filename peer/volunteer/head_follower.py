"""Following the head: keeps the newest one, and dials the coordinator again where none arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from barnraise.contract.records import Head
from barnraise.contract.rounds import seconds_between
from barnraise.core.ids import Millis
from barnraise.network.swarm import Swarm
from barnraise.runtime.clock_steps import ClockSet
from barnraise.runtime.pauses import Paused
from barnraise.runtime.run_clock import RunClock
from peer.timing import TIMING, Timing
from peer.volunteer.durations import RoundTimer
from peer.volunteer.log_follower import newest_head


@dataclass
class HeadFollower:
    """Holds the newest head, and knows whether it is out of date."""

    head: Head
    swarm: Swarm
    clock: RunClock
    """The run's: each newer head by a run key measures it again."""
    awake: Callable[[], Millis]
    """Measures durations: it leaves pauses out."""
    pauses: Callable[[], Sequence[Paused]]
    """The pauses of this program since the last call."""
    timer: RoundTimer
    notify: Callable[[Paused | ClockSet], None]
    timing: Timing = TIMING
    measures_clock: Callable[[Head], bool] = lambda _: True
    """Whether a head says what the run's time is (`Swarm.measures_clock`)."""
    _when_back: Sequence[Callable[[], None]] = ()
    _resumed: Millis | None = None
    """When a pause ended, until a newer head arrives."""

    def __post_init__(self) -> None:
        self._dialled = self.awake()
        self.pauses()  # nothing was decided yet

    def when_back(self, *acts: Callable[[], None]) -> None:
        """Call `acts` whenever a head arrives from a coordinator that was silent."""
        self._when_back = acts

    async def follow(self) -> None:
        """Keep the head fresh until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self.timing.poll)

    async def look(self) -> None:
        """Take the newest head; dial the coordinator where none arrives, and after a pause."""
        if (step := self.clock.wall_set()) is not None:
            self.notify(step)
        resumed = self._notice_pauses()
        self._take(await newest_head(self.swarm, self.head))
        silent = self.age() > self.timing.reconnect_after
        if resumed or (silent and seconds_between(self._dialled, self.awake()) > self.timing.dial):
            self._dialled = self.awake()
            await self.swarm.reconnect(self.head.bootstrap)

    def _take(self, head: Head) -> None:
        if head.order > self.head.order:
            if self.age() > self.timing.back_after:
                for act in self._when_back:
                    act()
            if self.measures_clock(head):
                self.clock.head_received(Millis(head.at))
            self.head, self._resumed = head, None
            self.timer.head_arrived(self.awake())

    def _notice_pauses(self) -> bool:
        """Whether this program was paused since the last call, for so long that its head is out of date."""
        pauses = self.pauses()
        for pause in pauses:
            self.notify(pause)
        resumed = any(pause.seconds > self.timing.reconnect_after for pause in pauses)
        if resumed:
            self._resumed = self.awake()
        return resumed

    def age(self) -> float:
        """Seconds since the newest head was signed."""
        return max(0.0, seconds_between(Millis(self.head.at), self.clock()))

    def away(self) -> float | None:
        """The age of the newest head where the coordinator is silent, else None."""
        age = self.age()
        return age if age > self.timing.silent_after else None

    def is_outdated(self) -> bool:
        """Whether a pause has just ended and no newer head has arrived, for a while at most."""
        resumed = self._resumed
        return resumed is not None and seconds_between(resumed, self.awake()) < self.timing.reconnect_after
