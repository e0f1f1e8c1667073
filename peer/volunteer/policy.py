"""What a volunteer does next, and why: one pure decision from what it knows.

plan(view)  reads as a list of priorities. Whoever carries out the answer asks again after it.
"""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.records import Activity
from barnraise.contract.rounds import Phase, Window, seconds_between
from barnraise.contract.spec import RoundSpec
from barnraise.core.ids import Millis, Round


@dataclass(frozen=True)
class View:
    """What a peer knows when it decides."""

    now: Millis
    window: Window
    """The open round, by the newest head."""
    head_age: float
    """Seconds since the coordinator was last heard of."""
    base: Round
    """The round whose base state we train from."""
    differs: bool
    """The coordinator holds another state of `base` than we do."""
    checkpoint: Round
    """The round of the newest checkpoint."""
    turn: bool
    """It is our turn to contribute to `base`."""
    published: bool
    """Our contribution to `base` is on its way or out."""
    exchanging: bool
    """A contribution is being sent, or rounds are being folded, beside the training."""
    folded: bool
    """A newer state waits to be taken up."""
    tokens: int
    """Tokens that we trained and did not send yet."""
    steps: int
    step_seconds: float
    """How long our last steps took; 0 before the first."""
    swarm_tokens: int
    leaving: bool
    """The volunteer asked us to stop."""
    ahead_seconds: float = 0.0
    """Since we published."""
    train_seconds: float = 0.0
    """The last round's, until we published; 0 before the first."""
    exchange_seconds: float = 0.0
    """The last round's, from publishing until it was folded; 0 before the first."""
    send_seconds: float = 0.0
    """How long our last contribution took to be fetched; 0 before the first."""


@dataclass(frozen=True)
class Train:
    """Take one more inner step."""

    reason: str
    sits_out: bool = False
    """The open round need not wait for it."""
    late: bool = False
    """It ends behind the round's time, where the round is waited for only if nobody is faster."""


@dataclass(frozen=True)
class Publish:
    reason: str


@dataclass(frozen=True)
class CatchUp:
    """Fold the rounds from ours to the head's, from a newer checkpoint where one saves work."""

    reason: str
    from_checkpoint: bool


@dataclass(frozen=True)
class Merge:
    """Go over to the folded state, and keep what was trained meanwhile."""

    reason: str


@dataclass(frozen=True)
class Hold:
    """Nothing to do but to look again."""

    reason: str
    sits_out: bool = False
    """The open round need not wait for us."""


@dataclass(frozen=True)
class Leave:
    reason: str


Action = Train | Publish | CatchUp | Merge | Hold | Leave

SILENT_SECONDS = 20.0
"""A coordinator not heard of for so long is said to be away."""
LONG_EXCHANGE = 0.1
"""Of a round's training: a longer exchange is worth training beside it."""
SEND_MARGIN = 1.25
"""A contribution may take so much longer to send than the last one did."""


def plan(view: View) -> Action:
    return _leave(view) or _take_up(view) or _go_on_beside(view) or _work(view)


def tell_of_step(view: View, elapsed: float) -> Train | None:
    """What to tell of the step under way, which began `elapsed` seconds ago; None where nothing is new.

    Nobody waits for one that ends too late to be sent in the open round, nor for a first one, whose length
    nobody knows, behind the round's time. What comes of it counts where the round is still open.
    """
    if view.window.round < view.base + view.published:  # the round that it is trained for is not yet open
        return None
    sits_out = Train("this step outlasts the round, which need not wait", sits_out=True)
    until_end, until_late = _left(view)
    if view.step_seconds == 0:
        return sits_out if until_end <= 0 else None
    rest = max(0.0, view.step_seconds - elapsed)
    if rest > until_late:
        return sits_out
    return _slow(view, rest) if _ends_behind(view, rest) else None


def doing(action: Action, before: Activity) -> Activity:
    """What to tell the coordinator that we do. Who was late is so until it trains anew."""
    match action:
        case Train(sits_out=True) | Hold(sits_out=True):
            return "waiting"
        case Train(late=late):
            return "late" if late else "training"
        case Leave():
            return "leaving"
        case _:
            return "late" if before == "late" else "training"


def _leave(view: View) -> Action | None:
    if not view.leaving:
        return None
    unsent = view.tokens and not view.published and not view.exchanging
    if unsent and view.base == view.window.round and view.now < view.window.deadline:
        return Publish("leaving: what was trained goes out first")
    return Leave("you asked to stop")


def _take_up(view: View) -> Action | None:
    """What brings us to the run's newest state."""
    if view.folded:
        return Merge("the newest state is there: going on from it")
    if view.exchanging:
        return None
    if view.differs:
        return CatchUp("our state is not the run's: starting again from the newest checkpoint", True)
    behind = view.window.round - view.base
    if behind <= 0:
        return None
    if view.checkpoint > view.base + 1:
        return CatchUp(f"{behind} rounds behind: taking the checkpoint of round {view.checkpoint}", True)
    return CatchUp(f"folding round {view.base}", False)


def _go_on_beside(view: View) -> Action | None:
    """There is nothing more to give to our round: wait for the next one, or train ahead for it."""
    if view.window.round < view.base:
        return Hold(
            f"the coordinator is at round {view.window.round}, we are at {view.base}:"
            f" it is catching up{_away(view)}",
            sits_out=True,
        )
    if not view.published and not view.exchanging:
        return None
    if view.window.round > view.base or not view.published:
        doing = "the rounds since ours are being folded"
    else:
        left = max(0.0, seconds_between(view.now, view.window.deadline))
        doing = f"our contribution is out; the round closes in at most {left:.0f} s{_away(view)}"
    sound = not view.differs and view.window.round <= view.base + 1
    if not sound:
        return Hold(doing)
    if not view.turn and not view.published and view.tokens and not _done(view):
        return Train(f"{doing}; training goes on", sits_out=True)
    if not (view.published and overlaps(view.window.spec, view.exchange_seconds, view.train_seconds)):
        return Hold(doing)
    if _done(view) or view.ahead_seconds >= view.window.spec.seconds:
        return Hold(f"{doing}; a round's worth is trained ahead")
    return Train(f"{doing}; training goes on{_why_overlap(view)}")


def _work(view: View) -> Action:
    window = view.window
    if not view.turn:
        return _out_of_turn(view)
    phase = window.phase(view.now, view.swarm_tokens)
    until_end, until_late = _left(view)
    left = min(until_end, until_late)
    done = _done(view)
    if phase is Phase.TRAIN and not done:
        if view.tokens == 0 and view.step_seconds > max(until_end, until_late):
            return Train(
                f"a step takes {view.step_seconds:.0f} s: it ends after this round's close"
                " and counts in the next one",
                sits_out=True,
            )
        if view.tokens == 0 and _ends_behind(view, view.step_seconds):
            return _slow(view, view.step_seconds)
        if view.tokens == 0 or view.step_seconds <= left:
            return Train(f"training for another {max(0.0, left):.0f} s")
    if view.tokens == 0:
        return Hold(f"round {window.round} is closing; we train in the next one{_away(view)}", sits_out=True)
    if phase is Phase.CLOSE and not _silent(view):
        return Hold("too late for this round: what we trained waits for the next one", sits_out=True)
    if done:
        return Publish(f"{window.spec.steps} steps are done")
    if phase is Phase.TRAIN and until_late < until_end:
        return Publish(f"sending takes {view.send_seconds:.0f} s: it has to begin now")
    if phase is Phase.TRAIN:
        return Publish(f"no time for another step of {view.step_seconds:.1f} s")
    return Publish("the swarm reached its tokens" if until_end > 0 else "the round's time is over")


def _left(view: View) -> tuple[float, float]:
    """Seconds to train in, and until it is too late to begin sending."""
    sending = view.send_seconds * SEND_MARGIN
    until_end = seconds_between(view.now, view.window.train_ends)
    return until_end, seconds_between(view.now, view.window.deadline) - sending


def _ends_behind(view: View, rest: float) -> bool:
    """Whether a step of more than a round, which takes `rest` seconds yet, ends behind the round's time."""
    return view.step_seconds > view.window.spec.seconds and rest > _left(view)[0]


def _slow(view: View, rest: float) -> Train:
    return Train(
        f"this step takes {rest:.0f} s: it counts in this round if nobody is faster, else in the next one",
        late=True,
    )


def _out_of_turn(view: View) -> Action:
    if _done(view):
        return Hold("the steps of this round are done, and sending them is for a later one", sits_out=True)
    if view.window.phase(view.now, 0) is Phase.CLOSE and _silent(view):
        return Hold(f"the round waits for its close{_away(view)}", sits_out=True)
    return Train("training; in this round it is the turn of others to contribute", sits_out=True)


def _done(view: View) -> bool:
    limit = view.window.spec.steps
    return limit is not None and view.steps >= limit


def overlaps(spec: RoundSpec, exchange_seconds: float, train_seconds: float) -> bool:
    """Whether training goes on beside the exchange, by how long the last round's took."""
    match spec.overlap:
        case "always":
            return True
        case "never":
            return False
        case "auto":
            return exchange_seconds > LONG_EXCHANGE * train_seconds


def _why_overlap(view: View) -> str:
    if view.window.spec.overlap == "always":
        return ""
    return f": exchanges take {view.exchange_seconds:.0f} s"


def _silent(view: View) -> bool:
    return view.head_age > SILENT_SECONDS


def _away(view: View) -> str:
    return f"; the coordinator was last heard of {view.head_age:.0f} s ago" if _silent(view) else ""
