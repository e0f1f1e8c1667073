"""The run's clock over restarts: what was signed stays in the past, even if the wall clock was set back."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

from barnraise.core.errors import MachineError
from barnraise.core.ids import Millis
from barnraise.runtime.files import write_atomic
from barnraise.runtime.machine_clocks import wall_ms
from barnraise.runtime.run_clock import RunClock
from coordinator.messages.clock import clock_message
from coordinator.reasons.clock import ClockBehind
from coordinator.run_folder import CLOCK

log = logging.getLogger("coordinator")

UNKNOWN = Millis(0)


@dataclass(frozen=True)
class KeptClock:
    """The run's clock, and the file that has its time at the last head."""

    clock: RunClock
    path: Path
    interval: float
    """Seconds between two calls of `keep`."""

    def resume(self, recorded: Millis = UNKNOWN) -> None:
        """Continue after a restart. recorded: the newest time in the journal, once that is read."""
        kept = _read(self.path)
        signed = Millis(kept + round(1000 * self.interval)) if kept else UNKNOWN  # at the latest
        behind = self.clock.not_before(max(recorded, signed))
        if behind > self.interval:
            log.warning("%s", clock_message(ClockBehind(behind)))

    def keep(self) -> None:
        """Write the time to disk, and say where the machine's clock was set."""
        if (step := self.clock.wall_set()) is not None:
            log.warning("%s", clock_message(step))
        try:
            write_atomic(self.path, str(self.clock()).encode())
        except MachineError as error:  # the journal's own error ends the program
            log.debug("the run's time was not kept: %s", error.problem)


def kept_time(folder: Path) -> Millis:
    """The run's time, as far as a program that does not serve the run knows it."""
    return max(wall_ms(), _read(folder / CLOCK))


def _read(path: Path) -> Millis:
    """`UNKNOWN` where the file is absent or damaged: the journal then has an earlier time."""
    try:
        with path.open("rb") as file:
            found = re.fullmatch(rb"[0-9]{1,15}", file.read(32))
    except OSError:
        return UNKNOWN
    return Millis(int(found[0])) if found else UNKNOWN
