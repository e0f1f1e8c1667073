"""The maintainer's order to end the run by a decay: a file that `coordinator serve --decay` leaves."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from barnraise.contract.log_entries import Decay
from barnraise.contract.schedule import decays
from barnraise.contract.schedule_spec import Rounds
from barnraise.core.ids import Millis
from barnraise.core.strict import Strict
from barnraise.runtime.files import write_atomic
from coordinator.messages.rounds import decay_refusal
from coordinator.reasons.rounds import DecayInForce, DecayRefusal, PlannedDecayBegan, RunOver
from coordinator.rounds.order_file import read_order
from coordinator.run_folder import DECAY
from coordinator.store.next_entry import decay_of, ordered
from coordinator.store.run_state import RunState
from coordinator.store.run_store import RunStore

log = logging.getLogger("coordinator")


class DecayOrder(Strict):
    """The file."""

    version: Literal[1] = 1
    rounds: Rounds
    """Over which the learning rate falls after the open one."""


@dataclass(frozen=True)
class DecayOrders:
    """Of one coordinator. Synchronous; the file is small."""

    store: RunStore

    @property
    def _file(self) -> Path:
        return self.store.folder / DECAY

    def entry(self, now: Millis) -> Decay | None:
        """The decay that is ordered and may follow now. Raises DiskFull."""
        order, run = self._order(), self.store.snapshot
        if order is None:
            return None
        refusal = why_refused(order.rounds, run)
        if refusal is not None or is_in_force(order.rounds, run):
            if refusal is not None:
                error = decay_refusal(refusal)
                log.error("%s. %s", error.problem, error.fix)
            self._file.unlink(missing_ok=True)
            return None
        if not run.may_be_amended:
            return None
        return ordered(decay_of(run, order.rounds, now), run, self.store.authority)

    def _order(self) -> DecayOrder | None:
        """None where nothing is ordered. A damaged file is set aside: the run continues without it."""
        fault, again = "is no order", "Order again"
        return read_order(self.store.folder, self._file, DecayOrder, fault=fault, again=again)


def is_in_force(rounds: int, run: RunState) -> bool:
    """Whether the log has a decay over `rounds`: the same command line starts the program again."""
    decay = run.position.progress.decay
    return decay is not None and decay.rounds == rounds


def why_refused(rounds: int, run: RunState) -> DecayRefusal | None:
    """Why the run cannot end by a decay over `rounds`; None where it can, or where that is in force."""
    position = run.position
    if is_in_force(rounds, run):
        return None
    if run.is_over:
        return RunOver(position.step)
    if (decay := position.progress.decay) is not None:
        return DecayInForce(decay.rounds, decay.end - position.step)
    if decays(run.spec.train.schedule, position.step, position.progress):
        return PlannedDecayBegan()
    return None


def leave_decay(run: RunState, folder: Path, rounds: int | None) -> None:
    """Have the run in `folder` end so, unless None is ordered. Raises UserError where it cannot; DiskFull."""
    if rounds is None:
        return
    if (refusal := why_refused(rounds, run)) is not None:
        raise decay_refusal(refusal)
    if not is_in_force(rounds, run):
        write_atomic(folder / DECAY, DecayOrder(rounds=rounds).model_dump_json().encode())
