"""The programs as real processes on loopback, with real libp2p and a tiny LLaMA."""

from __future__ import annotations

import base64
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from barnraise.contract.double_signing import Certified
from barnraise.core.ids import BlobHash
from barnraise.runtime.blob_store import BlobStore
from tests.support.programs import DEADLINE, Program, daemons, free_ports, stage
from tests.support.tiny import make_tiny_model, write_sums

pytestmark = pytest.mark.slow

RUN = """\
name = "tiny"
seed = 3
[model]
source = "model"
[data]
source = "data.jsonl"
sequence_length = 64
[train]
method = "{method}"
batch = 2
target = {target}
[train.inner]
lr = 1e-3
[round]
seconds = {seconds}
grace = {grace}
{steps}
min_contributions = {min_contributions}
[outer]
kind = "{outer}"
lr = {lr}
[checkpoint]
every = 2
keep = 3
"""


def prepare(
    folder: Path,
    *,
    method: str = "diloco",
    target: str = '{ kind = "full" }',
    outer: str = "sgd",
    lr: float = 1.0,
    seconds: int = 8,
    grace: int = 4,
    min_contributions: int = 1,
    steps: int | None = 3,
) -> None:
    make_tiny_model(folder / "model")
    write_sums(folder / "data.jsonl")
    run = RUN.format(
        method=method, target=target, outer=outer, lr=lr,
        seconds=seconds, grace=grace, min_contributions=min_contributions,
        steps="" if steps is None else f"steps = {steps}",
    )  # fmt: skip
    (folder / "run.toml").write_text(run, encoding="utf-8")


def check_agreement(*programs: Program) -> set[int]:
    """Assert that all programs report the same states; return the rounds that more than one reports."""
    states = [program.states() for program in programs]
    common = {round for held in states for round in held if sum(round in other for other in states) > 1}
    for round in common:
        assert len({held[round] for held in states if round in held}) == 1, (
            f"replicas differ in round {round}"
        )
    return common


@pytest.mark.parametrize(
    ("method", "target", "outer", "lr"),
    [
        ("diloco", '{ kind = "lora", rank = 4 }', "sgd", 1.0),
        pytest.param(
            "gradient", '{ kind = "full" }', "adamw", 1e-3, marks=pytest.mark.full("a second kind of run")
        ),
    ],
)
def test_three_peers_hold_one_state(tmp_path: Path, method: str, target: str, outer: str, lr: float) -> None:
    prepare(tmp_path, method=method, target=target, outer=outer, lr=lr)
    with stage(tmp_path) as act:
        coordinator, invite = act.serve()
        peers = [act.join(name, invite) for name in ("ada", "ben", "cyd")]
        coordinator.wait_for(r"folded: 3 contributions")
        coordinator.wait_for(r"folded: 3 contributions")
        last = int(coordinator.wait_for(r"round (\d+) folded: 3 contributions")[1])
        for peer in peers:
            peer.wait_for(rf"^round {last + 1}: ")
        common = check_agreement(coordinator, *peers)
        assert len([r for r in common if all(r in peer.states() for peer in peers)]) >= 3
        assert len(set(coordinator.states().values())) == len(coordinator.states()), "the state never moved"
        for peer in peers:
            peer.interrupt()
        coordinator.interrupt()
        for program in (coordinator, *peers):
            assert "Traceback" not in program.output


def test_late_joiner_kill_and_resume(tmp_path: Path) -> None:
    prepare(tmp_path)
    with stage(tmp_path) as act:
        coordinator, invite = act.serve()
        ada, ben = act.join("ada", invite), act.join("ben", invite)
        coordinator.wait_for(r"checkpoint of round 2 written")

        cyd = act.join("cyd", invite)
        joined = int(cyd.wait_for(r"^round (\d+): training")[1])
        assert joined >= 2, "a late joiner starts at the open round"
        coordinator.wait_for(r"folded: 3 contributions")

        (daemon,) = daemons(ben)
        ben.kill()
        _, left = psutil.wait_procs([daemon], timeout=DEADLINE)
        assert not left, "the libp2p daemon outlived its program"
        coordinator.wait_for(r"closed: (the deadline passed|all 2 volunteers)")

        again = act.join("ben", invite)
        again.wait_for(r"going on with round \d+")
        again.wait_for(r"^round \d+: ")
        last = int(coordinator.wait_for(r"round (\d+) folded: 3 contributions")[1])
        for peer in (ada, cyd, again):
            peer.wait_for(rf"^round {last + 1}: ")
        check_agreement(coordinator, ada, ben, cyd, again)
        assert again.states(), "the resumed peer trained"

        (daemon,) = daemons(cyd)
        daemon.kill()
        cyd.wait_for("the libp2p daemon ended by itself")
        cyd.wait_for("the libp2p daemon is back")
        last = int(coordinator.wait_for(r"round (\d+) folded: 3 contributions")[1])
        cyd.wait_for(rf"^round {last + 1}: ")
        assert "Traceback" not in cyd.output


def test_coordinator_restart_loses_nothing_accepted(tmp_path: Path) -> None:
    prepare(tmp_path)
    port, p2p_port = free_ports(2)
    with stage(tmp_path) as act:
        first, invite = act.serve(port, p2p_port)
        ada = act.join("ada", invite)
        ben = act.join("ben", invite, "--micro-batch", "1")
        first.wait_for(r"folded: 2 contributions")
        first.wait_for(r"accepted (ada|ben)")
        first.kill()

        second, same = act.serve(port, p2p_port)
        assert same == invite
        assert re.search(r"resuming with round [1-9]", second.output)
        second.wait_for(r"folded: 2 contributions")
        last = int(second.wait_for(r"round (\d+) folded: 2 contributions")[1])
        for peer in (ada, ben):
            peer.wait_for(rf"^round {last + 1}: ")
        check_agreement(first, second, ada, ben)
        for program in (ada, ben, second):
            assert "Traceback" not in program.output
        second.interrupt()
    folder = tmp_path / "coordinator"
    assert_all_accepted_were_closed(folder)


def assert_all_accepted_were_closed(folder: Path) -> None:
    """Every contribution that the journal accepted for a closed round is in that round's close."""
    blobs = BlobStore(folder / "blobs")
    with closing(sqlite3.connect(folder / "journal.sqlite")) as journal:
        events = journal.execute("SELECT kind, round, body FROM events ORDER BY id").fetchall()
    closes = {
        round: blobs.get(BlobHash(Certified.model_validate_json(body).vote.entry))
        for kind, round, body in events
        if kind == "closed"
    }
    accepted = [(round, body) for kind, round, body in events if kind == "accepted" and round in closes]
    assert accepted
    for round, commit in accepted:
        assert base64.b64encode(commit) in closes[round]
