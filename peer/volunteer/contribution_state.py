"""The life of a volunteer's contribution to the round of its state: one state, one table of transitions.

Laws

1. The work of a step is in exactly one place: in the local parameters (TRAINING and CARRYING; in other
   states what is trained ahead), in an update (TAKEN), in a blob (PENDING), in a close (LISTED), in a decoded
   contribution that will return to the parameters (MISSED), or in the residual (OWED; in all states what
   compression left out). In LOST it is gone with the blob, unless a peer has fetched it and a close lists it.
   TAKE may take a share of the work, so that a contribution after an absence of the coordinator is not too
   large (`absence`). The rest stays in the local parameters, and the next TAKE continues with it.
2. Between two REBASEs at most one contribution is taken, and only REBASE changes the round.
3. A contribution is on disk before a peer can learn of it: SIGN follows the save.
4. Only the log moves a contribution out of PENDING: its close lists it or not. A close that the log no longer
   reaches counts as one that does not list it. The exception is GIVE_UP: the disk lost the blob.
5. Steps run in another thread than SIGN, LIST, MISS, OWE and GIVE_UP, and ask only whether the contribution
   is taken: these events do not change the answer. TAKE and REBASE run while neither a step nor an exchange
   does.

Transitions

state     TAKE   SIGN     LIST    MISS    OWE   GIVE_UP  REBASE    RESUME   after a crash
TRAINING  TAKEN                                          TRAINING  PENDING  TRAINING, PENDING
CARRYING  TAKEN                                          CARRYING           TRAINING
TAKEN            PENDING                                                    TRAINING, PENDING
PENDING                   LISTED  MISSED  OWED  LOST                        TRAINING, PENDING
LISTED                                                   TRAINING           TRAINING, PENDING
MISSED                                                   CARRYING           TRAINING
OWED                                                     TRAINING           TRAINING
LOST                                                     TRAINING           TRAINING

crash       A restart continues from the last save, and the local work since then is lost. A save in PENDING
            that no later save has replaced is PENDING again and asks the log again; any other save is
            TRAINING, with all that is owed in its residual. So is one whose blob is damaged or missing.
            MISS, OWE and GIVE_UP are saved at once, LIST with the folded state.
late close  PENDING stays: the volunteer holds or trains ahead until the close is known.
leaving     No state changes. The local work is added to the residual; a PENDING contribution stays saved.
turn        Without a turn there is no TAKE: the local work is kept over REBASE for a later round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class ContributionState(Enum):
    """Where the contribution to the round of the volunteer's state is."""

    TRAINING = "training"
    """Nothing was taken: the work is in the local parameters."""
    CARRYING = "carrying"
    """As TRAINING, and the local parameters hold a contribution that missed its close."""
    TAKEN = "taken"
    """The update was taken and is being encoded, signed and saved."""
    PENDING = "pending"
    """It is saved and published, and its close is not known."""
    LISTED = "listed"
    """Its close lists it."""
    MISSED = "missed"
    """Its close does not list it: the pseudo-gradient returns to the local parameters with REBASE."""
    OWED = "owed"
    """Its close does not list it: the gradient was added to the residual."""

    LOST = "lost"
    """Its blob was damaged or removed before its close was known."""

    @property
    def taken(self) -> bool:
        """Whether the contribution to this round was taken; what is trained now counts in the next round."""
        return self not in (ContributionState.TRAINING, ContributionState.CARRYING)


class ContributionEvent(Enum):
    """What can happen to a contribution."""

    TAKE = "take"
    """The update is taken out of the local parameters."""
    SIGN = "sign"
    """Blob, residual and signed commit are saved."""
    LIST = "list"
    """The round's close lists it."""
    MISS = "miss"
    """The round's close does not list it (method `diloco`)."""
    OWE = "owe"
    """The round's close does not list it (method `gradient`)."""
    GIVE_UP = "give_up"
    """Its blob is damaged or missing, and no close is known that lists it."""
    REBASE = "rebase"
    """The training goes over to a newer state."""
    RESUME = "resume"
    """A pending contribution was found in the saved state, at the start of the program."""


_S, _E = ContributionState, ContributionEvent
Transitions = Mapping[ContributionState, Mapping[ContributionEvent, ContributionState]]

TRANSITIONS: Transitions = {
    _S.TRAINING: {_E.TAKE: _S.TAKEN, _E.REBASE: _S.TRAINING, _E.RESUME: _S.PENDING},
    _S.CARRYING: {_E.TAKE: _S.TAKEN, _E.REBASE: _S.CARRYING},
    _S.TAKEN: {_E.SIGN: _S.PENDING},
    _S.PENDING: {_E.LIST: _S.LISTED, _E.MISS: _S.MISSED, _E.OWE: _S.OWED, _E.GIVE_UP: _S.LOST},
    _S.LISTED: {_E.REBASE: _S.TRAINING},
    _S.MISSED: {_E.REBASE: _S.CARRYING},
    _S.OWED: {_E.REBASE: _S.TRAINING},
    _S.LOST: {_E.REBASE: _S.TRAINING},
}
AFTER_CRASH: Mapping[ContributionState, frozenset[ContributionState]] = {
    _S.TRAINING: frozenset({_S.TRAINING, _S.PENDING}),
    _S.CARRYING: frozenset({_S.TRAINING}),
    _S.TAKEN: frozenset({_S.TRAINING, _S.PENDING}),
    _S.PENDING: frozenset({_S.TRAINING, _S.PENDING}),
    _S.LISTED: frozenset({_S.TRAINING, _S.PENDING}),
    _S.MISSED: frozenset({_S.TRAINING}),
    _S.OWED: frozenset({_S.TRAINING}),
    _S.LOST: frozenset({_S.TRAINING}),
}
"""The states in which the program can start again after a crash."""


class IllegalTransition(Exception):
    """A fault of this program: the table has no such event in this state."""

    def __init__(self, state: ContributionState, event: ContributionEvent) -> None:
        allowed = ", ".join(option.name for option in TRANSITIONS[state])
        super().__init__(f"a contribution that is {state.name} cannot {event.name}, only {allowed}")


def advance(state: ContributionState, event: ContributionEvent) -> ContributionState:
    """The state after `event`. Raises IllegalTransition where the table has no such entry."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(state, event) from None


@dataclass
class ContributionLifecycle:
    """The one place that holds the state; training and contribution store share it."""

    state: ContributionState = ContributionState.TRAINING

    def advance(self, event: ContributionEvent) -> None:
        """Raises IllegalTransition."""
        self.state = advance(self.state, event)

    @property
    def taken(self) -> bool:
        """See `ContributionState.taken`."""
        return self.state.taken
