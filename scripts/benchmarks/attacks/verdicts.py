"""The table of `scripts/bench attacks`, and which of its bars are met. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scripts.benchmarks.attacks.defences import ARMS, Arm
from scripts.benchmarks.attacks.swarm import Cell, Outcome

KEPT = {3 / 8: 0.90, 7 / 16: 0.75}
"""Share of the honest peers' own gain that has to be kept, by the attackers' share of all peers."""
WITHIN = 10
"""Rounds of attack after which keys that do harm weigh nothing."""
FLOOD = 0.20
"""Weight that a Sybil flood takes at most."""

Results = Mapping[str, Outcome]
"""Outcomes by the names of their cells."""


@dataclass(frozen=True)
class Kept:
    """What is left of the gain."""

    share: float
    """Of what the same honest peers gain alone; negative where the run got worse than its start."""
    weight: float
    """The attackers' largest share of a round's weight."""
    rounds: int | None
    """Rounds of attack until they weigh nothing from then on; None: they never do."""


def kept(attacked: Outcome, alone: Outcome) -> Kept:
    """Compare a run with one of its honest peers alone."""
    share = (attacked.start - attacked.loss) / (alone.start - alone.loss)
    weighty = [round for round, weight in enumerate(attacked.weight, start=1) if weight > 0]
    last = weighty[-1] if weighty else 0
    rounds = None if last and last == len(attacked.weight) else last
    return Kept(share, max(attacked.weight, default=0.0), rounds)


@dataclass(frozen=True)
class Row:
    """One attack by one number of attackers, in all arms."""

    attack: str
    harms: bool
    attackers: int
    peers: int
    cells: Mapping[Arm, Sequence[tuple[Cell, Cell]]]
    """Of each arm: cells of the seeds, each with that of the honest peers alone."""

    @property
    def bar(self) -> float:
        """The share of the gain that has to be kept with the defaults."""
        return KEPT.get(self.attackers / self.peers, KEPT[3 / 8])

    def found(self, arm: Arm, results: Results) -> list[Kept]:
        """Of each seed; empty where one of them was not run."""
        pairs = self.cells.get(arm, ())
        if not pairs or any(cell.name not in results for pair in pairs for cell in pair):
            return []
        return [kept(results[cell.name], results[alone.name]) for cell, alone in pairs]


def attack_table(rows: Sequence[Row], results: Results) -> str:
    """Markdown: the mean share of the gain that is kept over the seeds, and the lowest where it differs."""
    lines = [
        "| attack | attackers | without defence | caps and clipping | with audits | largest weight | rounds"
        " until they weigh nothing |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        found = {arm: row.found(arm, results) for arm in ARMS}
        if not any(found.values()):
            continue
        defended = found["audits"] or found["caps"]
        cells = [row.attack, f"{row.attackers} of {row.peers}"]
        cells += [_shares([each.share for each in found[arm]]) for arm in ARMS]
        largest = f"{max(each.weight for each in defended):.0%}" if defended else "–"
        cells += [largest, _rounds(found["audits"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def verdicts(rows: Sequence[Row], results: Results) -> list[str]:
    """For each bar whose cells were run: whether it is met."""
    lines = []
    for row in rows:
        what = f"{row.attack}, {row.attackers} of {row.peers}"
        undefended, defended = row.found("none", results), row.found("audits", results)
        if undefended and row.harms:
            lines.append(_line(f"{what}: keeps less without defence", undefended, row.bar, below=True))
        if defended:
            lines.append(_line(f"{what}: keeps {row.bar:.0%} with the defaults", defended, row.bar))
        harmed = undefended and statistics.fmean(each.share for each in undefended) < row.bar
        if defended and harmed:
            late = [each.rounds for each in defended if each.rounds is None or each.rounds > WITHIN]
            lines.append(f"- {_met(not late)}: {what}: weighs nothing within {WITHIN} rounds")
        if defended and row.attackers > row.peers / 2:
            most = max(each.weight for each in defended)
            lines.append(f"- {_met(most <= FLOOD)}: {what}: at most {FLOOD:.0%} of the weight ({most:.1%})")
    return lines


def _line(what: str, found: Sequence[Kept], bar: float, *, below: bool = False) -> str:
    share = statistics.fmean(each.share for each in found)
    return f"- {_met(share <= bar if below else share >= bar)}: {what} ({share:.0%})"


def _met(met: bool) -> str:
    return "met" if met else "**missed**"


def _shares(shares: Sequence[float]) -> str:
    if not shares:
        return "–"
    mean, lowest = f"{statistics.fmean(shares):.0%}", f"{min(shares):.0%}"
    return mean if mean == lowest else f"{mean} ({lowest})"


def _rounds(found: Sequence[Kept]) -> str:
    if not found:
        return "–"
    if any(each.rounds is None for each in found):
        return "never"
    return str(max(each.rounds or 0 for each in found))
