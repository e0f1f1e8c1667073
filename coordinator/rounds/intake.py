"""The state of each contribution that is announced for the open round: pure.

| state     | event                                       | next state |
|-----------|---------------------------------------------|------------|
| –         | announced, and the commit fits              | Fetching   |
| –         | announced, and the commit does not fit      | Refused    |
| Fetching  | fetched, and the blob is valid              | –          |
| Fetching  | fetched, and the blob is invalid            | Refused    |
| Fetching  | not fetched, and a pause                    | Unfetched  |
| Fetching  | not fetched for the last time               | Refused    |
| Unfetched | announced (it still is)                     | Fetching   |
| Unfetched | announced, and the commit no longer fits    | Refused    |

Accepted contributions are in the run store. One contribution of an owner is fetched at a time. A start of the
round, the first or a later one, forgets what was unfetched or refused: it may be in time and reachable now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from barnraise.contract.records import Commit
from barnraise.core.ids import PublicKey
from barnraise.core.signed import Signed
from coordinator.reasons.rounds import RefusalReason, Unfetchable
from coordinator.timing import Timing


@dataclass(frozen=True)
class Fetching:
    """The blob is being fetched and checked, or the pause after an attempt lasts."""

    failed: int
    """Attempts that failed in this round."""


@dataclass(frozen=True)
class Unfetched:
    """The blob could not be fetched yet."""

    failed: int


@dataclass(frozen=True)
class Refused:
    """The contribution is not accepted in this round."""

    reason: RefusalReason


State = Fetching | Unfetched | Refused


@dataclass
class Intake:
    """Which announced contributions to fetch, and the state of each."""

    timing: Timing
    _states: dict[PublicKey, dict[bytes, State]] = field(default_factory=dict)
    """By owner and signed commit."""

    @property
    def pending(self) -> frozenset[PublicKey]:
        """Owners of the contributions that are being fetched."""
        return frozenset(owner for owner in self._states if self._is_fetching(owner))

    def refused(self, owner: PublicKey) -> tuple[RefusalReason, ...]:
        """Why contributions of `owner` were refused in this round."""
        states = self._states_of(owner).values()
        return tuple(state.reason for state in states if isinstance(state, Refused))

    def wants(self, commit: Signed[Commit]) -> bool:
        """Whether to check an announced commit now, and to fetch its blob where it fits."""
        owner = commit.signer
        settled = isinstance(self.state(commit), Refused) or self._is_fetching(owner)
        return not settled and len(self.refused(owner)) < self.timing.refusals

    def start(self, commit: Signed[Commit]) -> None:
        """The commit fits: a fetch of its blob starts."""
        self._set(commit, Fetching(self._failed(commit)))

    def refuse(self, commit: Signed[Commit], reason: RefusalReason) -> None:
        """The commit does not fit, or its blob is invalid."""
        self._set(commit, Refused(reason))

    def fail(self, commit: Signed[Commit], problem: str) -> Unfetchable | None:
        """The blob could not be fetched. Returns why it is refused; None where it is fetched again."""
        failed = self._failed(commit) + 1
        if failed < self.timing.fetch_attempts:
            self._set(commit, Fetching(failed))
            return None
        reason = Unfetchable(problem, failed)
        self.refuse(commit, reason)
        return reason

    def end(self, commit: Signed[Commit]) -> None:
        """The fetch ended, and the pause after it."""
        match self.state(commit):
            case Fetching(0):
                del self._states[commit.signer][commit.wire]
            case Fetching(failed):
                self._set(commit, Unfetched(failed))

    def restart(self) -> None:
        """A round starts. Running fetches continue."""
        self._states = {
            owner: {wire: Fetching(0) for wire, state in states.items() if isinstance(state, Fetching)}
            for owner, states in self._states.items()
            if self._is_fetching(owner)
        }

    def state(self, commit: Signed[Commit]) -> State | None:
        """None where the commit is new, or accepted."""
        return self._states_of(commit.signer).get(commit.wire)

    def _states_of(self, owner: PublicKey) -> Mapping[bytes, State]:
        return self._states.get(owner, {})

    def _is_fetching(self, owner: PublicKey) -> bool:
        return any(isinstance(state, Fetching) for state in self._states_of(owner).values())

    def _set(self, commit: Signed[Commit], state: State) -> None:
        self._states.setdefault(commit.signer, {})[commit.wire] = state

    def _failed(self, commit: Signed[Commit]) -> int:
        match self.state(commit):
            case Fetching(failed) | Unfetched(failed):
                return failed
        return 0
