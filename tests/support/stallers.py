"""Keys that hold up the rounds of a `World`: each is admitted, and lies in its heartbeats or its commits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from barnraise.contract.records import Commit
from barnraise.contract.spec import RoundSpec
from barnraise.core.ids import Millis, PublicKey, Round
from coordinator.rounds.conduct import RECENT
from tests.support.world import LENGTH, World
from tests.support.world_peers import Peer, Presence

HUGE = 2**53 - 1


@dataclass
class AttackedWorld(World):
    """Honest volunteers, and stallers that act at each tick before the coordinator decides."""

    stallers: list[Staller] = field(default_factory=list)
    joined: int = 0

    @property
    def live(self) -> list[Peer]:
        lying = {staller.peer.key for staller in self.stallers}
        return [peer for peer in super().live if peer.key not in lying]

    def attack(self, act: Callable[[Staller, AttackedWorld], None]) -> Staller:
        """Another staller joins."""
        self.joined += 1
        key = PublicKey(f"{2**200 + self.joined:064x}")
        head = self.heads[-1]
        self.peers[key] = peer = Peer(key, f"staller {self.joined}", head, head.round, head.state)
        self.stallers.append(Staller(peer, act, Round(self.round)))
        return self.stallers[-1]

    def _coordinate(self) -> None:
        for staller in [*self.stallers]:
            staller.act(staller, self)
        super()._coordinate()


@dataclass
class Staller:
    """One key, and how it attacks."""

    peer: Peer
    act: Callable[[Staller, AttackedWorld], None]
    since: Round
    """The round in which it joined."""

    def says(self, world: AttackedWorld, **fields: object) -> None:
        """Send a heartbeat: training in the open round, unless `fields` says otherwise."""
        said = {"round": world.round, "tokens": 0, "at": Millis(world.now), "doing": "training"} | fields
        world.presences[self.peer.key] = Presence(**said)  # type: ignore[arg-type]

    def contributes(self, world: AttackedWorld, *, served: bool = True, tokens: int = LENGTH) -> None:
        """Announce a contribution to the open round, once. served: whether its blob can be fetched."""
        key = self.peer.key
        self.peer.alive = served
        if (world.round, key) in world.announced:
            return
        fields = world._commit_fields(key, world.round, world.states[-1], tokens)
        commit = Commit.model_validate(fields)
        world.announced[world.round, key] = (world.now, commit)
        world.work_in[commit.blob] = tokens
        if served:
            world.trained += tokens

    def age(self, world: AttackedWorld) -> int:
        """Rounds since it joined."""
        return world.round - self.since


# How stallers attack: each is called at every tick.


def says_it_trains(staller: Staller, world: AttackedWorld) -> None:
    staller.says(world)


def says_it_is_late(staller: Staller, world: AttackedWorld) -> None:
    staller.says(world, doing="late")


def sits_out(staller: Staller, world: AttackedWorld) -> None:
    staller.says(world, doing="waiting")


def works_far_ahead(staller: Staller, world: AttackedWorld) -> None:
    staller.says(world, round=Round(2**40 - 1))


def claims_tokens(staller: Staller, world: AttackedWorld) -> None:
    staller.says(world, tokens=HUGE)


def announces_without_serving(staller: Staller, world: AttackedWorld) -> None:
    staller.says(world)
    staller.contributes(world, served=False)


def contributes_every_other_round(staller: Staller, world: AttackedWorld) -> None:
    staller.says(world)
    if staller.age(world) % 2:
        staller.contributes(world)


def contributes_then_stalls(staller: Staller, world: AttackedWorld) -> None:
    """Honest for some rounds, then silent for one, and so on."""
    staller.says(world, tokens=LENGTH)
    if staller.age(world) % (RECENT + 1):
        staller.contributes(world)


def contributes_once(staller: Staller, world: AttackedWorld) -> None:
    staller.says(world)
    if staller.age(world) < 1:
        staller.contributes(world)


def joins_again_with_a_new_key(staller: Staller, world: AttackedWorld) -> None:
    """Silent, with a new key for each round."""
    staller.says(world)
    if staller.age(world) == 1:
        world.attack(joins_again_with_a_new_key)
        staller.act = vanishes


def contributes_with_a_new_key(staller: Staller, world: AttackedWorld) -> None:
    """Contributes to its first round, stalls the next one, and joins with a new key."""
    staller.says(world)
    if not staller.age(world):
        staller.contributes(world)
    elif staller.age(world) == 2:
        world.attack(contributes_with_a_new_key)
        staller.act = vanishes


def vanishes(staller: Staller, world: AttackedWorld) -> None:
    world.presences.pop(staller.peer.key, None)


def rounds_in(spec: RoundSpec, seconds: float, honest: int, attack: object, stallers: int) -> AttackedWorld:
    """A world after `seconds`. attack: one of the functions above; None for none."""
    world = AttackedWorld(spec)
    for number in range(honest):
        peer = world.join()
        peer.step, peer.lag, peer.fold = 500 + 250 * (number % 3), 500 * (number % 4), 500
    end = world.now + seconds * 1000
    for _ in range(stallers if attack is not None else 0):
        world.attack(attack)  # type: ignore[arg-type]
    while world.now < end:
        world.tick()
    return world
