"""A volunteer's local training: the state that it started from, and what it trained since."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from barnraise.contract.sample_ranges import SampleRange, extended, split
from barnraise.contract.shards import Sample
from barnraise.contract.state import Array, TrainState
from barnraise.contract.tip import Tip
from barnraise.core.errors import NotFinite
from barnraise.core.ids import Round
from barnraise.fold.codec import Decoder
from peer.training.trainer import Trainer, Update
from peer.volunteer.actions import LocalWork
from peer.volunteer.contribution_state import ContributionEvent, ContributionLifecycle, ContributionState
from peer.volunteer.own_losses import OwnLosses, OwnLossNotLowered
from peer.volunteer.reasons import StepSkipped

MAX_SKIPPED = 5
"""Steps skipped in a row after which the local parameters or moments are at fault, and not a batch."""


STEPS_TO_COMPARE = 8
"""A forward pass takes a third of a step."""


@dataclass(frozen=True)
class _GoodState:
    round: Round
    state: TrainState


@dataclass
class LocalTraining:
    """Slow and synchronous: called in a thread, one call at a time."""

    trainer: Trainer
    lifecycle: ContributionLifecycle
    tip: Tip
    state: TrainState
    """state[tip.round]: what the local work is based on."""
    hint: Callable[[OwnLossNotLowered], None] = lambda _: None
    """Called, in a thread, where our contributions do not lower the loss of our own samples."""
    steps: int = 0
    """Inner steps since the last contribution was taken."""
    loss: float = 0.0
    """Training loss of the last step."""
    _taken_at: dict[str, Array] = field(default_factory=dict)
    """The local parameters when the contribution was taken, from the first step after it on."""
    _passed: int = 0
    """Samples of this round that were drawn before training started again from the run's state."""
    _drawn: tuple[SampleRange, ...] = ()
    """The samples behind the work that no contribution has taken."""
    _first: tuple[Sequence[Sample], float] | None = None
    """The first batch since the run's state, and its loss there."""
    _own_losses: OwnLosses = field(default_factory=OwnLosses)
    _skipped: int = 0
    _skipped_in_a_row: int = 0
    _resets: int = 0
    """How often in a row training started again from a state of the run."""
    _works: bool = False
    """Whether a step from the run's state succeeded."""
    _good: _GoodState | None = None
    """The last state from which one did, until one does from the run's."""
    _blamed: bool = False
    """Whether training started again from it."""

    def start(self) -> None:
        """Load the state into the model."""
        self.trainer.load(self.state)

    def step(self, samples: Sequence[Sample]) -> int | StepSkipped:
        """Take one step and return its trained tokens, or skip it where it is not finite.

        After MAX_SKIPPED skipped steps in a row, training starts again from the run's state.
        """
        if self.lifecycle.taken and not self._taken_at:
            self._taken_at = self.trainer.params()
        if samples:
            drawn = SampleRange(round=self.counts_in, start=self.samples, count=len(samples))
            self._drawn = extended(self._drawn, drawn)
        fresh = not self.has_work and not self._blamed
        # By the state that is trained from, also where we train ahead of its round or without the run: what
        # comes after it is not known yet, and its factor is above 0.
        factor = self.tip.position.rate_factor(self.trainer.spec)
        try:
            result = self.trainer.step(samples, factor)
        except NotFinite as error:
            return self._skip(error)
        self._skipped_in_a_row = self._resets = 0
        if not self._blamed:
            self._works, self._good = True, None
        if fresh:
            self._first = samples, result.loss
        self.loss = result.loss
        self.steps += 1
        return result.tokens

    def _skip(self, error: NotFinite) -> StepSkipped:
        self._skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row % MAX_SKIPPED == 0:
            self._resets += 1
            # After the run's state without local work and moments only the state is left to blame.
            self._reset(blame=self._resets % 2 == 0)
        good = self._good.round if self._blamed and self._good is not None else None
        return StepSkipped(error.problem, self._skipped, self._resets, good)

    def _reset(self, *, blame: bool = False) -> None:
        """Drop the local work and the inner optimizer's moments, which may be what is not finite.

        blame: start from the last state that worked, where there is one. What is sent then leads back to it.
        """
        passed, good = self.samples, self._good
        self._blamed = blame and good is not None
        self.trainer.load(good.state if blame and good is not None else self.state)
        self.trainer.forget_inner()
        self._passed, self.steps, self._taken_at, self._drawn = passed, 0, {}, ()

    @property
    def tokens(self) -> int:
        """Tokens trained since the last contribution was taken."""
        return self.trainer.tokens

    @property
    def samples(self) -> int:
        """Samples used since the last contribution was taken."""
        return self._passed + self.trainer.samples

    @property
    def round(self) -> Round:
        """The round whose state is trained from."""
        return self.tip.round

    @property
    def counts_in(self) -> Round:
        """The round for which the next step is trained."""
        return Round(self.tip.round + self.lifecycle.taken)

    @property
    def has_work(self) -> bool:
        """The local parameters hold work that no contribution has taken."""
        return self.tokens > 0 or self.lifecycle.state is ContributionState.CARRYING

    def work(self) -> LocalWork:
        """What the policy decides by."""
        return LocalWork(self.tip.round, self.lifecycle.state, self.tokens, self.steps)

    def take(self, limit: int | None = None) -> Update:
        """The contribution to the round of `tip`: the work that no contribution has taken.

        limit: its tokens at most. Of more work a share is taken; the rest stays in the local parameters.
        Raises NotFinite, and training starts again from the run's state.
        """
        try:
            self._compare_losses()
            update = self.trainer.take_update(self.state, limit)
        except NotFinite:
            self._reset()
            raise
        if self.tokens:  # the parameters that the contribution alone leads to
            params = self.state.params
            self._taken_at = {name: params[name] - array for name, array in update.tensors.items()}
        self.steps = self._passed = 0
        taken, self._drawn = split(self._drawn, update.samples)
        self.lifecycle.advance(ContributionEvent.TAKE)
        return replace(update, ranges=taken)

    def _compare_losses(self) -> None:
        """One batch's forward pass, for a hint; left out where it takes more than a twentieth of a round."""
        first, self._first = self._first, None
        if first is None or self.steps < STEPS_TO_COMPARE or not self.trainer.moves:
            return
        samples, before = first
        if (found := self._own_losses.compare(before, self.trainer.evaluate(samples).loss)) is not None:
            self.hint(found)

    def rest(self) -> Update:
        """The work that no contribution has taken, for a volunteer that leaves."""
        return self.trainer.take_update(TrainState(self._taken_at) if self._taken_at else self.state)

    def rebase(self, tip: Tip, state: TrainState, missed: Decoder | None = None) -> None:
        """Move to a newer state, and keep the work that no close lists.

        The delta rule: local ← state + (local − local when the contribution was taken), and minus the
        contribution if it `missed` its close. Where a rollback made our round void, local ← state, and the
        inner optimizer starts again. Raises StateError if `state` does not have this run's tensors.
        """
        if not tip.position.folds(self.tip.round):
            self.trainer.load(state)
            self.trainer.forget_inner()
            self._drawn, self.steps = (), 0
        elif missed is not None:
            before = self._taken_at or self.trainer.params()
            for name, array in before.items():
                array += missed.tensor(name)
            self.trainer.merge(before, state)
        elif self.has_work:
            self.trainer.merge(self._taken_at or self.state.params, state)
        else:
            self.trainer.load(state)
            self._drawn = ()
        if not self.lifecycle.taken:
            self.steps = 0  # `round.steps` are for each round, and this one closed without us
        self.lifecycle.advance(ContributionEvent.REBASE)
        self._taken_at, self._passed = {}, 0
        if self._works:
            self._good = _GoodState(self.tip.round, self.state)
        self._works = self._blamed = False
        self.tip, self.state = tip, state
