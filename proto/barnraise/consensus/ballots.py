"""Who owns a ballot, and how long each closer waits before it begins one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from barnraise.consensus.statements import MAX_BALLOT, Place
from barnraise.contract.certificates import Authorities
from barnraise.core.ids import PublicKey

LEAP = 2**20
"""A closer takes part in no ballot that is further above its last one: no key can use up all numbers.
Closers who begin a ballot every second are as far apart after twelve days."""
MAX_DOUBLINGS = 3


@dataclass(frozen=True)
class Ballots:
    """The ballots of the closers of one place. Ballot b belongs to the closer with index (b - 1) mod n."""

    closers: tuple[PublicKey, ...]
    """The one that proposes first is the first one."""

    @classmethod
    def of(cls, authorities: Authorities, run_key: PublicKey) -> Ballots:
        """The run key, where it is one of them, proposes first; the others follow in the order of keys."""
        return cls(tuple(sorted(authorities.keys, key=lambda key: (key != run_key, key))))

    @property
    def majority(self) -> int:
        """Closers that are needed."""
        return Authorities(self.closers).majority

    def owner(self, ballot: int) -> PublicKey:
        """The closer that may begin `ballot`."""
        return self.closers[(ballot - 1) % len(self.closers)]

    def next_of(self, closer: PublicKey, above: int) -> int:
        """The lowest ballot of `closer` above `above`."""
        index, count = self.closers.index(closer), len(self.closers)
        return above + 1 + (index - above) % count

    def rank(self, closer: PublicKey) -> int:
        """Closers that propose before this one."""
        return self.closers.index(closer)

    def others(self, closer: PublicKey) -> tuple[PublicKey, ...]:
        """All closers but this one."""
        return tuple(key for key in self.closers if key != closer)


@dataclass(frozen=True)
class Pace:
    """How long a closer waits: of closers that wait from one time on, the first ones begin alone.

    With f closers lost, which are fewer than half, one of the first f + 1 is there. It begins within f + 1
    steps; if it is refused, because of a ballot that it did not know, again within as many. So 2 (f + 2)
    steps are a grace. A ballot takes four messages: two of them may take a step.
    """

    grace: int
    """Milliseconds (`round.grace`)."""
    seed: int

    def step(self, ballots: Ballots) -> int:
        """Milliseconds between the first ballots of two closers."""
        lost = (len(ballots.closers) - 1) // 2
        return max(1, self.grace // (2 * (lost + 2)))

    def first_wait(self, ballots: Ballots, closer: PublicKey) -> int:
        """Milliseconds from the time at which a closer has something to propose to its first ballot."""
        return self.step(ballots) * ballots.rank(closer)

    def wait(self, ballots: Ballots, closer: PublicKey, place: Place, contended: int) -> int:
        """Milliseconds from the last sign of another one's ballot, or from the start of its own, to the next.

        contended: ballots that a majority promised and that did not lead to a decision. Each doubles the
        wait, up to a limit: messages take longer than they should. The rest is drawn from the seed, so that
        two closers do not begin at the same time again and again.
        """
        step = self.step(ballots)
        steps = (ballots.rank(closer) + 1) << min(contended, MAX_DOUBLINGS)
        draw = hashlib.sha256(f"{self.seed}/{place.order}/{closer}/{contended}".encode()).digest()
        return step * steps + int.from_bytes(draw[:4], "big") % (step // 4 + 1)


def in_reach(ballot: int, promised: int) -> bool:
    """Whether a closer that promised one ballot may go on to another one."""
    return ballot <= min(promised + LEAP, MAX_BALLOT)
