"""The adapter that injects a fault into a program of a `LiveRun`, and heals it."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from barnraise.core.ids import BlobHash
from barnraise.runtime.blob_store import BlobStore
from scripts.chaos.cases import Fault, File, Phase, Target
from scripts.chaos.live_run import READY, Actor, Failed, LiveRun
from scripts.chaos.schedule import Injection
from scripts.chaos.victims import blob_of, saved_file
from scripts.netns import cut, mend

ABSENT = r"last head (of the coordinator )?is \d+ \w+ old"
"""A volunteer prints this when it notices that the coordinator is away."""
DAEMON_BACK = r"the libp2p daemon is back"
NO_SPACE = r"(?i)disk is full|no space"
AHEAD_SECONDS = 600
ATTEMPTS = 5
"""A file that is to be damaged may not exist at the moment of the kill: then the phase is awaited again."""


def inject(run: LiveRun, injection: Injection, on_damage: Callable[[Actor], None]) -> tuple[Target, ...]:
    """Wait for the phase, inject the fault, and heal it; returns once all programs take part again.

    Returns what was hit, one for each program.

    on_damage: called when a file of a stopped program is about to be damaged or deleted.
    """
    case = injection.case
    volunteer = run.volunteers[injection.volunteer]
    actor = _target(run, case.target, injection.volunteer)
    if case.file is not None:
        _change_file(run, actor, volunteer, injection, on_damage)
        return (case.target,)
    reach(run, actor, volunteer, case.phase)
    if case.fault is Fault.KILL:
        return _kill(run, [actor, *_fellows(run, actor, injection)])
    _INJECT[case.fault](run, actor)
    return (case.target,)


def _target(run: LiveRun, target: Target, number: int) -> Actor:
    match target:
        case Target.COORDINATOR:
            return run.coordinator
        case Target.CLOSER:
            return run.closers[number % len(run.closers)]
        case Target.VOLUNTEER:
            return run.volunteers[number]


def reach(run: LiveRun, actor: Actor, volunteer: Actor, phase: Phase) -> None:
    """Wait until `actor` enters `phase` again; where only a start leads there, start a program again."""
    mark = run.mark(actor)
    if phase is Phase.ADMITTING:
        run.kill(volunteer)
        run.start(volunteer, until=" joined ")
    elif phase is Phase.JOINING or phase is Phase.RESUMING:
        run.kill(actor)
        run.start(actor, until=phase.line)
    run.await_line(actor, phase.line, mark)


def _fellows(run: LiveRun, actor: Actor, injection: Injection) -> list[Actor]:
    others = [other for other in run.actors if other is not actor]
    return random.Random(injection.draw).sample(others, min(injection.fellows, len(others)))


def _kill(run: LiveRun, actors: Sequence[Actor]) -> tuple[Target, ...]:
    run.kill(*actors)
    run.start_all(actors)
    return tuple(actor.target for actor in actors)


def _ended_by(number: signal.Signals) -> Callable[[LiveRun, Actor], None]:
    def end(run: LiveRun, actor: Actor) -> None:
        actor.running.process.send_signal(number)
        if status := run.await_end(actor):
            raise Failed(f"{actor.name} ended with status {status} after {number.name}")
        run.start(actor)

    return end


def _pause(run: LiveRun, actor: Actor) -> None:
    """Stopped until the others noticed: it counts as away."""
    process = actor.running.process
    process.send_signal(signal.SIGSTOP)
    _without(run, actor)
    mark = run.mark(actor)
    process.send_signal(signal.SIGCONT)
    if actor.target is Target.VOLUNTEER:
        run.await_line(actor, READY, mark)


def _kill_daemon(run: LiveRun, actor: Actor) -> None:
    mark = run.mark(actor)
    os.kill(run.daemon(actor), signal.SIGKILL)
    run.await_line(actor, DAEMON_BACK, mark)


def _pause_daemon(run: LiveRun, actor: Actor) -> None:
    """Its program kills a daemon that does not answer, and starts another."""
    mark = run.mark(actor)
    os.kill(run.daemon(actor), signal.SIGSTOP)
    run.await_line(actor, DAEMON_BACK, mark)


def _absence(run: LiveRun, actor: Actor) -> None:
    run.kill(actor)
    _without(run, actor)
    run.start(actor)


def _fill_disk(run: LiveRun, actor: Actor) -> None:
    mark = run.mark(actor)
    if actor is run.coordinator:
        actor.expect_end()
    run.disks.fill(actor.folder)
    run.await_line(actor, NO_SPACE, mark)
    if actor is run.coordinator:  # it ends, and says to start it again
        run.await_end(actor)
    mark = run.mark(actor)
    run.disks.free(actor.folder)
    if actor.ended:
        run.start(actor)
    else:
        run.await_line(actor, READY, mark)


def _set_clock(run: LiveRun, actor: Actor) -> None:
    for ahead, way in ((AHEAD_SECONDS, "forward"), (0, "back")):
        mark = run.mark(actor)
        actor.clock.set(ahead)
        run.await_line(actor, rf"this machine's clock was set {way}", mark)


def _cut(run: LiveRun, actor: Actor) -> None:
    assert actor.host is not None, "CUT needs network namespaces"
    cut(actor.host)
    try:
        _without(run, actor)
    finally:
        mend(actor.host)


def _without(run: LiveRun, actor: Actor) -> None:
    """Wait until rounds close without a closer or a volunteer, or all volunteers noticed the absence."""
    if run.closers and actor.target is not Target.VOLUNTEER:
        target = run.folded() + 2
        run.wait(lambda: run.folded() >= target or None, f"two rounds without {actor.name}")
    elif actor is run.coordinator:
        marks = [(volunteer, run.mark(volunteer)) for volunteer in run.volunteers]
        for volunteer, mark in marks:
            run.await_line(volunteer, ABSENT, mark)
    else:
        others = len(run.volunteers) - 1
        alone = "the only volunteer" if others == 1 else f"all {others} volunteers"
        run.await_line(run.coordinator, f" closed: {alone} contributed", run.mark(run.coordinator))


_INJECT: Mapping[Fault, Callable[[LiveRun, Actor], None]] = {
    Fault.TERMINATE: _ended_by(signal.SIGTERM),
    Fault.HANG_UP: _ended_by(signal.SIGHUP),
    Fault.PAUSE: _pause,
    Fault.KILL_DAEMON: _kill_daemon,
    Fault.PAUSE_DAEMON: _pause_daemon,
    Fault.ABSENCE: _absence,
    Fault.FULL_DISK: _fill_disk,
    Fault.SET_CLOCK: _set_clock,
    Fault.CUT: _cut,
}


def _change_file(
    run: LiveRun,
    actor: Actor,
    volunteer: Actor,
    injection: Injection,
    on_damage: Callable[[Actor], None],
) -> None:
    case = injection.case
    assert case.file is not None
    for _ in range(ATTEMPTS):
        reach(run, actor, volunteer, case.phase)
        run.kill(actor)
        path = _path(actor.folder, case.file)
        if path is not None:
            on_damage(actor)
            change = flip_a_bit if case.fault is Fault.DAMAGE else Path.unlink
            change(path)
        run.start(actor)
        if path is not None:
            return
    raise Failed(f"{actor.name} had no {case.file.value} at any of {ATTEMPTS} kills")


def _path(folder: Path, file: File) -> Path | None:
    """The file in a stopped program's folder; None where it has none now."""
    if file in (File.SAVED_STATE, File.SAVED_RESIDUAL):
        return saved_file(folder, "state" if file is File.SAVED_STATE else "residual")
    name: BlobHash | None = blob_of(folder, file)
    return None if name is None else BlobStore(folder / "blobs").path(name)


def flip_a_bit(path: Path) -> None:
    """In the middle of the file, in place: other links to it change too, as on a bad disk."""
    with path.open("r+b") as stream:
        middle = path.stat().st_size // 2
        stream.seek(middle)
        byte = stream.read(1)[0]
        stream.seek(middle)
        stream.write(bytes([byte ^ 1]))
