"""A volunteer's training: the state that it started from, and what it did since."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from barnraise.contract.shards import Sample
from barnraise.contract.state import Array, TrainState
from barnraise.contract.tip import Tip
from barnraise.fold.codec import Decoder
from peer.training.trainer import Trainer, Update


@dataclass
class LocalTraining:
    """Slow and synchronous: the volunteer calls it in a thread, one call at a time."""

    trainer: Trainer
    tip: Tip
    state: TrainState
    """state[tip.round]: what the work at hand is based on."""
    steps: int = 0
    """Steps since the last contribution was taken."""
    loss: float = 0.0
    """Training loss of the last step."""
    recent: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=5))
    """Tokens and seconds of the last steps."""
    taken: bool = False
    """The contribution to this round was taken."""
    _taken_at: dict[str, Array] = field(default_factory=dict)
    """The local parameters as it was taken, once training goes on from there."""
    _carries: bool = False
    """The local parameters hold a contribution that missed its close."""

    def step(self, samples: Sequence[Sample]) -> int:
        """Take one step and return its trained tokens."""
        if self.taken and not self._taken_at:
            self._taken_at = self.trainer.params()
        result = self.trainer.step(samples)
        self.loss = result.loss
        self.steps += 1
        return result.tokens

    @property
    def tokens(self) -> int:
        """Tokens trained since the last contribution was taken."""
        return self.trainer.tokens

    @property
    def has_work(self) -> bool:
        """The local parameters hold work that no contribution has taken."""
        return self.tokens > 0 or self._carries

    @property
    def tokens_per_second(self) -> float:
        seconds = sum(seconds for _, seconds in self.recent)
        return sum(tokens for tokens, _ in self.recent) / seconds if seconds else 0.0

    @property
    def step_seconds(self) -> float:
        """The longest of the last steps; 0 before the first."""
        return max((seconds for _, seconds in self.recent), default=0.0)

    def take(self) -> Update:
        """The contribution to the round of `tip`: all that is in none yet."""
        update = self.trainer.take_update(self.state)
        self.steps, self.taken, self._carries = 0, True, False
        return update

    def rest(self) -> Update:
        """What was trained since the last contribution was taken, for somebody who leaves."""
        return self.trainer.take_update(TrainState(self._taken_at) if self._taken_at else self.state)

    def go_over(self, tip: Tip, state: TrainState, missed: Decoder | None = None) -> None:
        """Take up a state, and keep the work that is in no fold yet.

        The delta rule: local ← state + (local − local as the contribution was taken), and − the contribution
        where that `missed` its close.
        """
        if missed is not None:
            before = self._taken_at or self.trainer.params()
            for name, array in before.items():
                array += missed.tensor(name)
            self.trainer.merge(before, state)
            self._carries = True
        elif self.has_work:
            self.trainer.merge(self._taken_at or self.state.params, state)
        else:
            self.trainer.load(state)
        if not self.taken:
            self.steps = 0  # `round.steps` are for each round, and this one passed without us
        self.taken, self._taken_at = False, {}
        self.tip, self.state = tip, state
