"""Tasks of a program that end together."""

from __future__ import annotations

import asyncio

import pytest

from barnraise.runtime.waits import end, unless_stopped, until_first


async def forever(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("ended")


async def at_once() -> None:
    pass


async def failing() -> None:
    raise ZeroDivisionError


def test_the_first_one_ends_the_others() -> None:
    ended: list[str] = []
    asyncio.run(until_first(at_once(), forever(ended), forever(ended)))
    assert ended == ["ended", "ended"]


def test_an_error_of_any_ends_all_and_is_raised() -> None:
    ended: list[str] = []
    with pytest.raises(ZeroDivisionError):
        asyncio.run(until_first(forever(ended), failing()))
    assert ended == ["ended"]


def test_work_is_done_unless_it_is_stopped() -> None:
    async def both() -> tuple[bool, bool]:
        stop = asyncio.Event()
        done = await unless_stopped(stop, at_once())
        stop.set()
        return done, await unless_stopped(stop, forever([]))

    assert asyncio.run(both()) == (True, False)


def test_an_end_awaits_what_the_task_does_last_and_raises_its_error() -> None:
    async def both() -> list[str]:
        ended: list[str] = []
        task = asyncio.create_task(forever(ended))
        await asyncio.sleep(0)
        await end(task)
        task = asyncio.create_task(failing())
        await asyncio.sleep(0)
        with pytest.raises(ZeroDivisionError):
            await end(task)
        return ended

    assert asyncio.run(both()) == ["ended"]
