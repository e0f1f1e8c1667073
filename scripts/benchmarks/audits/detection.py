"""What the sequential test makes of measured audits: false suspensions, and the time until harm is found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from barnraise.contract.audit_figures import Figures, Reference, reference_of, usual_alignment_of
from barnraise.contract.evidence import (
    ALPHA,
    FIRST,
    FLOOR,
    FULL_BET,
    MEMORY,
    SHARE,
    TOLERANCE,
    UNIT,
)
from coordinator.audits.ledger import FEWEST
from scripts.benchmarks.audits.statistics import Found

HONEST = "honest"
DRAWS = 8
"""References with which each measured contribution is scored."""
LIFE = 200
"""Audited rounds of a simulated key."""
Scores = Mapping[str, Sequence[Sequence[int]]]
"""By attack, or HONEST: the scores of each peer, by round."""


def scores_of(found: Iterable[Found], seed: int) -> dict[str, list[list[int]]]:
    """The scores that a coordinator would give, each contribution's with DRAWS references.

    A reference is one that the coordinator may have: one honest contribution of each of the last rounds.
    """
    rounds: dict[int, list[Found]] = {}
    for each in found:
        rounds.setdefault(each.round, []).append(each)
    random, scores = np.random.default_rng(seed), dict[str, dict[int, list[int]]]()
    newest: list[list[Found]] = []
    for round in sorted(rounds):
        honest = [each for each in rounds[round] if not each.attack]
        newest = [*newest, honest][-FEWEST:]
        usual = usual_alignment_of([each.alignment for each in honest])
        for _ in range(DRAWS):
            reference = _drawn(newest, random)
            for each in rounds[round]:
                score = _figures(each, reference, usual).score
                scores.setdefault(each.attack or HONEST, {}).setdefault(each.peer, []).append(score)
    return {name: [peers[peer] for peer in sorted(peers)] for name, peers in scores.items()}


def _drawn(newest: Sequence[Sequence[Found]], random: np.random.Generator) -> Reference:
    drawn = (newest[-1 - place % len(newest)] for place in range(FEWEST))
    return reference_of([honest[int(random.integers(len(honest)))].change for honest in drawn])


def _figures(found: Found, reference: Reference, usual: int) -> Figures:
    return Figures(
        round=found.round, blob="0" * 64, change=found.change, error=found.error, usual=reference.usual,
        scale=reference.scale, alignment=found.alignment, usual_alignment=usual,
    )  # fmt: skip


def wealths(scores: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """[keys, rounds]: the account of `barnraise.contract.evidence` for many keys at once."""
    wealth = np.ones(len(scores))
    recent = np.full(len(scores), FIRST / UNIT)
    most, tolerance = SHARE / ((TOLERANCE - FLOOR) / UNIT), TOLERANCE / UNIT
    found = np.empty(scores.shape)
    for round in range(scores.shape[1]):
        value = np.clip(scores[:, round], FLOOR, UNIT) / UNIT
        bet = most * np.clip((recent - tolerance) / ((FULL_BET - TOLERANCE) / UNIT), 0.0, 1.0)
        wealth = wealth * (1 + bet * (value - tolerance))
        recent = MEMORY * recent + (1 - MEMORY) * value
        found[:, round] = wealth
    return found


def simulated(peers: Sequence[Sequence[int]], keys: int, life: int, seed: int) -> npt.NDArray[np.int64]:
    """[keys, life]: each key draws from the scores of one measured peer, whose bias it keeps."""
    random, table = np.random.default_rng(seed), np.array(peers)
    who = random.integers(len(table), size=keys)
    when = random.integers(table.shape[1], size=(keys, life))
    drawn: npt.NDArray[np.int64] = table[who[:, None], when]
    return drawn


def false_suspensions(peers: Sequence[Sequence[int]], rounds: int, seed: int) -> tuple[int, float]:
    """Suspended keys in `rounds` honest peer-rounds, and the largest account of any key."""
    found = wealths(simulated(peers, rounds // LIFE, LIFE, seed))
    most = found.max(axis=1)
    return int(np.sum(most * ALPHA >= 1)), float(most.max())


def time_to_find(peers: Sequence[Sequence[int]], seed: int, honest: int = 0) -> tuple[int, int] | None:
    """Audits until a key is suspended, median and 95 %; None where most are not in LIFE audits.

    honest: audits before, each with the best score.
    """
    attack = simulated(peers, 400, LIFE, seed)
    before = np.full((len(attack), honest), FLOOR)
    reached = wealths(np.concatenate([before, attack], axis=1))[:, honest:] * ALPHA >= 1
    if np.mean(reached.any(axis=1)) < 0.95:
        return None
    times = 1 + reached.argmax(axis=1)
    return int(np.median(times)), int(np.percentile(times, 95))


def detection_table(measured: Mapping[str, Scores], rounds: int, seed: int) -> str:
    """Markdown: the honest kinds, then the attacks among each."""
    lines = [
        f"| honest kind | mean score | highest | false suspensions in {rounds:.0e} | largest account |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for kind, scores in measured.items():
        every = np.array(scores[HONEST])
        false, most = false_suspensions(scores[HONEST], rounds, seed)
        cells = f"{every.mean() / UNIT:.2f} | {every.max() / UNIT:.2f} | {false} | {most:.1f}"
        lines.append(f"| {kind} | {cells} |")
    lines += [
        "",
        "| attack, among | mean score | audits until suspended: median, 95 % | after 50 honest rounds |",
        "| --- | ---: | ---: | ---: |",
    ]
    for kind, scores in measured.items():
        for attack, peers in scores.items():
            if attack != HONEST:
                new, sleeper = (_times(time_to_find(peers, seed, honest)) for honest in (0, 50))
                lines.append(f"| {attack}, {kind} | {np.mean(peers) / UNIT:.2f} | {new} | {sleeper} |")
    return "\n".join(lines)


def _times(found: tuple[int, int] | None) -> str:
    return "not found" if found is None else f"{found[0]}, {found[1]}"
