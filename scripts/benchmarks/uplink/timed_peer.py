"""The program `peer`, slowed down if asked, with the CPU seconds of its training written to a file.

    python -m scripts.benchmarks.uplink.timed_peer FILE SLOWNESS join …

After each step FILE has the CPU seconds of all steps so far, of torch's thread alone. A machine that is
SLOWNESS times slower sleeps for the rest of its step's time. `scripts/bench uplink` runs it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from barnraise.contract.shards import Sample
from barnraise.runtime.files import write_atomic
from peer.cli.main import main
from peer.volunteer.local_training import LocalTraining
from peer.volunteer.reasons import StepSkipped


def measure(file: Path, slowness: float) -> None:
    """Measure and slow down every later step of this process."""
    step, spent = LocalTraining.step, 0.0

    def timed(training: LocalTraining, samples: Sequence[Sample]) -> int | StepSkipped:
        nonlocal spent
        began, cpu = time.monotonic(), time.thread_time()
        tokens = step(training, samples)
        spent += time.thread_time() - cpu
        time.sleep((slowness - 1) * (time.monotonic() - began))
        write_atomic(file, str(spent).encode())
        return tokens

    LocalTraining.step = timed  # type: ignore[assignment]


if __name__ == "__main__":
    measure(Path(sys.argv[1]), float(sys.argv[2]))
    del sys.argv[1:3]
    main()
