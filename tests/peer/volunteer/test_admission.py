"""A volunteer's admission is renewed in time, and again after a failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import cast

import pytest

from barnraise.contract.endpoints import Endpoint
from barnraise.contract.invite import Invite
from barnraise.contract.records import Admission
from barnraise.core.errors import BarnraiseError, KeyBanned, RefusedError, Unreachable, UserError, WrongRunKey
from barnraise.core.ids import Millis
from barnraise.core.signed import Signed, open_text
from barnraise.runtime.run_clock import RunClock
from peer.coordinator_client import CoordinatorClient
from peer.timing import TIMING
from peer.volunteer import admission_renewal
from peer.volunteer.admission_renewal import AdmissionRenewal
from tests.support import parts, virtual_time

HOUR = 3600.0
TIMING_HERE = replace(TIMING, renew_retry=60.0)


def admission(expires: float) -> Signed[Admission]:
    """expires: seconds from `parts.NOW`."""
    text = parts.admission(parts.ADA, expires=parts.NOW + round(1000 * expires))
    return open_text(Admission, text, signer=parts.AUTHORITY.public)


@dataclass
class Joined:
    admission: Signed[Admission]


def renewals(
    monkeypatch: pytest.MonkeyPatch, *errors: BarnraiseError, set_at: float | None = None
) -> list[float]:
    """The times of the requests for an admission of two hours, of which the first ones fail.

    set_at: when a head says that the run's clock is a day further.
    """
    times: list[float] = []
    failures = list(errors)

    class Client:
        async def join(self, *_: object, **__: object) -> Joined:
            now = asyncio.get_running_loop().time()
            times.append(now)
            if failures:
                raise failures.pop(0)
            return Joined(admission(now + 2 * HOUR))

    @asynccontextmanager
    async def connect(*_: object, **__: object) -> AsyncIterator[CoordinatorClient]:
        yield cast(CoordinatorClient, Client())

    async def work() -> None:
        loop = asyncio.get_running_loop()
        invite = Invite((Endpoint("127.0.0.1", 1),), parts.RUN, parts.AUTHORITY.public)
        renewal = AdmissionRenewal(
            lambda: invite, parts.ADA, "ada", parts.INSTANCE, False, admission(2 * HOUR), TIMING_HERE
        )
        clock = RunClock(lambda: Millis(round(1000 * loop.time())), lambda: parts.NOW)
        keeping = asyncio.create_task(renewal.keep(clock))
        if set_at is not None:
            loop.call_later(set_at, lambda: clock.head_received(Millis(clock() + 86_400_000)))
        await asyncio.wait([keeping], timeout=3.2 * HOUR)
        assert not keeping.done()
        keeping.cancel()

    monkeypatch.setattr(admission_renewal, "connect", connect)
    virtual_time.run(work())
    return times


def test_it_is_renewed_at_half_of_its_life(monkeypatch: pytest.MonkeyPatch) -> None:
    assert renewals(monkeypatch) == [HOUR, 2 * HOUR, 3 * HOUR]


@pytest.mark.parametrize("kind", [Unreachable, RefusedError, WrongRunKey, UserError])
def test_a_failed_renewal_is_repeated(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: type[BarnraiseError]
) -> None:
    assert renewals(monkeypatch, kind("no answer", fix="Wait.")) == [HOUR, 1.5 * HOUR, 2.5 * HOUR]
    assert "(no answer); it is valid for another 1 h" in caplog.text


def test_it_is_renewed_at_once_where_the_run_s_clock_has_passed_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert renewals(monkeypatch, set_at=601.0)[0] == 605.0


def test_a_ban_ends_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> Joined:
        raise KeyBanned("this run has banned your key: noise", fix="Ask.")

    @asynccontextmanager
    async def connect(*_: object, **__: object) -> AsyncIterator[CoordinatorClient]:
        yield cast(CoordinatorClient, SimpleNamespace(join=refuse))

    async def work() -> None:
        loop = asyncio.get_running_loop()
        invite = Invite((Endpoint("127.0.0.1", 1),), parts.RUN, parts.AUTHORITY.public)
        renewal = AdmissionRenewal(
            lambda: invite, parts.ADA, "ada", parts.INSTANCE, False, admission(2 * HOUR), TIMING_HERE
        )
        clock = RunClock(lambda: Millis(round(1000 * loop.time())), lambda: parts.NOW)
        waiting = asyncio.create_task(renewal.until_banned())
        await asyncio.wait([waiting], timeout=HOUR)
        assert not waiting.done()
        await renewal.ask_again(clock)
        with pytest.raises(KeyBanned, match="noise"):
            await waiting

    monkeypatch.setattr(admission_renewal, "connect", connect)
    virtual_time.run(work())
