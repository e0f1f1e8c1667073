"""What the arms of `scripts/bench convergence` come to: the table, and each target met or missed. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scripts.benchmarks.convergence.arms import Arm, Outcome
from scripts.benchmarks.convergence.baseline import Rival

AVERAGE = "uncompressed average"
ALONE = "one machine alone"
DDP = "DDP (bytes: fp32 ring, reckoned)"
HIVEMIND = "hivemind.Optimizer, a step every batch"
BY_TOKENS = "speeds 1, 1, 0.5, 0.2, weights by tokens"
EQUALLY = "speeds 1, 1, 0.5, 0.2, equal weights"
LATE_ARMS = (
    ("late (a third), trained on from", AVERAGE),
    ("late (a third), trained on from, 2 bit", "2 bit"),
)
CODECS = (("4 bit", 0.1), ("2 bit", 0.3))
OURS = ("4 bit", "2 bit", "sparse")
"""How the names of our own kinds begin, with all parameters trained and nothing late."""
FEWER_BYTES = 100

Results = Mapping[str, Sequence[Outcome]]
"""Outcomes by row name, one a seed, in the order of the seeds."""


@dataclass(frozen=True)
class Row:
    name: str
    arm: Arm | Rival
    reference: str = AVERAGE
    """The row that it is compared with, seed by seed."""
    once: bool = False
    """Run for the first seed alone: its bytes are what matters."""


@dataclass(frozen=True)
class Difference:
    """Of two arms, in per cent of the second one's loss."""

    mean: float
    spread: float
    """Standard deviation over the seeds; 0 for one seed."""

    def __str__(self) -> str:
        return f"{self.mean:+.2f} % ± {self.spread:.2f}"


def loss(found: Results, name: str) -> float:
    return statistics.fmean(outcome.loss for outcome in found[name])


def paired(found: Results, name: str, reference: str) -> Difference:
    """How much higher the loss of `name` is, seed by seed. Both rows must have the same seeds."""
    pairs = zip(found[name], found[reference], strict=True)
    each = [100 * (one.loss / other.loss - 1) for one, other in pairs]
    return Difference(statistics.fmean(each), statistics.stdev(each) if len(each) > 1 else 0.0)


@dataclass(frozen=True)
class Sent:
    """Bytes that left a machine, mean over the seeds."""

    once: float
    sent: float


def mean_bytes(found: Results, name: str) -> Sent:
    outcomes = found[name]
    return Sent(
        once=statistics.fmean(outcome.once for outcome in outcomes),
        sent=statistics.fmean(outcome.sent for outcome in outcomes),
    )


def comparable(found: Results, *names: str) -> bool:
    """Whether all of these rows were run, for as many seeds."""
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
        told = sorted({outcome.told for outcome in found[row.name]} - {""})
        notes += [f"- {row.name}: {'; '.join(told)}." for _ in told[:1]]
    return "\n".join([*lines, "", *notes])


def verdicts(found: Results) -> list[str]:
    """For each target whose arms were run: what is asked for, what came out, whether it is met."""
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
    """Our best arm among those with so many fewer bytes than hivemind, against hivemind and against DDP."""
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
    said = f"equal weights {difference}"
    return [_line("weights by tokens beat equal ones at unequal speeds", said, difference.mean > 0)]


def _late_verdicts(found: Results) -> list[str]:
    lines = []
    for name, reference in LATE_ARMS:
        if comparable(found, name, reference):
            difference = paired(found, name, reference)
            wanted = f"{name}: at most 0.5 % worse than {reference}"
            lines.append(_line(wanted, str(difference), difference.mean <= 0.5))
    return lines


def _line(wanted: str, said: str, met: bool) -> str:
    return f"- {'met' if met else '**missed**'}: {wanted} ({said})"


def _fewer(found: Results, count: float) -> str:
    if not count or not found.get(HIVEMIND):
        return "–"
    return f"{mean_bytes(found, HIVEMIND).sent / count:.1f}"
