"""Runs real programs under faults, for hours, and checks after each fault that nothing was lost.

A seed determines the order of the faults. The table counts them by kind. The exit status is 1 where a promise
did not hold; the outputs and the folders of that run's programs are kept. Full disks and cut networks need
root, on Linux.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from scripts.chaos.cases import CASES, CLOSER_CASES, Case, Fault, Phase, Target
from scripts.chaos.disks import disks
from scripts.chaos.live_run import CLOSER_NAMES, NAMES, Failed
from scripts.chaos.oracle import Place
from scripts.chaos.schedule import Injection, endless
from scripts.chaos.trial import KEPT, Survived, trial
from scripts.netns import Network, network, unavailable_reason
from scripts.stage import ROOT

MANY = 40
"""Faults of one run; then its programs leave in order, and a new run begins."""
ALL = (*CASES, *CLOSER_CASES)
KEYS = list(dict.fromkeys((case.fault, case.target) for case in ALL))


@dataclass
class Tally:
    """What happened so far."""

    injected: Counter[tuple[Fault, Target]] = field(default_factory=Counter)
    survived: list[Survived] = field(default_factory=list)
    places: Counter[Place] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def add(self, survived: Survived) -> None:
        """Count a fault that was survived, and the programs that it hit next to its target."""
        self.survived.append(survived)
        self.injected.update((survived.case.fault, target) for target in survived.hit[1:])

    def table(self) -> str:
        """Faults injected and survived, by kind, and where the contributions are."""
        lines = ["| fault | program | injected | survived | rounds to agree | seconds, median |"]
        lines.append("|---|---|---|---|---|---|")
        for key in KEYS:
            if self.injected[key]:
                lines.append(self._row(*key))
        total = sum(self.injected.values())
        counts = ", ".join(f"{self.places[place]} {place.value}" for place in Place)
        survived = sum(len(each.hit) for each in self.survived)
        lines += ["", f"{total} faults injected, {survived} survived. Contributions: {counts}."]
        return "\n".join(lines)

    def _row(self, fault: Fault, target: Target) -> str:
        mine = [
            each for each in self.survived for hit in each.hit if (each.case.fault, hit) == (fault, target)
        ]
        rounds = max((each.rounds for each in mine), default=0)
        seconds = sorted(each.seconds for each in mine)[len(mine) // 2] if mine else 0.0
        counts = f"{self.injected[fault, target]} | {len(mine)}"
        return f"| {fault.value} | {target.value} | {counts} | at most {rounds} | {seconds:.0f} |"


def main() -> int:
    options = _parser().parse_args()
    if options.list:
        print("\n".join(map(str, ALL)))
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: programs and disks are removed
    cases, reason = _cases(options)
    until = time.monotonic() + options.hours * 3600
    order = islice(endless(options.seed, options.volunteers, cases, options.together - 1), options.skip, None)
    injections = _limited(order, options.faults, until)
    tally, number = Tally(), 0
    with suppress(KeyboardInterrupt):
        while (first := next(injections, None)) is not None:
            number += 1
            with ExitStack() as stack:
                net = stack.enter_context(network()) if not reason and not options.kills else None
                _run(options, options.work / f"run-{number}", net, first, injections, tally)
    print(tally.table(), flush=True)
    for failure in tally.failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if tally.failures else 0


def _run(
    options: argparse.Namespace,
    folder: Path,
    net: Network | None,
    first: Injection,
    injections: Iterator[Injection],
    tally: Tally,
) -> None:
    """One run: up to `MANY` faults, or until one is not survived."""
    injection: Injection | None = first
    try:
        number, closers, evaluates = options.volunteers, options.closers, options.evaluation
        with disks() as small, trial(folder, number, small, net, closers, evaluates=evaluates) as made:
            while injection is not None:
                case = injection.case
                tally.injected[case.fault, case.target] += 1
                tally.add(made.survive(injection))
                print(_line(tally), flush=True)
                injection = next(injections, None) if len(made.survived) < MANY else None
            tally.places.update(made.finish().places)
    except Failed as failure:
        what = injection.case if injection is not None else "the end of the run"
        tally.failures.append(f"{what}: {failure}\n  → see {folder / KEPT}")
        print(tally.failures[-1], flush=True)


def _line(tally: Tally) -> str:
    newest = tally.survived[-1]
    who = "" if newest.case.target is Target.COORDINATOR else f" ({newest.volunteer})"
    more = "".join(f", {target.value}" for target in newest.hit[1:])
    total = sum(len(each.hit) for each in tally.survived)
    return f"{total:4}. {newest.case}{who}{more}: {newest.seconds:.0f} s, {newest.rounds} rounds"


def _limited(injections: Iterator[Injection], count: int | None, until: float) -> Iterator[Injection]:
    """Until the time is over, or `count` were given."""
    for number, injection in enumerate(injections):
        if number == count or (count is None and time.monotonic() >= until):
            return
        yield injection


def _cases(options: argparse.Namespace) -> tuple[list[Case], str]:
    """The cases that this machine can inject, and why it cannot inject the others."""
    reason = unavailable_reason()
    if reason:
        print(f"left out, {reason}: full disks and cut networks", file=sys.stderr)
    left_out = (Fault.CUT, Fault.FULL_DISK) if reason else ()
    known = ALL if options.closers else CASES
    cases = [case for case in known if case.fault not in left_out and options.only in str(case)]
    if not cases:
        raise SystemExit(f"error: no fault has {options.only!r} in its name: see --list")
    if not options.evaluation:
        cases = [case for case in cases if case.phase is not Phase.EVALUATED]
    return [case for case in cases if not options.kills or case.fault is Fault.KILL], reason


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0, help="begin no fault after this time; default: 1")
    parser.add_argument("--faults", type=int, help="inject this many faults, however long it takes")
    parser.add_argument("--skip", type=int, default=0, help="leave out this many: an earlier call had them")
    parser.add_argument("--kills", action="store_true", help="inject SIGKILL alone, in every phase")
    parser.add_argument("--together", type=int, default=1, help="kill this many programs at once; default: 1")
    parser.add_argument("--only", default="", help="inject the faults that have this text in their name")
    parser.add_argument(
        "--no-evaluation", dest="evaluation", action="store_false",
        help="evaluate no checkpoint, so that programs start sooner; leaves out the faults at that moment",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="print the names of all faults")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--volunteers", type=int, default=4, choices=range(2, len(NAMES) + 1))
    parser.add_argument(
        "--closers", type=int, default=0, choices=(0, len(CLOSER_NAMES)), help="next to the coordinator"
    )
    parser.add_argument("--work", type=Path, default=ROOT / ".soak", help="the folder of all files")
    return parser


if __name__ == "__main__":
    sys.exit(main())
