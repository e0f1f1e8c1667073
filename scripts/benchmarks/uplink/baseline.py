"""hivemind's optimizer on the lines on which our own arm of `scripts/bench uplink` ran."""

from __future__ import annotations

import json
import sqlite3
import statistics
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from barnraise.contract.charter import Charter
from barnraise.core.signed import open_signed
from barnraise.models.base_model import resolve
from scripts.benchmarks.uplink.baseline_program import Task
from scripts.benchmarks.uplink.programs import start
from scripts.benchmarks.uplink.settings import Options
from scripts.demo import CACHE, MODEL
from scripts.netns import Host
from scripts.stage import START_SECONDS, running, wait_for


def run_baseline(work: Path, hosts: Sequence[Host], options: Options) -> dict[str, Any]:
    """Train with hivemind's optimizer on `hosts`; returns its first peer's report, and the samples of all.

    `work` is the folder of our own arm, whose data, held-out samples and run spec it uses.
    """
    base, data = resolve(MODEL, None, CACHE).path, work / "coordinator"
    go, states = work / "go", work / "states"
    states.mkdir()
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
                states=str(states),
                peer=peer,
                peers=len(hosts),
                lr=options.baseline_lr,
                target_batch=options.baseline_batch,
                state_every=options.baseline_state_every,
                seconds=options.baseline_seconds,
                address=host.address,
                bootstrap=bootstrap,
                go=str(go),
            )
            file = work / f"baseline-{peer}.json"
            file.write_text(json.dumps(asdict(task)), encoding="utf-8")
            programs.append(
                start(
                    stage,
                    host,
                    f"baseline-{peer}",
                    "-m",
                    "scripts.benchmarks.uplink.baseline_program",
                    str(file),
                )
            )
            address = json.loads(wait_for(programs[-1], r"^> (.*)"))["ready"]
            bootstrap = bootstrap or address
        before = [host.traffic().up for host in hosts]
        go.touch()
        reports = [
            json.loads(wait_for(program, r"^> (.*seconds.*)", START_SECONDS + 2 * options.baseline_seconds))
            for program in programs
        ]
        sent = [host.traffic().up - was for host, was in zip(hosts, before, strict=True)]
    found: dict[str, Any] = reports[0] | {"samples": sum(each["samples"] for each in reports)}
    return found | {"sent": statistics.mean(sent)}


def data_index(folder: Path) -> str:
    """The hash of the coordinator's list of the data's shards, from its journal."""
    with closing(sqlite3.connect(folder / "journal.sqlite")) as journal:
        (body,) = journal.execute("SELECT body FROM events WHERE kind = 'chartered'").fetchone()
    return open_signed(Charter, body, signer=None, limit=len(body)).value.data_index
