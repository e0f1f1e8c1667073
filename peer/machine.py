"""What a volunteer does next, and why: one pure decision from what it knows.

plan(view)  reads as a list of priorities. Whoever carries out the answer asks again after it.
"""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.ids import Millis, Round
from barnraise.rounds import Phase, Window, seconds_between


@dataclass(frozen=True)
class View:
    """What a peer knows when it decides."""

    now: Millis
    window: Window
    """The open round, by the newest head."""
    head_age: float
    """Seconds since the coordinator was last heard of."""
    base: Round
    """The round whose base state we hold."""
    differs: bool
    """The coordinator holds another state of `base` than we do."""
    checkpoint: Round
    """The round of the newest checkpoint."""
    published: bool
    """Our contribution to `base` is announced."""
    tokens: int
    """Tokens that we trained in this round."""
    steps: int
    step_seconds: float
    """How long our last steps took; 0 before the first."""
    swarm_tokens: int
    leaving: bool
    """The volunteer asked us to stop."""


@dataclass(frozen=True)
class Train:
    """Take one more inner step."""

    reason: str


@dataclass(frozen=True)
class Publish:
    reason: str


@dataclass(frozen=True)
class CatchUp:
    """Fold the rounds from ours to the head's, from a newer checkpoint where one saves work."""

    reason: str
    from_checkpoint: bool


@dataclass(frozen=True)
class Hold:
    """Nothing to do but to look again."""

    reason: str


@dataclass(frozen=True)
class Leave:
    reason: str


Action = Train | Publish | CatchUp | Hold | Leave

SILENT_SECONDS = 20.0
"""A coordinator not heard of for so long is said to be away."""


def plan(view: View) -> Action:
    return _leave(view) or _catch_up(view) or _keep_company(view) or _work(view)


def _leave(view: View) -> Action | None:
    if not view.leaving:
        return None
    if (
        view.tokens
        and not view.published
        and view.base == view.window.round
        and view.now < view.window.deadline
    ):
        return Publish("leaving: what was trained goes out first")
    return Leave("you asked to stop")


def _catch_up(view: View) -> Action | None:
    if view.differs:
        return CatchUp("our state is not the run's: starting again from the newest checkpoint", True)
    behind = view.window.round - view.base
    if behind <= 0:
        return None
    if view.checkpoint > view.base + 1:
        return CatchUp(f"{behind} rounds behind: taking the checkpoint of round {view.checkpoint}", True)
    return CatchUp(f"folding round {view.base}", False)


def _keep_company(view: View) -> Action | None:
    """Reasons to do nothing in a round that is ours."""
    away = f"; the coordinator was last heard of {view.head_age:.0f} s ago" if _silent(view) else ""
    if view.window.round < view.base:
        return Hold(
            f"the coordinator is at round {view.window.round}, we are at {view.base}: it is catching up{away}"
        )
    if view.published:
        left = max(0.0, seconds_between(view.now, view.window.deadline))
        return Hold(f"our contribution is out; the round closes in at most {left:.0f} s{away}")
    return None


def _work(view: View) -> Action:
    phase = view.window.phase(view.now, view.swarm_tokens)
    left = seconds_between(view.now, view.window.train_ends)
    limit = view.window.spec.steps
    done = limit is not None and view.steps >= limit
    if phase is Phase.TRAIN and not done and (view.tokens == 0 or view.step_seconds <= left):
        return Train(f"training for another {left:.0f} s")
    if view.tokens == 0:
        away = f"; the coordinator was last heard of {view.head_age:.0f} s ago" if _silent(view) else ""
        return Hold(f"round {view.window.round} is closing; we train in the next one{away}")
    if phase is Phase.CLOSE and not _silent(view):
        return Hold("too late for this round: what we trained waits for the next one")
    if done:
        return Publish(f"{limit} steps are done")
    if phase is Phase.TRAIN:
        return Publish(f"no time for another step of {view.step_seconds:.1f} s")
    return Publish("the swarm reached its tokens" if left > 0 else "the round's time is over")


def _silent(view: View) -> bool:
    return view.head_age > SILENT_SECONDS
