"""The coordinator's API while other threads write, on real threads."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from barnraise.contract.records import Admission, JoinClaim
from barnraise.core.errors import RefusedError, Unreachable
from barnraise.core.signed import open_signed, sign
from coordinator.rounds.coordinator_api import CoordinatorApi, JoinResult
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import api_of, fold_round, opened_store, session_of
from tests.support.vouching import found, hold_out, publisher, vouching

ROUNDS = 3


def next_checkpoint(store: RunStore) -> None:
    """Write and publish the next checkpoint, which drops the one before with its evaluations."""
    fold_round(store, parts.ADA)
    store.write_checkpoint(parts.NOW)
    for round in store.snapshot.unpublished:
        store.publish(round, None, {}, parts.NOW)


async def ask_until(done: asyncio.Future[None], api: CoordinatorApi) -> int:
    """Ask for the status until a thread is done; the number of answers."""
    answers = 0
    while not done.done():
        status = api.status()
        assert status.state_round >= status.checkpoint_round
        answers += 1
        await asyncio.sleep(0)
    return answers


def test_requests_are_answered_while_checkpoints_are_written_and_dropped(tmp_path: Path) -> None:
    spec = vouching(parts.run_spec())
    spec = spec.model_copy(update={"checkpoint": spec.checkpoint.model_copy(update={"keep": 1})})
    with opened_store(tmp_path, spec) as store:
        hold_out(tmp_path)
        next_checkpoint(store)
        made = publisher(store)
        api = api_of(session_of(store, publisher=made))
        api.evaluate(found(store, parts.ADA, 2.0))
        assert store.snapshot.evaluations.keys() == {1}

        async def act() -> None:
            for _ in range(ROUNDS):
                thread = asyncio.ensure_future(asyncio.to_thread(next_checkpoint, store))
                assert await ask_until(thread, api)
                thread.result()

        asyncio.run(act())
        assert store.snapshot.evaluations == {}, "checkpoints were dropped in the other thread"
        assert api.status().round == ROUNDS + 1


def test_of_two_programs_that_join_with_one_key_at_once_one_is_admitted(tmp_path: Path) -> None:
    """Also while the disk is waited for."""
    with opened_store(tmp_path) as store:
        api = api_of(session_of(store))
        claims = [parts.claim(parts.ADA, instance=instance) for instance in ("0a" * 8, "0b" * 8)]

        async def act() -> list[JoinResult | BaseException]:
            joins = (api.join(claim) for claim in claims)
            return await asyncio.gather(*joins, return_exceptions=True)

        first, second = asyncio.run(act())
        assert isinstance(first, JoinResult)
        assert isinstance(second, RefusedError)
        assert store.snapshot.claims[parts.ADA.public].instance == "0a" * 8


def test_a_closer_admits_and_another_follower_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = parts.run_spec()
    spec = spec.model_copy(update={"closers": spec.closers.model_copy(update={"keys": (parts.BEN.public,)})})
    claim = sign(
        parts.BEN, JoinClaim(run=parts.RUN, owner=parts.BEN.public, name="", credit=False, at=parts.NOW)
    )
    with opened_store(tmp_path, spec) as store:
        api = api_of(session_of(store))
        store.authority = parts.BEN
        with caplog.at_level(logging.INFO):
            admitted = asyncio.run(api.join(claim))
        assert (
            open_signed(Admission, admitted.admission, signer=parts.BEN.public).value.peer == parts.BEN.public
        )
        assert any("admitted a closer" in message for message in caplog.messages)
        store.authority = parts.STRANGER
        with pytest.raises(Unreachable):
            asyncio.run(api.join(claim))
