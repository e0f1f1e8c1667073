"""A run of real programs: they are started, observed through their output, and stopped.

All waits are for events, with a deadline: a line of output, the end of a program.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from barnraise.consensus.vote_store import open_closer
from barnraise.runtime.files import owned_folder
from coordinator.run_folder import CLOSER_KEY, VOTES
from scripts.chaos.cases import Phase, Target
from scripts.chaos.disks import FILL, Disks
from scripts.netns import Host, Network
from tests.support.programs import INVITE, Program, Stage, daemons, free_ports
from tests.support.settable_clock import SettableClock
from tests.support.tiny import make_tiny_model, write_sums

DEADLINE = 600.0
"""Seconds for any event, on a machine that does other work too."""
NAMES = ("ada", "ben", "cyd", "dan", "eve", "fay", "gus", "hal")
HEARD = r" accepted {0}: |(training:|waiting for|first volunteers:) .*\b{0}\b"
"""The coordinator prints this when it hears a volunteer of that name."""
CLOSER_NAMES = ("kim", "lou")
CLOSES = " closes rounds of "
"""A closer prints this once it takes part."""
READY = rf"^round \d+: training|{Phase.SENDING.line}"
"""A volunteer prints this once it takes part in the open round."""
RUN = """\
name = "tiny"
seed = 3
[model]
source = "model"
[data]
source = "data.jsonl"
sequence_length = 64
[train]
method = "diloco"
batch = 2
target = { kind = "full" }
[train.inner]
lr = 1e-3
[round]
seconds = 4
grace = 4
min_contributions = 1
[checkpoint]
every = 8
keep = 16
"""
WITHOUT_EVALUATION = "held_out_tokens = 0\n"

V = TypeVar("V")


class Failed(Exception):
    """A promise did not hold, or an event did not come in time."""


def prepare(folder: Path, *, evaluates: bool) -> None:
    """Write the tiny model, the data and the run.toml into `folder`.

    evaluates: whether checkpoints are evaluated, and the base model before the start.
    """
    make_tiny_model(folder / "model")
    write_sums(folder / "data.jsonl")
    run = RUN if evaluates else RUN + WITHOUT_EVALUATION
    (folder / "run.toml").write_text(run, encoding="utf-8")


@dataclass
class Actor:
    """The coordinator, a closer or a volunteer: one folder and one key, and a process after another."""

    name: str
    target: Target
    folder: Path
    clock: SettableClock
    host: Host | None = None
    program: Program | None = None
    lines: list[str] = field(default_factory=list)
    """The output of all its processes."""
    states: list[tuple[int, str]] = field(default_factory=list)
    """Rounds and the states (shortened hash) that they start from, as printed."""
    ended: bool = False
    """The newest process has ended and its output is complete."""
    may_end: bool = False
    """A fault ends it."""

    @property
    def running(self) -> Program:
        assert self.program is not None, f"{self.name} was never started"
        return self.program

    def find(self, pattern: str, since: int) -> re.Match[str] | None:
        """The first line from index `since` on that matches."""
        found = (re.search(pattern, line) for line in self.lines[since:])
        return next((match for match in found if match), None)

    def expect_end(self) -> None:
        """Its newest process may end."""
        self.may_end = True

    def reported(self) -> int:
        """The newest round whose first state it printed."""
        return max((round for round, _ in self.states), default=0)

    def read(self, line: str) -> None:
        """Take one line of its output."""
        self.lines.append(line)
        if (printed := printed_state(line)) is not None:
            self.states.append(printed)


def printed_state(line: str) -> tuple[int, str] | None:
    """The round and the state that a line of a program names."""
    if found := re.search(r"^round (\d+): .* state (\w{8})\)", line):
        return int(found[1]), found[2]
    if found := re.search(r" round (\d+) folded: .* state (\w{8})", line):
        return int(found[1]) + 1, found[2]
    return None


class LiveRun:
    """A coordinator, closers and volunteers. `on_line` is called with the actor after each of its lines."""

    def __init__(
        self,
        folder: Path,
        volunteers: int,
        disks: Disks,
        network: Network | None,
        on_line: Callable[[Actor], None],
        closers: int = 0,
    ) -> None:
        """closers: how many, next to the coordinator."""
        self.folder = folder
        self.network, self.disks = network, disks
        self._stage = Stage(folder, self._heard)
        self._changed = threading.Condition(threading.RLock())
        self._on_line = on_line
        self._ports = free_ports(2)
        self._invite = ""
        self.coordinator = self._actor("coordinator", Target.COORDINATOR)
        self.closers = [self._actor(name, Target.CLOSER) for name in CLOSER_NAMES[:closers]]
        self.volunteers = [self._actor(name, Target.VOLUNTEER) for name in NAMES[:volunteers]]

    @property
    def actors(self) -> list[Actor]:
        """All programs."""
        return [*self.sharing, *self.volunteers]

    @property
    def sharing(self) -> list[Actor]:
        """Those that close rounds: the coordinator first."""
        return [self.coordinator, *self.closers]

    def begin(self) -> None:
        """Start all programs; returns once all take part."""
        if self.closers:
            _name_closers(self.folder, self.closers)
        self.start(self.coordinator)
        for group in (self.closers, self.volunteers):
            self.start_all(group)

    def start_all(self, actors: Sequence[Actor]) -> None:
        """Start programs together on their folders; returns once all take part."""
        marks = [self._started(actor) for actor in actors]
        for actor, mark in zip(actors, marks, strict=True):
            self.await_line(actor, _TAKES_PART[actor.target], mark)

    def start(self, actor: Actor, *, until: str | None = None) -> None:
        """Start a program on its folder; returns once it takes part, or printed a line like `until`."""
        mark = self._started(actor)
        found = self.await_line(actor, until or _TAKES_PART[actor.target], mark)
        if actor is self.coordinator:
            self._invite = self._invite or found[1]

    def kill(self, *actors: Actor) -> None:
        """SIGKILL; returns once the programs and their daemons are gone."""
        for actor in actors:
            actor.expect_end()
            actor.running.process.kill()
        for actor in actors:
            self.await_end(actor)

    def interrupt(self, actors: Sequence[Actor]) -> None:
        """Ctrl-C for programs at once; returns once they ended. Raises Failed where a status is not 0."""
        for actor in actors:
            actor.expect_end()
            os.killpg(actor.running.process.pid, signal.SIGINT)
        for actor in actors:
            if status := self.await_end(actor):
                raise Failed(f"{actor.name} ended with status {status} after Ctrl-C")

    def await_end(self, actor: Actor) -> int:
        """The exit status of a program that has to end."""
        actor.expect_end()
        self.wait(lambda: actor.ended or None, f"the end of {actor.name}")
        return actor.running.wait()

    def await_line(self, actor: Actor, pattern: str, since: int) -> re.Match[str]:
        """The first line from index `since` on that matches. Raises Failed if the program ends before."""

        def look() -> re.Match[str] | None:
            if found := actor.find(pattern, since):
                return found
            if actor.ended:
                raise Failed(f"{actor.name} ended before it printed {pattern!r}:\n{_tail(actor)}")
            return None

        return self.wait(look, f"{actor.name} to print {pattern!r}")

    def wait(self, look: Callable[[], V | None], what: str) -> V:
        """What `look` finds; it is asked again after each line of any program. Raises Failed."""
        until = time.monotonic() + DEADLINE
        with self._changed:
            while (found := look()) is None:
                self._check_alive()
                if not self._changed.wait(max(0.0, until - time.monotonic())):
                    tails = "\n".join(f"{actor.name}:\n{_tail(actor)}" for actor in self.actors)
                    raise Failed(f"waited {DEADLINE:.0f} s for {what}\n{tails}")
        return found

    def _check_alive(self) -> None:
        """Raises Failed where a program ended that nothing has asked to."""
        for actor in self.actors:
            if actor.ended and not actor.may_end:
                raise Failed(f"{actor.name} ended by itself:\n{_tail(actor)}")

    def mark(self, actor: Actor) -> int:
        """An index: what the actor prints from now on is not before it."""
        with self._changed:
            return len(actor.lines)

    def folded(self) -> int:
        """The round that the newest state of the coordinator, or of a closer, is the base of."""
        with self._changed:
            return max(actor.reported() for actor in self.sharing)

    def daemon(self, actor: Actor) -> int:
        """The process id of its libp2p daemon."""
        (found,) = daemons(actor.running)
        return int(found.pid)

    def keep(self, folder: Path) -> None:
        """Copy each actor's output and folder to `folder`: its disk is about to be removed."""
        for actor in self.actors:
            kept = shutil.copytree(actor.folder, folder / actor.name, ignore=shutil.ignore_patterns(FILL))
            (folder / f"{kept.name}.log").write_text("".join(actor.lines), encoding="utf-8")

    def end(self) -> None:
        """Kill what still runs."""
        self._stage.end()

    def _actor(self, name: str, target: Target) -> Actor:
        folder = self.folder / name
        self.disks.small(folder)
        clock = SettableClock(self.folder / f"{name}.clock")
        return Actor(name, target, folder, clock, self.network.public(name) if self.network else None)

    def _started(self, actor: Actor) -> int:
        mark, actor.ended, actor.may_end = self.mark(actor), False, False
        name, host, python = actor.name, actor.host, actor.clock.python
        match actor.target:
            case Target.COORDINATOR:
                actor.program = self._stage.launch(*self._ports, on=host, python=python)
            case Target.CLOSER:
                actor.program = self._stage.follow(name, self._invite, on=host, python=python)
            case Target.VOLUNTEER:
                actor.program = self._stage.join(name, self._invite, on=host, python=python)
        return mark

    def _heard(self, name: str, line: str | None) -> None:
        with self._changed:
            actor = next(actor for actor in self.actors if actor.name == name)
            if line is None:
                actor.ended = True
            else:
                actor.read(line)
                self._on_line(actor)
            self._changed.notify_all()


@contextmanager
def live_run(
    folder: Path,
    volunteers: int,
    disks: Disks,
    network: Network | None,
    on_line: Callable[[Actor], None] = lambda _: None,
    closers: int = 0,
    *,
    evaluates: bool = True,
) -> Iterator[LiveRun]:
    """A prepared run whose programs are killed at the end."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    prepare(folder, evaluates=evaluates)
    run = LiveRun(folder, volunteers, disks, network, on_line, closers)
    try:
        yield run
    finally:
        run.end()


_TAKES_PART = {Target.COORDINATOR: INVITE, Target.CLOSER: CLOSES, Target.VOLUNTEER: READY}
"""What a program prints once it takes part."""


def _name_closers(folder: Path, closers: Sequence[Actor]) -> None:
    """Make the closers' keys, and name them in the run.toml."""
    keys = []
    for closer in closers:
        with owned_folder(closer.folder, "follower"):
            identity, _ = open_closer(closer.folder / CLOSER_KEY, closer.folder / VOTES)
        keys.append(identity.public)
    with (folder / "run.toml").open("a", encoding="utf-8") as spec:
        spec.write(f"[closers]\nkeys = {json.dumps(keys)}\n")


def _tail(actor: Actor) -> str:
    return "".join(actor.lines[-30:])
