"""What a closer proposes at its place of the log, and when it proposes again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from barnraise.contract.log_entries import Close, parse_entry
from barnraise.core.ids import BlobHash, Millis, PublicKey
from tests.support import parts
from tests.support.closing_hub import CLOSERS, Hub, accept, accept_of, delegate, three_closers


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with three_closers(tmp_path) as made:
        yield made


def propose_accepted(hub: Hub, key: PublicKey) -> list[BlobHash]:
    """Have a closer propose a close. Returns all that it proposed at its place of the log."""
    joint = hub.joints[key]
    joint.propose("all contributed", Millis(hub.now))
    return proposed_by(hub, key)


def proposed_by(hub: Hub, key: PublicKey) -> list[BlobHash]:
    return [entry.name for entry in hub.joints[key]._proposing._entries]


def test_a_close_lists_what_was_accepted_before_its_closer_could_propose_it(hub: Hub) -> None:
    """The coordinator, which would propose at once, is away."""
    first, second, third = (identity.public for identity in CLOSERS)
    hub.away = {first}
    store, proposed = hub.stores[second], list[BlobHash]()
    for owner in (parts.ADA, parts.BEN):
        accept_of(store, owner)
        for _ in range(2):
            hub.now += 1
            proposed = propose_accepted(hub, second)
    assert len(proposed) == 2, "the same is not proposed twice"
    hub.now += 60_000
    asyncio.run(hub.settle())
    assert {hub.stores[key].snapshot.position.previous for key in (second, third)} == {proposed[1]}
    close = parse_entry(store.blobs.get(proposed[1]))
    assert isinstance(close, Close)
    assert len(close.commits) == 2
    assert proposed[0] not in store.blobs, "it counts no longer"


def test_a_closer_that_voted_proposes_nothing_else(hub: Hub) -> None:
    first, second, _ = (identity.public for identity in CLOSERS)
    accept_of(hub.stores[first], parts.ADA)
    proposed = propose_accepted(hub, first)
    for key in (second, first):  # its ballot begins, and is promised
        hub.joints[key].agreement.receive(next(data for to, data in reversed(hub.mail) if to == key))
    accept_of(hub.stores[first], parts.BEN)
    assert propose_accepted(hub, first) == proposed


def test_after_an_amendment_no_close_is_proposed(hub: Hub) -> None:
    first, second, _ = (identity.public for identity in CLOSERS)
    delegate(hub, second)
    amendment = proposed_by(hub, first)
    accept(hub.stores[first])
    assert propose_accepted(hub, first) == amendment
