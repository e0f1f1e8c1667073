"""A run with three closers goes on without the coordinator, or without any other one of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs.test_processes import check_agreement, prepare
from tests.support.programs import ROOT, Program, Stage, free_ports, stage

pytestmark = pytest.mark.slow

FOLLOWERS = ("eva", "fay")


def closer_key(folder: Path) -> str:
    command = [
        sys.executable,
        "-c",
        "from coordinator.cli.main import main; main()",
        "closer-key",
        str(folder),
    ]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment())
    return found.stdout.strip()


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"}


def follow(act: Stage, name: str, invite: str) -> Program:
    folder = act.folder / name
    program = act.start(
        name, "coordinator.cli.main", "follow", invite, "--data-dir", str(folder),
        "--listen", "/ip4/127.0.0.1/tcp/0",
    )  # fmt: skip
    program.wait_for("closes rounds of")
    return program


def test_a_run_without_closers_is_not_followed(tmp_path: Path) -> None:
    prepare(tmp_path)
    with stage(tmp_path) as act:
        _, invite = act.serve()
        program = act.start(
            "carol", "coordinator.cli.main", "follow", invite, "--data-dir", str(tmp_path / "carol")
        )
        assert program.wait() == 2, program.output
        assert "names no closers" in program.output


def test_rounds_close_without_the_coordinator(tmp_path: Path) -> None:
    prepare(tmp_path)
    keys = [closer_key(tmp_path / name) for name in FOLLOWERS]
    spec = tmp_path / "run.toml"
    spec.write_text(spec.read_text() + f"[closers]\nkeys = {keys}\n")
    with stage(tmp_path) as act:
        ports = free_ports(2)
        coordinator, invite = act.serve(*ports)
        followers = [follow(act, name, invite) for name in FOLLOWERS]
        peers = [act.join(name, invite) for name in ("ada", "ben")]
        coordinator.wait_for(r"round \d+ folded: 2 contributions")
        coordinator.kill()
        last = max(coordinator.states())
        for follower in followers:
            follower.wait_for(rf"round {last + 2} folded: 2 contributions")
        again, _ = act.serve(*ports)
        again.wait_for(rf"round {last + 3} folded")
        for peer in peers:
            peer.wait_for(rf"^round {last + 4}: ")
        common = check_agreement(coordinator, again, *followers, *peers)
        assert {last + 1, last + 2, last + 3} <= common
        for program in (again, *followers, *peers):
            assert "Traceback" not in program.output
