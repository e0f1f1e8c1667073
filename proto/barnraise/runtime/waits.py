"""Waiting for several tasks of a program, which end together."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any


async def until_first(*works: Coroutine[Any, Any, None]) -> None:
    """Do `works` in parallel until one ends, and cancel the others. Raises what any of them raises."""
    tasks = [asyncio.create_task(work) for work in works]
    await _until_one_ends(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()


async def unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do `work`; cancel it when `stop` is set first. Returns whether it was done. Raises what it raises."""
    task = asyncio.create_task(work)
    await _until_one_ends([task, asyncio.create_task(stop.wait())])
    if task.cancelled():
        return False
    task.result()
    return True


async def all_or_none(*works: Coroutine[Any, Any, None]) -> None:
    """Do `works` in parallel; where one fails, cancel the others, and raise its error."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        await end_all(tasks)


async def end(task: asyncio.Task[None]) -> None:
    """Cancel `task` and wait for its end. Raises what it raised."""
    await end_all([task])
    if not task.cancelled():
        task.result()


async def end_all(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for their ends. Their errors are dropped."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _until_one_ends(tasks: Collection[asyncio.Task[Any]]) -> None:
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end_all(tasks)
