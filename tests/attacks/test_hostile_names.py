"""Real volunteers: a name that attacks the maintainer's screen, one that is not public, a key used twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from barnraise.runtime.files import load_identity
from tests.programs.test_processes import prepare
from tests.support.hostile import acting
from tests.support.programs import Stage, stage

NAME = "\x1b]52;c;Y3VybA==\x07[/b]\u202e\n12:00:00"


def ended(act: Stage, module: str, *arguments: str, status: int = 0) -> str:
    """The output of a command that ends."""
    program = act.start("command", module, *arguments)
    assert program.wait() == status, program.output
    return program.output


@pytest.mark.full("a run of real programs, for outputs that tests of the gate have one by one")
def test_names_and_keys_of_real_volunteers(tmp_path: Path) -> None:
    prepare(tmp_path)
    words = tmp_path / "passphrase"
    words.write_text("correct horse battery\n")
    with stage(tmp_path) as act:
        coordinator, invite = act.serve()
        act.join("ada", invite, "--name", NAME)
        act.start(
            "ben", "peer.cli.main", "join", invite, "--name", "Ben Secret", "--device", "cpu",
            "--threads", "1", "--base", str(tmp_path / "model"), "--data-dir", str(tmp_path / "ben"),
            "--cache-dir", str(tmp_path / "cache"), "--listen", "/ip4/127.0.0.1/tcp/0",
        )  # fmt: skip
        coordinator.wait_for(r"folded: 2 contributions")
        shown = ended(act, "coordinator.cli.main", "status", invite)
        found = json.loads(ended(act, "coordinator.cli.main", "status", invite, "--json"))
        assert acting(coordinator.output + shown, allowed="\n") == []
        assert r"\x1b]52;c;Y3VybA==\x07[/b]\u202e\n12:00:00" in shown
        assert {peer["name"] for peer in found["peers"]} == {NAME, ""}
        assert "Ben Secret" not in shown
        assert r"admitted Ben Secret" in coordinator.output, "the maintainer may see it"
        keys = {load_identity(tmp_path / name / "peer.key").public for name in ("ada", "ben")}
        assert {peer["key"] for peer in found["peers"]} == {key[:8] for key in keys}

        # One key on two machines: the second is refused while the first takes part.
        run = found["run"]
        options = ("--passphrase-file", str(words), "--data-dir")
        file = str(tmp_path / "ada-key.json")
        ended(act, "peer.cli.main", "key", "export", run, file, *options, str(tmp_path / "ada"))
        ended(act, "peer.cli.main", "key", "import", run, file, *options, str(tmp_path / "eve"))
        refused = act.join("eve", invite)
        refused.wait_for("another program takes part with your key")
        refused.interrupt(130)
        assert "Traceback" not in coordinator.output
