"""A volunteer on an emulated ARM machine trains next to one on this machine, and their replicas are equal."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.programs.test_processes import check_agreement, prepare
from tests.support.programs import ROOT, stage

EMULATOR = str(ROOT / "scripts" / "aarch64")
UNAVAILABLE = 3
"""Exit status of scripts/aarch64 when the parts of an ARM machine cannot be downloaded."""
DEADLINE = 900.0
"""Seconds for an event on the ARM machine: the emulated processor imports torch in one to five minutes."""


@pytest.mark.slow
@pytest.mark.full("emulation takes minutes, and its packages are a download of 400 MB")
@pytest.mark.timeout(3600)
def test_an_arm_volunteer_holds_the_same_state(tmp_path: Path) -> None:
    about = subprocess.run(
        [EMULATOR, "--volunteer", "-c", "import platform; print(platform.machine())"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if about.returncode == UNAVAILABLE:
        pytest.skip(f"no ARM machine can be emulated here: {about.stderr.strip()[-400:]}")
    assert about.stdout.strip() in ("aarch64", "arm64"), about.stderr[-2000:]
    prepare(tmp_path, target='{ kind = "lora", rank = 4 }', seconds=240, grace=120, min_contributions=2)
    with stage(tmp_path) as act:
        coordinator, invite = act.serve()
        ada = act.join("ada", invite)
        arm = act.join("arm", invite, python=(EMULATOR, "--volunteer"))
        coordinator.wait_for(r"folded: 2 contributions", DEADLINE)
        last = int(coordinator.wait_for(r"round (\d+) folded: 2 contributions", DEADLINE)[1])
        for peer in (ada, arm):
            peer.wait_for(rf"^round {last + 1}: ", DEADLINE)
        assert len(check_agreement(ada, arm)) >= 2
        for peer in (ada, arm):
            peer.interrupt(deadline=DEADLINE)
        coordinator.interrupt()
