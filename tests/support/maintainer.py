"""The commands of a maintainer, in tests with real programs."""

from __future__ import annotations

import json
import time

from tests.support.programs import DEADLINE, Stage


class Commands:
    """What a maintainer types, next to a running coordinator."""

    def __init__(self, run: Stage) -> None:
        self._run, self._folder = run, run.folder / "coordinator"

    def __call__(self, command: str, *more: str) -> str:
        program = self._run.start(command, "coordinator.cli.main", command, str(self._folder), *more)
        assert program.wait() == 0, program.output
        return program.output

    def await_level(self, name: str, level: str) -> None:
        """Until `coordinator peers` shows a volunteer's standing: its list is some seconds old."""
        until = time.monotonic() + DEADLINE
        while (found := self._level(name)) != level:
            assert time.monotonic() < until, f"{name} is {found}, not {level}"

    def _level(self, name: str) -> str:
        rows = json.loads(self("peers", "--json"))["peers"]
        return str(next(row["level"] for row in rows if row["name"] == name))
