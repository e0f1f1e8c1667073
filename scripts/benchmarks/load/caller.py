"""A program that joins and renews for all volunteers of `scripts/bench load`, and times each call.

Like `peer join`, it opens a connection for each call. It does nothing else, so that what it measures is the
coordinator.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from barnraise.contract.invite import Invite, parse_invite
from barnraise.core.errors import BarnraiseError
from barnraise.runtime.run_clock import RunClock
from peer.coordinator_client import connect
from scripts.benchmarks.load.identities import NEWCOMERS, identity_of

FIRST_JOINS = 25.0
"""Volunteers that join a second at first."""


@dataclass
class Caller:
    """Calls of one process to one coordinator."""

    invite: Invite
    admissions: Path
    calls: list[tuple[str, float, float]] = field(default_factory=list)
    """Kind, end as wall clock time, and seconds of each call."""
    failures: list[str] = field(default_factory=list)

    async def call(self, number: int, *, renew: bool) -> None:
        """Join or renew as volunteer `number`."""
        began = time.perf_counter()
        try:
            async with connect(self.invite) as api:
                name = f"volunteer-{number}"
                joined = await api.join(
                    identity_of(number), name, RunClock(), instance="0" * 16, credit=True, renew=renew
                )
        except BarnraiseError as error:
            self.failures.append(error.problem)
            return
        self.calls.append(("renew" if renew else "join", time.time(), time.perf_counter() - began))
        if not renew and number < NEWCOMERS:
            with self.admissions.open("a", encoding="ascii") as file:
                file.write(f"{number} {joined.admission.text}\n")

    async def run(self, volunteers: int, joins: float, renewals: float, results: Path) -> None:
        """Join with all volunteers; then, until killed, renew at one rate and join with new keys at another.

        joins, renewals: calls per second.
        """
        pending: set[asyncio.Task[None]] = set()
        for number in range(volunteers):
            pending.add(asyncio.create_task(self.call(number, renew=False)))
            await asyncio.sleep(1 / FIRST_JOINS)
        await asyncio.wait(pending)
        await asyncio.gather(
            self._repeat(renewals, lambda turn: self.call(turn % volunteers, renew=True)),
            self._repeat(joins, lambda turn: self.call(NEWCOMERS + turn, renew=False)),
            self._save(results),
        )

    async def _repeat(self, rate: float, call: Callable[[int], Coroutine[Any, Any, None]]) -> None:
        """Start `rate` calls a second, whether or not the earlier ones have ended."""
        running: set[asyncio.Task[None]] = set()
        turn = 0
        while rate:
            running.add(task := asyncio.create_task(call(turn)))
            task.add_done_callback(running.discard)
            turn += 1
            await asyncio.sleep(1 / rate)

    async def _save(self, results: Path) -> None:
        while True:
            part = results.with_suffix(".part")
            part.write_text(json.dumps({"calls": self.calls, "failures": self.failures}), encoding="utf-8")
            part.replace(results)
            await asyncio.sleep(2)


if __name__ == "__main__":
    given, file, count, join_rate, renew_rate, found = sys.argv[1:]
    caller = Caller(parse_invite(given), Path(file))
    asyncio.run(caller.run(int(count), float(join_rate), float(renew_rate), Path(found)))
