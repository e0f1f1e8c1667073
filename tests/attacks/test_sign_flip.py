"""A volunteer sends the opposite of what it trained: audits find it, and the log takes its weight away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from barnraise.contract.close_rules import open_commits
from barnraise.contract.log_entries import Close, Entry, NeedsNewer, StandingChange, parse_entry
from barnraise.contract.verdict import Verdict
from barnraise.core.errors import MalformedRecord
from barnraise.core.identity import Identity
from barnraise.core.signed import open_text
from barnraise.runtime.files import load_identity
from coordinator.run_folder import AUTHORITY_KEY
from peer.data_dir import PEER_KEY
from tests.support.programs import INVITE, stage
from tests.support.tiny import STEADY_RUN, make_tiny_model, write_sums

RUN = f"""\
{STEADY_RUN}[checkpoint]
every = 50
held_out_tokens = 0
[trust]
mode = "open"
"""


def entries(folder: Path) -> Iterator[Entry]:
    """The entries of the log among a coordinator's blobs, by height."""
    found = []
    for file in folder.rglob("*"):
        if not file.is_file() or not file.read_bytes()[:12].startswith(b'{"version":'):
            continue
        try:
            entry = parse_entry(file.read_bytes())
        except MalformedRecord:
            continue
        assert not isinstance(entry, NeedsNewer)
        found.append(entry)
    return iter(sorted(found, key=lambda entry: entry.height))


def identity(folder: Path, name: str) -> Identity:
    """Of a program, by the name of its key file."""
    return load_identity(next(folder.rglob(name)))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.full("four programs, and about a dozen rounds of six seconds")
def test_a_sign_flipper_is_suspended_and_weighs_nothing(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "model")
    write_sums(tmp_path / "data.jsonl")
    (tmp_path / "run.toml").write_text(RUN, encoding="utf-8")
    with stage(tmp_path) as run:
        coordinator = run.launch(module="tests.support.eager_auditor")
        invite = coordinator.wait_for(INVITE)[1]
        for name in ("ada", "ben"):
            run.join(name, invite)
        run.join("eve", invite, module="tests.support.sign_flipper")
        coordinator.wait_for(r"is suspended, with weight 0: audits show harm", 600)
        for _ in range(2):
            coordinator.wait_for(r"round \d+ folded")
        eve = identity(tmp_path / "eve", PEER_KEY).public
        log = list(entries(tmp_path / "coordinator" / "blobs"))
    verdicts = [
        (entry, change)
        for entry in log
        if isinstance(entry, StandingChange)
        for change in entry.changes
        if change.cause == "audit"
    ]
    (entry, change) = verdicts[0]
    assert [(each.key, each.level) for _, each in verdicts] == [(eve, "suspended")], "and no honest key"
    run_key = identity(tmp_path / "coordinator", AUTHORITY_KEY).public
    assert open_text(Verdict, str(change.verdict), signer=run_key).value.follows
    closes = [each for each in log if isinstance(each, Close)]
    weights = {
        close.height: dict(zip((c.owner for c in open_commits(close)), close.weights, strict=True))
        for close in closes
    }
    before = [each[eve] for height, each in weights.items() if height < entry.height and eve in each]
    after = [each[eve] for height, each in weights.items() if height > entry.height and eve in each]
    assert min(before) > 0
    assert len(after) >= 2
    assert set(after) == {0}
