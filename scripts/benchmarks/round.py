"""`scripts/bench round`: real rounds on loopback with the demo's settings, read from the volunteers' logs.

A volunteer prints a line whenever the reason of its action changes, with the bytes that it has sent and
received so far. The arrival of each line is timed here.
"""

from __future__ import annotations

import re
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from barnraise.contract.spec_file import read_spec
from barnraise.fold.codec import typical_blob
from barnraise.models.base_model import resolve
from barnraise.models.trainable import layout
from scripts.demo import CACHE, MODEL, RUN, corpus
from scripts.stage import DemoFailed, Program, running, serve

FIRST = 2
"""Volunteers join in rounds 0 and 1; from this round on all of them are present."""
POLL_SECONDS = 0.05
TIMEOUT_SECONDS = 400.0
_TRAINS = re.compile(r"^training|; training goes on|^(a|this) step ")
"""How `peer.messages` begins, or ends, the reasons of training."""
_LINE = re.compile(r"^round (\d+): (.*) \(.*up ([\d.]+ \w+), down ([\d.]+ \w+), state \S+\)$")
_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}


@dataclass(frozen=True)
class Line:
    at: float
    """Seconds, on a clock of this process."""
    round: int
    doing: str
    up: float
    """Bytes so far, rounded as printed."""
    down: float


@dataclass
class Tail:
    """The lines of one volunteer's log, read as they arrive."""

    program: Program
    lines: list[Line] = field(default_factory=list)
    _read: int = 0

    def read(self) -> None:
        """Append the lines that were written since the last call."""
        now = time.monotonic()
        text = self.program.log.read_text()
        whole = text.rfind("\n") + 1
        for line in text[self._read : whole].splitlines():
            if found := _LINE.match(line):
                up, down = (_bytes(found[place]) for place in (3, 4))
                self.lines.append(Line(now, int(found[1]), found[2], up, down))
        self._read = whole

    @property
    def round(self) -> int:
        return max((line.round for line in self.lines), default=-1)


@dataclass(frozen=True)
class Spent:
    """What one volunteer spent on one round, or the mean over several."""

    seconds: float
    training: float
    up: float
    down: float


def measure_round(peers: int, rounds: int) -> str:
    """Run `peers` volunteers for `rounds` whole rounds; returns a table. Raises DemoFailed."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        with running(work) as stage:
            (work / "run.toml").write_text(
                RUN.format(model=MODEL, data=corpus(work), held_out_tokens=0), encoding="utf-8"
            )
            spec = read_spec(work / "run.toml")
            base = resolve(MODEL, None, CACHE)
            blob = typical_blob(spec.codec, layout(base.path, spec.train.target))
            invite, _ = serve(stage)
            tails = [Tail(stage.volunteer(f"peer-{number}", invite)) for number in range(peers)]
            follow(tails, FIRST + rounds)
    rows = []
    for tail in tails:
        found = [spent(tail.lines, round) for round in range(FIRST, FIRST + rounds)]
        length = statistics.median(each.seconds for each in found)
        overhead = statistics.median(1 - each.training / each.seconds for each in found)
        up, down = (statistics.mean(getattr(each, way) for each in found) / blob for way in ("up", "down"))
        rows.append(
            f"| {tail.program.name} | {length:.1f} | {overhead:.1%} | {up:.2f} | {down:.2f} | {peers - 1} |"
        )
    return "\n".join(
        [
            f"{rounds} rounds of {spec.round.seconds:g} s, {peers} volunteers; a blob: {blob / 1e6:.2f} MB\n",
            "| volunteer | round, s | not inner steps | sent, blobs a round | received, blobs a round"
            " | bound, blobs |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
            *rows,
        ]
    )


def spent(lines: list[Line], round: int) -> Spent:
    """From a round's first line to the next round's; each line holds until the next line."""
    of_round = [line for line in lines if line.round == round]
    after = next(line for line in lines if line.round > round)
    training = sum(
        later.at - line.at
        for line, later in zip(of_round, [*of_round[1:], after], strict=True)
        if trains(line)
    )
    start = of_round[0]
    return Spent(after.at - start.at, training, after.up - start.up, after.down - start.down)


def trains(line: Line) -> bool:
    """Whether the volunteer trains from this line on."""
    return _TRAINS.search(line.doing) is not None


def follow(tails: list[Tail], until: int) -> None:
    """Read until all volunteers are in round `until`. Raises DemoFailed if one ends or it takes too long."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while any(tail.round < until for tail in tails):
        for tail in tails:
            if not tail.program.alive():
                raise DemoFailed(f"{tail.program.name} ended early:\n{tail.program.log.read_text()[-2000:]}")
            tail.read()
        if time.monotonic() > deadline:
            raise DemoFailed(f"round {until} did not open: {[tail.lines[-1:] for tail in tails]}")
        time.sleep(POLL_SECONDS)


def _bytes(text: str) -> float:
    amount, _, unit = text.partition(" ")
    return float(amount) * _UNITS[unit]
