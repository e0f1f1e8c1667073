"""A replay has the same states on ARM processors: the golden logs, on an emulated one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.golden_log import KINDS, build, come_to, spec_of, write
from tests.support.programs import ROOT

UNAVAILABLE = 3
"""Exit status of scripts/aarch64 when the parts of an ARM machine cannot be downloaded."""


@pytest.mark.slow
@pytest.mark.timeout(900)  # the first run downloads about 80 MB
def test_logs_have_the_same_states_on_an_arm_processor(tmp_path: Path) -> None:
    logs = {kind: build(spec_of(kind)) for kind in KINDS}
    for kind, log in logs.items():
        write(log, tmp_path / kind)
    done = subprocess.run(
        [ROOT / "scripts" / "aarch64", "-m", "tests.support.golden_log", tmp_path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == UNAVAILABLE:
        pytest.skip(f"no ARM machine can be emulated here: {done.stderr.strip()[-400:]}")
    assert done.returncode == 0, done.stderr[-2000:]
    there = json.loads(done.stdout)
    assert there["machine"] in ("aarch64", "arm64")
    for kind, log in logs.items():
        assert there["found"][kind] == {"sent": come_to(log), "built": come_to(log)}, kind
