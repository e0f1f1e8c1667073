"""hivemind's optimizer on the lines that our own arm of `scripts/bench uplink` ran on."""

from __future__ import annotations

import json
import sqlite3
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from barnraise.contract.charter import Charter
from barnraise.core.signed import open_signed
from barnraise.models.base_model import resolve
from scripts.benchmarks.uplink.baseline_program import Task
from scripts.benchmarks.uplink.programs import START_SECONDS, start, wait_for
from scripts.demo import CACHE, MODEL
from scripts.demo_stage import running
from scripts.netns import Host


def run_rival(
    work: Path, hosts: Sequence[Host], seconds: float, batch: int, state_every: int
) -> dict[str, Any]:
    """Let hivemind's optimizer train on `hosts`; what its first peer said at the end, and all their samples.

    `work` is where our own arm ran: the data, the held-out samples and the run spec are taken from there.
    """
    base, data = resolve(MODEL, None, CACHE).path, work / "coordinator"
    go = work / "go"
    bootstrap = ""
    with running(work) as stage:
        programs = []
        for peer, host in enumerate(hosts):
            task = Task(
                spec=str(work / "run.toml"),
                base=str(base),
                data=str(data / "blobs"),
                index=data_index(data),
                held_out="" if peer else str(data / "held-out"),
                peer=peer,
                peers=len(hosts),
                target_batch=batch,
                state_every=state_every,
                seconds=seconds,
                address=host.address,
                bootstrap=bootstrap,
                go=str(go),
            )
            file = work / f"rival-{peer}.json"
            file.write_text(json.dumps(asdict(task)), encoding="utf-8")
            programs.append(
                start(
                    stage,
                    host,
                    f"rival-{peer}",
                    "-m",
                    "scripts.benchmarks.uplink.baseline_program",
                    str(file),
                )
            )
            address = json.loads(wait_for(programs[-1], r"^> (.*)"))["ready"]
            bootstrap = bootstrap or address
        before = [host.traffic().up for host in hosts]
        go.touch()
        said = [
            json.loads(wait_for(program, r"^> (.*seconds.*)", START_SECONDS + 2 * seconds))
            for program in programs
        ]
        sent = [host.traffic().up - was for host, was in zip(hosts, before, strict=True)]
    found: dict[str, Any] = said[0] | {"samples": sum(each["samples"] for each in said)}
    return found | {"sent": statistics.mean(sent)}


def data_index(folder: Path) -> str:
    """Where the coordinator keeps the list of the data's shards."""
    with sqlite3.connect(folder / "journal.sqlite") as journal:
        (body,) = journal.execute("SELECT body FROM events WHERE kind = 'chartered'").fetchone()
    return open_signed(Charter, body, signer=None, limit=len(body)).value.data_index
