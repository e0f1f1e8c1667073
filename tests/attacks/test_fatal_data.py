"""Data that passes every check and makes a computation fail: the peer is named, and the loop goes on.

No such data is known, so faults are injected where the programs compute with what one peer sent.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from barnraise.contract.records import Commit, Presence
from barnraise.core.errors import BarnraiseError, MalformedRecord
from barnraise.core.ids import PublicKey
from barnraise.core.signed import sign
from barnraise.network.dht_poller import DhtPoller
from barnraise.runtime.peer_faults import BY_DATA, PeerFaults, as_malformed
from coordinator.reasons.rounds import InvalidBlob
from coordinator.rounds import contributions
from coordinator.rounds.membership import Membership
from coordinator.store.run_store import RunStore
from tests.support import parts, virtual_time
from tests.support.attacked import Attacked
from tests.support.coordinators import opened_store, reopened
from tests.support.transfers import Net

HOSTILE, HONEST = parts.BEN, parts.ADA
HOSTILE_KEY = PublicKey(HOSTILE.public)
FATAL = [
    ValueError("a value"), TypeError("a type"), OverflowError("a number"), KeyError("a key"),
    IndexError("an index"), RecursionError("a depth"), ZeroDivisionError("a zero"), AssertionError("a state"),
    AttributeError("a name"), struct.error("a length"), UnicodeDecodeError("utf-8", b"", 0, 1, "a text"),
]  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path) as made:
        yield made


@pytest.mark.parametrize("error", FATAL, ids=lambda error: type(error).__name__)
def test_all_that_data_can_raise_is_contained(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    faults = PeerFaults(logging.getLogger("coordinator"))
    for _ in range(3):
        with faults.contain("a test", HOSTILE_KEY):
            raise error
    assert HOSTILE_KEY in faults
    (record,) = caplog.records
    assert HOSTILE_KEY[:8] in record.getMessage(), "it is named, once"
    with pytest.raises(MalformedRecord), as_malformed("a test", logging.getLogger("peer")):
        raise error


@pytest.mark.parametrize("error", [OSError("the disk"), MemoryError(), BarnraiseError("ours", fix="ours.")])
def test_errors_of_this_machine_are_not_contained(error: Exception) -> None:
    faults = PeerFaults(logging.getLogger("coordinator"))
    assert not isinstance(error, BY_DATA)
    with pytest.raises(type(error)), faults.contain("a test", HOSTILE_KEY):
        raise error
    assert HOSTILE_KEY not in faults


def test_a_heartbeat_that_no_decision_can_read_is_dropped_and_the_round_closes(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Membership.attendance

    def attendance(self: Membership, *args: Any, **kwargs: Any) -> Any:
        if HOSTILE_KEY in self.presences:
            raise OverflowError("a number of this heartbeat")
        return known(self, *args, **kwargs)

    monkeypatch.setattr(Membership, "attendance", attendance)

    async def scene() -> None:
        attacked = Attacked.of(store, Net(tmp_path / "net"))
        attacked.honest(HONEST, 1)
        assert attacked.present(HOSTILE)
        assert attacked.present(HONEST)
        for _ in range(4):
            await attacked.session.surviving_tick()
            await attacked.session.contributions.wait()
        assert HOSTILE_KEY in attacked.session.faults
        assert PublicKey(HONEST.public) not in attacked.session.faults
        assert attacked.folded == [{HONEST.public}]

    virtual_time.run(scene())
    with reopened(store) as again:
        assert again.snapshot.tip == store.snapshot.tip


@pytest.mark.parametrize("at", ["check_commit", "check_blob"])
def test_a_contribution_that_no_check_can_read_is_refused_and_the_round_closes(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    known = getattr(contributions, at)

    def check(commit: Commit, *args: Any, **kwargs: Any) -> Any:
        if commit.owner == HOSTILE_KEY:
            raise IndexError("a byte of this blob")
        return known(commit, *args, **kwargs)

    monkeypatch.setattr(contributions, at, check)

    async def scene() -> None:
        attacked = Attacked.of(store, Net(tmp_path / "net"))
        attacked.honest(HONEST, 1)
        attacked.honest(HOSTILE, 2)
        await attacked.close(HONEST)
        assert HOSTILE_KEY in attacked.session.faults
        refused = attacked.session.contributions.intake.refused(HOSTILE_KEY)
        assert all(isinstance(reason, InvalidBlob) for reason in refused)
        assert attacked.folded == [{HONEST.public}]

    virtual_time.run(scene())


def test_a_head_that_cannot_be_made_once_is_made_the_next_time(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = iter([ValueError("an address of a peer")])

    async def scene() -> None:
        attacked = Attacked.of(store, Net(tmp_path / "net"))
        known = attacked.session.head

        def head() -> Any:
            for error in made:
                raise error
            return known()

        monkeypatch.setattr(attacked.session, "head", head)
        announcing = asyncio.create_task(attacked.session._keep_announcing())
        await asyncio.sleep(3 * attacked.session.timing.head)
        assert not announcing.done()
        announcing.cancel()
        assert attacked.swarm.published

    virtual_time.run(scene())


def test_a_poll_of_the_dht_goes_on_behind_a_record_that_cannot_be_kept() -> None:
    kept: list[object] = []

    def receive(record: Any) -> None:
        if isinstance(record.value, Presence):
            raise ValueError("a number of this heartbeat")
        kept.append(record)

    async def scene() -> None:
        found = [sign(HOSTILE, parts.presence(HOSTILE)), sign(HONEST, parts.commit(HONEST))]

        async def look_up(key: str, newest: bool) -> Any:
            return found

        poller = DhtPoller(look_up, receive, lambda: parts.NOW, Random(1))
        await poller.poll("a key", readers=1, records=1)
        assert kept == found[1:]

    virtual_time.run(scene())
