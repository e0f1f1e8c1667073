"""How much training survives faults: the real decisions of both programs, on a simulated clock.

A run with faults is compared with the same run without. A fault takes one program away for some seconds:

- a volunteer is killed, and loses what it trained since its last contribution;
- a volunteer is cut off, trains on, and learns of the closes when it is connected again;
- the coordinator is killed, and waits for heartbeats after its start;
- with three closers, another one is killed or cut off. Rounds close where two of the three are there; another
  one leads once it takes the coordinator for silent.

Retained is the share of the rate without faults: tokens in closes for each second that a volunteer lived. A
volunteer's own seconds of being down count neither as training nor as a loss.
"""

from __future__ import annotations

import argparse
import random
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from barnraise.contract.spec import RoundSpec
from coordinator.timing import TIMING
from tests.support.world import HEAD_PAUSE, TICK, World
from tests.support.world_peers import Peer

STEP_TICKS = (1, 2, 3, 4)
"""Ticks of the simulated clock that a step takes, half a second each: 0.5 to 2 s."""
LAG_SECONDS = (0.5, 3.0)
"""From a contribution's end of training until the coordinator sees it."""
FOLD_SECONDS = (0.5, 2.0)
"""To fetch and fold a round."""
WARM_UP = 5
"""Rounds before the measurement."""
LEAST = 0.98
ALONE, SHARED = 1, 3
"""Closers of a run: the coordinator, without and with two others."""
TAKEOVER = round(1000 * TIMING.head * 4)
"""Age of the newest head, in milliseconds, after which another closer leads: `JointClosing.is_silent` for the
second one. Where the coordinator's key comes later in their order, it is one pause of a head less."""


class Victim(Enum):
    """The program that a fault takes away."""

    KILLED = "volunteer killed"
    CUT_OFF = "volunteer cut off"
    COORDINATOR = "coordinator killed"
    CLOSER = "closer killed or cut off"


@dataclass(frozen=True)
class Plan:
    """A simulated run."""

    volunteers: int
    round: RoundSpec
    faults: int
    fault_seconds: float
    every: float
    """Seconds from one fault to the next."""
    seed: int
    victims: Sequence[Victim]
    closers: int = ALONE
    """The coordinator is one of them."""


@dataclass(frozen=True)
class Measured:
    """What a run did in its measured part."""

    tokens: int
    """In closes."""
    lived: float
    """Seconds that volunteers were up, all together."""
    rounds: int
    injected: Counter[Victim]

    @property
    def rate(self) -> float:
        """Tokens in closes for each second that a volunteer lived."""
        return self.tokens / self.lived


@dataclass
class FaultyWorld(World):
    """A `World` whose programs go away for a while."""

    decides_at: int = 0
    """After a start the coordinator waits for heartbeats until then."""
    closers: int = ALONE
    closers_away: int = 0
    """Of those next to the coordinator."""
    taken_over: bool = False
    """Another closer leads."""

    def tick(self) -> None:
        """As of `World`; a closer leads where the coordinator is silent."""
        super().tick()
        others = self.closers - 1 - self.closers_away
        self.taken_over = not self.up and bool(others) and (self.taken_over or self._silent)
        if self.taken_over:
            self._coordinate()

    def take_away(self, victim: Victim, peer: Peer) -> None:
        """peer: the volunteer, where it is one."""
        match victim:
            case Victim.KILLED:
                self.crash(peer)
            case Victim.CUT_OFF:
                self.cut.add(peer.key)
            case Victim.COORDINATOR:
                self.crash_coordinator()
            case Victim.CLOSER:
                self.closers_away += 1

    def bring_back(self, victim: Victim, peer: Peer) -> None:
        """Undo `take_away`, as the programs' starts do."""
        match victim:
            case Victim.KILLED:
                self.restart(peer)
            case Victim.CUT_OFF:
                self.cut.discard(peer.key)
            case Victim.COORDINATOR:
                self.up = True
                self.decides_at = self.now + round(TIMING.first_decision * 1000)
                if self.now > self.window.train_ends:  # as `Session.run`
                    self.opens = self.now
                self._announce_head()
            case Victim.CLOSER:
                self.closers_away -= 1

    def _coordinate(self) -> None:
        """As of `World`, without the commits of closed rounds: a long run has many."""
        for key in [key for key in self.announced if key[0] < self.round]:
            del self.announced[key]
        if self.now >= self.decides_at and self._majority:
            super()._coordinate()
        elif self.now - self.heads[-1].at >= HEAD_PAUSE:
            self._announce_head()

    @property
    def _silent(self) -> bool:
        return self.now - self.heads[-1].at > TAKEOVER

    @property
    def _majority(self) -> bool:
        there = self.closers - self.closers_away - (not self.up)
        return 2 * there > self.closers


def measure(plan: Plan) -> Measured:
    """Simulate one run."""
    draws = random.Random(plan.seed)
    world = FaultyWorld(plan.round, closers=plan.closers)
    for _ in range(plan.volunteers):
        peer = world.join()
        peer.step = TICK * draws.choice(STEP_TICKS)
        peer.lag, peer.fold = (round(1000 * draws.uniform(*span)) for span in (LAG_SECONDS, FOLD_SECONDS))
    while world.round < WARM_UP:
        world.tick()
    folded, rounds, lived = sum(world.folded.values()), world.round, 0
    injected: Counter[Victim] = Counter()
    for number in range(plan.faults + 1):
        peer, victim = draws.choice(list(world.peers.values())), draws.choice(plan.victims)
        away = round(plan.fault_seconds * 1000) if number < plan.faults and plan.fault_seconds else 0
        if away:
            injected[victim] += 1
            world.take_away(victim, peer)
            lived += _advance(world, away)
            world.bring_back(victim, peer)
        lived += _advance(world, round(plan.every * 1000) - away)
    closes = world.round
    while world.round == closes:  # from one close to another: no contribution is in flight
        lived += _advance(world, TICK)
    world.check()
    tokens = sum(world.folded.values()) - folded
    return Measured(tokens, lived / 1000, world.round - rounds, injected)


def victims_of(closers: int) -> tuple[Victim, ...]:
    """The programs of a run with this many closers."""
    return tuple(victim for victim in Victim if closers > 1 or victim is not Victim.CLOSER)


def _advance(world: FaultyWorld, milliseconds: int) -> int:
    """Let time pass; returns the milliseconds that volunteers lived in it, all together."""
    lived = 0
    for _ in range(milliseconds // TICK):
        world.tick()
        lived += TICK * len(world.live)
    return lived


def main() -> int:
    options = _parser().parse_args()
    print(f"- command: `scripts/simulate retention {shlex.join(sys.argv[1:])}`, seed {options.seed}\n")
    print(
        "| a fault each | killed | cut off | coordinator | another closer | rounds: without faults | with |"
        " tokens/s of a volunteer: without | with | retained |"
    )
    print("|" + " ---: |" * 10)
    lowest = 1.0
    spec = RoundSpec(seconds=options.seconds, grace=options.seconds / 2, min_contributions=1)
    for every in options.every:
        victims = victims_of(options.closers)
        plan = Plan(
            options.volunteers, spec, options.faults, options.away, every, options.seed, victims,
            options.closers,
        )  # fmt: skip
        found, without = measure(plan), measure(replace(plan, fault_seconds=0.0))
        retained = found.rate / without.rate
        counts = " | ".join(str(found.injected[victim]) for victim in Victim)
        print(
            f"| {every:g} s | {counts} | {without.rounds} | {found.rounds}"
            f" | {without.rate:.2f} | {found.rate:.2f} | {retained:.2%} |",
            flush=True,
        )
        lowest = min(lowest, retained)
    return 0 if lowest >= LEAST else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/simulate retention", description=__doc__)
    parser.add_argument("--volunteers", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=20.0, help="of a round")
    parser.add_argument("--faults", type=int, default=62)
    parser.add_argument("--away", type=float, default=10.0, help="seconds of a fault")
    parser.add_argument("--every", type=float, nargs="+", default=[60.0, 30.0], help="seconds between two")
    parser.add_argument("--closers", type=int, default=ALONE, choices=(ALONE, SHARED))
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    sys.exit(main())
