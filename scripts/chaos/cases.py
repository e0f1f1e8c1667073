"""Which faults are injected, into which program, and when: the table `CASES`.

A phase begins when its program prints a line. The fault follows within milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Target(Enum):
    """The program that a fault is injected into."""

    COORDINATOR = "coordinator"
    VOLUNTEER = "volunteer"
    CLOSER = "closer"
    """Another one than the coordinator: `coordinator follow`."""


class Fault(Enum):
    """What happens to a program."""

    KILL = "SIGKILL"
    TERMINATE = "SIGTERM"
    HANG_UP = "SIGHUP"
    PAUSE = "SIGSTOP, then SIGCONT"
    KILL_DAEMON = "SIGKILL of its libp2p daemon"
    PAUSE_DAEMON = "SIGSTOP of its libp2p daemon"
    ABSENCE = "SIGKILL, and a start only after all volunteers noticed"
    DAMAGE = "SIGKILL, and one bit of a file flipped"
    DELETE = "SIGKILL, and a file deleted"
    FULL_DISK = "full disk, then space again"
    SET_CLOCK = "clock set ten minutes ahead, then back"
    CUT = "network cut, then connected again"


class File(Enum):
    """A file that is damaged or deleted while its program is stopped."""

    CLOSE = "newest close"
    ACCEPTED = "contribution accepted for the open round"
    FOLDED = "contribution of a close"
    CHECKPOINT = "state of the newest checkpoint"
    PENDING = "own contribution that waits for its close"
    SAVED_STATE = "saved state"
    SAVED_RESIDUAL = "saved residual"


class Phase(Enum):
    """A phase of a round in one program: name, and the line that begins it."""

    # The coordinator's, and some of them a closer's
    ADMITTING = ("a volunteer is admitted", r" admitted \w+")
    TRAINING = ("volunteers train", r" round \d+: training: ")
    ACCEPTING = ("a contribution is accepted", r" accepted \w+: ")
    CLOSED = ("the close is certified, the fold begins", r" round \d+ closed(: | by the votes of )")
    FOLDED = ("the round is folded", r" round \d+ folded: ")
    CHECKPOINTED = ("a checkpoint is written", r" checkpoint of round \d+ written")
    EVALUATED = ("a checkpoint is evaluated and published", r" checkpoint of round \d+: ")
    RESUMING = ("the journal is replayed after a restart", r" resuming with round \d+")

    # A volunteer's
    JOINING = ("it joins", r" joined tiny")
    STEPPING = ("it trains", r"^round \d+: .*training ")
    SENDING = (
        "it sends",
        r"^round \d+: .*(steps are done|has to start now|no time for another|time is over)",
    )
    SENT = ("its contribution is published", r"^round \d+: our contribution is out")
    CLOSING = ("it folds the round", r"^round \d+: folding ")
    REBASING = ("it rebases onto the new state", r"^round \d+: the newest state is here")

    def __init__(self, title: str, line: str) -> None:
        self.title, self.line = title, line


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    fault: Fault
    target: Target
    phase: Phase
    file: File | None = None
    """For DAMAGE and DELETE."""

    def __str__(self) -> str:
        what = f" ({self.file.value})" if self.file is not None else ""
        return f"{self.target.value}: {self.fault.value}{what} when {self.phase.title}"


COORDINATOR_PHASES = (
    Phase.ADMITTING,
    Phase.TRAINING,
    Phase.ACCEPTING,
    Phase.CLOSED,
    Phase.FOLDED,
    Phase.CHECKPOINTED,
    Phase.EVALUATED,
    Phase.RESUMING,
)
VOLUNTEER_PHASES = (
    Phase.JOINING,
    Phase.STEPPING,
    Phase.SENDING,
    Phase.SENT,
    Phase.CLOSING,
    Phase.REBASING,
)
CLOSER_PHASES = (Phase.ACCEPTING, Phase.CLOSED, Phase.FOLDED)
"""A program is killed in each of its phases."""

_C, _V = Target.COORDINATOR, Target.VOLUNTEER

CASES = (
    *(Case(Fault.KILL, _C, phase) for phase in COORDINATOR_PHASES),
    *(Case(Fault.KILL, _V, phase) for phase in VOLUNTEER_PHASES),
    Case(Fault.TERMINATE, _C, Phase.ACCEPTING),
    Case(Fault.TERMINATE, _V, Phase.STEPPING),
    Case(Fault.TERMINATE, _V, Phase.SENT),
    Case(Fault.HANG_UP, _C, Phase.TRAINING),
    Case(Fault.HANG_UP, _V, Phase.SENT),
    Case(Fault.PAUSE, _C, Phase.TRAINING),
    Case(Fault.PAUSE, _C, Phase.CLOSED),
    Case(Fault.PAUSE, _V, Phase.STEPPING),
    Case(Fault.PAUSE, _V, Phase.SENDING),
    Case(Fault.PAUSE, _V, Phase.SENT),
    Case(Fault.KILL_DAEMON, _C, Phase.ACCEPTING),
    Case(Fault.KILL_DAEMON, _V, Phase.SENT),
    Case(Fault.PAUSE_DAEMON, _C, Phase.TRAINING),
    Case(Fault.PAUSE_DAEMON, _V, Phase.SENDING),
    Case(Fault.ABSENCE, _C, Phase.ACCEPTING),
    Case(Fault.ABSENCE, _C, Phase.CLOSED),
    *(
        Case(fault, target, phase, file)
        for fault in (Fault.DAMAGE, Fault.DELETE)
        for target, phase, file in (
            (_C, Phase.ACCEPTING, File.CLOSE),  # a volunteer has it: it contributed to the next round
            (_C, Phase.ACCEPTING, File.ACCEPTED),
            (_C, Phase.TRAINING, File.FOLDED),
            (_C, Phase.CHECKPOINTED, File.CHECKPOINT),
            (_V, Phase.SENT, File.PENDING),
            (_V, Phase.STEPPING, File.SAVED_STATE),
            (_V, Phase.STEPPING, File.SAVED_RESIDUAL),
        )
    ),
    Case(Fault.FULL_DISK, _C, Phase.TRAINING),
    Case(Fault.FULL_DISK, _V, Phase.STEPPING),
    Case(Fault.SET_CLOCK, _C, Phase.ACCEPTING),
    Case(Fault.SET_CLOCK, _V, Phase.SENT),
    Case(Fault.CUT, _C, Phase.ACCEPTING),
    Case(Fault.CUT, _V, Phase.SENDING),
)

CLOSER_CASES = (
    *(Case(Fault.KILL, Target.CLOSER, phase) for phase in CLOSER_PHASES),
    Case(Fault.TERMINATE, Target.CLOSER, Phase.ACCEPTING),
    Case(Fault.PAUSE, Target.CLOSER, Phase.CLOSED),
    Case(Fault.CUT, Target.CLOSER, Phase.ACCEPTING),
)
"""What a run with further closers meets too."""
