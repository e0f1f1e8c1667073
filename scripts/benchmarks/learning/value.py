"""`scripts/bench volunteers`: what each further volunteer of a run is worth, with the default settings.

The loss of 2, 4 and 8 volunteers over the time that one machine needs for as many steps, with machines that
are equally fast and with the speeds of home machines, next to one machine alone at the rate that is best
for it. Arms that `scripts/bench learning` has, too, have the same names in the results file.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from barnraise.contract.spec import Lora
from barnraise.runtime.files import write_atomic
from scripts.benchmarks.arms.arms import with_rate
from scripts.benchmarks.arms.comparison import found_of
from scripts.benchmarks.arms.options import add_plan_options, finished
from scripts.benchmarks.arms.plan import Done, Plan, Row
from scripts.benchmarks.learning.chart import Line, line_chart
from scripts.benchmarks.learning.measure import train
from scripts.benchmarks.learning.rows import defaults, one_machine
from scripts.benchmarks.learning.workload import setting

VOLUNTEERS = (2, 4, 8)
_COLOURED = (1, *VOLUNTEERS)
"""Numbers of volunteers, in the order of the palette."""
TARGET = Lora(rank=16, alpha=32.0)
AMONG = 4
"""One machine alone is the mean of the first two of this number, as in `scripts/bench learning`."""
SPEEDS = (1.0, 0.75, 0.5, 0.25)
"""Of home machines, as shares of the fastest one; the others as these."""
EQUAL, HOME = "equal speeds", "speeds of home machines"


@dataclass(frozen=True)
class Curve:
    """The mean loss of all seeds over the steps of one machine."""

    volunteers: int
    speeds: str
    points: Sequence[tuple[int, float]]

    def reaches(self, loss: float) -> float | None:
        """Steps after which the loss is at most `loss`, linearly interpolated; None if it never is."""
        for (before, high), (after, low) in zip(self.points, self.points[1:], strict=False):
            if low <= loss:
                return after if high <= low else before + (after - before) * (high - loss) / (high - low)
        return None


def alone_row(rate: float) -> Row:
    """One machine alone. rate: inner learning rate."""
    return Row(EQUAL, with_rate(one_machine(TARGET), rate))


def value_rows(volunteers: int) -> list[Row]:
    """The runs of a number of volunteers, with the default settings."""
    arm = defaults(TARGET, volunteers)
    return [
        Row(EQUAL, arm),
        Row(HOME, replace(arm, speeds=(SPEEDS * volunteers)[:volunteers])),
    ]


def value_of_volunteers(chosen: argparse.Namespace) -> Iterator[str]:
    """A table, and the picture at `chosen.picture`. Raises TextUnavailable."""
    alone = list(_finished(chosen, 1, AMONG, Plan([alone_row(chosen.alone_rate)], chosen.seeds)))
    if not alone:
        yield "The run of one machine alone, with which the others are compared, is not finished."
        return
    curves = alone + [
        curve
        for many in VOLUNTEERS
        for curve in _finished(chosen, many, many, Plan(value_rows(many), chosen.seeds).only(chosen.only))
    ]
    if chosen.picture:
        write_atomic(chosen.picture, picture(curves).encode())
    yield value_table(curves)


def _finished(chosen: argparse.Namespace, volunteers: int, machines: int, plan: Plan) -> Iterator[Curve]:
    """The curves of the rows of `plan`. machines: between which the text is dealt."""
    where = setting(chosen.text, machines, not chosen.fp32)
    yield from _curves(plan, finished(plan, where.name, chosen, where, train), volunteers)


def _curves(plan: Plan, done: Done, volunteers: int) -> Iterator[Curve]:
    for name, found in found_of(plan, done).items():
        each = [dict(outcome.curve) for outcome in found.outcomes]
        steps = sorted(each[0])
        yield Curve(volunteers, name, [(s, statistics.fmean(one[s] for one in each)) for s in steps])


def value_table(curves: Sequence[Curve]) -> str:
    """Markdown: the last loss, and when the last loss of one machine was reached."""
    alone = curves[0].points[-1][1]
    lines = [
        "| volunteers | speeds | loss at the end | one machine's last loss after, steps | of its time |",
        "| ---: | --- | ---: | ---: | ---: |",
    ]
    for curve in curves:
        steps = curve.reaches(alone)
        reached = [f"{steps:.0f}", f"{steps / curves[0].points[-1][0]:.2f}"] if steps else ["–", "–"]
        cells = [str(curve.volunteers), curve.speeds, f"{curve.points[-1][1]:.4f}", *reached]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def picture(curves: Sequence[Curve]) -> str:
    """An SVG document."""
    lines = [
        Line(_name(curve), curve.points, curve.speeds == HOME, _COLOURED.index(curve.volunteers))
        for curve in curves
    ]
    return line_chart(lines, "time, in training steps of one machine", "held-out loss")


def _name(curve: Curve) -> str:
    if curve.volunteers == 1:
        return "one machine alone"
    return f"{curve.volunteers} volunteers{', home speeds' if curve.speeds == HOME else ''}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--text", default="documentation")
    parser.add_argument("--alone-rate", type=float, default=2e-3, help="inner learning rate of one machine")
    add_plan_options(parser, "bench-learning.json")
    parser.add_argument("--picture", type=Path, help="write the curves to this file, as SVG")
    parser.add_argument("--fp32", action="store_true", help="matrix products in fp32 instead of bf16")
