"""When a round closes, and why: pure decisions about one open round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from barnraise.contract.records import Commit
from barnraise.contract.rounds import Phase, Window, seconds_between
from barnraise.core.ids import Millis, PublicKey, StateHash, short
from barnraise.fold.codec import format_sizes


@dataclass(frozen=True)
class Situation:
    """What the closer knows of the open round."""

    window: Window
    accepted: Mapping[PublicKey, Commit]
    """Contributions that were fetched, checked and journaled."""
    pending: frozenset[PublicKey]
    """Owners whose contribution is announced and being fetched."""
    expected: Mapping[PublicKey, str]
    """Live peers that train in this round, or are about to, and what they are called."""
    min_contributions: int
    late: Mapping[PublicKey, str] = field(default_factory=dict)
    """Live peers whose step ends behind the round's time: waited for where too few others are expected."""
    idle: int = 0
    """Live peers that sit this round out, or whose turn is another one."""
    swarm_tokens: int = 0
    """What the live peers say they trained in this round."""
    deserted: bool = False
    """Nobody was here at some look, and the round has waited since (`deserted_after`)."""


@dataclass(frozen=True)
class CloseNow:
    reason: str


@dataclass(frozen=True)
class Reopen:
    """Begin the round's TRAIN phase again: its time passed with too few contributions, or nobody was here."""

    reason: str


@dataclass(frozen=True)
class Wait:
    reason: str


Decision = CloseNow | Reopen | Wait


def decide_close(now: Millis, situation: Situation) -> Decision:
    """Close once everybody expected has contributed, or at the deadline with who did.

    A round in which nobody was here begins with the first who trains: else it would be cut short, or over.
    """
    window, accepted, expected = situation.window, situation.accepted, situation.expected
    if len(expected) < situation.min_contributions:
        expected = {**expected, **situation.late}
    missing = {key: name for key, name in expected.items() if key not in accepted}
    enough = len(accepted) >= situation.min_contributions
    if enough and not missing and not situation.pending:
        return CloseNow(f"all {len(accepted)} volunteers contributed")
    if len(accepted) >= window.spec.max_contributions:
        return CloseNow(f"the round is full: {len(accepted)} volunteers contributed")
    phase = window.phase(now, situation.swarm_tokens)
    nothing = not accepted and not situation.pending
    if nothing and expected and situation.deserted and not situation.swarm_tokens:
        return Reopen(f"nobody was here: the round's time begins with {_names(missing)}")
    if nothing and not expected and situation.idle and phase is not Phase.TRAIN:
        return Reopen(f"nobody contributes to this round and {situation.idle} sit it out: it begins anew")
    if now >= window.deadline:
        if enough:
            who = f"without {_names(missing)}" if missing else "with everybody"
            return CloseNow(f"the deadline passed: {len(accepted)} contributions, {who}")
        if missing or situation.idle:
            return Reopen(
                f"{len(accepted)} of at least {situation.min_contributions} contributions came in time;"
                f" the round goes on for another {window.spec.seconds:g} s"
            )
    if not expected and not situation.idle and not accepted:
        return Wait("no volunteer is here: hand out the invite")
    left = max(0.0, seconds_between(now, window.deadline))
    if situation.idle and not missing and not situation.pending:
        return Wait(f"{situation.idle} sit this round out; it begins anew in {left:.0f} s")
    if not missing and not situation.pending:
        return Wait(
            f"{len(accepted)} of at least {situation.min_contributions} contributions:"
            " more volunteers must join"
        )
    match phase:
        case Phase.TRAIN:
            return Wait(f"training: {_names(missing)}; at most {left:.0f} s until the deadline")
        case Phase.PUBLISH | Phase.CLOSE:
            return Wait(f"{len(accepted)} contributed; waiting for {_names(missing)}, at most {left:.0f} s")


def deserted_after(situation: Situation, decision: Decision, *, anybody: bool) -> bool:
    """`Situation.deserted` of the next look; `anybody`: some volunteer is here, whatever it does."""
    return not anybody or (situation.deserted and isinstance(decision, Wait))


@dataclass(frozen=True)
class Fits:
    """The commit may be part of the open round, if its blob is what it names."""


@dataclass(frozen=True)
class Misfit:
    reason: str


def check_commit(
    commit: Commit, window: Window, now: Millis, state: StateHash, blob_sizes: range, sequence_length: int
) -> Fits | Misfit:
    """Judge a commit before its blob is fetched."""
    if commit.round != window.round:
        return Misfit(f"it is for round {commit.round}, the open one is {window.round}")
    if now > window.deadline:
        return Misfit(f"it came {seconds_between(window.deadline, now):.0f} s after the deadline")
    if commit.base_state != state:
        return Misfit(f"it starts from state {short(commit.base_state)}, the round's is {short(state)}")
    if commit.size not in blob_sizes:
        return Misfit(f"its blob has {commit.size} bytes, this run's have {format_sizes(blob_sizes)}")
    if commit.tokens > commit.samples * sequence_length:
        return Misfit(f"it claims {commit.tokens} tokens from {commit.samples} samples of {sequence_length}")
    return Fits()


def _names(missing: Mapping[PublicKey, str]) -> str:
    names = [name or short(key) for key, name in missing.items()]
    return (
        ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") or "the last blobs"
    )
