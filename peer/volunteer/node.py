"""Takes part in a run's swarm: from an invite to a node that is admitted and kept connected."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from barnraise.contract.charter import Charter
from barnraise.contract.invite import Invite
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.records import Head
from barnraise.core.identity import Identity
from barnraise.core.signed import Signed
from barnraise.core.strict import Strict
from barnraise.network.address_file import AddressFile, load_book
from barnraise.network.address_search import AddressSearch
from barnraise.network.address_upkeep import AddressUpkeep
from barnraise.network.blobs.rate_limiter import Caps
from barnraise.network.swarm import Swarm
from barnraise.runtime.awake_clock import AwakeClock
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.clock_steps import ClockSet
from barnraise.runtime.files import load_identity
from barnraise.runtime.instance import instance_number
from barnraise.runtime.machine_clocks import wall_ms
from barnraise.runtime.pauses import Paused
from barnraise.runtime.run_clock import RunClock
from barnraise.runtime.stop_signals import on_stop_signals
from barnraise.runtime.waits import until_first
from peer.coordinator_client import CoordinatorClient, Joined
from peer.coordinator_search import CoordinatorSearch
from peer.data_dir import PEER_KEY
from peer.timing import Timing
from peer.volunteer.admission_renewal import AdmissionRenewal
from peer.volunteer.durations import RoundTimer
from peer.volunteer.head_follower import HeadFollower
from peer.volunteer.waiting import persist

log = logging.getLogger("peer")

V = TypeVar("V")


class NetworkSettings(Strict):
    """Of this machine."""

    listen: tuple[str, ...]
    """Multiaddresses that the libp2p daemon listens on."""
    max_upload: int | None
    """Limit for sending blobs, bytes a second; None: no limit."""
    max_download: int | None
    """Limit for receiving blobs, bytes a second; None: no limit."""


@dataclass(frozen=True)
class Entered:
    """The coordinator has admitted our key."""

    joined: Joined
    clock: RunClock
    """The run's."""
    search: CoordinatorSearch
    admission: AdmissionRenewal
    keys: KeysInForce

    @property
    def charter(self) -> Charter:
        """The run's."""
        return self.joined.charter

    @property
    def identity(self) -> Identity:
        """Ours."""
        return self.admission.identity


@dataclass(frozen=True)
class Node:
    """A node of the run's swarm, and what its parts share."""

    identity: Identity
    charter: Charter
    head: Head
    """The head at joining."""
    swarm: Swarm
    blobs: BlobStore
    clock: RunClock
    awake: AwakeClock
    keys: KeysInForce
    timing: Timing
    admission: AdmissionRenewal
    search: CoordinatorSearch
    addresses: AddressSearch

    async def kept(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` while the node is connected and admitted; stop the node at its end."""
        parallel = [
            asyncio.create_task(self.admission.keep(self.clock)),
            asyncio.create_task(self.addresses.run()),
        ]
        try:
            await self.swarm.guard(until_first(work, self.admission.until_banned()))
        finally:
            for task in parallel:
                task.cancel()
            await self.swarm.stop()

    def head_follower(self, timer: RoundTimer, notify: Callable[[Paused | ClockSet], None]) -> HeadFollower:
        """Follows the swarm's heads."""
        awake = self.awake
        return HeadFollower(
            self.head,
            self.swarm,
            self.clock,
            awake,
            awake.pauses,
            timer,
            notify,
            self.timing,
            self.swarm.measures_clock,
        )


async def enter(invite: Invite, folder: Path, name: str, *, credit: bool, timing: Timing) -> Entered:
    """Have the coordinator admit the key in `folder`; it is waited for."""
    identity = load_identity(folder / PEER_KEY)
    instance = instance_number(folder, identity.public)
    book = load_book(folder, invite.run, KeysInForce.alone(invite.key), wall_ms())
    search = CoordinatorSearch(invite, book, wall_ms, timing)

    async def claim(api: CoordinatorClient) -> tuple[Joined, RunClock]:
        clock = await api.clock()  # the claim states the run's time
        return await api.join(identity, name, clock, instance=instance, credit=credit), clock

    joined, clock = await persist(lambda: search.ask(claim), identity.public, timing)
    book.learn_head(joined.signed_head)
    keys = KeysInForce.of(joined.charter)
    keys.heard(joined.head.epoch, joined.head.successors, joined.charter.run)
    admission = AdmissionRenewal(
        lambda: search.invite, identity, name, instance, credit, joined.admission, timing, keys
    )
    return Entered(joined, clock, search, admission, keys)


async def start_node(entered: Entered, awake: AwakeClock, folder: Path, network: NetworkSettings) -> Node:
    """Raises Unreachable."""
    joined, search, admission, keys = entered.joined, entered.search, entered.admission, entered.keys
    identity, timing, charter = admission.identity, admission.timing, joined.charter
    blobs = BlobStore(folder / "blobs")
    swarm = await Swarm.start(
        identity,
        charter.run,
        keys,
        clock=entered.clock,
        blobs=blobs,
        folder=folder,
        listen=network.listen,
        bootstrap=joined.head.bootstrap,
        caps=Caps(network.max_upload, network.max_download),
        book=search.book,
        admission=admission.text,
    )
    upkeep = AddressUpkeep(swarm, AddressFile(folder, search.book), identity.public, keys)
    asking = functools.partial(_newest_head, search, admission, entered.clock)
    addresses = AddressSearch(swarm, upkeep, asking, entered.clock, silent_after=timing.reconnect_after)
    return Node(
        identity, charter, joined.head, swarm, blobs, entered.clock, awake, keys, timing, admission, search,
        addresses,
    )  # fmt: skip


async def _newest_head(
    search: CoordinatorSearch, admission: AdmissionRenewal, clock: RunClock
) -> Signed[Head] | None:
    """The head by gRPC, where the run's nodes are silent: they are away, or have banned us."""
    head = await search.newest_head()
    if head is not None:
        await admission.ask_again(clock)
    return head


async def or_leave(preparing: Coroutine[Any, Any, V], leaving: asyncio.Event) -> V:
    """The result. Ctrl-C ends the program at once: nothing was done that could be sent."""
    task, left = asyncio.create_task(preparing), asyncio.create_task(leaving.wait())
    await asyncio.wait([task, left], return_when=asyncio.FIRST_COMPLETED)
    left.cancel()
    if not task.done():
        task.cancel()
        await asyncio.wait([task])  # closes the display
        log.info("left before the work began; the same command continues")
        os._exit(130)  # threads that load a model cannot be stopped
    return task.result()


def leave_on_signals() -> asyncio.Event:
    """The first Ctrl-C asks to leave, the second stops at once. A closed terminal only asks."""
    leaving = asyncio.Event()

    def handle() -> None:
        if leaving.is_set():
            os._exit(130)
        log.info("leaving; Ctrl-C again to stop at once")
        leaving.set()

    def hang_up() -> None:
        if not leaving.is_set():
            handle()

    on_stop_signals(handle, hang_up)
    return leaving
