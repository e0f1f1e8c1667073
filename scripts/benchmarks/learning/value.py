"""`scripts/bench volunteers`: what each further volunteer of a run is worth, with the default settings.

The loss of 1, 2, 4 and 8 volunteers over the time that one machine needs for as many steps, with machines
that are equally fast and with the speeds of home machines. One volunteer is a machine alone.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from barnraise.contract.spec import Full, InnerSpec, Lora
from barnraise.runtime.files import write_atomic
from coordinator.setup.practice import outer_step
from scripts.benchmarks.arms.arms import Alone, Diloco, dense
from scripts.benchmarks.arms.comparison import found_of
from scripts.benchmarks.arms.options import add_plan_options, finished
from scripts.benchmarks.arms.plan import Done, Plan, Row
from scripts.benchmarks.learning.chart import Line, line_chart
from scripts.benchmarks.learning.measure import train
from scripts.benchmarks.learning.workload import setting

VOLUNTEERS = (1, 2, 4, 8)
SPEEDS = (1.0, 0.75, 0.5, 0.25)
"""Of home machines, as shares of the fastest one; the others as these."""
EQUAL, HOME = "equal speeds", "speeds of home machines"
ROUND = 8
"""Inner steps of a round."""


@dataclass(frozen=True)
class Curve:
    """The mean loss of all seeds over the steps of one machine."""

    volunteers: int
    speeds: str
    points: Sequence[tuple[int, float]]

    def reaches(self, loss: float) -> float | None:
        """Steps after which the loss is at most `loss`, between two points by a line; None if it never is."""
        for (before, high), (after, low) in zip(self.points, self.points[1:], strict=False):
            if low <= loss:
                return after if high <= low else before + (after - before) * (high - loss) / (high - low)
        return None


def value_rows(target: Full | Lora, rate: float, volunteers: int) -> list[Row]:
    """The runs of a number of volunteers. rate: inner learning rate."""
    inner = InnerSpec(lr=rate, clip_norm=0.0)
    if volunteers == 1:
        return [Row(EQUAL, Alone(target, inner, machines=1))]
    arm = Diloco(ROUND, dense(4), outer_step(target, volunteers), target, inner)
    return [
        Row(EQUAL, arm),
        Row(HOME, replace(arm, speeds=(SPEEDS * volunteers)[:volunteers])),
    ]


def value_of_volunteers(chosen: argparse.Namespace) -> Iterator[str]:
    """A table, and the picture at `chosen.picture`. Raises TextUnavailable."""
    target = Lora(rank=16, alpha=32.0)
    curves: list[Curve] = []
    for volunteers in VOLUNTEERS:
        where = setting(chosen.text, volunteers, not chosen.fp32)
        plan = Plan(value_rows(target, chosen.rate, volunteers), chosen.seeds).only(chosen.only)
        done = finished(plan, where.name, chosen, where, train)
        curves += _curves(plan, done, volunteers)
    if not curves or curves[0].volunteers != 1:
        yield "The run of one machine alone, with which the others are compared, is not finished."
        return
    if chosen.picture:
        write_atomic(chosen.picture, picture(curves).encode())
    yield value_table(curves)


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
        Line(_name(curve), curve.points, curve.speeds == HOME, VOLUNTEERS.index(curve.volunteers))
        for curve in curves
    ]
    return line_chart(lines, "time, in training steps of one machine", "held-out loss")


def _name(curve: Curve) -> str:
    if curve.volunteers == 1:
        return "one machine alone"
    return f"{curve.volunteers} volunteers{', home speeds' if curve.speeds == HOME else ''}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--text", default="documentation")
    parser.add_argument("--rate", type=float, default=1e-3, help="inner learning rate")
    add_plan_options(parser, "bench-learning.json")
    parser.add_argument("--picture", type=Path, help="write the curves to this file, as SVG")
    parser.add_argument("--fp32", action="store_true", help="matrix products in fp32 instead of bf16")
