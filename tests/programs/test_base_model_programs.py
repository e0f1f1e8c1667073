"""A run whose base model only its maintainer has, with the real programs: from the run and from a mirror."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.programs.test_processes import prepare
from tests.support.programs import Program, Stage, stage
from tests.support.websites import website

pytestmark = pytest.mark.slow


def volunteer(act: Stage, name: str, invite: str, *more: str) -> Program:
    """A volunteer on another machine: its cache is empty, and it has no model."""
    return act.start(
        name, "peer.cli.main", "join", invite, "--name", name, "--credit", "--device", "cpu",
            "--threads", "1",
        "--data-dir", str(act.folder / name), "--cache-dir", str(act.folder / f"{name}-cache"),
        "--listen", "/ip4/127.0.0.1/tcp/0", *more,
    )  # fmt: skip


def peer(act: Stage, *arguments: str) -> Program:
    """A command of a machine with an empty cache."""
    done = act.start(arguments[0], "peer.cli.main", *arguments, "--cache-dir", str(act.folder / arguments[0]))
    done.wait()
    return done


def test_the_run_and_its_mirrors_have_the_maintainer_s_model(tmp_path: Path) -> None:
    prepare(tmp_path)
    spec = tmp_path / "run.toml"
    spec.write_text(spec.read_text().replace('source = "model"', 'source = "model"\nlicence = "apache-2.0"'))
    with stage(tmp_path) as act:
        coordinator, invite = act.serve()
        assert "volunteers can fetch the base model from this run" in coordinator.output
        ada = volunteer(act, "ada", invite)
        ada.wait_for(r"fetching it from the run")
        ada.wait_for(r"^round \d+: training")
        coordinator.wait_for(r"checkpoint of round [1-9]\d*: held-out loss")
        ada.interrupt()
        coordinator.interrupt()
        key = invite.rpartition("key=")[2]
        with website(tmp_path / "coordinator" / "archive") as mirror:
            source = f"{mirror.url}?key={key}"
            proved = peer(act, "verify", source, "--revision", "latest")
            assert "fetching it from the run" in proved.output
            assert re.search(r"^proved: round [1-9]", proved.output, re.MULTILINE), proved.output
            spoken = peer(act, "chat", source, "--compare", "--prompt", "1+1=", "--max-tokens", "2")
            assert spoken.process.returncode == 0, spoken.output
            assert "base model:" in spoken.output


def test_a_model_that_may_not_be_served_needs_an_option(tmp_path: Path) -> None:
    prepare(tmp_path)
    with stage(tmp_path) as act:
        coordinator, invite = act.serve()
        warning = coordinator.output
        assert "WARNING: the base model is not served (model.licence is 'unknown'" in warning
        shutil.copytree(tmp_path / "model", tmp_path / "mine")
        refused = volunteer(act, "ada", invite)
        assert refused.wait() == 3
        assert "--base PATH" in refused.output
        joined = volunteer(act, "ada", invite, "--base", str(tmp_path / "mine"))
        joined.wait_for(r"^round \d+: training")
        joined.interrupt()
