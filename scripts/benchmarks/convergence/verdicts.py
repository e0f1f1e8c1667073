"""The table of `scripts/bench convergence`, and which of its targets are met or missed. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scripts.benchmarks.convergence.arms import Arm, Outcome
from scripts.benchmarks.convergence.baseline import Baseline

AVERAGE = "uncompressed average"
ALONE = "one machine alone"
DDP = "DDP (bytes: fp32 ring, computed)"
HIVEMIND = "hivemind.Optimizer, a step every batch"
BY_TOKENS = "speeds 1, 1, 0.5, 0.2, weights by tokens"
EQUALLY = "speeds 1, 1, 0.5, 0.2, equal weights"
LATE_ARMS = (
    ("late (a third), trained on from", AVERAGE),
    ("late (a third), trained on from, 2 bit", "2 bit"),
)
CODECS = (("4 bit", 0.1), ("2 bit", 0.3))
OURS = ("4 bit", "2 bit", "sparse")
"""Prefixes of the names of our own arms, with all parameters trained and nothing late."""
FEWER_BYTES = 100

Results = Mapping[str, Sequence[Outcome]]
"""Outcomes by row name, one per seed, in the order of the seeds."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    arm: Arm | Baseline
    reference: str = AVERAGE
    """The row that this one is compared with, seed by seed."""
    once: bool = False
    """Run for the first seed alone: only its bytes matter."""


@dataclass(frozen=True)
class Difference:
    """The difference of two losses, in per cent of the second one."""

    mean: float
    spread: float
    """Standard deviation over the seeds; 0 for one seed."""

    def __str__(self) -> str:
        return f"{self.mean:+.2f} % ± {self.spread:.2f}"


def loss(found: Results, name: str) -> float:
    return statistics.fmean(outcome.loss for outcome in found[name])


def paired(found: Results, name: str, reference: str) -> Difference:
    """How much higher the loss of `name` is, seed by seed; both rows need the same seeds."""
    pairs = zip(found[name], found[reference], strict=True)
    each = [100 * (one.loss / other.loss - 1) for one, other in pairs]
    return Difference(statistics.fmean(each), statistics.stdev(each) if len(each) > 1 else 0.0)


@dataclass(frozen=True)
class Sent:
    """Bytes that a machine sent, mean over the seeds."""

    once: float
    sent: float


def mean_bytes(found: Results, name: str) -> Sent:
    outcomes = found[name]
    return Sent(
        once=statistics.fmean(outcome.once for outcome in outcomes),
        sent=statistics.fmean(outcome.sent for outcome in outcomes),
    )


def comparable(found: Results, *names: str) -> bool:
    """Whether all of these rows were run, for equally many seeds."""
    counts = {len(found.get(name, ())) for name in names}
    return len(counts) == 1 and counts != {0}


def convergence_table(rows: Sequence[Row], found: Results) -> str:
    """Markdown; rows that were not run are left out."""
    lines = [
        "| arm | loss | against | difference | sent once, MB | hivemind ÷ | all-gather, MB | hivemind ÷ |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    notes = []
    for row in rows:
        if not found.get(row.name):
            continue
        compared = row.name != row.reference and comparable(found, row.name, row.reference)
        difference = str(paired(found, row.name, row.reference)) if compared else "–"
        count = mean_bytes(found, row.name)
        cells = [row.name, f"{loss(found, row.name):.4f}", row.reference if compared else "–", difference]
        cells += [f"{count.once / 1e6:.2f}", _fewer(found, count.once)]
        cells += [f"{count.sent / 1e6:.2f}", _fewer(found, count.sent)]
        lines.append(f"| {' | '.join(cells)} |")
        note = sorted({outcome.note for outcome in found[row.name]} - {""})
        notes += [f"- {row.name}: {'; '.join(note)}." for _ in note[:1]]
    return "\n".join([*lines, "", *notes])


def verdicts(found: Results) -> list[str]:
    """For each target whose arms were run: the target, the result, and whether it is met."""
    return [*_codec_verdicts(found), *_best(found), *_weight_verdict(found), *_late_verdicts(found)]


def _codec_verdicts(found: Results) -> list[str]:
    lines = []
    for name, limit in CODECS:
        if comparable(found, name, AVERAGE):
            difference = paired(found, name, AVERAGE)
            wanted = f"{name} within {limit} % of the uncompressed average"
            lines.append(_line(wanted, str(difference), difference.mean <= limit))
    return lines


def _best(found: Results) -> list[str]:
    """Our best arm among those with enough fewer bytes than hivemind, against hivemind and against DDP."""
    if not comparable(found, HIVEMIND, ALONE, DDP):
        return []
    budget = mean_bytes(found, HIVEMIND).sent / FEWER_BYTES
    ours = [name for name in found if name.startswith(OURS) and comparable(found, name, HIVEMIND)]
    counts = (
        ("by all-gather", [name for name in ours if mean_bytes(found, name).sent <= budget]),
        ("as the owner sends", [name for name in ours if mean_bytes(found, name).once <= budget]),
    )
    lines = []
    for how, thin in counts:
        wanted = f"no worse than hivemind + 1 % with {FEWER_BYTES} x fewer bytes {how}"
        if not thin:
            lines.append(_line(wanted, "no arm sends so little", met=False))
            continue
        best = min(thin, key=lambda name: loss(found, name))
        difference = paired(found, best, HIVEMIND)
        lines.append(_line(wanted, f"{best}: {difference}", difference.mean <= 1))
        gain = (loss(found, ALONE) - loss(found, best)) / (loss(found, ALONE) - loss(found, DDP))
        wanted = "better than one machine by two thirds of what DDP gains"
        lines.append(_line(wanted, f"{best}: {100 * gain:.0f} %", gain >= 2 / 3))
    return lines


def _weight_verdict(found: Results) -> list[str]:
    if not comparable(found, EQUALLY, BY_TOKENS):
        return []
    difference = paired(found, EQUALLY, BY_TOKENS)
    result = f"equal weights {difference}"
    return [_line("weights by tokens beat equal ones at unequal speeds", result, difference.mean > 0)]


def _late_verdicts(found: Results) -> list[str]:
    lines = []
    for name, reference in LATE_ARMS:
        if comparable(found, name, reference):
            difference = paired(found, name, reference)
            wanted = f"{name}: at most 0.5 % worse than {reference}"
            lines.append(_line(wanted, str(difference), difference.mean <= 0.5))
    return lines


def _line(target: str, result: str, met: bool) -> str:
    return f"- {'met' if met else '**missed**'}: {target} ({result})"


def _fewer(found: Results, count: float) -> str:
    if not count or not found.get(HIVEMIND):
        return "–"
    return f"{mean_bytes(found, HIVEMIND).sent / count:.1f}"
