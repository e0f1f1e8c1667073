"""What ends a volunteer, what is waited out and what is skipped: the table covers every error."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest

from barnraise.core import errors
from barnraise.core.backoff import backoff_seconds
from barnraise.core.errors import BarnraiseError
from peer.timing import TIMING
from peer.volunteer.faults import Fate, fate_of
from peer.volunteer.waiting import Patience, persist, until_stored
from tests.support import virtual_time

WAITED_OUT = {
    "DiskFull", "KeyInUse", "NetworkError", "Unreachable", "TrustError", "BadSignature", "BannedKey",
    "HashMismatch", "MalformedBlob", "MalformedRecord", "ModelUnreachable", "StateError", "FileDamaged",
}  # fmt: skip


def kinds(above: type[BarnraiseError] = BarnraiseError) -> Iterator[type[BarnraiseError]]:
    for kind in above.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield kind
            yield from kinds(kind)


@pytest.mark.parametrize("kind", list(kinds()))
def test_each_error_has_its_fate(kind: type[BarnraiseError]) -> None:
    newer = kind is errors.NewerVersion
    fate = fate_of(errors.NewerVersion("the log", "9.0") if newer else kind("it failed", fix="Mend it."))
    if kind.__name__ in WAITED_OUT:
        assert fate is Fate.WAITED_OUT
    else:
        assert fate is (Fate.SKIPPED if kind is errors.NotFinite else Fate.ENDS)


def test_a_start_is_tried_again_until_it_succeeds_with_growing_pauses() -> None:
    pauses: list[float] = []
    failures = [errors.Unreachable("away", fix="Wait."), errors.DiskFull("full", fix="Free some.")] * 2

    async def work() -> str:
        if failures:
            raise failures.pop(0)
        return "done"

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    assert asyncio.run(persist(work, "ada", TIMING, sleep)) == "done"
    first, longest = TIMING.first_wait, TIMING.longest_wait
    assert pauses == [backoff_seconds("ada", at, first=first, longest=longest) for at in range(4)]


def test_what_needs_a_person_ends_at_once() -> None:
    async def work() -> None:
        raise errors.WrongRunKey("another key", fix="Ask for a new invite.")

    with pytest.raises(errors.WrongRunKey):
        asyncio.run(persist(work, "ada", TIMING))


def test_a_full_disk_is_waited_out(caplog: pytest.LogCaptureFixture) -> None:
    failures = [errors.DiskFull("full", fix="Free some.")] * 3

    def work() -> str:
        if failures:
            raise failures.pop()
        return "stored"

    with caplog.at_level("INFO", "peer"):
        assert asyncio.run(until_stored(work, replace(TIMING, disk_retry=0.0))) == "stored"
    assert [record.message for record in caplog.records] == ["full; trying again", "that works again"]


def waited(caplog: pytest.LogCaptureFixture, *faults: BarnraiseError | None) -> list[str]:
    """What is logged about faults in a row; None: an attempt that succeeds."""

    async def work() -> None:
        patience = Patience(replace(TIMING, retry=0.0, disk_retry=0.0, state_retry=0.0))
        for fault in faults:
            if fault is None:
                patience.over()
            else:
                await patience.wait_out(fault)

    with caplog.at_level("INFO", "peer"):
        asyncio.run(work())
    return [record.message for record in caplog.records]


AWAY, FULL = errors.Unreachable("away", fix="Wait."), errors.DiskFull("full", fix="Free some.")


def test_a_fault_that_lasts_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    lines = waited(caplog, AWAY, AWAY, FULL, FULL, AWAY, None, None, AWAY)
    again = "trying again"
    assert lines == [
        f"away; {again}", f"full; {again}", f"away; {again}", "that works again", f"away; {again}",
    ]  # fmt: skip


def test_replicas_that_differ_wait_for_another_checkpoint() -> None:
    assert fate_of(errors.StateError("the fold led to another state", fix="Wait.")) is Fate.WAITED_OUT
    with pytest.raises(errors.NewerVersion):
        asyncio.run(Patience(TIMING).wait_out(errors.NewerVersion("the log", "9.0")))


def test_a_pause_ends_when_the_cause_may_be_over() -> None:
    """The pauses before it had grown; those after it begin again."""

    async def work() -> list[float]:
        patience, loop = Patience(TIMING), asyncio.get_running_loop()
        for _ in range(6):
            await patience.wait_out(AWAY)
        loop.call_later(1.0, patience.end_pause)
        times = [loop.time()]
        for _ in range(3):
            await patience.wait_out(AWAY)
            times.append(loop.time())
        return [after - before for before, after in pairwise(times)]

    assert virtual_time.run(work()) == [1.0, TIMING.retry, 2 * TIMING.retry]


def test_the_pauses_of_a_fault_that_lasts_grow() -> None:
    async def work() -> list[float]:
        patience, loop, times = Patience(TIMING), asyncio.get_running_loop(), [0.0]
        for fault in [AWAY] * 6:
            await patience.wait_out(fault)
            times.append(loop.time())
        patience.over()
        await patience.wait_out(AWAY)
        times.append(loop.time())
        return [after - before for before, after in pairwise(times)]

    first, longest = TIMING.retry, TIMING.longest_retry
    pauses = virtual_time.run(work())
    assert pauses[1:] == [2 * first, 4 * first, longest, longest, longest, first]
