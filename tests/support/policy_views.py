"""Views of a volunteer in round 3, 50 s into it, with what a test changes."""

from __future__ import annotations

from dataclasses import replace

from barnraise.contract.rounds import Window
from barnraise.contract.spec import RoundSpec
from barnraise.core.ids import Millis, Round
from peer.volunteer import reasons
from peer.volunteer.actions import (
    Exchanging,
    HeadFacts,
    Leave,
    LocalWork,
    Merge,
    View,
)
from peer.volunteer.contribution_state import ContributionState
from peer.volunteer.durations import Durations
from peer.volunteer.reasons import ContributionOut, FoldingRounds, Meanwhile

OPENS = 1_000_000
SPEC = RoundSpec(seconds=100.0, grace=20.0)
WORKING = View(
    now=Millis(OPENS + 50_000),
    window=Window(Round(3), Millis(OPENS), SPEC),
    head=HeadFacts(away=None, differs=False, checkpoint=Round(0), turn=True, swarm_tokens=200),
    work=LocalWork(Round(3), ContributionState.TRAINING, tokens=64, steps=4),
    exchange=Exchanging.IDLE,
    durations=Durations(step=2.0, mean_step=2.0),
    leaving=False,
)
AWAY = 21.0
PARTS = {
    "head": ("away", "differs", "checkpoint", "turn", "swarm_tokens", "outdated", "halted", "ended_after"),
    "work": ("round", "contribution", "tokens", "steps"),
    "durations": ("step", "train", "exchange_took", "send", "ahead"),
}


def after(seconds: float) -> Millis:
    return Millis(OPENS + round(seconds * 1000))


def seen(spec: RoundSpec = SPEC, **change: object) -> View:
    """`WORKING` under `spec`, with changed fields of the view and of its parts."""
    return changed(replace(WORKING, window=Window(Round(3), Millis(OPENS), spec)), **change)


def changed(view: View, **change: object) -> View:
    for part, names in PARTS.items():
        fields = {name.removesuffix("_took"): change.pop(name) for name in names if name in change}
        change[part] = replace(getattr(view, part), **fields)
    return replace(view, **change)  # type: ignore[arg-type]


STEPS_LIMIT = RoundSpec(seconds=100.0, grace=20.0, steps=4)
TARGET = RoundSpec(seconds=100.0, grace=20.0, target_tokens=200)
ALWAYS = RoundSpec(seconds=100.0, grace=20.0, overlap="always")
ALWAYS_STEPS = RoundSpec(seconds=100.0, grace=20.0, overlap="always", steps=4)
NEVER = RoundSpec(seconds=100.0, grace=20.0, overlap="never")
PENDING, FOLDED, BUSY = ContributionState.PENDING, Exchanging.FOLDED, Exchanging.BUSY
LOST = ContributionState.LOST


def published(spec: RoundSpec = SPEC, **change: object) -> View:
    """Our contribution is pending, and one step was trained since."""
    return seen(spec, **({"contribution": PENDING, "steps": 1, "ahead": 10.0} | change))


def folding(spec: RoundSpec = SPEC, **change: object) -> View:
    """The round is closed, and is being folded."""
    return published(spec, **({"exchange": BUSY, "round": Round(2)} | change))


def out_of_turn(spec: RoundSpec = SPEC, **change: object) -> View:
    return seen(spec, **({"turn": False} | change))


OUT, FOLDS, ON, AHEAD = ContributionOut, FoldingRounds, Meanwhile.TRAIN, Meanwhile.TRAINED_AHEAD
STOP, MERGE = Leave(reasons.AskedToStop()), Merge(reasons.NewerState())
