"""The commands of a maintainer, in tests with real programs."""

from __future__ import annotations

import json

from coordinator.run_folder import PEERS
from tests.support.programs import Stage


class Commands:
    """What a maintainer types, next to a running coordinator."""

    def __init__(self, run: Stage) -> None:
        self._run, self._folder = run, run.folder / "coordinator"

    def __call__(self, command: str, *more: str) -> str:
        program = self._run.start(command, "coordinator.cli.main", command, str(self._folder), *more)
        assert program.wait() == 0, program.output
        return program.output

    def level(self, name: str) -> str:
        """The standing of a volunteer."""
        self("peers")
        rows = json.loads((self._folder / PEERS).read_text())["peers"]
        return str(next(row["level"] for row in rows if row["name"] == name))
