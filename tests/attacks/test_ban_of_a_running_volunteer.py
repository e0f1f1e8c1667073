"""Real programs: a volunteer at work is banned, and the rounds go on without it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.run_folder import PEERS
from tests.programs.test_processes import prepare
from tests.support.programs import ROOT, stage

pytestmark = [pytest.mark.slow, pytest.mark.full("three volunteers train for some rounds")]


def coordinator(*arguments: str) -> str:
    """A command of the coordinator, as a maintainer types it."""
    code = "from coordinator.cli.main import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, cwd=ROOT, check=True,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    return ran.stdout


def test_it_ends_with_the_reason_and_is_folded_no_more(tmp_path: Path) -> None:
    prepare(tmp_path, seconds=8, grace=4, steps=None)
    with stage(tmp_path) as run:
        program, invite = run.serve()
        folder = str(tmp_path / "coordinator")
        for name in ("ada", "ben"):
            run.join(name, invite)
        mal = run.join("mal", invite)
        for _ in range(2):  # the list of keys is written every ten seconds
            program.wait_for(r"folded: 3 contributions")
        coordinator("peers", folder)
        rows = json.loads((tmp_path / "coordinator" / PEERS).read_text())["peers"]
        key = next(row["key"] for row in rows if row["name"] == "mal")
        coordinator("ban", folder, key[:8], "--note", "sent noise")
        program.wait_for(rf"{key[:8]} is banned")
        following = int(program.wait_for(r"round (\d+) folded")[1])
        program.wait_for(rf"round {following + 1} folded: [12] contributions")
        assert mal.wait() == 6, mal.output
        assert "banned your key: sent noise" in mal.output
        again = run.join("mal", invite)
        assert again.wait() == 6
        assert "banned your key: sent noise" in again.output
