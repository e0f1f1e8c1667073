"""States of later rounds than the intact checkpoints: what continues a run whose contributions are lost."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.charter import Charter
from barnraise.contract.state import TrainState
from barnraise.contract.state_index import WantedState
from barnraise.contract.tip import Tip
from barnraise.fold.named_states import NamedState, wanted_state
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.stored_state import stored_state


@dataclass(frozen=True)
class Start:
    """A state from which the log is folded."""

    tip: Tip
    tokens: int
    state: TrainState


@dataclass(frozen=True)
class LaterStates:
    """States that the log names after the first contributions that are missing."""

    charter: Charter
    blobs: BlobStore
    named: tuple[NamedState, ...] = ()
    """Newest first."""

    def stored(self) -> Start | None:
        """The newest of them that was fetched. Slow."""
        for named in self.named:
            state = stored_state(self.wanted(named), self.blobs)
            if state is not None:
                return Start(named.tip, named.tokens, state)
        return None

    def wanted(self, named: NamedState) -> WantedState:
        """What is known of one of them."""
        return wanted_state(named.tip, self.charter)


def usable_states(named: list[NamedState], after: int) -> tuple[NamedState, ...]:
    """Those of rounds after `after` that a checkpoint can be written of.

    A manifest names no closers of the next round: the state between a delegation and its round is left out.
    """
    return tuple(each for each in named if each.tip.round > after and each.tip.position.next_closers is None)
