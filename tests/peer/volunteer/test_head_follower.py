"""Following the head, after pauses and outages too."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from barnraise.contract.records import Head
from barnraise.core.ids import Millis
from barnraise.network.swarm import Swarm
from barnraise.runtime.clock_steps import ClockSet
from barnraise.runtime.pauses import Paused
from barnraise.runtime.run_clock import RunClock
from peer.volunteer.durations import RoundTimer
from peer.volunteer.head_follower import HeadFollower
from tests.support import parts

PAUSE = Paused(60.0, asleep=False)


@dataclass
class FakeSwarm:
    """Has at most one head, and counts the dials."""

    found: Sequence[Head] = ()
    dials: int = 0

    async def heads(self) -> Sequence[Head]:
        return self.found

    async def reconnect(self, _: Sequence[str]) -> bool:
        self.dials += 1
        return True


@dataclass
class Stage:
    """A follower whose head is as old as the test says."""

    now: Millis = parts.NOW
    pauses: list[Paused] = field(default_factory=list)
    notices: list[Paused | ClockSet] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.wall = self.now
        self.swarm, self.timer = FakeSwarm(), RoundTimer(self.now)
        self.heads = HeadFollower(
            self.head(self.now),
            cast(Swarm, self.swarm),
            RunClock(lambda: self.now, lambda: self.wall),
            lambda: self.now,
            self._pauses,
            self.timer,
            self.notices.append,
        )

    def head(self, at: int) -> Head:
        return parts.head().model_copy(update={"at": at})

    def look(self, *, after: float, head: bool = False) -> None:
        """after: seconds since the last call. head: whether a new head arrived."""
        self.now = Millis(self.now + round(1000 * after))
        self.wall = Millis(self.wall + round(1000 * after))
        if head:
            self.swarm.found = [self.head(self.now)]
        asyncio.run(self.heads.look())

    def _pauses(self) -> list[Paused]:
        seen, self.pauses = self.pauses, []
        return seen


def test_a_head_after_a_silence_means_that_the_coordinator_is_back() -> None:
    stage, acts = Stage(), list[str]()
    stage.heads.when_back(lambda: acts.append("try again"))
    stage.look(after=6, head=True)
    assert acts == []
    stage.look(after=9)
    assert acts == []
    stage.look(after=1, head=True)
    assert acts == ["try again"]


def test_a_silent_coordinator_is_dialled_at_intervals() -> None:
    stage = Stage()
    stage.look(after=14)
    assert stage.swarm.dials == 0
    stage.look(after=2)
    stage.look(after=4)
    assert stage.swarm.dials == 1
    stage.look(after=2)
    assert stage.swarm.dials == 2
    stage.look(after=10, head=True)
    assert (stage.swarm.dials, stage.heads.age()) == (2, 0.0)


def test_after_a_pause_the_coordinator_is_dialled_at_once() -> None:
    stage = Stage()
    stage.pauses = [PAUSE]
    stage.look(after=0)
    assert (stage.notices, stage.swarm.dials, stage.heads.is_outdated()) == ([PAUSE], 1, True)
    stage.look(after=1, head=True)
    assert (stage.swarm.dials, stage.heads.is_outdated()) == (1, False)


def test_a_pause_before_the_start_is_none() -> None:
    stage = Stage(pauses=[PAUSE])
    stage.look(after=0)
    assert (stage.notices, stage.swarm.dials, stage.heads.is_outdated()) == ([], 0, False)


def test_after_a_short_pause_the_head_is_not_out_of_date() -> None:
    stage = Stage()
    stage.pauses = [Paused(15.0, asleep=False)]
    stage.look(after=0)
    assert (len(stage.notices), stage.swarm.dials, stage.heads.is_outdated()) == (1, 0, False)


def test_after_a_pause_a_silent_coordinator_is_not_awaited() -> None:
    stage = Stage()
    stage.pauses = [PAUSE]
    stage.look(after=0)
    stage.look(after=14)
    assert stage.heads.is_outdated()
    stage.look(after=2)
    assert not stage.heads.is_outdated()


def test_a_time_without_heads_is_an_outage() -> None:
    stage = Stage()
    stage.look(after=5, head=True)
    stage.timer.published(stage.now)
    stage.look(after=60, head=True)
    stage.timer.folded(Millis(stage.now + 2000))
    assert stage.timer.measured(stage.now).exchange == 2.0


def test_an_older_head_is_not_taken() -> None:
    stage = Stage()
    stage.swarm.found = [stage.head(stage.now - 1)]
    stage.look(after=0)
    assert stage.heads.head.at == stage.now


def test_a_machine_whose_clock_was_set_keeps_the_run_s_clock() -> None:
    stage = Stage()
    stage.wall = Millis(stage.wall - 600_000)
    stage.look(after=1)
    assert (stage.notices, stage.heads.age()) == ([ClockSet(-600.0)], 1.0)


def test_a_newer_head_sets_the_run_s_clock() -> None:
    stage = Stage()
    ahead = Millis(stage.now + 600_000)
    stage.swarm.found = [stage.head(ahead)]
    stage.look(after=0)
    assert (stage.heads.clock(), stage.heads.age()) == (ahead, 0.0)


def test_a_head_of_a_later_epoch_is_taken_although_its_time_is_earlier() -> None:
    """The run was recovered on another machine, whose clock is behind the one before."""
    stage = Stage()
    recovered = Millis(stage.now - 600_000)
    stage.swarm.found = [stage.head(recovered).model_copy(update={"epoch": stage.heads.head.epoch + 1})]
    stage.look(after=60)
    assert (stage.heads.head.at, stage.heads.clock()) == (recovered, recovered)
