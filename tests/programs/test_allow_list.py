"""A run with a list of volunteers, as real programs: one who is not on it is added while the run goes on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.programs.test_processes import prepare
from tests.support.programs import stage

pytestmark = [
    pytest.mark.slow,
    pytest.mark.full("three starts of a volunteer, one after another"),
    pytest.mark.timeout(600),
]


def test_a_key_is_added_to_the_list_while_the_run_goes_on(tmp_path: Path) -> None:
    prepare(tmp_path)
    run_file = tmp_path / "run.toml"
    with stage(tmp_path) as run:
        listed = run.start("key", "peer.cli.main", "key", "show", "tiny", "--data-dir", str(tmp_path / "ada"))
        assert listed.wait() == 0, listed.output
        ada_key = re.search(r"\b[0-9a-f]{64}\b", listed.output)
        assert ada_key is not None, listed.output
        trust = f'[trust]\nmode = "allow-list"\nvouched = ["{ada_key[0]}"]\n'
        run_file.write_text(run_file.read_text(encoding="utf-8") + trust, encoding="utf-8")
        coordinator, invite = run.serve()
        assert "those that `coordinator vouch` adds" in coordinator.output
        run.join("ada", invite)
        coordinator.wait_for(r"folded: 1 contribution")
        ben = run.join("ben", invite)
        assert ben.wait() == 6, ben.output
        assert "is not on it" in ben.output
        key = run.start("key", "peer.cli.main", "key", "show", "tiny", "--data-dir", str(tmp_path / "ben"))
        assert key.wait() == 0, key.output
        ben_key = re.search(r"\b[0-9a-f]{64}\b", key.output)
        assert ben_key is not None, key.output
        folder = str(tmp_path / "coordinator")
        vouch = run.start("vouch", "coordinator.cli.main", "vouch", folder, ben_key[0], "--note", "a friend")
        assert vouch.wait() == 0, vouch.output
        coordinator.wait_for(rf"{ben_key[0][:8]} is trusted by the maintainer's order: a friend")
        ben = run.join("ben", invite)
        coordinator.wait_for(r"folded: 2 contributions")
        for program in (coordinator, ben):
            assert "Traceback" not in program.output
