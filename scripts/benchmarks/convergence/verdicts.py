"""The table of `scripts/bench convergence`, and which of its targets are met or missed. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from scripts.benchmarks.arms.arms import Diloco
from scripts.benchmarks.arms.comparison import Results, difference, gain
from scripts.benchmarks.arms.plan import Row, settings
from scripts.benchmarks.convergence.rows import (
    EQUAL_WEIGHTS,
    HIVEMIND,
    LATE,
    MEAN,
    MEAN_2_BIT,
    MEAN_4_BIT,
    MUON_SUFFIX,
    NESTEROV,
    SPEED,
)

FEWER_BYTES = 100
ADAPTER_BYTES = 0.65e6
CODECS = ((MEAN_4_BIT, 0.1), (MEAN_2_BIT, 0.3))
LARGEST_LATENESS = 0.5
GOALS = {("LoRA", 4): 92, ("LoRA", 8): 88, ("full", 8): 88, ("LoRA", 16): 80, ("full", 16): 80}
"""Per cent of DDP's gain that the best arm keeps, by target and machines."""


def convergence_table(rows: Sequence[Row], found: Results) -> str:
    """Markdown; rows that were not run are left out."""
    lines = [
        "| arm | settings | loss | against | difference, % | of DDP's gain, % | sent once, MB"
        " | all-gather, MB | hivemind ÷ |",
        "| --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    notes = []
    for row in rows:
        if (one := found.get(row.name)) is None:
            continue
        compared, share = difference(found, row.name, row.against), gain(found, row.name)
        cells = [row.name, settings(one.chosen.arm), f"{statistics.fmean(one.losses):.4f}"]
        cells += [row.against or "–", format(compared, "+.2f") if compared else "–"]
        cells += [format(share, ".0f") if share else "–", f"{one.once / 1e6:.2f}", f"{one.sent / 1e6:.2f}"]
        lines.append(f"| {' | '.join([*cells, _fewer(found, one.sent)])} |")
        note = sorted({outcome.note for outcome in one.outcomes} - {""})
        notes += [f"- {row.name}: {'; '.join(note)}." for _ in note[:1]]
    return "\n".join([*lines, "", *notes])


def verdicts(peers: int, found: Results) -> list[str]:
    """For each target whose arms were run: the target, the result, and whether it is met."""
    return [
        *_codec_verdicts(found),
        *_gain_verdicts(peers, found),
        *_weight_verdict(found),
        *_late_verdicts(found),
    ]


def _codec_verdicts(found: Results) -> Iterator[str]:
    for prefix in ("", "LoRA: "):
        for name, limit in CODECS:
            if cost := difference(found, prefix + name, prefix + MEAN):
                wanted = f"{prefix}{name} within {limit} % of the uncompressed mean"
                yield _line(wanted, f"{cost:+.2f} %", cost.mean <= limit)


def _gain_verdicts(peers: int, found: Results) -> Iterator[str]:
    """The best arm that sends little enough, of each target."""
    for target in ("LoRA", "full"):
        if (goal := GOALS.get((target, peers))) is None:
            continue
        adapter = target == "LoRA"
        budget = ADAPTER_BYTES if adapter and peers <= 4 else _budget(found, adapter)
        candidates = {
            name: share
            for name, one in found.items()
            if name.startswith("LoRA") == adapter and MUON_SUFFIX not in name and one.sent <= budget
            if isinstance(one.chosen.arm, Diloco) and (share := gain(found, name))
        }
        if candidates:
            best = max(candidates, key=lambda name: candidates[name].mean)
            limit = "" if budget == float("inf") else f" in {budget / 1e6:.2f} MB"
            wanted = f"{target}, {peers} machines: at least {goal} % of DDP's gain{limit}"
            result = f"{best}: {candidates[best]:.0f} %"
            yield _line(wanted, result, candidates[best].mean >= goal)


def _budget(found: Results, adapter: bool) -> float:
    """Bytes: a hundredth of hivemind's where it was run and trains the same; else no limit."""
    return found[HIVEMIND].sent / FEWER_BYTES if HIVEMIND in found and not adapter else float("inf")


def _weight_verdict(found: Results) -> Iterator[str]:
    for prefix in ("", "LoRA: "):
        cost = difference(found, prefix + EQUAL_WEIGHTS, f"{prefix}{MEAN_4_BIT}, {SPEED}")
        if cost:
            wanted = f"{prefix}weights by tokens beat equal ones at unequal speeds"
            yield _line(wanted, f"equal weights {cost:+.2f} %", cost.mean > 0)


def _late_verdicts(found: Results) -> Iterator[str]:
    for prefix in ("", "LoRA: "):
        for reference in (MEAN_4_BIT, NESTEROV):
            name = f"{prefix}{reference}, {LATE}, trained on from"
            if cost := difference(found, name, prefix + reference):
                wanted = f"{name}: at most {LARGEST_LATENESS} % worse than all in time"
                yield _line(wanted, f"{cost:+.2f} %", cost.mean <= LARGEST_LATENESS)


def _line(target: str, result: str, met: bool) -> str:
    return f"- {'met' if met else '**missed**'}: {target} ({result})"


def _fewer(found: Results, count: float) -> str:
    one = found.get(HIVEMIND)
    return f"{one.sent / count:.1f}" if one and count else "–"
