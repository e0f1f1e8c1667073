"""`scripts/bench uplink`: volunteers on 20 Mbit/s lines, next to hivemind.Optimizer on the same lines.

Every machine is a network namespace of its own, capped each way; programs, model and corpus are those of
the demo. First ours runs, coordinator included; then hivemind trains for as long as it is given, with
the same samples a step and the same inner optimizer; then it is looked up which of our checkpoints was
the first to reach the held-out loss that hivemind came to.
"""

from __future__ import annotations

import argparse
import signal
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from barnraise.contract.archive import folder_of
from barnraise.contract.manifest import MANIFEST
from barnraise.contract.records import Close, Commit, blob_name
from barnraise.core.ids import BlobHash
from barnraise.core.signed import open_signed, open_text
from barnraise.models.base_model import resolve
from barnraise.runtime.blob_store import BlobStore
from coordinator.run_folder import ARCHIVE
from scripts.benchmarks.round import LOOK_SECONDS, Tail
from scripts.benchmarks.uplink.baseline import run_rival
from scripts.benchmarks.uplink.figures import Parcel, bound, crossing, of_rounds, standstill, took
from scripts.benchmarks.uplink.programs import START_SECONDS, Cpu, cpu_file, cpu_of, start, wait_for
from scripts.demo import CACHE, MODEL, corpus, evaluate
from scripts.demo_stage import DemoFailed, Program, Stage, running
from scripts.netns import Host, Traffic, network

PROMPT = "What does the join method of a string do?"
FIRST = 2
"""The volunteers join in rounds 0 and 1; from here on all of them are there."""
TARGETS = {"lora": '{ kind = "lora", rank = 8, alpha = 16.0 }', "full": '{ kind = "full" }'}
RATES = {"lora": 1e-3, "full": 1e-4}
RUN = """\
name = "uplink"
seed = 7
[model]
source = "{model}"
[data]
source = "{data}"
sequence_length = 256
held_out = 0.02
[train]
batch = 1
target = {target}
[train.inner]
lr = {lr}
[round]
seconds = {seconds}
grace = {grace}
overlap = "{overlap}"
{codec}
[checkpoint]
every = 1
keep = {keep}
held_out_tokens = 0
"""


@dataclass(frozen=True)
class Options:
    """What is to be measured."""

    target: str
    peers: int
    rounds: int
    """Whole rounds, after the first ones."""
    seconds: float
    """Length of a round's training."""
    overlap: str
    codec: str
    """The run spec's [codec], as TOML."""
    mbit: float
    rival_seconds: float
    """0: no rival."""
    rival_batch: int
    rival_state_every: int
    slow: float
    """The last volunteer's machine is so many times slower than the others'."""


@dataclass
class Ours:
    """What was seen of our own run."""

    tails: list[Tail]
    began: float
    """When the first volunteer began to train."""
    parcels: dict[int, list[Parcel]]
    """By round."""
    wire: dict[str, Traffic]
    """What went over each volunteer's line in all measured rounds."""
    cpu: dict[str, Cpu]
    """What each volunteer's programs took of the processor in all measured rounds."""
    contributed: dict[str, int]
    """Measured rounds whose close lists each volunteer."""
    checkpoints: dict[int, float] = field(default_factory=dict)
    """When the checkpoint of a state was there, by its round."""


def measure_uplink(options: Options) -> str:
    """Run both arms; a markdown report. Raises DemoFailed, or NetworkFailed without namespaces."""
    signal.signal(signal.SIGTERM, _ended)
    with tempfile.TemporaryDirectory() as folder, network() as net:
        work = Path(folder)
        hosts = [net.public(name, options.mbit) for name in ("coordinator", *_names(options))]
        write_run(work, options)
        with running(work) as stage:
            ours = run_ours(stage, hosts, options)
        rival = (
            run_rival(work, hosts[1:], options.rival_seconds, options.rival_batch, options.rival_state_every)
            if options.rival_seconds
            else {}
        )
        return "\n\n".join([*own_tables(ours, options), *compare(work, ours, rival, options)])


def write_run(work: Path, options: Options) -> None:
    text = RUN.format(
        model=MODEL,
        data=corpus(work),
        target=TARGETS[options.target],
        lr=RATES[options.target],
        seconds=options.seconds,
        grace=max(60.0, 2 * options.seconds),
        overlap=options.overlap,
        codec=f"[codec]\n{options.codec}" if options.codec else "",
        keep=FIRST + options.rounds + 2,
    )
    (work / "run.toml").write_text(text, encoding="utf-8")


def run_ours(stage: Stage, hosts: Sequence[Host], options: Options) -> Ours:
    work = stage.work
    coordinator = start(
        stage, hosts[0], "coordinator", "-c", "from coordinator.cli import main; main()", "serve",
        str(work / "run.toml"), "--host", hosts[0].address, "--data-dir", str(work / "coordinator"),
    )  # fmt: skip
    invite = wait_for(coordinator, r"(barnraise://\S+?)'")
    tails = [
        Tail(
            start(
                stage, host, name, "-m", "scripts.benchmarks.uplink.timed_peer", str(cpu_file(work, name)),
                str(options.slow if name == _names(options)[-1] else 1), "join", invite,
                "--name", name, "--device", "cpu", "--threads", "1", "--micro-batch", "1",
                "--listen", f"/ip4/{host.address}/tcp/0", "--data-dir", str(work / name),
            )
        )
        for name, host in zip(_names(options), hosts[1:], strict=True)
    ]  # fmt: skip
    seen: dict[tuple[str, str], float] = {}
    last = FIRST + options.rounds
    marks = []
    for until in (FIRST, last):
        _follow(
            coordinator, tails, until, lambda: _look(work, ["coordinator", *_names(options)], seen), options
        )
        marks.append(
            {
                tail.program.name: (host.traffic(), cpu_of(tail.program))
                for tail, host in zip(tails, hosts[1:], strict=True)
            }
        )
    began = min(line.at for tail in tails for line in tail.lines if line.doing.startswith("training"))
    first, then = marks
    ours = Ours(
        tails,
        began,
        parcels={},
        wire={name: then[name][0].since(was) for name, (was, _) in first.items()},
        cpu={name: then[name][1].since(was) for name, (_, was) in first.items()},
        contributed=dict.fromkeys(_names(options), 0),
    )
    offset = time.monotonic() - time.time()
    for place in sorted((work / "coordinator" / ARCHIVE).glob(f"checkpoints/round-*/{MANIFEST}")):
        ours.checkpoints[int(place.parent.name.removeprefix("round-"))] = place.stat().st_mtime + offset
    for commit in folded(work / "coordinator"):
        if FIRST <= commit.round < last:
            at = {who: when for (who, name), when in seen.items() if name == blob_name(commit)}
            owner = min(at, key=lambda who: at[who])  # nobody has it before its owner
            parcel = Parcel(owner, commit.size, at.pop(owner), at)
            ours.parcels.setdefault(commit.round, []).append(parcel)
            ours.contributed[owner] += 1
    return ours


def _look(work: Path, names: Sequence[str], seen: dict[tuple[str, str], float]) -> None:
    """Note which blobs have come to stand where since the last look."""
    now = time.monotonic()
    for who in names:
        for path in (work / who / "blobs").glob("??/*"):
            seen.setdefault((who, path.name), now)


def _follow(
    coordinator: Program, tails: Sequence[Tail], until: int, look: Callable[[], None], options: Options
) -> None:
    deadline = time.monotonic() + START_SECONDS + 4 * options.seconds * until
    while any(tail.round < until for tail in tails):
        for program in (coordinator, *(tail.program for tail in tails)):
            if not program.alive():
                raise DemoFailed(f"{program.name} ended early:\n{program.log.read_text()[-3000:]}")
        for tail in tails:
            tail.look()
        look()
        if time.monotonic() > deadline:
            raise DemoFailed(f"round {until} did not open: {[tail.lines[-1:] for tail in tails]}")
        time.sleep(LOOK_SECONDS)


def folded(folder: Path) -> list[Commit]:
    """All commits that the coordinator's closes list."""
    blobs = BlobStore(folder / "blobs")
    with sqlite3.connect(folder / "journal.sqlite") as journal:
        rows = journal.execute("SELECT body FROM events WHERE kind = 'closed' ORDER BY id").fetchall()
    wires = [blobs.get(BlobHash(body.hex())) for (body,) in rows]
    closes = [open_signed(Close, wire, signer=None, limit=len(wire)).value for wire in wires]
    return [open_text(Commit, text, signer=None).value for close in closes for text in close.commits]


def own_tables(ours: Ours, options: Options) -> list[str]:
    until = FIRST + options.rounds
    rows = []
    for tail in ours.tails:
        lines, wire = of_rounds(tail.lines, FIRST, until), ours.wire[tail.program.name]
        length = (lines[-1].at - lines[0].at) / options.rounds
        up, down = (getattr(wire, way) / options.rounds / 1e6 for way in ("up", "down"))
        cpu, count = ours.cpu[tail.program.name], ours.contributed[tail.program.name]
        beside = (cpu.all - cpu.training) / (lines[-1].at - lines[0].at)
        rows.append(
            f"| {tail.program.name} | {length:.1f} | {standstill(lines):.1%} | {beside:.1%} | {count} |"
            f" {up:.2f} | {down:.2f} |"
        )
    rate, nodes = options.mbit * 1e6 / 8, options.peers + 1
    spread = []
    for round, parcels in sorted(ours.parcels.items()):
        if all(len(parcel.arrived) == nodes - 1 for parcel in parcels):
            seconds, least = took(parcels), bound(parcels, rate, nodes)
            size = statistics.mean(parcel.size for parcel in parcels) / 1e6
            cells = [f"{figure:.2f}" for figure in (size, seconds, least, seconds / least)]
            spread.append(f"| {round} | {len(parcels)} | {' | '.join(cells)} |")
    return [
        f"{options.target}, {options.peers} volunteers and the coordinator at {options.mbit:g} Mbit/s"
        f" each way, {options.rounds} rounds of {options.seconds:g} s, overlap {options.overlap},"
        f" codec {options.codec or 'by default'}",
        "| volunteer | round, s | not training | of a core, beside training | rounds contributed to |"
        " sent, MB a round | received, MB a round |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n" + "\n".join(rows),
        "| round | blobs | a blob, MB | all have all after, s | bound, s | ÷ bound |\n"
        "| ---: | ---: | ---: | ---: | ---: | ---: |\n" + "\n".join(spread),
    ]


def compare(work: Path, ours: Ours, rival: dict[str, Any], options: Options) -> list[str]:
    """The held-out losses of our checkpoints by their time, as far as to what the rival came to."""
    base, held_out = resolve(MODEL, None, CACHE).path, work / "coordinator" / "held-out"
    points = [(0.0, evaluate(base, held_out, PROMPT).loss)]
    rows = [f"| start | 0 | {points[0][1]:.4f} |"]
    reached = None
    for round, at in sorted(ours.checkpoints.items()):
        if round == 0:
            continue
        folder = work / "coordinator" / ARCHIVE / folder_of("trained", round)
        points.append((at - ours.began, evaluate(base, held_out, PROMPT, folder).loss))
        rows.append(f"| ours, state {round} | {points[-1][0]:.0f} | {points[-1][1]:.4f} |")
        if rival and points[-1][1] <= rival["loss"]:
            reached = points[-1][0]
            break
    if rival:
        rows.append(f"| hivemind.Optimizer | {rival['seconds']:.0f} | {rival['loss']:.4f} |")
    parts = [
        "| arm | seconds of training | held-out loss |\n| --- | ---: | ---: |\n" + "\n".join(rows),
    ]
    if rival:
        parts.append(
            f"hivemind: {rival['epochs']} steps of {options.rival_batch} samples, {rival['samples']} in all,"
            f" {rival['training']:.0%} of its time in training, {rival['groups']} averages with"
            f" {rival['group']:.1f} peers, {rival['sent'] / 1e6:.0f} MB sent a peer. "
            + (
                f"Ours had a checkpoint as good {rival['seconds'] / reached:.1f} times as fast; by a line"
                f" from the one before, {rival['seconds'] / crossing(points, rival['loss']):.1f} times."
                if reached
                else "Ours was not there by its last checkpoint."
            )
        )
    return parts


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", choices=TARGETS, default="lora")
    parser.add_argument("--peers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="whole rounds to measure, after the first")
    parser.add_argument("--seconds", type=float, default=60.0, help="of a round's training")
    parser.add_argument("--overlap", choices=["auto", "always", "never"], default="always")
    parser.add_argument("--codec", default="", help="the run spec's [codec], as TOML; our default otherwise")
    parser.add_argument("--mbit", type=float, default=20.0, help="each machine's line, each way")
    parser.add_argument("--rival-seconds", type=float, default=600.0, help="for hivemind; 0 leaves it out")
    parser.add_argument("--rival-batch", type=int, default=64, help="samples of one step of hivemind's")
    parser.add_argument("--rival-state-every", type=int, default=20, help="steps between its state averages")
    parser.add_argument("--slow", type=float, default=1.0, help="times that the last machine is slower")


def options_of(chosen: argparse.Namespace) -> Options:
    return Options(
        target=chosen.target,
        peers=chosen.peers,
        rounds=chosen.rounds,
        seconds=chosen.seconds,
        overlap=chosen.overlap,
        codec=chosen.codec.replace(";", "\n"),
        mbit=chosen.mbit,
        rival_seconds=chosen.rival_seconds,
        rival_batch=chosen.rival_batch,
        rival_state_every=chosen.rival_state_every,
        slow=chosen.slow,
    )


def _ended(*_: object) -> None:
    """As Ctrl-C: what was started is ended, and the namespaces are removed."""
    raise KeyboardInterrupt


def _names(options: Options) -> list[str]:
    return [f"peer-{number}" for number in range(options.peers)]


if __name__ == "__main__":
    options = argparse.ArgumentParser(prog="scripts/bench uplink", description=__doc__)
    add_options(options)
    print(measure_uplink(options_of(options.parse_args())))
