"""A run under faults: each injection is followed by the checks of the oracle."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from barnraise.contract.records import blob_name
from barnraise.core.ids import BlobHash
from scripts.chaos.cases import Case, Target
from scripts.chaos.disks import Disks
from scripts.chaos.evidence import JournalReader, Reference, SentWork
from scripts.chaos.inject import inject
from scripts.chaos.live_run import HEARD, Actor, Failed, LiveRun, live_run
from scripts.chaos.oracle import Evidence, SenderEvidence, Verdict, judge
from scripts.chaos.schedule import Injection
from scripts.netns import Network

WITHIN_ROUNDS = 2
"""After a fault is over and the coordinator hears a volunteer again, they agree within this many rounds."""
KEPT = "kept"
"""Folder of the outputs and the folders of the programs of a run that failed."""
MISSED = r"our contribution to round (\d+) missed its close"


@dataclass(frozen=True)
class Survived:
    """One fault, after which every promise held."""

    case: Case
    volunteer: str
    hit: tuple[Target, ...]
    """The programs that the fault hit."""
    seconds: float
    """From the wait for its phase until all replicas agreed again."""
    rounds: int
    """From the end of the fault, when the coordinator heard each volunteer, until all replicas agreed."""


@dataclass
class Trial:
    """One run and what was observed of it."""

    run: LiveRun
    sent: dict[str, SentWork]
    survived: list[Survived] = field(default_factory=list)
    _excused: dict[str, set[BlobHash]] = field(default_factory=dict)
    _reference: Reference | None = None

    def begin(self) -> None:
        """Start the programs and the reference."""
        self.run.begin()
        self._reference = Reference(JournalReader(self.run.coordinator.folder))

    def survive(self, injection: Injection) -> Survived:
        """Inject one fault and check what has to hold. Raises Failed."""
        run, began = self.run, time.monotonic()
        hit = inject(run, injection, self._excuse)
        rounds = self._await_agreement()
        if rounds > WITHIN_ROUNDS:
            raise Failed(f"a replica reported the run's state only {rounds} rounds after the fault")
        if judge(self._evidence()).violations:  # a line may be on its way to us: a loss is still one later
            self._await_agreement()
            self.check()
        name = run.volunteers[injection.volunteer].name
        self.survived.append(Survived(injection.case, name, hit, time.monotonic() - began, rounds))
        return self.survived[-1]

    def check(self) -> Verdict:
        """Compare with the reference, and count contributions. Raises Failed."""
        verdict = judge(self._evidence())
        if verdict.violations:
            raise Failed("\n".join(verdict.violations))
        return verdict

    def finish(self) -> Verdict:
        """Ctrl-C for all programs, and the last count. Raises Failed."""
        run = self.run
        for group in (run.volunteers, run.closers, [run.coordinator]):
            run.interrupt(group)
        for volunteer in run.volunteers:
            self._look(volunteer)
        for actor in self.run.actors:
            if any("Traceback" in line for line in actor.lines):
                raise Failed(f"{actor.name} printed a traceback")
        return self.check()

    def _await_agreement(self) -> int:
        """Wait until all programs reported a state of a round that was not open yet; returns rounds."""
        run = self.run
        mark = run.mark(run.coordinator)
        for volunteer in run.volunteers:
            run.await_line(run.coordinator, HEARD.format(volunteer.name), mark)
        open_round = run.folded()

        def agreed() -> int | None:
            newer = all(actor.reported() > open_round for actor in run.actors)
            return run.folded() if newer else None

        return max(1, run.wait(agreed, f"all programs to leave round {open_round} behind") - open_round)

    def _evidence(self) -> Evidence:
        reference, run = self._reference, self.run
        assert reference is not None, "begin comes first"
        senders = [self._sender(volunteer) for volunteer in run.volunteers]
        reference.catch_up()  # after the senders: what they no longer wait for is in a close by now
        return Evidence(
            truth=reference.states,
            printed={actor.name: actor.states for actor in run.actors},
            listed=reference.listed,
            accepted={} if run.closers else reference.accepted,  # another one's proposal may lack some
            senders=senders,
        )

    def _sender(self, volunteer: Actor) -> SenderEvidence:
        work = self.sent[volunteer.name]
        work.look()
        pending = blob_name(work.pending) if work.pending is not None else None
        return SenderEvidence(
            name=volunteer.name,
            signed=dict(work.commits),
            pending=pending if pending is not None and work.has_blob(pending) else None,
            took_back={int(found[1]) for line in volunteer.lines if (found := re.search(MISSED, line))},
            excused=self._excused.get(volunteer.name, set()),
        )

    def _excuse(self, actor: Actor) -> None:
        """What waits for its close in this folder may be lost with the file that is about to be damaged."""
        if (work := self.sent.get(actor.name)) is not None and work.pending is not None:
            self._excused.setdefault(actor.name, set()).add(blob_name(work.pending))

    def _look(self, actor: Actor) -> None:
        if (work := self.sent.get(actor.name)) is not None:
            work.look()


@contextmanager
def trial(
    folder: Path,
    volunteers: int,
    disks: Disks,
    network: Network | None,
    closers: int = 0,
    *,
    evaluates: bool = True,
) -> Iterator[Trial]:
    """A run that has begun; its programs are killed at the end, and their logs kept where it failed."""
    sent: dict[str, SentWork] = {}

    def on_line(actor: Actor) -> None:
        if (work := sent.get(actor.name)) is not None:
            work.look()

    with live_run(folder, volunteers, disks, network, on_line, closers, evaluates=evaluates) as run:
        sent.update({actor.name: SentWork(actor.folder) for actor in run.volunteers})
        made = Trial(run, sent)
        try:
            made.begin()
            yield made
        except BaseException:
            run.end()
            run.keep(folder / KEPT)
            raise
