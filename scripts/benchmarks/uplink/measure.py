"""`scripts/bench uplink`: volunteers on 20 Mbit/s lines, next to hivemind.Optimizer on the same lines.

Every machine is a network namespace of its own, with a limited line; programs, model and corpus are those
of the demo. Our own run comes first, coordinator included. Then hivemind trains for `--baseline-seconds`,
with the same inner optimizer at `--baseline-lr` and as many samples per step as `--baseline-batch` says. The
report finds our first checkpoint that reaches the held-out loss of each of hivemind's states.
"""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from barnraise.contract.manifest import MANIFEST
from barnraise.contract.records import Commit, blob_name
from coordinator.run_folder import ARCHIVE
from scripts.benchmarks.round import POLL_SECONDS, Tail, trains
from scripts.benchmarks.uplink.baseline import run_baseline
from scripts.benchmarks.uplink.figures import Delivery
from scripts.benchmarks.uplink.programs import Cpu, cpu_file, cpu_of, start
from scripts.benchmarks.uplink.report import Ours, compare, own_tables
from scripts.benchmarks.uplink.settings import FIRST, Options, run_toml
from scripts.chaos.evidence import JournalReader
from scripts.demo import MODEL, corpus
from scripts.netns import Host, Traffic, network
from scripts.stage import START_SECONDS, DemoFailed, Program, Stage, running, wait_for

Usage = dict[str, tuple[Traffic, Cpu]]
"""The counters of each volunteer at one time."""


def measure_uplink(options: Options) -> str:
    """Run both arms; returns a markdown report. Raises DemoFailed, or NetworkFailed without namespaces."""
    signal.signal(signal.SIGTERM, _interrupt)
    with tempfile.TemporaryDirectory() as folder, network() as net:
        work = Path(folder)
        hosts = [net.public(name, options.mbit) for name in ("coordinator", *options.names)]
        (work / "run.toml").write_text(run_toml(options, MODEL, corpus(work)), encoding="utf-8")
        with running(work) as stage:
            ours = run_ours(stage, hosts, options)
        baseline = {}
        if options.baseline_seconds:
            baseline = run_baseline(work, hosts[1:], options)
        return "\n\n".join([*own_tables(ours, options), *compare(work, ours, baseline, options)])


def run_ours(stage: Stage, hosts: Sequence[Host], options: Options) -> Ours:
    """Run the coordinator and the volunteers until all measured rounds are over."""
    work = stage.work
    coordinator = start(
        stage, hosts[0], "coordinator", "-c", "from coordinator.cli.main import main; main()", "serve",
        str(work / "run.toml"), "--host", hosts[0].address, "--data-dir", str(work / "coordinator"),
    )  # fmt: skip
    invite = wait_for(coordinator, r"(barnraise://\S+?)'")
    tails = [
        Tail(
            start(
                stage, host, name, "-m", "scripts.benchmarks.uplink.timed_peer", str(cpu_file(work, name)),
                str(options.slow if name == options.names[-1] else 1), "join", invite,
                "--name", name, "--credit", "--device", "cpu", "--threads", "1", "--micro-batch", "1",
                "--listen", f"/ip4/{host.address}/tcp/0", "--data-dir", str(work / name),
            )
        )
        for name, host in zip(options.names, hosts[1:], strict=True)
    ]  # fmt: skip
    seen: dict[tuple[str, str], float] = {}

    def follow_until(round: int) -> Usage:
        _follow(coordinator, tails, round, lambda: _note_blobs(work, options, seen), options)
        return {
            tail.program.name: (host.traffic(), cpu_of(tail.program))
            for tail, host in zip(tails, hosts[1:], strict=True)
        }

    before, after = follow_until(FIRST), follow_until(options.end)
    ours = Ours(
        tails,
        began=min(line.at for tail in tails for line in tail.lines if trains(line)),
        deliveries={},
        wire={name: after[name][0].since(traffic) for name, (traffic, _) in before.items()},
        cpu={name: after[name][1].since(cpu) for name, (_, cpu) in before.items()},
        contributed=dict.fromkeys(options.names, 0),
        checkpoints=_checkpoint_times(work / "coordinator" / ARCHIVE),
    )
    _add_deliveries(ours, folded(work / "coordinator"), seen, options)
    return ours


def _checkpoint_times(archive: Path) -> dict[int, float]:
    """When the checkpoint of each round was written, on this process's monotonic clock."""
    offset = time.monotonic() - time.time()
    return {
        int(path.parent.name.removeprefix("round-")): path.stat().st_mtime + offset
        for path in archive.glob(f"checkpoints/round-*/{MANIFEST}")
    }


def _add_deliveries(
    ours: Ours, commits: Sequence[Commit], seen: dict[tuple[str, str], float], options: Options
) -> None:
    for commit in commits:
        if FIRST <= commit.round < options.end:
            times = {node: at for (node, name), at in seen.items() if name == blob_name(commit)}
            owner = min(times, key=lambda node: times[node])  # the first node that has a blob is its owner
            delivery = Delivery(owner, commit.size, times.pop(owner), times)
            ours.deliveries.setdefault(commit.round, []).append(delivery)
            ours.contributed[owner] += 1


def _note_blobs(work: Path, options: Options, seen: dict[tuple[str, str], float]) -> None:
    """Record the time of each blob, (node, name), that was not seen before."""
    now = time.monotonic()
    for node in ("coordinator", *options.names):
        for path in (work / node / "blobs").glob("??/*"):
            seen.setdefault((node, path.name), now)


def _follow(
    coordinator: Program, tails: Sequence[Tail], until: int, poll: Callable[[], None], options: Options
) -> None:
    deadline = time.monotonic() + START_SECONDS + 4 * options.seconds * until
    while any(tail.round < until for tail in tails):
        for program in (coordinator, *(tail.program for tail in tails)):
            if not program.alive():
                raise DemoFailed(f"{program.name} ended early:\n{program.log.read_text()[-3000:]}")
        for tail in tails:
            tail.read()
        poll()
        if time.monotonic() > deadline:
            raise DemoFailed(f"round {until} did not open: {[tail.lines[-1:] for tail in tails]}")
        time.sleep(POLL_SECONDS)


def folded(folder: Path) -> list[Commit]:
    """All commits that the coordinator's closes list."""
    journal = JournalReader(folder)
    return [commit for link in journal.links(journal.rows()) for commit in link.commits]


def _interrupt(*_: object) -> None:
    """Handle SIGTERM like Ctrl-C: the programs are stopped, and the namespaces are removed."""
    raise KeyboardInterrupt
