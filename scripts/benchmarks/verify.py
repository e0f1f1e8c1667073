"""`scripts/bench verify`: the time to prove a checkpoint, against the time to train it.

It proves the checkpoints of a real run on this machine, with the demo's settings. The times of the run's
closes give the duration of training.
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.invite import parse_invite
from coordinator.grpc_service import ask_status
from peer.messages.verify import verify_message
from peer.verify.display import VerifyLines
from peer.verify.proof import Proved
from peer.verify.verify import VerifyOptions, verify
from scripts.demo import CACHE, MODEL, RUN, corpus, wait_until_public
from scripts.stage import PROGRAMS, DemoFailed, running, serve

TIMEOUT_SECONDS = 120.0
"""A round has to close within this time."""


def measure_verify(peers: int, rounds: int) -> str:
    """Train `rounds` rounds with `peers` volunteers, then prove the checkpoint in several ways.

    Raises DemoFailed.
    """
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        with running(work) as stage:
            (work / "run.toml").write_text(
                RUN.format(model=MODEL, data=corpus(work), held_out_tokens=0), encoding="utf-8"
            )
            invite, port = serve(stage)
            volunteers = [stage.volunteer(f"peer-{number}", invite) for number in range(peers)]
            _wait_for(port, rounds)
            for volunteer in volunteers:
                volunteer.interrupt(TIMEOUT_SECONDS)
            wait_until_public(work / "coordinator", rounds)
            key = parse_invite(invite).key
            archive = str(work / "coordinator" / "archive")
            rows = [
                _row("gateway, from its invite", invite, None, rounds),
                _row("folder", archive, key, rounds),
            ]
    columns = (
        "archive", "rounds", "contributions", "trained in, s", "verified in, s", "÷",
        "the program, s", "÷", "its processor time, s", "÷", "a contribution: trained in, s",
        "verified in, s",
    )  # fmt: skip
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _wait_for(port: int, rounds: int) -> None:
    for round in range(rounds + 1):
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while (status := asyncio.run(ask_status(f"127.0.0.1:{port}"))).round < round:
            if time.monotonic() > deadline:
                raise DemoFailed(f"round {round} did not open: {status.waiting_for}")
            time.sleep(0.5)


def _row(what: str, source: str, key: str | None, round: int) -> list[str]:
    options = VerifyOptions(source, None, key, str(round), None, None)
    proved = asyncio.run(verify(options, CACHE, VerifyLines(verify_message), time.monotonic))
    if not isinstance(proved, Proved):
        raise DemoFailed(f"the checkpoint is not proved: {proved}")
    whole = _program(source, key, round)
    trained = proved.rounds * _training(proved)
    return [
        what, f"{proved.rounds}", f"{proved.contributions}", f"{trained:.0f}",
        f"{proved.seconds:.2f}", f"{trained / proved.seconds:.0f}",
        f"{whole.wall:.2f}", f"{trained / whole.wall:.0f}",
        f"{whole.processor:.2f}", f"{trained / whole.processor:.0f}",
        f"{trained / proved.rounds:.1f}", f"{proved.seconds / proved.contributions:.3f}",
    ]  # fmt: skip


def _training(proved: Proved) -> float:
    if proved.training is None:
        raise DemoFailed("the duration of a round takes two closes to measure: measure at least two rounds")
    return proved.training


@dataclass(frozen=True)
class _Spent:
    """Seconds of a program, from its start to its exit."""

    wall: float
    processor: float


def _program(source: str, key: str | None, round: int) -> _Spent:
    began, used = time.monotonic(), _children()
    command = [str(PROGRAMS / "peer"), "verify", source, "--revision", str(round)]
    done = subprocess.run(
        [*command, *(["--key", key] if key else [])], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise DemoFailed(f"peer verify ended by {done.returncode}:\n{done.stderr[-2000:]}")
    return _Spent(time.monotonic() - began, _children() - used)


def _children() -> float:
    """Processor time of the child processes that have exited."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
